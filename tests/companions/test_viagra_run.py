"""viagra-run: the cases and options of ctrun(1), and our own, on real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import HELPERS
from companion_programs import (
    LONG,
    PYTHON,
    ROOT,
    Program,
    children,
    lives,
    program,
    state,
)
from world import need, need_root, until

from viagralib import VERSION
from viagralib.companions.contract import process_contract
from viagralib.processes import pidfd, portable, table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import send
from viagralib.state import death_records

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes through /proc"
)
Spoil = Callable[[Path], None]

DIE = "echo $$ >>out; kill -KILL $$"  # a life that always ends by a signal
DAEMON = "(setsid sh -c 'echo $$ >>out; exec sleep 1000' &)"  # double fork, setsid


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Program]:
    with program("viagra-run", tmp_path) as made:
        yield made


def record(run: Program, name: str = "food") -> Any:  # noqa: ANN401
    path = run.directory / "state" / "deaths" / name
    return json.loads(path.read_text()) if path.exists() else None


def with_state(run: Program) -> Path:
    directory = run.directory / "state"
    directory.mkdir(mode=0o700)
    return directory


# Exit codes


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 123),
        (["sh", "-c", "kill -SEGV $$"], 123),
        (["/nonexistent/food"], 127),
        (["no-such-program-anywhere"], 127),
        ([""], 127),
        (["/"], 126),
        (["./plain"], 126),
        (["./no-interpreter"], 126),
    ],
)
def test_exit_code(
    run: Program, terms: tuple[str, ...], command: list[str], code: int
) -> None:
    (run.directory / "plain").write_text("#!/bin/sh\n")
    script = run.directory / "no-interpreter"
    script.write_text("true\n")
    script.chmod(0o755)
    assert run.run(*terms, "--", *command) == code
    if command == ["./no-interpreter"]:
        assert "#! line" in run.lines("stderr")[0]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-r", "1"],
        ["-l", "child", "-r", "1"],
        ["-l", "none", "-r", "0"],
        ["-l", "none", "-o", "noorphan"],
        ["-o", "pgrponly", "-r", "1"],
        ["-t"],
        ["-b", "1s:2s"],
        ["-l", "none", "-n", "food"],
        ["-l", "none", "-L", "log"],
        ["-l", "cont"],
        ["-l", "ever"],
        ["-f", "x"],
        ["-f", ""],
        ["-o", ","],
        ["-f", "empty"],
        ["-f", "fork"],
        ["-f", "none,core"],
        ["-f", "signals"],
        ["-i", "x"],
        ["-o", "x"],
        ["-r", "-1"],
        ["-r", "x"],
        ["-r", "2147483648"],
        ["-r", "1", "-b", "1s"],
        ["-r", "1", "-b", "2s:1s"],
        ["-r", "1", "-b", "0s:1s"],
        ["-r", "1", "-b", "1:2"],
        ["-w", "10"],
        ["-n", ""],
        ["-n", "a/b"],
        ["-n", ".."],
        ["-n", "a\nb"],
        ["-x"],
        ["--user", "no-such-user"],
        ["--nonsense"],
    ],
)
def test_bad_usage_starts_nothing(run: Program, argv: list[str]) -> None:
    command = [] if argv in ([], ["-r", "1"]) else ["touch", "started"]
    assert run.run(*argv, *command) == 125
    assert not (run.directory / "started").exists()
    assert len(run.lines("stderr")) == 1
    assert run.lines("stderr")[0].startswith("viagra-run: ")


# Fatal events and restarts


@pytest.mark.parametrize(
    ("options", "script", "lived", "code"),
    [
        ("-r 2 -f signal,core", "kill -KILL $$", 3, 123),
        ("-r 1 -f signal", "kill -TERM $$", 2, 123),
        ("-r 2", "kill -KILL $$", 1, 123),
        ("-f signal", "kill -KILL $$", 1, 123),
        ("-r 1 -f core", "kill -KILL $$", 1, 123),
        ("-r 1 -f core", "ulimit -c 0; kill -SEGV $$", 2, 123),
        ("-r 1 -f signal", "kill -SEGV $$", 2, 123),
        ("-r 1", "kill -BUS $$", 2, 123),
        ("-r 1 -f hwerr", "kill -SEGV $$", 1, 123),
        ("-r 1 -f none", "kill -BUS $$", 1, 123),
        ("-r 1 -f n", "kill -BUS $$", 1, 123),
        ("-r 1 -f c,s,h", "kill -KILL $$", 2, 123),
        ("-r 1 -f sig,co", "kill -KILL $$", 2, 123),
        ("-r 1 -f signal,signal", "kill -KILL $$", 2, 123),
        ("-r 2 -f signal,core,hwerr", "exit 3", 1, 3),
        ("-r 2 -f signal,core,hwerr", "exit 0", 1, 0),
        ("-r 2 -f exit", "exit 3", 3, 3),
        ("-r 2 -f e", "exit 0", 3, 0),
        ("-r 2 -f exit", "sh -c 'exit 4' & wait; exit 5", 3, 5),
        ("-r 3 -f exit", "kill -KILL $$", 1, 123),
        ("-r 1 -f signal -i core,signal", "kill -KILL $$", 2, 123),
    ],
)
def test_which_deaths_are_fatal(
    run: Program, options: str, script: str, lived: int, code: int
) -> None:
    argv = [*options.split(), "sh", "-c", f"echo $$ >>out; {script}"]
    assert run.run(*argv) == code
    assert len(run.lines()) == lived


def test_restarts_without_end_until_told(run: Program) -> None:
    run.start("-r", "0", "-f", "signal", "sh", "-c", "echo $$ >>out; exec sleep 1000")
    for lived in range(1, 6):
        os.kill(run.pids(count=lived)[-1], signal.SIGKILL)
    last = run.pids(count=6)[-1]
    run.send(signal.SIGTERM)
    assert run.end() == 0  # as it was asked to
    assert not lives(last)
    assert len(run.lines()) == 6


def test_list_of_events_may_be_separated_by_blanks(run: Program) -> None:
    assert run.run("-r", "1", "-f", "core signal", "sh", "-c", DIE) == 123
    assert len(run.lines()) == 2


def test_daemon_that_left_is_restarted(run: Program) -> None:
    run.start("-r", "1", "-f", "signal", "sh", "-c", DAEMON)
    os.kill(run.pids()[0], signal.SIGKILL)
    second = run.pids(count=2)[1]
    until(lambda: children(_pid(run)) == [second])  # the command itself has ended
    os.kill(second, signal.SIGKILL)
    # The code is the command's own: what it left behind was killed, not it.
    assert run.end() == 0
    assert len(run.lines()) == 2


def test_exit_0_into_the_background_is_no_fault(run: Program) -> None:
    run.start("-r", "1", "-f", "exit", "sh", "-c", DAEMON + "; exit 0")
    daemon = run.pids()[0]
    until(lambda: not [pid for pid in run.left() if pid not in (daemon, _pid(run))])
    os.kill(daemon, signal.SIGKILL)
    assert run.end() == 0
    assert len(run.lines()) == 1


@pytest.mark.parametrize(
    ("left", "codes"),
    [("setsid sleep 1000", [0]), ("sleep 1000", [0, 7])],
    ids=["a daemon", "a child"],
)
def test_ends_that_are_seen_at_once_are_told_apart(
    run: Program, left: str, codes: list[int]
) -> None:
    """A daemon was left running by exit 0; a script may end its child before itself."""
    script = (
        f"echo $$ >>out; [ -e go ] && exit 7; {left} & echo $! >other;"
        "until [ -e go ]; do sleep 0.01; done"
    )
    run.start("-r", "1", "-f", "exit", "-i", "empty", "sh", "-c", script)
    [command], [other] = run.pids(), run.pids("other")
    until(lambda: Path(f"/proc/{other}/comm").read_text() == "sleep\n")
    os.kill(_pid(run), signal.SIGSTOP)
    (run.directory / "go").touch()
    until(lambda: state(command) == "Z")
    os.kill(other, signal.SIGKILL)
    until(lambda: state(other) == "Z")
    os.kill(_pid(run), signal.SIGCONT)
    assert run.end() == codes[-1]
    assert len(run.lines()) == len(codes)
    assert len(run.lines("stderr")) == len(codes)  # "empty", once for each


def _pid(run: Program) -> int:
    return run.runner.pid


def test_what_was_passed_on_is_no_event(run: Program) -> None:
    script = "echo $$ >>out; exec sleep 1000"
    run.start("-r", "0", "-f", "signal,core", "sh", "-c", script)
    run.pids()
    run.send(signal.SIGUSR1)
    assert run.end() == 123
    assert len(run.lines()) == 1


def test_fatal_event_ends_all_before_the_restart(run: Program) -> None:
    # The second life says whether the daemon of the first one still runs.
    script = (
        "if [ -s other ]; then kill -0 $(cat other) && echo alive >>out; exit 7; fi;"
        "(setsid sh -c 'echo $$ >other; exec sleep 1000' &);"
        "until [ -s other ]; do sleep 0.01; done; kill -KILL $$"
    )
    assert run.run("-r", "1", "-f", "signal", "sh", "-c", script) == 7
    assert run.lines() == []
    assert not lives(run.pids("other")[0])


def test_fatal_event_without_restart_ends_all(run: Program) -> None:
    script = DAEMON + "; until [ -s out ]; do sleep 0.01; done; kill -KILL $$"
    assert run.run("-f", "signal", "sh", "-c", script) == 123
    assert not lives(run.pids()[0])


def test_transfer_moves_what_was_left_to_the_new_life(run: Program) -> None:
    script = (
        "if [ -s other ]; then kill -0 $(cat other) && echo alive >>out; exit 7; fi;"
        "(setsid sh -c 'echo $$ >other; exec sleep 1000' &);"
        "until [ -s other ]; do sleep 0.01; done; kill -KILL $$"
    )
    run.start("-r", "1", "-t", "-f", "signal", "sh", "-c", script)
    assert until(run.lines) == ["alive"]
    other = run.pids("other")[0]
    # It belongs to the contract, so the contract is not over, and knows its death.
    assert run.runner.poll() is None
    os.kill(other, signal.SIGKILL)
    assert run.end() == 7


def test_transfer_never_leaves_two_commands(run: Program) -> None:
    script = "echo $$ >>commands; " + DAEMON + "; exec sleep 1000"
    run.start("-r", "1", "-t", "-f", "signal", "sh", "-c", script)
    first, daemon = run.pids("commands")[0], run.pids()[0]
    os.kill(daemon, signal.SIGKILL)
    second = run.pids("commands", 2)[1]
    assert not lives(first)
    assert lives(second)


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_term_in_the_pause_asks_what_is_to_be_transferred(
    run: Program, terms: tuple[str, ...]
) -> None:
    daemon = 'trap "sleep 0.3; echo asked >>got; exit" TERM; echo $$ >out; sleep 1000'
    leave = f"(setsid sh -c '{daemon} & wait' &); until [ -s out ]; do sleep 0.01; done"
    options = ["-v", "-r", "0", "-t", "-b", "1h:1h", "-f", "signal", *terms]
    run.start(*options, "sh", "-c", f"{leave}; kill -KILL $$")
    until(lambda: "starting again" in "".join(run.lines("stderr")))
    run.send(signal.SIGTERM)
    assert run.end() == 123
    assert run.lines("got") == ["asked"]
    assert not lives(run.pids()[0])


def test_transfer_without_restarts_left_ends_all(run: Program) -> None:
    count = "$(cat out 2>/dev/null | wc -l)"
    wait = f"until [ {count} -gt $VIAGRA_INSTANCE ]; do sleep 0.01; done"
    script = f"{DAEMON}; {wait}; kill -KILL $$"
    assert run.run("-r", "1", "-t", "-f", "signal", "sh", "-c", script) == 123
    assert len(run.pids(count=2)) == 2
    assert not run.left()


def test_pgrponly_ends_only_the_group(run: Program) -> None:
    script = (
        "(exec setsid sh -c 'sleep 1000 & echo $! >>mate; echo $$ >>out; wait') &"
        "(setsid sh -c 'echo $$ >>far; exec sleep 1000' &) ; wait"
    )
    run.start("-o", "pgrponly", "-l", "contract", "-f", "signal", "sh", "-c", script)
    # A death in the far group: nobody else dies of it, and the contract goes on.
    mate, leader, far = run.pids("mate")[0], run.pids()[0], run.pids("far")[0]
    os.kill(far, signal.SIGKILL)
    until(lambda: state(far) == "")
    assert lives(mate)
    assert lives(leader)
    run.send(signal.SIGKILL)


def test_pgrponly_ends_the_mates_of_the_dead(run: Program) -> None:
    inner = "sleep 1000 & echo $! >>mate; echo $$ >>out; wait"
    script = f"(setsid sh -c '{inner}' &); (setsid sh -c 'echo $$ >far; sleep 1000' &)"
    run.start("-o", "pgrponly", "-f", "signal", "sh", "-c", script)
    mate, leader, far = run.pids("mate")[0], run.pids()[0], run.pids("far")[0]
    until(lambda: leader in children(_pid(run)))
    os.kill(leader, signal.SIGKILL)
    until(lambda: not lives(mate))
    assert lives(far)
    assert run.runner.poll() is None


# Lifetimes and terms


def test_contract_lasts_until_it_is_empty(run: Program) -> None:
    run.start("sh", "-c", DAEMON + "; exit 4")
    daemon = run.pids()[0]
    until(lambda: children(_pid(run)) == [daemon])
    assert run.runner.poll() is None
    os.kill(daemon, signal.SIGTERM)
    assert run.end() == 4


def test_child_lasts_as_long_as_the_command(run: Program) -> None:
    script = DAEMON + "; until [ -s out ]; do sleep 0.01; done; exit 4"
    assert run.run("-l", "child", "sh", "-c", script) == 4
    assert lives(run.pids()[0])


def test_child_with_noorphan_takes_the_rest_along(run: Program) -> None:
    script = DAEMON + "; until [ -s out ]; do sleep 0.01; done; exit 4"
    assert run.run("-l", "child", "-o", "noorphan", "sh", "-c", script) == 4
    assert not run.left()


def test_member_whose_first_thread_has_ended_is_ended_too(run: Program) -> None:
    # The kernel calls it a zombie, though its other threads live.
    text = (
        "import ctypes, os, signal, threading, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "os.write(1, b'%d\\n' % os.getpid())\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    command = [PYTHON, "-I", "-S", "-c", text]
    run.start("-o", "noorphan", "-w", "0s", *command)
    headless = run.pids("stdout")[0]
    until(lambda: state(headless) == "Z")
    assert len(os.listdir(f"/proc/{headless}/task")) == 2
    began = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.end() == 123
    assert state(headless) == ""
    assert time.monotonic() - began < pidfd.DYING


def test_none_leaves_at_once(run: Program) -> None:
    assert run.run("-l", "none", "sh", "-c", "echo $$ >>out; exec sleep 1000") == 0
    assert lives(run.pids()[0])
    assert run.run("-l", "none", "no-such-program-anywhere") == 127


@pytest.mark.parametrize("option", ["noorphan", "regent", "no", "noorphan,regent"])
def test_terms_may_be_shortened_and_listed(run: Program, option: str) -> None:
    assert run.run("-o", option, "sh", "-c", "exit 6") == 6


def test_killed_runner_leaves_orphans(run: Program) -> None:
    run.start("sh", "-c", DAEMON + "; echo $$ >>command; exec sleep 1000")
    daemon, command = run.pids()[0], run.pids("command")[0]
    run.send(signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    assert lives(daemon)
    assert lives(command)


@pytest.mark.parametrize("whom", ["runner", "holder"])
def test_killed_half_takes_all_members_along(run: Program, whom: str) -> None:
    script = DAEMON + "; echo $$ >>command; exec sleep 1000"
    run.start("-o", "noorphan", "-r", "0", "-f", "signal", "sh", "-c", script)
    run.pids()
    run.pids("command")
    (holder,) = children(_pid(run))
    os.kill(_pid(run) if whom == "runner" else holder, signal.SIGKILL)
    code = run.end()
    until(lambda: not run.left())
    assert code == (-signal.SIGKILL if whom == "runner" else 124)
    if whom == "holder":
        assert "was killed, ended all" in run.lines("stderr")[0]


@pytest.mark.parametrize("options", [(), ("-o", "regent")])
def test_what_a_contract_within_leaves_is_inherited(
    run: Program, options: tuple[str, ...]
) -> None:
    within = [*run.argv, "-l", "none", "sh", "-c", "echo $$ >>out; exec sleep 1000"]
    run.start(*options, *within)
    daemon = run.pids()[0]
    until(lambda: children(_pid(run)) == [daemon])
    assert run.runner.poll() is None
    os.kill(daemon, signal.SIGKILL)
    assert run.end() == 0


@pytest.mark.parametrize("killed", ["runner", "holder"])
def test_stopped_half_does_its_part_once_it_goes_on(run: Program, killed: str) -> None:
    run.start("-o", "noorphan", "sh", "-c", DAEMON + "; exec sleep 1000")
    run.pids()
    (holder,) = children(_pid(run))
    stopped, dead = (holder, _pid(run)) if killed == "runner" else (_pid(run), holder)
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: state(stopped) == "T")
    os.kill(dead, signal.SIGKILL)
    until(lambda: not lives(dead))
    assert len(run.left()) >= 3  # the daemon, the command, and the stopped half
    os.kill(stopped, signal.SIGCONT)
    until(lambda: not run.left())
    assert run.end() == (-signal.SIGKILL if killed == "runner" else 124)


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_what_happens_while_it_is_stopped_is_done_afterwards(
    run: Program, terms: tuple[str, ...]
) -> None:
    script = "echo $$ >>out; exec sleep 1000"
    run.start("-r", "1", "-f", "signal", *terms, "sh", "-c", script)
    command = run.pids()[0]
    holder = children(_pid(run))[0] if terms else _pid(run)
    os.kill(holder, signal.SIGSTOP)
    until(lambda: state(holder) == "T")
    os.kill(command, signal.SIGKILL)
    until(lambda: state(command) == "Z")
    assert len(run.lines()) == 1
    os.kill(holder, signal.SIGCONT)
    second = run.pids(count=2)[1]
    os.kill(holder, signal.SIGSTOP)
    run.send(signal.SIGTERM)
    assert lives(second)
    os.kill(holder, signal.SIGCONT)
    assert run.end() == 0
    assert not run.left()


# Signals


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2"])
def test_signal_is_passed_on(run: Program, name: str, terms: tuple[str, ...]) -> None:
    script = (
        f"trap 'echo {name} >>got; exit 9' {name};"
        "echo $$ >>out; while :; do sleep 0.01; done"
    )
    run.start("-r", "3", "-f", "signal", *terms, "sh", "-c", script)
    run.pids()
    run.send(getattr(signal, f"SIG{name}"))
    assert run.end() == 9
    assert run.lines("got") == [name]
    assert len(run.lines()) == 1


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_signal_reaches_a_daemon_that_left(
    run: Program, terms: tuple[str, ...]
) -> None:
    run.start(*terms, "sh", "-c", DAEMON)
    daemon = run.pids()[0]
    holder = children(_pid(run))[0] if terms else _pid(run)
    until(lambda: children(holder) == [daemon])
    run.send(signal.SIGTERM)
    assert run.end() == 0
    assert not lives(daemon)


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_kill_follows_term_after_the_wait(run: Program, terms: tuple[str, ...]) -> None:
    script = "trap '' TERM; echo $$ >>out; while :; do sleep 1000; done"
    run.start("-w", "200ms", "-r", "1", "-f", "signal", *terms, "sh", "-c", script)
    run.pids()
    began = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.end() == 123
    assert time.monotonic() - began >= 0.2
    assert len(run.lines()) == 1
    if terms:
        assert not run.left()


def test_term_with_noorphan_asks_the_others_too(run: Program) -> None:
    # The daemon leaves a word when it is asked, which KILL would not allow. It leaves
    # no child: a shell's, asked before it executes anything, forgets that it was.
    trap = 'trap "echo asked >>got; exit" TERM'
    daemon = f"{trap}; echo $$ >>out; while :; do sleep 0.05; done"
    script = f"(setsid sh -c '{daemon}' &); exec sleep 1000"
    run.start("-o", "noorphan", "-w", "1h", "sh", "-c", script)
    run.pids()
    run.send(signal.SIGTERM)
    run.end()
    assert run.lines("got") == ["asked"]
    assert not run.left()


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_interrupt_from_a_terminal_comes_once(
    run: Program, terms: tuple[str, ...]
) -> None:
    ours, theirs = os.openpty()
    try:
        # No shell: its trap would run once for two signals.
        text = (
            "import os, signal, sys\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
            "os.write(2, b'%d\\n' % os.getpid())\n"
            "while not os.path.exists('stop'):\n"
            "    if signal.sigtimedwait({signal.SIGINT}, 0.01):\n"
            "        os.write(1, b'got\\n')\n"
            "sys.exit(5)\n"
        )
        # The first terminal that a session's leader opens becomes its own.
        through_a_shell(run, f'exec <{os.ttyname(theirs)}; exec "$@"')
        run.start(*terms, PYTHON, "-I", "-S", "-c", text)
        run.pids("stderr")
        os.write(ours, b"\x03")
        until(lambda: run.lines("stdout"))
        time.sleep(0.2)  # were there a second one, it would come now
        assert run.lines("stdout") == ["got"]
        (run.directory / "stop").touch()
        assert run.end() == 5
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_hangup_of_its_terminal_reaches_the_command(
    run: Program, terms: tuple[str, ...]
) -> None:
    ours, theirs = os.openpty()
    through_a_shell(run, f'exec <{os.ttyname(theirs)}; exec "$@"')
    run.start(*terms, "sh", "-c", "echo $$ >>out; exec sleep 1000")
    run.pids()
    os.close(theirs)
    os.close(ours)
    assert run.end() == 123


def test_hangup_that_is_ignored_stays_ignored(run: Program) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    script = "trap 'exit 7' USR1; echo $$ >>out; while :; do sleep 0.01; done"
    run.start("-o", "noorphan", "sh", "-c", script, preexec_fn=ignore)
    command = run.pids()[0]
    run.send(signal.SIGHUP)
    os.kill(command, signal.SIGHUP)
    run.send(signal.SIGUSR1)
    assert run.end() == 7


def test_command_starts_in_a_clean_state(run: Program) -> None:
    def muddle() -> None:
        for number in (signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGCHLD})

    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status >>out; ls /proc/self/fd >>fds"
    argv = ["-o", "noorphan", "-n", "food", "-L", "log", "sh", "-c", script]
    with_state(run)
    assert run.run(*argv, preexec_fn=muddle, restore_signals=False) == 0
    # The C library keeps two for itself, and make(1) leaves them ignored.
    kept = 1 << 31 | 1 << 32
    assert [int(line.split()[1], 16) & ~kept for line in run.lines()] == [0, 0]
    # 3 is the directory that ls reads.
    assert run.lines("fds") == ["0", "1", "2", "3"]


# Told


def test_verbose_tells_what_happens(run: Program) -> None:
    assert run.run("-v", "-r", "1", "-f", "signal", "sh", "-c", DIE) == 123
    text = "\n".join(run.lines("stderr"))
    assert text.count("started") == 2
    assert text.count("fatal signal") == 2
    assert run.lines("stdout") == []


def test_informative_events_are_told_only(run: Program) -> None:
    argv = ["-r", "3", "-f", "core", "-i", "signal,exit,empty,fork", "sh", "-c", DIE]
    assert run.run(*argv) == 123
    told = [line.split()[2] for line in run.lines("stderr")]
    assert sorted(told) == ["empty:", "exit:", "fork:", "signal:"]
    assert len(run.lines()) == 1


def test_silent_without_being_asked(run: Program) -> None:
    assert run.run("-r", "1", "-f", "signal", "sh", "-c", DIE) == 123
    assert run.lines("stderr") == []


def through_a_shell(run: Program, script: str) -> None:
    """Have a shell's script become the program, by `exec "$@"`."""
    run.argv = ["sh", "-c", script, "sh", *run.argv]


