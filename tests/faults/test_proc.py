"""/proc: hidden, gone, and with processes that come and go while it is read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import HELPERS
from fault_world import Chamber, Watched, assert_kept, assert_quiet, quick, users_world
from other_users import ORDINARY, run_as, users_python
from world import Result, World, alive, comm, need, need_root, unique, until

from viagralib.processes import bounded_reads

QUICK = '[defaults]\npatience = "0s"\n[evidence]\ncommands = []\n'
# Root as a sandbox may leave it: it may not look into everybody's processes.
UNPRIVILEGED = [
    *("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"),
    *("--regid", "1", "--clear-groups"),
]


def hide(chamber: Chamber, options: str) -> None:
    chamber.shell(f"mount -t proc -o {options} proc /proc")


@pytest.mark.parametrize("level", quick(2, of=[1, 2]))
def test_a_users_own_daemon_is_brought_back_though_others_are_hidden(
    program: Path, level: int
) -> None:
    with users_world(program) as (world, user):
        world.settings(QUICK)
        chamber, daemon = Chamber(world), Watched(world)
        hide(chamber, f"hidepid={level}")

        def run() -> Result:
            command = [users_python(), *world.command()[1:]]
            become = ["setpriv", f"--reuid={user}", f"--regid={user}"]
            return run_as([*chamber.enter, *become, "--clear-groups", *command])

        for lives in (1, 2):
            result = run()
            assert (result.code, result.err) == (0, ""), result
            daemon.assert_back(lives)
            assert_quiet(run(), run(), world.state)
            daemon.kill()
        assert_kept(world.state)


@pytest.mark.parametrize("level", quick(2, of=[1, 2]))
def test_root_that_may_not_see_all_starts_nothing(world: World, level: int) -> None:
    world.settings(QUICK)
    chamber, daemon = Chamber(world), Watched(world)
    hide(chamber, f"hidepid={level}")
    for said in (1, 0):  # once, then the exit code alone
        result = chamber.run(through=UNPRIVILEGED)
        assert (result.code, result.err) == (1, ""), result
        assert result.out.count(f"{daemon.name} is unknown: ") == said
        assert result.out.count("run viagra.py where it sees all") == said
    assert daemon.lives() == 0
    assert chamber.run().code == 0  # with all of its rights, hidepid is no matter
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


VERBS = ["run", "check", "status", "explain"]


@pytest.mark.parametrize("verb", quick("run", of=VERBS))
def test_who_hangs_inside_execve_holds_up_nothing(world: World, verb: str) -> None:
    """Of such a process the kernel tells nobody more than its name and its user."""
    timed = QUICK.replace("[]", '["ps auxww"]\ntimeout = "0.2s"')
    world.settings(timed)
    dead, doubtful = unique("dead"), unique("doubt")
    world.watch(dead, 'user = "root"\n')
    world.watch(doubtful, f"user = {ORDINARY}\n")
    with hanging(world, dead, doubtful) as (_, own):
        words = [verb, doubtful] if verb == "explain" else [verb]
        result = world.run(*words, timeout=50)
    assert (result.code, result.err) == (1, ""), result
    assert re.search(rf"pid {own}.*: the kernel does not answer", result.out), result
    assert world.starts(doubtful) == 0
    assert world.starts(dead) == (verb == "run")
    assert (f"Restarting {dead}\n" in result.out) == (verb == "run"), result


@contextmanager
def hanging(world: World, *names: str) -> Iterator[list[int]]:
    """Give the pids of another user's processes that hang inside execve(2)."""
    need_root()
    command = ["unshare", "--mount", sys.executable, "-I"]
    command += [str(HELPERS / "hanging_exec.py"), str(ORDINARY), *names]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    child = world.spawn(command, **pipes)
    assert child.stdout
    try:
        told = child.stdout.readline().decode()
        if not told[:1].isdigit() and child.wait() == 77:
            pytest.skip(f"needs FUSE: {told}")
        yield (pids := [*map(int, told.split())])
    finally:
        world.kill(child.pid)
    until(lambda: not any(map(alive, pids)))


# A container may have its own mounted over another one.
GONE = ["while umount -l /proc 2>&1; do :; done", "mount -t tmpfs none /proc"]


@pytest.mark.long
@pytest.mark.parametrize("how", GONE)
def test_without_proc_nothing_is_started(world: World, how: str) -> None:
    world.settings(QUICK)
    chamber, daemon = Chamber(world, how), Watched(world)
    for said in (1, 0):
        result = chamber.run()
        assert (result.code, result.err) == (1, ""), result
        assert result.out.count("is /proc mounted?") == said
    assert daemon.lives() == 0
    assert world.run().code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


