"""The programs that we start: each in a clean state, held until we are ready."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from viagralib.base import files, resource_limits
from viagralib.base.messages import trouble
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import send
from viagralib.processes.tree import grow
from viagralib.trust.gate import Gate, Program

_RELEASE, _FAILURE = 3, 4  # descriptors of a child between fork and exec
_GO = b"g"
_MARK = "VIAGRA_MARK"  # each incident has its own, which nobody can guess


class Child:
    """A program that we started; `path` is what it executes."""

    def __init__(
        self, path: str, process: Process, release: int, failure: int, mark: str
    ) -> None:
        self.path = path
        self.process = process
        self.began = time.monotonic()
        self.ended: float | None = None  # on the clock of `began`
        self.status: int | None = None  # as of os.waitstatus_to_exitcode()
        self.failure = ""  # what went wrong with it, but for its own exit
        self._release = release
        self._failure = failure
        self.tree = grow(process, mark)

    def release(self) -> None:
        """Let it execute its program. Until then it has done nothing."""
        try:
            os.write(self._release, _GO)
        except BrokenPipeError:
            pass  # somebody has ended it: poll() tells
        self.began = time.monotonic()
        self._close_release()

    def abandon(self) -> None:
        """End it without a release: it executes nothing."""
        self.tree.is_over = True
        self._close_release()
        os.waitpid(self.process.pid, 0)
        self.status = 0
        self._read_failure()

    def kill(self) -> None:
        """Kill it with all that it started, as far as the system lets us."""
        with contextlib.suppress(OSError):
            for process in self.tree.living():
                send(process, signal.SIGKILL)
        with contextlib.suppress(OSError):  # who was forked during that look
            os.killpg(self.process.pid, signal.SIGKILL)

    def poll(self) -> bool:
        """Return whether it has ended; then `status` and `failure` tell how."""
        if self.status is not None:
            return True
        try:
            pid, status = os.waitpid(self.process.pid, os.WNOHANG)
        except ChildProcessError:  # reaped by somebody else
            pid, status = self.process.pid, -1
        if pid == 0:
            return False
        self.status = 127 if status < 0 else os.waitstatus_to_exitcode(status)
        self.ended = time.monotonic()
        self._read_failure()
        if status < 0:
            self.failure = self.failure or "ended, and nobody saw how"
        self._close_release()
        return True

    def seconds(self) -> float:
        """Return how long it ran, or has been running."""
        return (self.ended or time.monotonic()) - self.began

    def _read_failure(self) -> None:
        try:
            words = os.read(self._failure, 1000).decode(errors="replace")
            os.close(self._failure)
        except OSError:
            return  # then its status alone tells
        self.failure = f"could not be executed: {words}" if words else ""

    def _close_release(self) -> None:
        if self._release >= 0:
            os.close(self._release)
            self._release = -1


def start(  # noqa: PLR0913, PLR0917
    gate: Gate,
    program: Program,
    arguments: Iterable[str],
    output: int,
    environment: Mapping[str, str],
    largest_file: int | None = None,
    stdin: int = -1,
) -> Child:
    """Fork a child that will execute `program`, by the gate, once it is released.

    It is in a session of its own, in `/`, with `output` (a descriptor) for stdout and
    stderr, `stdin` or /dev/null, nothing else open, and nothing of our signals, mask,
    nice or umask; `largest_file` limits in bytes what it may write. If we die before
    the release, it ends. Raises OSError when the system has no process to give.
    """
    # Where it is ignored, which execve(2) hands on, how children end is lost: wait(2).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pipes: list[int] = []
    try:
        pipes += os.pipe()
        pipes += os.pipe()
        pid = os.fork()
    except OSError:
        for descriptor in pipes:
            os.close(descriptor)
        raise
    release_read, release_write, failure_read, failure_write = pipes
    if pid == 0:
        _in_the_child(
            (release_read, failure_write, output, stdin),
            largest_file,
            lambda: gate.execute(program, arguments, environment),
        )
    os.close(release_read)
    os.close(failure_write)
    process = table.find(pid) or Process(pid, 0, parent=os.getpid(), session=pid)
    mark = f"{_MARK}={environment[_MARK]}" if environment.get(_MARK) else ""
    return Child(program.path, process, release_write, failure_read, mark)


def _in_the_child(
    descriptors: tuple[int, int, int, int],
    largest_file: int | None,
    execute: Callable[[], NoReturn],
) -> None:
    """Make all as it should be, wait for the release, execute. Never returns."""
    failure = descriptors[1]
    try:
        try:
            os.setsid()
            _place(*descriptors)
            failure = _FAILURE
            _clean_state(largest_file)
            if os.read(_RELEASE, 1) != _GO:
                os._exit(0)  # whoever started us is dead: nothing has happened
            execute()
        except (OSError, MemoryError) as error:
            os.write(failure, trouble(error).encode())
    finally:
        os._exit(127)


def _place(release: int, failure: int, output: int, stdin: int) -> None:
    """Leave the child stdin, stdout, stderr, the release and the failure pipe only."""
    # All others first: our parent may have no descriptor left to give.
    files.close_all_but((release, failure, output, stdin))
    # Upwards next: dup2 below must not overwrite one that is still to be moved.
    high = [_above(one) for one in (release, failure, output)]
    if stdin < 0:
        stdin = files.open_system("/dev/null")
    os.dup2(_above(stdin), 0)
    os.dup2(high[2], 1)
    os.dup2(high[2], 2)
    os.dup2(high[0], _RELEASE, inheritable=False)
    os.dup2(high[1], _FAILURE, inheritable=False)
    os.closerange(_FAILURE + 1, os.sysconf("SC_OPEN_MAX"))


def _above(descriptor: int) -> int:
    """Return a copy of a descriptor that is not one of the first five."""
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FAILURE + 1)


def _clean_state(largest_file: int | None) -> None:
    os.chdir("/")
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # the C library keeps a few for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for attempt in (_normal_scheduling, resource_limits.make_normal, _normal_oom_score):
        try:
            attempt()
        except (OSError, ValueError, AttributeError):
            continue  # only root may raise them, or a system has none of them
    if largest_file is not None:
        resource_limits.cap_files(largest_file)


def _normal_scheduling() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.sched_setaffinity(0, os.sched_getaffinity(1))  # without isolated processors


def _normal_oom_score() -> None:
    if sys.platform.startswith("linux"):
        files.write(files.open_system("/proc/self/oom_score_adj", os.O_WRONLY), b"0")