def test_where_it_says_things_may_be_closed(run: Program) -> None:
    through_a_shell(run, 'exec "$@" >&- 2>&-')
    for argv, code in ((["-v", "true"], 0), (["/none"], 127), (["--help"], 0)):
        assert run.run(*argv) == code


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_children_of_the_shell_that_became_it_are_no_members(
    run: Program, terms: tuple[str, ...]
) -> None:
    through_a_shell(run, 'sleep 1000 & echo $! >>out; sleep 0.01 & exec "$@"')
    assert run.run(*terms, "sh", "-c", "sleep 0.1; exit 3") == 3
    [stranger] = run.pids()
    assert lives(stranger)
    os.kill(stranger, signal.SIGKILL)


# Additions


@pytest.mark.parametrize(("before", "first"), [(None, 0), ("4", 4), ("x", 0)])
def test_instance_counts_restarts(run: Program, before: str | None, first: int) -> None:
    if before is not None:
        run.environment["VIAGRA_INSTANCE"] = before
    script = "echo $VIAGRA_INSTANCE >>out; kill -KILL $$"
    assert run.run("-r", "2", "-f", "signal", "sh", "-c", script) == 123
    assert run.lines() == [str(first), str(first + 1), str(first + 2)]


def test_record_of_a_signal(run: Program) -> None:
    with_state(run)
    before = time.time()
    script = "echo $$ >>out; sleep 0.3; kill -SEGV $$"  # we may see its begin late
    assert run.run("-n", "food", "-r", "1", "-f", "core", "sh", "-c", script) == 123
    found = record(run)
    first, last = run.pids(count=2)
    assert first != last
    assert found["version"] == 1
    assert found["name"] == "food"
    assert found["instance"] == 1
    assert found["runner"]["pid"] == _pid(run)
    assert found["command"]["pid"] == last
    death = found["death"]
    assert (death["pid"], death["exit"], death["signal"]) == (last, None, 11)
    assert isinstance(death["core"], bool)
    assert death["instance"] == 1
    assert 0.2 <= death["ran"] < LONG
    assert before < found["started"] < death["at"] <= found["end"]["at"] <= time.time()
    assert found["end"]["finished"] is False
    mode = (run.directory / "state" / "deaths" / "food").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_record_is_read_by_its_owner_only(run: Program) -> None:
    state_directory = str(with_state(run))
    assert death_records.read(state_directory, "food") == {}
    assert run.run("-n", "food", "true") == 0
    assert death_records.read(state_directory, "food") == record(run)
    assert death_records.read(state_directory, "other") == {}
    path = run.directory / "state" / "deaths" / "food"
    for text in ("", "[]", '{"version": 2}', "{"):
        path.write_text(text)
        assert death_records.read(state_directory, "food") == {}
    path.unlink()
    os.mkfifo(path)
    assert death_records.read(state_directory, "food") == {}
    path.unlink()
    (run.directory / "elsewhere").write_text('{"version": 1}')
    path.symlink_to(run.directory / "elsewhere")
    assert death_records.read(state_directory, "food") == {}
    path.unlink()
    path.write_text('{"version": 1}')
    assert death_records.read(state_directory, "food") == {"version": 1}
    path.parent.chmod(0o770)
    assert death_records.read(state_directory, "food") == {}


