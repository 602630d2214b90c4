"""Fifty runs at the same moment: one of them starts the daemon, once."""

from __future__ import annotations

import os
import subprocess
from collections import Counter

import pytest
from system_calls import assert_whole, executions, scene, settle, watch_counted
from world import World, environment, unique

CROWD = 50
# They wait for the end of a file that none of them writes: it comes to all at once.
WAIT = 'read none; exec "$@"'


def crowd(world: World, number: int) -> Counter[int]:
    """Start so many runs at the same moment; return how often each exit code was."""
    gate, start = os.pipe()
    waiting = ["/bin/sh", "-c", WAIT, "sh", *world.command()]
    with (world.place / "told").open("ab") as told:
        runs = [
            subprocess.Popen(
                waiting, stdin=gate, stdout=told, stderr=told, env=environment()
            )
            for _ in range(number)
        ]
    os.close(gate)
    os.close(start)
    return Counter(run.wait(600) for run in runs)


def hold(world: World, number: int, runs: int) -> Counter[int]:
    """Let so many runs begin for a daemon that is dead; return the exit codes."""
    part = scene(world, number)
    try:
        name = unique("crowd")
        watch_counted(part, name)
        codes = crowd(part, runs)
        told = (part.place / "told").read_text()
        assert set(codes) <= {0, 75} and codes[0], (codes, told)
        assert executions(part) == 1, told
        assert told.count(f"Restarting {name}\n") == 1 and "viagra.py:" not in told
        settle(part, name)
        assert_whole(part, name)
        return codes
    finally:
        part.end()


def test_a_crowd_starts_one_daemon(world: World) -> None:
    for number in range(2):
        hold(world, number, CROWD // 3)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_crowds_start_one_daemon_each(world: World, part: int) -> None:
    codes: Counter[int] = Counter()
    for number in range(10):
        codes += hold(world, number, CROWD)
    print(f"exit codes: {dict(codes)}")
    assert codes[75], (part, codes)  # else they never met
