"""Another user swaps what a path leads to while root runs: root is led nowhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from checkout import HELPERS
from other_users import ORDINARY, users_python
from world import World, unique


class Race:
    """A name of a stranger's, on the way to something that root's run uses."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = unique("race")
        self.executed = world.place / "executed"
        sticky = world.place / "sticky"
        sticky.mkdir()
        sticky.chmod(0o1777)
        self.entry = sticky / "entry"
        self.evil = world.place / "evil"
        self.safe = world.place / "safe"

    def files(self, evil: str, safe: str) -> None:
        """Make the stranger's file and root's own, of the same kind."""
        World.write(self.evil, evil, 0o755)
        World.write(self.safe, safe, 0o755)
        os.chown(self.evil, ORDINARY, ORDINARY)

    def directories(self) -> None:
        for place in (self.evil, self.safe):
            place.mkdir(mode=0o755)
        os.chown(self.evil, ORDINARY, ORDINARY)

    def hook(self) -> None:
        self.files(f"#!/bin/sh\ntouch {self.executed}\n", "#!/bin/sh\nexit 75\n")
        (self.world.home / "start.d" / self.name).symlink_to(self.entry)

    def facts(self) -> None:
        self.files('arguments = ["evil"]\n', 'arguments = ["safe"]\n')
        self.world.hook(
            self.name, f'test "$1" != evil || touch {self.executed}; exit 75'
        )
        (self.world.home / "start.d" / f"{self.name}.toml").symlink_to(self.entry)

    def settings(self) -> None:
        text = '[defaults]\npatience = "0s"\n[evidence]\ncommands = ["{}"]\n'
        self.files(text.format(f"touch {self.executed}"), text.format("true"))
        self.world.hook(self.name, "exit 75")
        (self.world.home / "viagra.toml").unlink()
        (self.world.home / "viagra.toml").symlink_to(self.entry)

    def state(self) -> None:
        self.directories()
        self.world.hook(self.name, "exit 75")
        self.world.state = self.entry

    def incidents(self) -> None:
        self.directories()
        self.world.hook(self.name, "exit 75")
        self.world.state.mkdir(mode=0o700)
        (self.world.state / "incidents").symlink_to(self.entry)

    def run(self, number: int) -> dict[str, int]:
        """Run so many times while the stranger swaps; return how often each code."""
        words = [str(ORDINARY), *map(str, (self.entry, self.evil, self.safe))]
        swapper = self.world.spawn(
            [users_python(), "-I", HELPERS / "path_swapper.py", *words]
        )
        counts = self.world.place / "counts"
        program, *arguments = self.world.command()[2:]
        command = [sys.executable, "-I", HELPERS / "many_runs.py", counts, str(number)]
        try:
            with (self.world.place / "told").open("w") as told:
                done = subprocess.run(
                    [*map(str, command), program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=told,
                    stderr=told,
                    check=False,
                )
            assert done.returncode == 0 and swapper.poll() is None
        finally:
            self.world.kill(swapper.pid)
        return dict(json.loads(counts.read_text()))

    def hold(self, number: int) -> None:
        """Nothing of the stranger's is executed, and nothing of root's is written."""
        codes = self.run(number)
        print(f"exit codes: {codes}")
        told = (self.world.place / "told").read_text()
        assert "Traceback" not in told, told[-2000:]
        assert not self.executed.exists(), told[-2000:]
        assert codes.get("2", 0) > 0 and set(codes) <= {"0", "1", "2"}, codes
        if self.safe.is_dir():
            assert list(self.safe.iterdir()) == list(self.evil.iterdir()) == []
            assert self.safe.stat().st_mode & 0o777 == 0o755
        for path in [self.entry.parent, *self.entry.parent.rglob("*")]:
            if path.name not in ("sticky", "entry", "entry.fresh", "entry.old"):
                pytest.fail(f"{path} was written for a stranger")


KINDS: list[Callable[[Race], None]] = [
    Race.hook,
    Race.facts,
    Race.settings,
    Race.state,
    Race.incidents,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_swapped_name_gets_a_stranger_nothing(
    public: World, kind: Callable[[Race], None]
) -> None:
    race = Race(public)
    kind(race)
    race.hold(30)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_ten_thousand_tries_get_a_stranger_nothing(
    public: World, kind: Callable[[Race], None], part: int
) -> None:
    race = Race(public)
    kind(race)
    race.hold(500)


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.__name__)
def test_a_hard_link_where_others_could_have_made_it(
    public: World, kind: Callable[[Race], None]
) -> None:
    race = Race(public)
    kind(race)
    os.link(race.safe, race.entry)
    result = public.run("check")
    assert result.code == 2, result
    assert f"{race.entry} is a hard link that others could have made" in result.out
    race.entry.unlink()
    shutil.copy(race.safe, race.entry)  # root's own, which nobody can replace
    assert "refused" not in public.run("check").out