@pytest.mark.parametrize("terms", [(), ("-o", "noorphan")])
def test_record_while_it_runs(run: Program, terms: tuple[str, ...]) -> None:
    with_state(run)
    script = "echo $$ >>out; exec sleep 1000"
    options = ["-n", "food", "-r", "1", "-f", "signal"]
    run.start(*options, *terms, "sh", "-c", script)
    first = run.pids()[0]
    until(lambda: record(run))
    assert record(run)["death"] is None
    assert record(run)["end"] is None
    os.kill(first, signal.SIGKILL)
    second = run.pids(count=2)[1]
    until(lambda: record(run)["instance"] == 1)
    found = record(run)
    assert found["death"]["pid"] == first
    assert found["death"]["instance"] == 0
    assert found["death"]["signal"] == 9
    assert found["command"]["pid"] == second
    assert found["runner"]["pid"] == _pid(run)
    fields = Path(f"/proc/{second}/stat").read_text().rpartition(") ")[2].split()
    assert found["command"]["start"] == int(fields[19])
    run.send(signal.SIGKILL)
    run.end()
    assert record(run)["end"] is None


def test_record_of_a_command_that_could_not_be_started_again(run: Program) -> None:
    with_state(run)
    script = run.directory / "food"
    script.write_text("#!/bin/sh\nrm $0; kill -KILL $$\n")
    script.chmod(0o700)
    options = ["-n", "food", "-r", "5", "-f", "signal"]
    assert run.run(*options, str(script)) == 127
    found = record(run)
    assert (found["death"]["signal"], found["death"]["instance"]) == (9, 0)
    assert found["end"]["finished"] is False


