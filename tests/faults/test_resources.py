"""Out of processes, descriptors or memory: the run's, its user's, or its group's.

The machine's own table of open files (fs.file-max) belongs to no namespace, and using
it up would break what else runs here: strace(1) gives a run the answers of a full one.
"""

from __future__ import annotations

import re
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_world import (
    Watched,
    assert_kept,
    assert_quiet,
    assert_told,
    quick,
    run_by,
    users_world,
)
from other_users import run_as, users_python
from world import SLEEP, Result, World, absent, missing, need, need_root, unique, until

from viagralib.base import records
from viagralib.settings import toml_file

QUICK = """\
[defaults]
patience = "0s"
start_timeout = "{}s"
[evidence]
commands = {}
"""
# What is said before the program itself begins.
PYTHON_FAILS = re.compile("Fatal Python error|error while loading shared libraries")
NO_PROCESS = "Resource temporarily unavailable"


# Processes


def test_a_user_without_a_process_left(program: Path) -> None:
    need("prlimit")
    with users_world(program) as (world, user):
        world.settings(QUICK.format(1, '["ps auxww"]'))
        daemon = Watched(world)
        result = run_by(world, user, "prlimit", "--nproc=1:1", "--")
        assert (result.code, result.err) == (1, ""), result
        assert f"could not be started: {NO_PROCESS}" in result.out
        assert "ulimit -u" in result.out  # what to do
        assert any(text.startswith("ps: ") for text in missing(result.out))
        assert daemon.lives() == 0
        world.settings(QUICK.format(60, '["ps auxww"]'))
        healed = run_by(world, user)
        assert healed.code == 0 and missing(healed.out) == [], healed
        daemon.assert_back(1)
        assert_quiet(run_by(world, user), run_by(world, user), world.state)
        assert_kept(world.state)


@pytest.mark.long
def test_a_user_with_one_process_left_for_a_hook_that_needs_two(program: Path) -> None:
    with users_world(program) as (world, user):
        world.settings(QUICK.format(1, "[]"))
        daemon = Watched(world)
        result = run_by(world, user, "prlimit", "--nproc=2:2", "--")
        assert (result.code, result.err) == (1, ""), result
        assert "exit 2 after" in result.out and "annot fork" in result.out, result
        assert daemon.lives() == 0
        world.settings(QUICK.format(60, "[]"))
        assert run_by(world, user).code == 0
        daemon.assert_back(1)
        assert_quiet(run_by(world, user), run_by(world, user), world.state)


@pytest.mark.long
def test_a_user_whose_processes_end_in_the_middle(program: Path) -> None:
    with users_world(program) as (world, user):
        world.settings(QUICK.format(60, "[]"))
        daemon, nap = Watched(world), world.daemon(unique("nap"))
        crowd = [
            world.spawn([str(nap), SLEEP], user=user, group=user, extra_groups=[])
            for _ in range(9)
        ]
        command = [users_python(), *world.command()[1:]]
        run = world.spawn(
            ["prlimit", "--nproc=10:10", "--", *command],
            stdout=subprocess.PIPE,
            user=user,
            group=user,
            extra_groups=[],
        )
        until(lambda: world.incidents(daemon.name))
        time.sleep(0.3)
        assert daemon.lives() == 0
        for one in crowd:
            one.kill()
            one.wait()
        out = run.communicate(timeout=180)[0].decode()
        assert run.returncode == 0, out
        daemon.assert_back(1)
        assert_quiet(run_by(world, user), run_by(world, user), world.state)


