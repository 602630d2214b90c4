"""System calls that fail, one in each run: it says so, and does nothing wrong."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_calls import (
    Call,
    assert_whole,
    executions,
    first_and_last,
    injected,
    recorded,
    scene,
    settle,
    since,
    traced,
    watch_counted,
)
from world import Result, World, unique

ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE", "ENOMEM", "EINTR", "EAGAIN")
AT_ONCE = 3  # scenes side by side: most of a run is waiting
# Beyond any doubt of what it is: the fact `user` asks for the users' directory, too.
FACTS = 'user = "root"\n'
# Such calls do not return, or cannot fail: brk(2) has no error to return, and the C
# library takes one for an address; of futex(2), which threads wait by, it ends the
# program at an error that the kernel does not give.
SAFE = (
    "exit_group",
    "rt_sigreturn",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "brk",
    "futex",
    "getpid",
    "getppid",
    "gettid",
    "umask",
    "time",
    "alarm",
)


class Point:
    """A call that is to fail, and how."""

    def __init__(self, call: Call, error: str) -> None:
        self.call = call
        self.error = error

    def __repr__(self) -> str:
        return f"{self.error} of {self.call}"

    def run(self, world: World, *arguments: str) -> Result:
        result = injected(world, self.call, f"error={self.error}", *arguments)
        told = result.out + result.err
        assert "Traceback" not in told and "Fatal" not in told, (self, result)
        assert result.code in (0, 1, 2, 75), (self, result)
        return result


def points(calls: list[Call]) -> list[Point]:
    """Return the first call of each kind with each error, and the last with one."""
    firsts, lasts = first_and_last([one for one in calls if one.name not in SAFE])
    found = [Point(call, error) for call in firsts for error in ERRORS]
    errors = itertools.cycle(ERRORS)
    return found + [Point(call, next(errors)) for call in lasts]


def sample(found: list[Point], number: int) -> list[Point]:
    """Return so many points, spread over a run; each error has its turn."""
    step = len(found) // number
    step -= step % len(ERRORS) == 0  # else it would be the same error each time
    return found[: step * number : step]


class Case:
    """What a run is to be held to while one of its calls fails."""

    verbs: tuple[str, ...] = ()

    def prepare(self, world: World, name: str) -> None:
        watch_counted(world, name, FACTS)

    def hold(self, world: World, name: str, point: Point) -> None:
        raise NotImplementedError


class Dead(Case):
    """A daemon that is down, and a run: at most one start, and no word of `up`."""

    def hold(self, world: World, name: str, point: Point) -> None:
        result = point.run(world)
        assert executions(world) <= 1, (point, result)
        if result.code == 0 or "now       up" in result.out:
            assert world.pids(name), (point, result)
        settle(world, name)
        assert_whole(world, name)


class Alive(Case):
    """A daemon that is up, and a run: no second one, whatever the run cannot see."""

    def prepare(self, world: World, name: str) -> None:
        watch_counted(world, name, FACTS)
        world.up(name)

    def hold(self, world: World, name: str, point: Point) -> None:
        result = point.run(world)
        assert executions(world) == 0, (point, result)
        assert f"{name} is down" not in result.out, (point, result)
        settle(world, name)
        assert len(world.pids(name)) == 1 and executions(world) == 0, point


class Sick(Case):
    """A daemon that its check calls sick, and a look: nobody says that it is well."""

    verbs = ("check",)

    def prepare(self, world: World, name: str) -> None:
        watch_counted(world, name, f'{FACTS}start_timeout = "1ms"\n')
        world.hook(name, "echo ill; exit 2", kind="check.d")
        world.up(name)

    def hold(self, world: World, name: str, point: Point) -> None:
        result = point.run(world, "check")
        assert result.code != 0, (point, result)
        assert f"{name} is up" not in result.out, (point, result)


# One file, at each look


def failing(world: World, what: str, path: object, *arguments: str) -> Result:
    """Run the program, and let each such call on this file fail."""
    options = ["-o", "/dev/null", "-P", str(path), f"--inject={what}"]
    result = traced(world, options, *arguments)
    assert "Traceback" not in result.err, result
    return result


# Without EINTR: whoever is interrupted tries again, and would do so for ever.
@pytest.mark.parametrize("error", [error for error in ERRORS if error != "EINTR"])
def test_a_process_that_may_not_be_read_is_not_gone(world: World, error: str) -> None:
    """As under a security module, which hides single processes."""
    name = unique("fail")
    watch_counted(world, name)
    pid = world.up(name).pid
    result = failing(world, f"openat:error={error}", f"/proc/{pid}/stat")
    assert result.code == 1 and result.out.startswith(f"{name} is unknown: "), result
    assert executions(world) == 0
    if error == "EACCES":
        assert "processes are hidden from us" in result.out


def test_users_that_fail_between_two_looks_change_nothing(world: World) -> None:
    name = unique("fail")
    watch_counted(world, name, FACTS)
    world.up(name)
    result = failing(world, "openat:error=EMFILE:when=2+", "/etc/passwd", "--verbose")
    assert (result.code, executions(world)) == (0, 0), result


def test_a_check_that_cannot_be_looked_at_is_no_good_sign(world: World) -> None:
    name = unique("fail")
    watch_counted(world, name, 'start_timeout = "1ms"\n')
    check = world.hook(name, "exit 2", kind="check.d")
    world.up(name)
    calls = recorded(world, "check")
    looks = [one for one in calls if f'"{check}"' in one.text and "stat" in one.name]
    assert len(looks) > 1, calls
    for number in (1, len(looks)):
        what = f"{looks[0].name}:error=EIO:when={number}"
        result = failing(world, what, check, "check")
        assert result.code != 0 and f"{name} is up" not in result.out, result


def test_evidence_that_has_no_place_at_all_stops_no_restart(world: World) -> None:
    name = unique("fail")
    watch_counted(world, name)
    world.state.mkdir(mode=0o700)
    (world.state / "incidents").write_text("no directory")
    options = ["-o", "/dev/null", "--inject=memfd_create:error=EMFILE"]
    result = traced(world, options)
    assert "Traceback" not in result.err and "now       up" in result.out, result
    assert executions(world) == 1


def test_a_record_that_could_not_be_closed_is_closed_by_the_next_run(
    world: World,
) -> None:
    first, second, name = scene(world, 0), scene(world, 1), unique("fail")
    watch_counted(first, name)
    calls = recorded(first)
    [*_, last] = [
        one
        for one in calls
        if "incident.json" in one.text and one.name.startswith("rename")
    ]
    first.end()
    watch_counted(second, name)
    assert "now       up" in injected(second, last, "error=ENOSPC").out
    [incident] = second.incidents()
    assert second.record(incident)["status"] == "open"
    [quiet, *_] = settle(second, name)
    assert quiet.out == ""  # it was told
    assert_whole(second, name)
    assert second.record(incident)["result"] == "brought back"
    counts = json.loads((second.state / "counts" / name).read_text())
    assert counts["restarts"] == 1


@pytest.mark.parametrize("part", ["processes/verdicts", "verbs/run"])
def test_a_part_that_gives_nothing_is_said(world: World, part: str) -> None:
    """One that each run loads, and one that is loaded when a daemon is down.

    Where its bytecode alone cannot be read, its source is."""
    name = unique("fail")
    watch_counted(world, name)
    source = world.program.parent / "viagralib" / f"{part}.py"
    [bytecode] = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
    assert "down" in failing(world, "read:error=EAGAIN", bytecode, "check").out
    options = ["-P", str(bytecode), "--inject=read:error=EAGAIN"]
    result = traced(world, ["-o", "/dev/null", "-P", str(source), *options])
    assert (result.code, result.out, executions(world)) == (1, "", 0), result
    assert result.err.startswith("viagra.py: could not "), result
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("state", ["down", "sick"])
def test_no_codec_is_loaded_late(world: World, state: str) -> None:
    """One that cannot be is "unknown": no error of the system's, but a traceback."""
    case = Dead() if state == "down" else Sick()
    name = unique("fail")
    case.prepare(world, name)
    calls = since(recorded(world, *case.verbs), world.program.parent / "viagralib")
    assert not [one for one in calls if "/encodings/" in one.text]