def test_a_restart_waits_for_a_process_to_be_had(run: Program) -> None:
    need_root()
    user = 65532  # of whom there are no other processes
    run.directory.chmod(0o777)
    text = (
        "import ctypes, os, sys; sys.path.insert(0, sys.argv[1]);"
        "from viagralib.companions.run import main as run;"
        "import viagralib.processes.bounded_reads;"  # which others may not read
        f"os.setgroups([]); os.setgid({user}); os.setuid({user});"
        "sys.exit(run.main(sys.argv[2:]))"
    )

    def allow(most: str) -> None:
        command = [need("prlimit"), f"--pid={run.runner.pid}", f"--nproc={most}:"]
        subprocess.run(command, user=user, group=user, extra_groups=[], check=True)

    run.argv = [PYTHON, "-I", "-c", text, str(ROOT)]
    run.start("-r", "0", "-f", "signal", "sh", "-c", "echo $$ >>out; exec sleep 1000")
    [first] = run.pids()
    allow("1")
    os.kill(first, signal.SIGKILL)
    until(lambda: "could not start it again yet: " in "".join(run.lines("stderr")))
    allow("20")
    assert run.pids(count=2)[1] != first
    run.send(signal.SIGTERM)
    assert run.end() == 0 and len(run.lines("stderr")) == 1


