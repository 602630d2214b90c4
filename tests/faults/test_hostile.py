"""What somebody with an account, or a damaged disk, can try against a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World, need_root, unique, until

STRANGER = 4242  # an ordinary uid


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in which an ordinary user can execute programs."""
    need_root()
    place = Path("/tmp") / f"{tmp_path.name}-{os.getpid()}"
    place.mkdir()
    place.chmod(0o755)
    shutil.copy(shutil.which("sleep") or "/bin/sleep", place / "sleep")
    yield place
    shutil.rmtree(place)


AS = """
import os, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
os.execv(sys.argv[2], [sys.argv[3], *sys.argv[4:]])
"""


def run_as(world: World, uid: int, program: Path, *argv: str) -> int:
    """Start a program as another user, under the name of its file."""
    words = [sys.executable, "-I", "-c", AS, str(uid), str(program), *argv]
    child = world.spawn(words)
    until(lambda: os.readlink(f"/proc/{child.pid}/exe") == str(program))
    return child.pid


def test_a_strangers_command_line_cannot_hold_up_a_run(
    world: World, stranger: Path
) -> None:
    name = unique("evil")
    shutil.copy(stranger / "sleep", stranger / name)
    world.watch(name, 'command = "(a+)+$"\n')
    began = time.monotonic()
    slow = run_as(world, STRANGER, stranger / name, "a" * 3000 + "!", "1000")
    result = world.run("check", timeout=30)
    assert result.code == 1 and f"pid {slow}" in result.out, result
    assert time.monotonic() - began < 20


def test_a_strangers_process_is_no_leftover_and_lives_on(
    world: World, stranger: Path
) -> None:
    name = unique("left")
    shutil.copy(stranger / "sleep", stranger / name)
    world.watch(name, 'command = "1000"\nleftovers = "stop"\n')
    pid = run_as(world, STRANGER, stranger / name, name, "999")
    assert world.run().code == 0
    assert world.starts(name) == 1 and os.path.exists(f"/proc/{pid}")


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


def test_a_check_left_by_an_interrupted_look_blocks_no_start(world: World) -> None:
    name = unique("check")
    world.watch(name, 'start_timeout = "1s"\ncheck_timeout = "5s"\n')
    world.hook(name, "exec sleep 100", kind="check.d")
    child = world.up(name)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1)
    look = world.spawn(world.command("status"))
    until(lambda: b"sleep" in children_of(look.pid))
    look.send_signal(2)
    look.wait(10)
    world.kill(child.pid)
    world.hook(name, "exit 0", kind="check.d")
    assert world.run().code == 0 and world.starts(name) == 1


def children_of(pid: int) -> bytes:
    """Return the command lines of a process's children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    lines = []
    for child in path.read_text().split():
        try:
            lines.append(Path(f"/proc/{child}/cmdline").read_bytes())
        except OSError:
            continue
    return b"\n".join(lines)


def test_paused_while_its_patience_runs(world: World) -> None:
    name = unique("late")
    world.watch(name, 'patience = "2s"\n')
    run = world.spawn(world.command())
    until(lambda: world.incidents(name))
    assert world.run("pause", name).code == 0
    assert run.wait(30) == 0 and world.starts(name) == 0


def test_after_waits_for_one_that_is_well(world: World) -> None:
    needed, dependent = unique("need"), unique("dep")
    facts = 'start_timeout = "500ms"\nrecovery = "report"\n'
    world.watch(needed, facts)
    world.hook(needed, "echo ill; exit 2", kind="check.d")
    world.watch(dependent, f'after = ["{needed}"]\n')
    world.up(needed)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.6)
    result = world.run()
    assert result.code == 1 and world.starts(dependent) == 0
    assert f"waits for {needed}, which is sick" in result.out


def test_history_is_not_cut_for_a_slow_reader(world: World) -> None:
    name = unique("long")
    world.watch(name)
    world.run()
    incident = world.incidents(name)[0]
    (incident / "ps.txt").write_text(("y" * 79 + "\n") * 3000)
    shown = world.spawn(
        world.command("history", "show", incident.name), stdout=subprocess.PIPE
    )
    assert shown.stdout is not None
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 10.5, seconds=20)
    assert shown.stdout.read().count(b"y" * 79) == 3000
    assert shown.wait(10) == 0
    record = json.loads((incident / "incident.json").read_text())
    assert record["result"] == "brought back"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ('listens = ["tcp:127.0.0.1:0000809999"]', "must be tcp:ADDRESS:PORT"),
        ('command = "food[[ ]"', "is no regular expression"),
        (f'user = "{"9" * 5000}"', "user"),
    ],
)
def test_facts_at_the_edge_are_faults(world: World, facts: str, text: str) -> None:
    name = unique("edge")
    world.watch(name, facts + "\n")
    result = world.run()
    assert result.code == 2 and text in result.err, result
    assert "Traceback" not in result.err and "Warning" not in result.err
