"""Answers of before: what was parsed and matched once is not parsed and matched again.

They save time, and change nothing else.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from other_users import fresh
from world import World, need_root, unique

from viagralib import VERSION
from viagralib.base import answer_cache

WELL = (0, "", "")


def said(world: World, *verb: str) -> tuple[int, str, str]:
    result = world.run(*verb)
    return result.code, result.out, result.err


def kept(world: World) -> dict[tuple[str, ...], bytes]:
    header, _, body = (world.state / "answers").read_bytes().partition(b"\n")
    assert header == header_of(body)
    found: dict[tuple[str, ...], bytes] = marshal.loads(body)
    return found


def forge(world: World, answers: Mapping[Any, Any]) -> None:
    """Write a file of answers as the program itself would."""
    body = marshal.dumps({one: marshal.dumps(value) for one, value in answers.items()})
    (world.state / "answers").write_bytes(header_of(body) + b"\n" + body)


def header_of(body: bytes) -> bytes:
    return f"answers {VERSION} {sys.hexversion} {zlib.crc32(body):08x}".encode()


@pytest.fixture
def name(world: World) -> str:
    """A daemon that is up, with facts that are dear to read, and was looked at."""
    name = fresh()
    world.watch(name, 'command = "100[0]$"\n')
    world.up(name)
    assert said(world) == WELL
    return name


def test_facts_that_changed_hold_at_once(world: World, name: str) -> None:
    file = world.home / "start.d" / f"{name}.toml"
    status = file.stat()
    file.write_text('command = "100[1]$"\n')  # as long, and of the same time
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, out, _ = said(world, "check")
    assert (code, "does not fit" in out or "leftover" in out) == (1, True), out
    file.write_text('command = "("\n')
    for _ in range(2):  # a fault is no answer: it is found each time
        code, out, _ = said(world, "check")
        assert code == 2 and "is no regular expression" in out


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "cut": lambda text: text[:-1],
    "one bit": lambda text: text[:-1] + bytes([text[-1] ^ 1]),
    "header": lambda text: text.replace(VERSION.encode(), b"0", 1),
    "not marshal": lambda text: b"answers\n" + b"\xff" * 1000,
    "large": lambda text: text + b"\0" * 2_000_000,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_costs_time_alone(world: World, name: str, how: str) -> None:
    file = world.state / "answers"
    good = file.read_bytes()
    file.write_bytes(DAMAGE[how](good))
    assert said(world) == WELL
    assert file.read_bytes() == good


def test_dates_are_read_each_time(world: World) -> None:
    name = fresh()
    world.watch(name, "count = 2026-11-20\n")
    codes = [said(world)[0] for _ in range(2)]
    assert codes == [2, 2]


def test_answers_that_another_could_have_written_are_not_heard(
    world: World, name: str
) -> None:
    need_root()
    world.facts(name, 'command = "nothing"\n')
    line = f"{world.daemon(name)} 1000"
    lie = {("fits", "nothing", line): True}
    forge(world, lie)
    assert said(world, "check")[0] == 0  # it would be believed from root's own hand
    os.chown(world.state / "answers", 65534, 65534)
    assert said(world, "check")[0] != 0
    os.chown(world.state / "answers", 0, 0)
    (world.state / "answers").chmod(0o666)
    assert said(world, "check")[0] != 0
    (world.state / "answers").chmod(0o600)
    world.state.chmod(0o777)
    assert said(world, "check")[0] != 0
    world.state.chmod(0o700)


def test_an_answer_about_a_process_is_of_one_life(world: World, name: str) -> None:
    """Another boot may give its pid and start to one of a container."""
    [contained] = [one for one in kept(world) if one[0] == "contained"]
    forge(world, {contained: True})
    assert "containers = true" in said(world, "check")[1]  # it would be believed
    forge(world, {(*contained[:3], "1"): True, contained[:3]: True})
    assert said(world, "check") == WELL


def test_a_narrowed_run_forgets_no_answers(world: World, name: str) -> None:
    other = unique("other")
    world.watch(other, 'command = "1000"\n')
    world.up(other)
    assert said(world) == WELL
    before = kept(world)
    assert world.run(name).code == 0
    assert kept(world) == before


def test_where_nothing_can_be_kept_nothing_is_said(world: World, name: str) -> None:
    (world.state / "answers").unlink()
    (world.state / "answers").mkdir()
    assert said(world) == WELL
    assert Path(world.state / "answers").is_dir()


def test_long_command_lines_leave_room_for_what_is_asked_in_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs as the daemon's user can have as many as he likes."""
    monkeypatch.setattr(answer_cache, "_room", answer_cache._room)
    for known in ("_now", "_before"):
        monkeypatch.setattr(answer_cache, known, {})
    assert answer_cache.ask(("facts",), lambda: 1) == 1
    for number in range(40):
        answer_cache.ask(("fits", str(number), "x" * 60_000), lambda: False)
    answer_cache.save(str(tmp_path / "answers"))
    monkeypatch.setattr(answer_cache, "_now", {})
    answer_cache.load(str(tmp_path / "answers"))
    assert answer_cache.ask(("facts",), lambda: 2) == 1