@pytest.mark.parametrize(
    ("script", "code", "finished", "how"),
    [
        ("exit 0", 0, True, (0, None)),
        ("exit 3", 3, False, (3, None)),
        ("kill -KILL $$", 123, False, (None, 9)),
        ("sh -c 'sleep 0.1; exit 5' & exit 0", 0, False, (5, None)),
        ("sleep 0.1 & exit 6", 6, False, (6, None)),
        ("sleep 1000 & exit 0", 0, True, (0, None)),
    ],
)
def test_record_tells_whether_it_finished(
    run: Program, script: str, code: int, finished: bool, how: tuple[Any, Any]
) -> None:
    with_state(run)
    # What is left and killed at the end says nothing of how the command fared.
    ends = ["-l", "child", "-o", "noorphan"] if "1000" in script else []
    assert run.run("-n", "food", *ends, "sh", "-c", script) == code
    found = record(run)
    assert found["end"]["finished"] is finished
    assert (found["death"]["exit"], found["death"]["signal"]) == how


def test_told_to_end_is_not_finished(run: Program) -> None:
    with_state(run)
    script = "trap 'exit 0' TERM; echo $$ >>out; while :; do sleep 0.01; done"
    run.start("-n", "food", "-r", "1", "-f", "exit", "sh", "-c", script)
    run.pids()
    run.send(signal.SIGTERM)
    assert run.end() == 0
    assert len(run.lines()) == 1
    assert record(run)["end"]["finished"] is False


