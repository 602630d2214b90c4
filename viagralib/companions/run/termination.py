"""Signals to viagra-run: passed on to the command, which is to end in time."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import signals


class PassedSignals:
    """The signals that were passed on, and who has been asked to end."""

    def __init__(self, patience: float) -> None:
        """`patience` is the time in seconds between TERM and KILL."""
        self._patience = patience
        self._kill_at: float | None = None
        self._asked: set[int] = set()  # who was asked to end, and has not
        self._sent: dict[int, set[int]] = {}  # signals passed on, by pid
        self.to_end = False  # asked to end: nothing is restarted
        self.by_manager = False  # and by TERM, as a service manager asks

    @property
    def are_met(self) -> bool:
        """Whether everybody who was asked to end has ended."""
        return not self._asked

    def pass_on(self, arrival: signals.Arrival, pids: Collection[int]) -> None:
        """Pass a signal on to children, and take note if it asks for the end."""
        for pid in pids:
            self._sent.setdefault(pid, set()).add(arrival.number)
            # A terminal sends to its whole foreground group, so it has it already.
            if not (arrival.by_terminal and _is_in_our_group(pid)):
                _kill(pid, arrival.number)
        if arrival.number in (signal.SIGTERM, signal.SIGINT):
            self.to_end = True
            self._asked |= set(pids)
        if arrival.number == signal.SIGTERM:
            self.by_manager = True
            self._set_time()

    def ask(self, pids: Iterable[int]) -> None:
        """Ask children to end, each of them once."""
        for pid in pids:
            if pid not in self._asked:
                self._asked.add(pid)
                _kill(pid, signal.SIGTERM)
        self._set_time()

    def settle(self, pid: int) -> set[int]:
        """Note that a child has ended; return the signals that were passed on to it."""
        self._asked.discard(pid)
        return self._sent.pop(pid, set())

    def left(self) -> float | None:
        """Return the seconds until the asked are to be killed; None: nobody is."""
        return None if self._kill_at is None else self._kill_at - boot_clock()

    def is_out_of_time(self) -> bool:
        """Return whether the asked are to be killed now; it is said once."""
        if self._kill_at is None or boot_clock() < self._kill_at:
            return False
        self._kill_at = None
        return True

    def kill(self) -> None:
        """Kill who was asked to end and has not."""
        for pid in self._asked:
            _kill(pid, signal.SIGKILL)

    def _set_time(self) -> None:
        if self._kill_at is None:
            self._kill_at = boot_clock() + self._patience


def _kill(pid: int, number: int) -> None:
    # Children only: until they are reaped their pid belongs to nobody else.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return False
