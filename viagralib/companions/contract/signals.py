"""Signals as the one thing that is slept on: deaths, orders, and files that stir.

Every signal of interest stays blocked and is taken with sigtimedwait(2), so there is
no handler that could run at a bad moment, and no polling. A descriptor that becomes
readable or whose other end is closed says so with SIGIO (O_ASYNC, fcntl(2)).
"""

from __future__ import annotations

import fcntl
import os
import signal

PASSED_ON = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
# si_code of a signal that the kernel sent, as a terminal's driver does: Linux, FreeBSD.
_BY_KERNEL = frozenset({0x80, 0x10006})


class Arrival:
    """One signal that was taken: its number, and whether a terminal sent it, which
    then has sent it to its whole foreground group."""

    def __init__(self, number: int, by_terminal: bool) -> None:
        self.number = number
        self.by_terminal = by_terminal


def collect() -> frozenset[int]:
    """Block what is waited for from now on, and return it, for `wait`.

    A HUP that the caller ignores (nohup) stays ignored, here and in the command.
    """
    wanted = PASSED_ON | {signal.SIGCHLD, signal.SIGIO}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        wanted -= {signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    for number in wanted:
        # Not left ignored or default: an ignored SIGCHLD loses the exit statuses
        # (wait(2)), and FreeBSD drops a default-ignored signal even when blocked.
        signal.signal(number, _nothing)
    return frozenset(wanted)


def wait(wanted: frozenset[int], seconds: float | None) -> Arrival | None:
    """Sleep until one of `wanted` arrives; None when `seconds` passed first."""
    if seconds is None:
        found: signal.struct_siginfo | None = signal.sigwaitinfo(wanted)
    else:
        found = signal.sigtimedwait(wanted, max(seconds, 0.0))
    if found is None:
        return None
    # A hangup is sent to the leader of the session alone.
    is_own = found.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
    return Arrival(found.si_signo, found.si_code in _BY_KERNEL and not is_own)


def watch(descriptor: int) -> None:
    """Let SIGIO tell of `descriptor`, which no longer blocks.

    What came before is not told: read once after this.
    """
    os.set_blocking(descriptor, False)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


def restore() -> None:
    """Give a command to be executed what a login would: all default, none blocked."""
    for number in to_restore():
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def to_restore() -> list[int]:
    """Return the signals that are not at their defaults, but for an ignored HUP."""
    return [
        number
        for number in signal.valid_signals()
        if (now := signal.getsignal(number)) not in (signal.SIG_DFL, None)
        and (number, now) != (signal.SIGHUP, signal.SIG_IGN)
    ]


def _nothing(number: int, frame: object) -> None:
    """Be a handler that never runs: its signal is always blocked."""