def _missing(directory: Path) -> None:
    directory.rmdir()


def _writable(directory: Path) -> None:
    directory.chmod(0o777)


def _elsewhere(directory: Path) -> None:
    (directory.parent / "away").mkdir()
    (directory / "deaths").symlink_to(directory.parent / "away")


def _foreign(directory: Path) -> None:
    need_root()
    os.chown(directory, 12345, 12345)


@pytest.mark.parametrize(
    "spoil",
    [
        _missing,
        _writable,
        _elsewhere,
        _foreign,
    ],
)
def test_unusable_state_costs_only_the_record(run: Program, spoil: Spoil) -> None:
    spoil(with_state(run))
    assert run.run("-n", "food", "sh", "-c", "exit 5") == 5
    assert "deaths are not recorded" in run.lines("stderr")[0]
    assert not list((run.directory).glob("**/food"))


def test_back_off_doubles_and_ends_on_term(run: Program) -> None:
    # Deaf to TERM, which may come just before it dies.
    script = "trap '' TERM; date +%s.%N >>out; kill -KILL $$"
    run.start("-r", "0", "-f", "signal", "-b", "100ms:400ms", "sh", "-c", script)
    until(lambda: len(run.lines()) >= 5)
    run.send(signal.SIGTERM)
    assert run.end() == 123
    times = [float(line) for line in run.lines()]
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.4), strict=False):
        assert gap >= least