class Group:
    """A control group of root's that can be short of processes."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def allow(self, number: int | str) -> None:
        """Set how many processes may be in it."""
        (self.place / "pids.max").write_text(str(number))

    def run(self, world: World) -> Result:
        """Run the program in it."""
        enter = f'echo $$ > {self.place}/cgroup.procs; exec "$@"'
        return run_as(["/bin/sh", "-c", enter, "sh", *world.command()])

    def end(self) -> None:
        """Move what is in it out, and remove it."""
        for _ in range(100):
            for pid in (self.place / "cgroup.procs").read_text().split():
                try:
                    (self.place.parent / "cgroup.procs").write_text(pid)
                except ProcessLookupError:
                    continue
            try:
                self.place.rmdir()
                return
            except OSError:
                time.sleep(0.02)


@contextmanager
def pids_group() -> Iterator[Group]:
    """Give a group that limits processes, of whichever version there is."""
    need_root()
    for parent in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        place = parent / unique("group")
        try:
            place.mkdir()
        except OSError:
            continue
        group = Group(place)
        try:
            if (place / "pids.max").exists():
                yield group
                return
        finally:
            group.end()
    absent("needs to make a control group that limits processes")


@pytest.mark.parametrize("number", quick(1, of=[1, 2]))
def test_root_without_a_process_left(world: World, number: int) -> None:
    """1: for the run alone. 2: for the hook as well, but not for what it starts."""
    world.settings(QUICK.format(1, "[]"))
    daemon = Watched(world)
    with pids_group() as group:
        group.allow(number)
        result = group.run(world)
        assert (result.code, result.err) == (1, ""), result
        if number == 1:
            assert f"could not be started: {NO_PROCESS}" in result.out
            assert "pids.max" in result.out
        else:
            assert "annot fork" in result.out, result
        assert daemon.lives() == 0
        group.allow("max")
        world.settings(QUICK.format(60, "[]"))
        assert group.run(world).code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


# Descriptors


@pytest.mark.parametrize("number", quick(8, of=range(3, 48)))
def test_few_descriptors(world: World, number: int) -> None:
    """Root's run takes more when it has work to do; without enough to look, it says so.

    Below 4 Python itself does not start.
    """
    need("prlimit")
    need_root()
    daemon = Watched(world)
    result = run_as(["prlimit", f"--nofile={number}:", "--", *world.command()])
    if PYTHON_FAILS.search(result.err):
        assert number < 5, result
    else:
        assert_told(result)
        assert number < 8 or result.code == 0, result
        assert number < 8 or missing(result.out) == [], result
    assert daemon.lives() == (result.code == 0)
    assert world.run().code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


@pytest.mark.parametrize("number", quick(18, of=range(3, 48)))
def test_few_descriptors_for_a_user(program: Path, number: int) -> None:
    """A user cannot take more: the restart comes first, then the evidence."""
    with users_world(program) as (world, user):
        world.settings(QUICK.format(5, '["ps auxww", "w", "vmstat"]'))
        daemon = Watched(world)
        result = run_by(world, user, "prlimit", f"--nofile={number}:{number}", "--")
        if not PYTHON_FAILS.search(result.err):
            assert_told(result)
            assert result.code == 0 or "Too many open files" in result.out + result.err
        assert daemon.lives() == (result.code == 0), result
        assert number < 18 or result.code == 0, result
        world.settings(QUICK.format(60, "[]"))
        assert run_by(world, user).code == 0
        daemon.assert_back(1)
        assert_quiet(run_by(world, user), run_by(world, user), world.state)
        assert_kept(world.state)


NEW = "openat,pipe2,memfd_create,socket,epoll_create1"  # the calls that make one


@pytest.mark.parametrize("number", quick(60, of=range(0, 240, 6)))
def test_the_systems_table_of_files_is_full(world: World, number: int) -> None:
    """From some call of the run on, counted after Python's own, there is none left."""
    need("strace")
    world.settings(QUICK.format(5, '["ps auxww"]'))
    daemon = Watched(world)
    pythons = own_calls(world)
    fault = f"inject={NEW}:error=ENFILE:when={pythons + number}+"
    tracing = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={NEW}", "-e", fault]
    result = run_as([*tracing, "--", *world.command()])
    assert_told(result)
    says = "Too many open files in system"
    assert result.code == 0 or says in result.out + result.err, result
    assert len(daemon.living()) == daemon.lives() <= 1
    assert daemon.lives() or result.code, result
    world.settings(QUICK.format(60, "[]"))
    assert world.run().code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


def own_calls(world: World) -> int:
    """Return how many such calls Python makes before it comes to the program."""
    told = world.place / "calls"
    tracing = ["strace", "-qq", "-o", str(told), "-e", f"trace={NEW}", "--"]
    assert run_as([*tracing, world.command()[0], "-I", "-c", "pass"]).code == 0
    return len(told.read_text().splitlines())


# Memory


def least_memory(world: World, user: int) -> int:
    """Return the address space, in kB, that a run needs to say its version."""
    command = [users_python(), *world.command()[1:3], "--version"]
    low, high = 4_000, 200_000
    while high - low > 100:
        middle = (low + high) // 2
        limit = f"--as={middle * 1024}"
        done = run_as(["prlimit", limit, "--", *command], user)
        low, high = (low, middle) if done.code == 0 else (middle, high)
    return high


@pytest.mark.parametrize("text", ['{"pid": 1}', "pid = 1"])
def test_a_short_file_takes_little_memory(tmp_path: Path, text: str) -> None:
    """It is read on a bad day, too: not into room for the largest there may be."""
    path = tmp_path / "file"
    path.write_text(text)
    read = records.read if text[0] == "{" else lambda path: toml_file.read(path, "")
    read(str(path))  # loads the parser
    tracemalloc.start()
    try:
        assert read(str(path)) == {"pid": 1}
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_little_memory(program: Path) -> None:
    """From what Python needs to tell its version on, in steps of 256 kB."""
    need("prlimit")
    ends = {}
    with users_world(program) as (world, user):
        world.settings(QUICK.format(20, '["ps auxww", "w", "vmstat"]'))
        least = least_memory(world, user)
        for step in range(80):
            daemon = Watched(world, 'limit = { restarts = 99, within = "1h" }')
            kilobytes = least + 256 * step
            limit = f"--as={kilobytes * 1024}:{kilobytes * 1024}"
            result = run_by(world, user, "prlimit", limit, "--")
            assert_told(result)
            assert daemon.lives() == (result.code == 0) or not daemon.lives(), result
            assert daemon.lives() or result.code, result
            ends[kilobytes] = result.code
            until(lambda: run_by(world, user).code == 0)
            daemon.assert_back(1)
            assert_quiet(run_by(world, user), run_by(world, user), world.state)
            daemon.kill()
            (world.home / "start.d" / daemon.name).unlink()
            (world.home / "start.d" / f"{daemon.name}.toml").unlink()
        assert_kept(world.state)
    print(f"from {least} kB on: {ends}")
    assert ends[max(ends)] == 0
