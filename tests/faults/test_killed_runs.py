"""A run that is killed, at any of its system calls: the next run makes it good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from system_calls import (
    Call,
    assert_whole,
    executions,
    first_and_last,
    injected,
    published,
    recorded,
    scene,
    settle,
    since,
    spread,
    traced,
    watch_counted,
)
from world import World, unique

KILLED = -9
AT_ONCE = 3  # scenes side by side: most of a run is waiting


def killed_run(part: World, name: str, call: Call) -> bool:
    """Kill a run at this call, and hold the next runs to it; was it killed?"""
    try:
        result = injected(part, call, "signal=KILL")
        before = {path.name for path in published(part)}
        assert executions(part) <= 1, call
        later = settle(part, name)
        assert_whole(part, name)
        # No incident is lost: what the killed run had begun is still there, and one
        # of the runs has said that the daemon was gone.
        after = {path.name for path in published(part)}
        assert before <= after and after, call
        told = result.out + "".join(one.out for one in later)
        assert name in told or was_written_down(part), (call, result, later)
        return result.code == KILLED
    finally:
        part.end()


def was_written_down(world: World) -> bool:
    """Return whether the notice is in the incident: killed before it was printed."""
    return all((place / "notice.txt").exists() for place in published(world))


def landmarks(calls: list[Call]) -> list[Call]:
    """Return the first and the last call of each kind, and some more, in their order.

    Most calls of a run only read the process table: an even spread would be of those.
    """
    chosen = {id(one) for ends in first_and_last(calls) for one in ends}
    chosen |= {id(one) for one in spread(calls, 100)}
    return [one for one in calls if id(one) in chosen]


def kill_at(world: World, number: int, part: int, parts: int) -> int:
    """Kill so many runs (0: at all landmarks), this part of them; return how many."""
    first = scene(world, 0)
    name = unique("kill")
    watch_counted(first, name)
    calls = since(recorded(first), '/proc"')  # from the first look on
    first.end()
    points = landmarks(calls)
    chosen = (spread(points, number) if number else points)[part::parts]
    # One after the other: a program that is written while another thread forks is
    # "busy" when it is to be executed.
    scenes = [scene(world, number) for number in range(1, len(chosen) + 1)]
    names = [unique("kill") for _ in chosen]
    for place, name in zip(scenes, names, strict=True):
        watch_counted(place, name)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        killed = list(pool.map(killed_run, scenes, names, chosen))
    # Some calls, such as those of a look, are made less often on a machine at rest.
    print(f"{sum(killed)} runs killed, {len(chosen)} tried")
    assert sum(killed) >= len(chosen) * 0.5
    return sum(killed)


def test_killed_anywhere(world: World) -> None:
    kill_at(world, 12, 0, 1)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_killed_at_many_points(world: World, part: int) -> None:
    assert kill_at(world, 0, part, 20) >= 15  # 300 in all


# Calls of a child alone, between fork and exec.
CHILDS = ["setsid"]
CHILDS_TOO = ["umask", "setpriority", "close_range"]


@pytest.mark.parametrize(
    "call", CHILDS + [pytest.param(call, marks=pytest.mark.long) for call in CHILDS_TOO]
)
def test_its_children_are_killed_before_they_execute(world: World, call: str) -> None:
    name = unique("kill")
    watch_counted(world, name)
    # -D: strace stays with the daemon, and we wait for the run alone.
    options = ["-f", "-D", "-o", "/dev/null", f"--inject={call}:signal=KILL"]
    result = traced(world, options)
    assert "Traceback" not in result.err and executions(world) <= 1, result
    assert result.code == 0 or "killed by signal 9" in result.out, result
    settle(world, name)
    assert_whole(world, name)