def test_back_off_starts_anew_after_a_long_life(run: Program) -> None:
    script = "echo $$ >>out; [ $(wc -l <out) -gt 3 ] && sleep 0.5; kill -KILL $$"
    options = ["-v", "-r", "5", "-f", "signal", "-b", "20ms:300ms"]
    assert run.run(*options, "sh", "-c", script) == 123
    told = [line.split()[4] for line in run.lines("stderr") if "again" in line]
    assert told == ["0.02", "0.04", "0.08", "0.02", "0.02"]


def test_output_goes_to_a_file_that_is_opened_anew(run: Program) -> None:
    loop = "while :; do echo x; echo y >&2; sleep 0.02; done"
    script = f"trap 'echo hup >>got' HUP; {loop}"
    run.start("-o", "noorphan", "-L", "log", "sh", "-c", script)
    log = run.directory / "log"
    until(lambda: log.exists() and "y" in log.read_text())
    log.rename(run.directory / "log.0")
    run.send(signal.SIGHUP)
    until(lambda: log.exists() and "y" in log.read_text())
    assert not (run.directory / "got").exists()
    run.send(signal.SIGTERM)
    assert run.end() == 0
    assert run.lines("stdout") == []


def test_output_is_whole(run: Program) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    assert run.run("-L", "log", "sh", "-c", script) == 0
    assert run.lines("log") == [f"line {number}" for number in range(20000)]


def test_output_that_cannot_be_written_is_lost(run: Program) -> None:
    (run.directory / "log").symlink_to("/dev/full")
    assert run.run("-L", "log", "true") == 124
    assert "log" in run.lines("stderr")[0]


def test_full_disk_costs_output_but_not_the_command(run: Program) -> None:
    disk = run.directory / "disk"
    disk.mkdir()
    run.mount(f"mount -t tmpfs -o size=64k tmpfs '{disk}'")
    script = "head -c 900000 /dev/zero; echo $$ >>out; exit 5"  # in many portions
    assert run.run("-L", "disk/log", "sh", "-c", script) == 5
    assert len(run.lines()) == 1
    [told] = run.lines("stderr")
    assert "output lost: No space left" in told


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "other")


def _second_name(path: Path) -> None:
    (path.parent / "other").touch()
    path.hardlink_to(path.parent / "other")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _of_another(path: Path) -> None:
    need_root()
    path.touch()
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "make",
    [
        _link,
        _second_name,
        _fifo,
        _directory,
        _of_another,
    ],
)
def test_output_file_that_another_may_have_made(run: Program, make: Spoil) -> None:
    make(run.directory / "log")
    assert run.run("-L", "log", "touch", "started") == 124
    assert not (run.directory / "started").exists()
    assert len(run.lines("stderr")) == 1


def test_user_is_changed_for_good(run: Program) -> None:
    need_root()
    run.directory.chmod(0o755)
    ids = "id -u; id -g; id -G; grep Uid /proc/self/status"
    script = f"{ids}; echo $HOME $USER $LOGNAME"
    options = ["--user", "nobody", "-o", "noorphan"]
    assert run.run(*options, "sh", "-c", script) == 0
    lines = run.lines("stdout")
    assert lines[0] == "65534"
    assert lines[1] == lines[2]
    assert set(lines[3].split()[1:]) == {"65534"}
    assert lines[4].split()[1:] == ["nobody", "nobody"]


def test_only_root_can_change_the_user(run: Program) -> None:
    need_root()
    # Imported as root: the interpreter need not be readable for all.
    text = (
        "import os, pwd, sys; sys.path.insert(0, sys.argv[1]);"
        "from viagralib.companions.run import main as run; os.setuid(65534);"
        "sys.exit(run.main(['--user', sys.argv[2], '-l', 'none', 'true']))"
    )
    run.argv = [PYTHON, "-I", "-c", text, str(ROOT)]
    assert run.run("root") == 125
    assert "only root" in run.lines("stderr")[0]
    assert run.run("nobody") == 0


# Cost


def test_says_where_there_are_no_contracts(run: Program) -> None:
    # Imported on this system, as on one that has neither subreapers nor procctl.
    text = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from viagralib.companions.run.main import main; sys.platform = 'openbsd7';"
        "sys.exit(main(sys.argv[2:]))"
    )
    run.argv = [PYTHON, "-I", "-c", text, str(ROOT)]
    for terms in ((), ("-o", "noorphan")):
        assert run.run(*terms, "touch", "started") == 124
    assert not (run.directory / "started").exists()
    line = "viagra-run: openbsd7 has no process contracts or subreapers"
    assert run.lines("stderr") == [line, line]


def test_help_and_version(run: Program) -> None:
    assert run.run("--help") == 0
    assert run.run("--version") == 0
    usage, *_, version = run.lines("stdout")
    assert usage.startswith("usage: viagra-run [-f events]")
    assert version == f"viagra-run {VERSION}"
    assert run.lines("stderr") == []