# Any call, in whatever the program does


CASES = [Dead(), Alive(), Sick()]


def fail_at(world: World, case: Case, number: int, part: int, parts: int) -> int:
    """Let calls fail, `number` of them (0: all); this part of them; return how many."""
    first = scene(world, 0)
    name = unique("fail")
    case.prepare(first, name)
    # What the interpreter does before it has any of our parts is its own.
    parts_of_ours = world.program.parent / "viagralib"
    found = points(since(recorded(first, *case.verbs), parts_of_ours))
    first.end()
    chosen = (sample(found, number) if number else found)[part::parts]

    hold_all(world, case, chosen)
    return len(chosen)


def hold_all(world: World, case: Case, chosen: list[Point]) -> None:
    """Let each of these calls fail, each in a scene of its own."""
    # One after the other: a program that is written while another thread forks is
    # "busy" when it is to be executed.
    names = [unique("fail") for _ in chosen]
    scenes = [scene(world, number) for number in range(1, len(chosen) + 1)]
    for place, name in zip(scenes, names, strict=True):
        case.prepare(place, name)

    def hold(index: int) -> str:
        try:
            case.hold(scenes[index], names[index], chosen[index])
        except AssertionError as error:
            return f"{chosen[index]}:\n{error}\n"
        finally:
            scenes[index].end()
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [text for text in pool.map(hold, range(len(chosen))) if text]
    print(f"{len(chosen)} calls failed, {len(failures)} runs not as they should be")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(
    ("case", "number"),
    list(zip(CASES, (8, 6, 6), strict=True)),
    ids=lambda value: type(value).__name__,
)
def test_any_call_may_fail(world: World, case: Case, number: int) -> None:
    assert fail_at(world, case, number, 0, 1) == number


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_every_call_may_fail(world: World, case: Case, part: int) -> None:
    assert fail_at(world, case, 0, part, 20) > 0
