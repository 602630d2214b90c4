"""What a keeper hears while it waits: signals, deaths, and its guardian."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import process_contract, signals
from viagralib.companions.contract.companion import GuardianGoneError
from viagralib.companions.contract.guardian import Link
from viagralib.companions.contract.process_contract import Death
from viagralib.companions.lease.role_programs import RoleProgram
from viagralib.processes import table
from viagralib.processes.pidfd import send


class Events:
    """Listens; nothing else of the keeper waits for anything but the engine."""

    def __init__(
        self, wanted: frozenset[int], link: Link, role_program: RoleProgram
    ) -> None:
        self._wanted = wanted
        self._link = link
        self._role_program = role_program
        self.asked_by = 0  # the signal by which somebody asked the keeper to end
        self.child = 0  # the pid of the program that is waited for
        self._hears = True  # whether what is passed on is for it
        self.death: Death | None = None  # its end

    @property
    def to_end(self) -> bool:
        return bool(self.asked_by)

    def extend(self, deadline: float) -> None:
        """Have the guardian end all at this time (boot clock), and not before."""
        self._link.extend(deadline)

    def listen(self, until: float) -> None:
        """Wait for one signal, no longer than `until` (boot clock).

        Raises GuardianGoneError.
        """
        arrival = signals.wait(self._wanted, until - boot_clock())
        if self._link.is_broken():
            raise GuardianGoneError
        self.note(process_contract.reap())
        self._role_program.go_on()
        if arrival is None or arrival.number not in signals.PASSED_ON:
            return
        if arrival.number in (signal.SIGTERM, signal.SIGINT):
            self.asked_by = arrival.number
        elif self.child and self._hears and not self.death:
            self.tell_child(arrival.number)

    def follow(self, pid: int, hears: bool = True) -> None:
        """Wait for the end of this child, from now on; it `hears` what is passed on."""
        self.child, self._hears = pid, hears
        self.death = None

    def tell_child(self, number: int) -> None:
        # Not reaped before its death is noted here: so the pid is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, number)

    def note(self, deaths: Iterable[Death]) -> None:
        for death in deaths:
            if death.pid == self.child:
                self.death = death
            self._role_program.note(death)

    def wake_guardian(self) -> None:
        """Continue a guardian that somebody has stopped: it could not kill in time."""
        guardian = table.find(self._link.pid)
        if guardian and guardian.state in "Tt":
            send(guardian, signal.SIGCONT)
