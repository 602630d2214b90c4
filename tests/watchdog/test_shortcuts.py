"""The means that make a run cheap: without each of them, a run says the same."""

from __future__ import annotations

import shutil

import pytest
from other_users import fresh
from world import SLEEP, World, comm, until

# What is put at the end of which part, so that the mean is taken out.
MEANS = {
    "known pids": (
        "state/known_pids.py",
        "def read(state): return []\ndef note(*_): pass",
    ),
    "own way to load parts": ("base/module_loader.py", "def use(): pass"),
    "answers": (
        "base/answer_cache.py",
        "def ask(_, find): return find()\ndef load(_): pass\ndef save(_): pass",
    ),
    "names first": (
        "processes/linux_system.py",
        "every = look\n"
        "def look(names=None, hidden=None, first=()):\n"
        "    for one in every(None, hidden):\n"
        "        if names is None or one.name in names: yield one",
    ),
    "likely bearers": (
        "processes/linux_system.py",
        "def bearers(_): return [one.pid for one in look()]",
    ),
    "parts in use": (
        "trust/owners.py",
        "Trust.whys_loaded = Trust.whys_below",
    ),
}


@pytest.fixture
def scene(world: World) -> World:
    """Daemons of each verdict, and a program of its own."""
    up, down, other, alias = (fresh() for _ in range(4))
    for name in (up, down, alias):
        world.watch(name)
    world.watch(other, 'command = "nothing"\n')
    world.up(up)
    world.up(other)
    hidden = world.spawn([alias, SLEEP], executable=str(world.daemon(fresh())))
    until(lambda: comm(hidden.pid) != alias and world.run("check").code == 1)
    shutil.copytree(world.program.parent, world.place / "program")
    world.program = world.place / "program" / world.program.name
    return world


def test_without_any_mean_the_same_is_said(scene: World) -> None:
    said = [scene.run("check") for _ in range(2)]
    words = [line.split()[2].rstrip(":") for line in said[0].out.splitlines()]
    assert sorted(words) == ["down", "down", "unknown"], said
    for part, lines in MEANS.values():
        path = scene.program.parent / "viagralib" / part
        before = path.read_text()
        path.write_text(f"{before}\n\n{lines}\n")
        said.append(scene.run("check"))
        path.write_text(before)
    assert {(one.code, one.out, one.err) for one in said} == {
        (said[0].code, said[0].out, said[0].err)
    }
