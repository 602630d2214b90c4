"""Damaged records, and other things in place of files: they stop nobody."""

from __future__ import annotations

import os
import subprocess

import pytest
from world import World, unique

NUMBERS = ["1e300", "NaN", "Infinity", "1" + "0" * 400, "[]"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("open", '{"word": "down", "since": %s, "said_at": %s}'),
        ("paused", '{"since": 1, "until": %s}'),
        ("counts", '{"restarts": %s, "tries": %s, "tried_at": %s, "recent": [%s]}'),
        ("deaths", '{"version": 1, "end": {"finished": true, "at": %s}}'),
    ],
)
def test_a_damaged_record_stops_nobody(world: World, kind: str, text: str) -> None:
    other = unique("sound")
    world.watch(other)
    (world.state / kind).mkdir(mode=0o700, parents=True)
    for number in NUMBERS:
        name = unique("damage")
        world.watch(name)
        (world.state / kind / name).write_text(text.replace("%s", number))
    result = world.run()
    assert "Traceback" not in result.err, result
    assert world.starts(other) == 1
    assert "Traceback" not in world.run("status").err


def test_a_pipe_in_place_of_a_record_holds_up_nobody(world: World) -> None:
    name = unique("pipe")
    world.watch(name)
    (world.state / "paused").mkdir(mode=0o700, parents=True)
    os.mkfifo(world.state / "paused" / name)
    assert world.run(timeout=30).code == 0 and world.starts(name) == 1


def test_a_pidfile_that_is_a_directory_costs_no_descriptors(world: World) -> None:
    name = unique("dir")
    (world.place / "pid").mkdir()
    world.watch(name, f'pidfile = "{world.place}/pid"\nstart_timeout = "3s"\n')
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *world.command()]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert "Too many open files" not in done.stdout + done.stderr, done
