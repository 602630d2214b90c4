"""Runs that meet: one daemon, and nothing that a run leaves behind stops the next."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import SLEEP, World, absent, fill, need_root, unique, until


def runs(
    world: World, number: int, states: int = 1
) -> list[subprocess.CompletedProcess[str]]:
    """Start this many runs at the same moment, with one state or several; return how
    they went."""
    start = world.place / "start"
    waiting = f'while ! [ -e {start} ]; do sleep 0.01; done; exec "$@"'
    started = [
        subprocess.Popen(
            ["/bin/sh", "-c", waiting, "sh", *world.command(), "--state", state],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for state in [f"{world.state}{n % states or ''}" for n in range(number)]
    ]
    start.touch()
    ended = []
    for run in started:
        out, err = run.communicate(timeout=120)
        ended.append(subprocess.CompletedProcess("", run.returncode, out, err))
    start.unlink()
    return ended


@pytest.mark.parametrize(("number", "states"), [(2, 1), (20, 1), (2, 2)])
def test_runs_at_the_same_moment_start_one_daemon(
    world: World, number: int, states: int
) -> None:
    if states > 1:
        need_root()  # who else has no /run
    name = unique("food")
    # Slow, so that all of the runs see it down.
    world.hook(
        name,
        f"echo started >> {world.place}/{name}.starts\nsleep 1\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.facts(name, 'patience = "1s"')
    ended = runs(world, number, states)
    assert (world.starts(name), len(world.pids(name))) == (1, 1)
    told = [one for one in ended if one.stdout]
    assert len(told) == 1 and told[0].returncode == 0, ended
    assert told[0].stdout.startswith(f"Restarting {name}\n")
    for one in ended:
        # Another run's work; or already up, or being started, when it looked.
        assert one.returncode in (0, 75), one
        assert one.stderr == ""
    assert any(one.returncode == 75 for one in ended)


def test_a_busy_daemon_is_told_with_verbose_alone(world: World) -> None:
    name = unique("food")
    world.watch(name, 'patience = "1h"')
    first = world.spawn(world.command())
    until(lambda: world.incidents(name))
    second = world.run()
    assert (second.code, second.out, second.err) == (75, "", ""), second
    assert "another run is at work on it" in world.run("--verbose").out
    other = unique("bar")
    world.watch(other)
    third = world.spawn(world.command("restart", name, other))
    # Who restarts several locks them in one order, whatever that of their names.
    until(lambda: world.incidents(other))
    assert world.starts(name) == 0
    world.up(name)  # what the first run waits for
    assert first.wait(60) == third.wait(180) == 0
    assert (world.starts(name), world.starts(other)) == (1, 1)


def test_another_runs_work_does_not_stop_the_rest(world: World) -> None:
    busy, free, bad = unique("food"), unique("food"), unique("food")
    world.watch(busy, 'patience = "1h"')
    first = world.spawn(world.command(busy))
    until(lambda: world.incidents(busy))
    world.watch(free)
    second = world.run()
    assert second.out.startswith(f"Restarting {free}\n")
    assert second.code == 75
    world.hook(bad, "exit 1")
    assert world.run().code == 1  # what is down weighs more
    world.up(busy)
    assert first.wait(60) == 0


def test_lock_is_inherited_by_neither_hook_nor_daemon(world: World) -> None:
    name = unique("food")
    world.watch(name)
    assert world.run().code == 0
    lock = world.state / "locks" / name
    [pid] = world.pids(name)
    held = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    assert str(lock) not in held
    world.kill(pid)
    # A child of the daemon that lives on must not hold it either.
    assert world.run().code == 0
    assert world.starts(name) == 2


def test_a_hook_that_goes_on_does_not_hold_the_lock(world: World) -> None:
    name = unique("food")
    nap = world.daemon(unique("nap"))
    world.hook(name, f"{nap} {SLEEP} &\nexec {world.daemon(name)} {SLEEP}")
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    assert world.run().code == 0
    assert len(world.pids(name)) == 1


# What the state directory may suffer


def test_state_that_is_deleted_does_no_harm(world: World) -> None:
    name = unique("food")
    world.watch(name)
    world.up(name)
    assert world.run().code == 0
    subprocess.run(["rm", "-rf", str(world.state)], check=True)
    quiet = world.run()
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert world.starts(name) == 0


def test_state_that_is_deleted_while_the_hook_works(world: World) -> None:
    name = unique("food")
    go = world.place / "go"
    world.hook(
        name,
        f"echo started >> {world.place}/{name}.starts\n"
        f"while ! [ -e {go} ]; do sleep 0.05; done\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.facts(name, 'start_timeout = "60s"')
    first = subprocess.Popen(world.command(), stdout=subprocess.PIPE, text=True)
    until(lambda: world.starts(name))
    subprocess.run(["rm", "-rf", str(world.state)], check=True)
    second = world.run()
    assert (second.code, second.out, second.err) == (75, "", ""), second
    go.touch()
    out, _ = first.communicate(timeout=180)
    assert first.returncode == 0
    assert out.startswith(f"Restarting {name}\n")
    assert "  missing " in out
    assert (world.starts(name), len(world.pids(name))) == (1, 1)


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """The state directory on a disk of its own, of 1 MB."""
    need_root()
    world.state.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(world.state)]
    if subprocess.run(["mount", *options], check=False).returncode != 0:
        absent("needs to mount a tmpfs")
    yield world.state
    subprocess.run(["umount", "-l", str(world.state)], check=True)


def test_full_disk_stops_no_restart(world: World, small_disk: Path) -> None:
    name = unique("food")
    world.hook(name, f"set -e\necho hook was here\n{world.daemon(name)} {SLEEP} &")
    fill(small_disk)
    result = world.run()
    assert result.code == 0, result
    assert result.err == ""
    assert len(world.pids(name)) == 1
    assert "  missing   the whole incident: No space left on device" in result.out
    # Kept in memory, and told all the same.
    assert "    hook was here\n" in result.out
    assert [*small_disk.rglob(".*.new")] == []  # no record of which half is there
    quiet = world.run()
    assert (quiet.code, quiet.err) == (0, "")


def test_disk_that_is_full_from_the_start(world: World, small_disk: Path) -> None:
    name = unique("food")
    world.watch(name)
    world.run("check")
    fill(small_disk)
    for number in (1, 2):
        assert world.run().code == 0
        assert world.starts(name) == number
        world.kill(world.pids(name)[0])


def test_read_only_state_stops_no_restart(world: World, small_disk: Path) -> None:
    name = unique("food")
    world.watch(name)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    result = world.run()
    assert result.code == 0, result
    assert world.starts(name) == 1
    [missing] = [line for line in result.out.splitlines() if " missing " in line][:1]
    assert "Read-only file system" in missing
    ended = runs(world, 3)
    assert {one.returncode for one in ended} == {0}
    world.kill(world.pids(name)[0])
    ended = runs(world, 5)
    assert world.starts(name) == 2  # locked all the same
    assert len(world.pids(name)) == 1
    assert {one.returncode for one in ended} <= {0, 75}


def test_state_of_strange_files_is_worked_around(world: World) -> None:
    name = unique("food")
    world.watch(name)
    world.state.mkdir(mode=0o700)
    (world.state / "incidents").write_text("not a directory")
    result = world.run()
    assert result.code == 0, result
    assert "File exists" in result.out or "Not a directory" in result.out
    assert world.starts(name) == 1


def test_full_process_table_is_waited_for(world: World) -> None:
    """No process to be had at first: the run tries again until its time is over."""
    need_root()
    cgroup = Path("/sys/fs/cgroup/pids")
    if not (cgroup / "cgroup.procs").exists():
        absent("needs the pids cgroup, version 1")
    name = unique("food")
    world.watch(name, 'patience = "0s"')
    group = cgroup / name
    group.mkdir()
    try:
        limit = group / "pids.max"
        limit.write_text("1")
        enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        run = subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", *world.command()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: world.incidents(name))
        time.sleep(0.5)
        limit.write_text("max")
        out, err = run.communicate(timeout=180)
        assert (run.returncode, err) == (0, ""), out
        assert "Resource temporarily unavailable" in out  # the evidence that is missing
        assert world.starts(name) == 1
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (cgroup / "cgroup.procs").write_text(pid)
        group.rmdir()


@pytest.mark.parametrize("facts", ["", 'pidfile = "/run/none"\n', 'command = "1000"\n'])
def test_two_hooks_whose_facts_fit_one_process_start_one(
    world: World, facts: str
) -> None:
    name = unique("twind")
    for hook in (f"{name}-a", f"{name}-b"):
        world.facts(hook, f'process = "{name}"\n{facts if hook.endswith("b") else ""}')
        world.hook(hook, f"sleep 0.2\n{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &")
    told = world.run("test")
    pair = f"{name}-a: its facts and those of {name}-b can fit one process: "
    assert told.code == 2 and pair in told.out
    assert "set command, executable, pidfile or user" in told.out
    ran = world.run()
    assert len(world.pids(name)) == 1, ran
    assert ran.out.count("Restarting") == 1
    assert f"{name}-a.toml and {name}-b.toml" in world.run("test").out
    # Both of them by hand: one after the other, and one is there at the end.
    world.run("restart", f"{name}-a", f"{name}-b")
    assert len(world.pids(name)) == 1


def test_two_hooks_whose_facts_tell_them_apart_are_no_pair(world: World) -> None:
    name = unique("pair")
    for hook, pattern in (("a", "100[0]$"), ("b", "1000"), ("c", "2000")):
        world.facts(f"{name}{hook}", f'process = "{name}"\ncommand = "{pattern}"\n')
        world.hook(f"{name}{hook}", "true")
    assert " can fit one process" not in world.run("test").out
    pid = world.up(name).pid  # which now shows that two of them do not
    told = world.run("test").out
    assert f"{name}a: its facts and those of {name}b fit pid {pid}: " in told
    assert told.count(" fit pid ") == 1


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