@pytest.mark.parametrize("how", quick(GONE[0], of=GONE))
@pytest.mark.parametrize(
    "when", quick("in the hook", of=["before the hook", "in the hook"])
)
def test_proc_that_goes_away_in_the_middle(world: World, how: str, when: str) -> None:
    at_work, go_on = world.place / "at-work", world.place / "go-on"
    waits = f"touch {at_work}; until [ -e {go_on} ]; do sleep 0.05; done"
    chamber = Chamber(world)
    if when == "before the hook":
        tool = world.bin / "tool"
        world.write(tool, f"#!/bin/sh\n{waits}\n", 0o755)
        world.settings(QUICK.replace("[]", f'["{tool}"]'))
        daemon = Watched(world)
    else:
        world.settings(QUICK)
        daemon = Watched(world, 'start_timeout = "3s"', before=waits)
    run = chamber.start()
    until(at_work.exists)
    chamber.shell(how)
    go_on.touch()
    out = run.communicate(timeout=180)[0].decode()
    assert run.returncode == 1 and "Traceback" not in out, out
    assert "process table" in out, out
    assert daemon.lives() == (when == "in the hook")
    assert world.run().code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


READS = [
    *("openat stat", "read stat", "openat status", "read status", "readlink exe"),
    *("openat cmdline", "read cmdline"),
]


@pytest.mark.parametrize("read", quick("openat cmdline", of=READS))
def test_a_process_that_vanishes_between_two_reads(world: World, read: str) -> None:
    """The run is stopped right after one read of it, and goes on when it is gone."""
    need("strace")
    call, file = read.split()
    shell = os.path.realpath(shutil.which("sh") or "/bin/sh")
    world.settings(QUICK)
    daemon = Watched(world)
    world.facts(daemon.name, f'executable = "{shell}"\ncommand = "{daemon.program}$"\n')
    pid = daemon.start()
    told = world.place / "strace"
    tracing = ["strace", "--quiet=path-resolution", "-o", str(told), "-e", call]
    tracing += ["-P", f"/proc/{pid}/{file}"]
    stop = f"inject={call}:signal=SIGSTOP:when=1"
    run = world.spawn(
        [*tracing, "-e", stop, "--", *world.command()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    until(lambda: told.exists() and "stopped by SIGSTOP" in told.read_text())
    world.kill(pid)
    [stopped] = [p for p in _children(run.pid) if comm(p) != "strace"]
    os.kill(stopped, signal.SIGCONT)
    out = run.communicate(timeout=180)[0].decode()
    assert run.returncode == 0 and "Traceback" not in out, out
    # After the last read that matters, it was still there to this run.
    assert out == "" or out.startswith(f"Restarting {daemon.name}\n"), out
    assert daemon.lives() == (2 if out else 1)
    assert world.run().code == 0
    daemon.assert_back(2)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def forks() -> int:
    """Return how many processes this machine has made since its boot."""
    text = Path("/proc/stat").read_text()
    return int(re.findall(r"^processes (\d+)", text, re.MULTILINE)[0])


@pytest.mark.parametrize("number", quick(of=[500, 20_000]))
def test_thousands_that_come_and_go_during_the_look(world: World, number: int) -> None:
    """They have the daemon's name; each look takes long, since strace delays it."""
    need_root()
    need("strace")
    world.settings(QUICK)
    daemon = Watched(world)
    world.facts(daemon.name, f'command = "{daemon.program}$"\n')
    crowd = world.place / "crowd" / daemon.name  # of that name as well
    crowd.parent.mkdir()
    shutil.copy(os.path.realpath("/bin/dash"), crowd)
    loop = "while :; do (:) & (:) & (:) & (:) & (:) & wait; done"
    world.spawn([str(crowd), "-c", loop])
    slowly = ["strace", "-o", "/dev/null", "-P", "/proc", "-e", "trace=getdents64"]
    slowly += ["-e", "inject=getdents64:delay_enter=200000", "--"]

    def look_until(passed: int, code: int, says: str) -> None:
        since = forks()
        while True:
            result = run_as([*slowly, *world.command("check")])
            assert (result.code, result.err) == (code, ""), result
            assert re.match(says, result.out), result
            if forks() - since >= passed:
                return

    look_until(number // 2, 1, rf"{re.escape(daemon.name)} is down: ")
    daemon.start()
    look_until(number // 2, 0, "$")
    for lives in (2, 3):
        daemon.kill()
        result = run_as([*slowly, *world.command()])
        assert (result.code, result.err) == (0, ""), result
        daemon.assert_back(lives)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)


def test_threads_that_ask_at_once_get_their_own_answers() -> None:
    """As those do that ask URLs, and then whose the socket is that answered."""
    pids = [str(pid) for pid in range(1, 1000)]
    found: list[bool] = []

    def ask(number: int) -> None:
        for _ in range(20):
            got = list(bounded_reads.answers(lambda pid: (number, pid), pids))
            found.append(got == [(number, pid) for pid in pids])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 80
