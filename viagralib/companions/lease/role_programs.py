"""Telling a program of role changes: one at a time, in their order."""

from __future__ import annotations

import contextlib
import os
import signal

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import spawn
from viagralib.companions.contract.companion import say
from viagralib.companions.contract.process_contract import Death

LIMIT = 30.0  # seconds that the program may take for one change


class RoleProgram:
    """Runs `program` NAME OLD NEW for each change; None runs nothing."""

    def __init__(self, keeper: str, program: str | None, name: str) -> None:
        """`keeper` begins the messages about a program that cannot be run."""
        self._keeper = keeper
        self._program = program
        self._name = name
        self._waiting: list[list[str]] = []
        self._pid = 0
        self._since = 0.0

    def tell(self, old: str, new: str) -> None:
        """Tell of a change, after those before it."""
        if self._program:
            self._waiting.append([self._program, self._name, old, new])
            self.go_on()

    def note(self, death: Death) -> None:
        if death.pid == self._pid:
            self._pid = 0

    def go_on(self) -> None:
        """Tell the next change, if the one before is told or out of time."""
        if self._pid and boot_clock() - self._since > LIMIT:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        while self._waiting and not self._pid:
            argv = self._waiting.pop(0)
            try:
                self._pid = spawn.start(argv, os.environ)
                self._since = boot_clock()
            except (spawn.NotStarted, OSError) as error:
                say(self._keeper, f"--on-role: {error}")

    @property
    def is_done(self) -> bool:
        return not self._pid and not self._waiting