def test_memory_and_idleness(run: Program) -> None:
    with_state(run)
    options = ["-o", "noorphan", "-n", "food", "-L", "log", "-r", "0"]
    run.start(*options, "sh", "-c", "echo $$ >>out; exec sleep 1000")
    run.pids()
    until(lambda: record(run))
    ours = [_pid(run), *children(_pid(run))]
    assert len(ours) == 2
    until(lambda: all(state(pid) == "S" for pid in ours))
    before = [_switches(pid) for pid in ours]
    time.sleep(0.5)
    assert [_switches(pid) for pid in ours] == before
    for pid in ours:
        assert _status(pid, "VmHWM") < 15 * 1024


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise KeyError(key)


def _switches(pid: int) -> int:
    return _status(pid, "voluntary_ctxt_switches")


def _open(pid: int) -> set[str]:
    """Return what a process has open, each by its number, but for "libffi"."""
    found = Path(f"/proc/{pid}/fd").iterdir()
    return {"libffi" if "/libffi." in os.readlink(fd) else fd.name for fd in found}


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_restarts_leak_nothing_and_each_record_is_whole(
    run: Program, count: int
) -> None:
    with_state(run)
    die = f"[ $VIAGRA_INSTANCE -lt {count} ] && kill -KILL $$"
    script = f"echo $$ >>out; {die}; sleep 1000"
    options = ["-o", "noorphan", "-n", "food", "-L", "log", "-r", "0", "-f", "signal"]
    run.start(*options, "sh", "-c", script)
    run.pids()
    (holder,) = children(_pid(run))
    ours = (_pid(run), holder)
    # 0 to 2; the other's death; and: deadlines, log, its pipe's two ends.
    before = [5, 8]
    until(lambda: record(run) and len(run.lines()) == count + 1, 4 * LONG)
    until(lambda: record(run)["instance"] == count)
    assert os.listdir(run.directory / "state" / "deaths") == ["food"]
    until(lambda: len(run.left()) == 4)  # runner, holder, sh, its sleep
    # libffi, by which prctl(2) is called, may keep itself open.
    until(lambda: [len(_open(pid) - {"libffi"}) for pid in ours] == before)
    assert children(_pid(run)) == [holder]
    assert len(children(holder)) == 1
    assert _status(holder, "VmHWM") < 15 * 1024


# A contract leaves nobody behind


def _try_tree(run: Program, seed: int) -> None:
    """Run one random tree and end it in one of several ways."""
    events = "core,signal,hwerr" + (",exit" if seed % 5 == 0 else "")
    options = ["-o", "noorphan", "-f", events, "-w", "50ms"]
    tree = [PYTHON, "-I", "-S", str(HELPERS / "random_tree.py"), str(seed)]
    run.start(*options, *tree)
    time.sleep((seed * 37 % 50) * 0.005)
    way = ("event", "term", "kill runner", "kill holder")[seed % 4]
    # On a busy machine it may not have come that far.
    until(lambda: children(_pid(run)) or run.runner.poll() is not None)
    holders = children(_pid(run))
    if way == "event":
        victims = [pid for pid in run.left() if pid not in (_pid(run), *holders)]
        if victims:
            _kill(victims[seed % len(victims)])
    elif way == "kill holder" and holders:
        _kill(holders[0])
    elif way == "kill runner":
        _kill(_pid(run))
    # The tree may have ended by itself, or nobody whose death is seen was hit.
    if way in ("term", "event") and run.runner.poll() is None:
        run.send(signal.SIGTERM)
    run.end()
    if way == "kill runner":
        until(lambda: not run.left())  # its holder does that on its own
    assert run.left() == [], f"seed {seed}, {way}"


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("part", range(4))
def test_random_trees_leave_nobody(run: Program, part: int) -> None:
    for seed in range(part * 10, part * 10 + 10):
        _try_tree(run, seed)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_500_random_trees_leave_nobody(run: Program, part: int) -> None:
    for seed in range(part * 25, part * 25 + 25):
        _try_tree(run, seed)


# The guardian's deadline


@pytest.mark.parametrize("extensions", [0, 8])
def test_stopped_keeper_loses_its_command_in_time(
    run: Program, extensions: int
) -> None:
    run.argv = [PYTHON, "-I", str(HELPERS / "contract_keeper.py")]
    began = time.monotonic()
    run.start("0.6", "out", str(extensions))
    pids = run.pids(count=3)
    assert run.end() == 25
    assert time.monotonic() - began >= 0.6 + extensions * 0.15
    assert not any(lives(pid) for pid in pids)
    assert run.left() == []


def test_killed_keeper_is_told_from_one_that_was_late(run: Program) -> None:
    run.argv = [PYTHON, "-I", str(HELPERS / "contract_keeper.py")]
    run.start("1000", "out", "0")
    run.pids(count=3)
    _kill(children(_pid(run))[0])
    assert run.end() == 24
    assert run.left() == []


# Members are known by more than their pid


def test_signal_reaches_no_later_process_of_the_same_pid() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        known = table.find(child.pid)
        assert known
        assert not send(Process(known.pid, known.start - 1), signal.SIGKILL)
        assert child.poll() is None
        assert send(known, signal.SIGKILL)
        assert child.wait(LONG) == -signal.SIGKILL
        assert not send(known, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()


def test_members_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"])
    try:
        below = until(lambda: children(shell.pid))
        mine = table.find(below[0])
        monkeypatch.setattr(table, "children_finder", portable.children_finder)
        found = {one.pid: one for one in process_contract.below(shell.pid)}
        assert list(found) == below
        assert mine
        assert found[below[0]].parent == mine.parent
        assert found[below[0]].group == mine.group
        assert found[below[0]].start > 1e9
    finally:
        for pid in (*children(shell.pid), shell.pid):
            _kill(pid)
        shell.wait()
