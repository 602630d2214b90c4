"""One time as primary: from a lease that was taken to a command that has ended.

The deadline is the earliest moment at which another node could have the lease. A
tenth of the time before it is left as a margin, on either side of the guardian's:

    renewed ... | TERM | --stop | KILL, by the keeper | KILL, by the guardian | deadline
                                |<------ margin ----->|<------ margin ------->|
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from viagralib.base import durations
from viagralib.base.messages import safe
from viagralib.companions.contract import process_contract, spawn
from viagralib.companions.contract.companion import say
from viagralib.companions.contract.guardian import Link, boot_clock
from viagralib.companions.lease.engine import (
    Card,
    Engine,
    Held,
    LostError,
    UnreachableError,
)
from viagralib.companions.lease.events import Ear
from viagralib.companions.lease.node_records import Marks
from viagralib.companions.lease.options import Plan

ABNORMAL = 123  # killed by a signal, as viagra-run has it
FENCE_LIMIT = 60.0  # seconds that fencing may take
_ASK_AGAIN = 0.2  # seconds, when no member has answered
_HEARS = 0.25  # seconds in which a primary hears that its lease is gone, and ends all


@dataclass(frozen=True)
class Ending:
    """How it ended: `why` for people; `code` of a command that ended by itself.

    `asked` is the code for who has asked the keeper to end; `away` is whether others
    shall have their turn first.
    """

    why: str
    code: int | None = None
    asked: int = 0
    away: bool = False


class Tenure:
    """The keeper as primary. Whatever happens, the command does not outlive it."""

    def __init__(
        self, plan: Plan, engine: Engine, ear: Ear, link: Link, marks: Marks
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._ear = ear
        self._link = link
        self._marks = marks
        self._held: Held
        self._renew_at = 0.0
        self._why = ""  # why the command is to be stopped
        self._is_switch = False  # so that another node gets it
        self._is_lost = False
        self._is_noted = False  # that the command was started here
        self._trouble = ""

    def serve(self, held: Held, started: Callable[[], None]) -> Ending:
        """Fence, start the command, and keep the lease as long as it runs.

        `started` is called once it does. Returns with the contract empty and the lease
        given up. Raises NotStarted, GuardianGoneError.
        """
        self._keep(held)
        try:
            ending = self._serve(started)
        except LostError as error:
            self._is_lost = True
            ending = Ending(f"the lease is lost: {error}")
        except UnreachableError as error:
            ending = Ending(f"no engine answers: {error}")
        finally:
            self._end()
        self._tell(ending.why)
        return ending

    def _serve(self, started: Callable[[], None]) -> Ending:
        """Go through the steps; raises LostError, UnreachableError, NotStarted."""
        if refused := self._make_sure(self._held.view.uncertain):
            return Ending(refused, away=True)
        self._renew()
        if self._is_to_stop():
            return Ending(self._why)
        self._engine.note_start(self._held)
        self._is_noted = True
        environment = {**os.environ, "VIAGRA_TOKEN": str(self._held.token)}
        self._ear.follow(spawn.start(self._plan.command, environment))
        started()
        self._hold(math.inf)
        if not self._ear.death:
            return self._stop()
        if self._ear.to_end:  # a terminal asks all of us at once
            return Ending("asked to end", asked=self._code())
        return Ending(f"the command ended: {self._ear.death}", code=self._code())

    def _make_sure(self, other: Card | None) -> str:
        """See that no other node runs the command; return why that cannot be said.

        The lease of one that is cut off or dead was over only after its command. But a
        lease may also be revoked, by hand or by mistake, from one that still runs it.
        """
        if not other or other.node == self._engine.card.node:
            return ""
        if self._plan.fence:
            return self._fence(self._plan.fence, other)
        self._hold(boot_clock() + _HEARS)
        return ""

    def _fence(self, program: str, other: Card) -> str:
        """Fence the node that may still run the command; return why it failed."""
        words = [program, self._engine.name, other.node, str(other.token)]
        environment = {**os.environ, "VIAGRA_FENCE_HOST": safe(other.host)}
        self._tell(f"fencing {safe(other.host)} ({safe(other.node)})")
        self._ear.follow(spawn.start(words, environment))
        self._hold(boot_clock() + FENCE_LIMIT)
        death = self._ear.death
        if death and death.code == 0:
            return ""
        how = str(death) if death else self._why or "it takes too long"
        return f"could not fence {safe(other.host)}: {how}"

    # Holding on

    def _hold(self, limit: float) -> None:
        """Renew until the child ends, something says stop, or the time is over."""
        while not self._ear.death and boot_clock() < limit:
            if self._is_to_stop():
                return
            if boot_clock() >= self._renew_at or self._engine.is_stirred():
                self._renew()
                if self._is_to_stop():  # what it has just seen may ask for that
                    return
            self._ear.listen(min(self._renew_at, self._soft(), limit))

    def _is_to_stop(self) -> bool:
        """Return whether the command must not run on, and note why."""
        view, own = self._held.view, self._engine.card
        if boot_clock() >= self._soft():
            self._why = f"no engine answers: {self._trouble or 'too late'}"
        elif self._ear.to_end:
            self._why = "asked to end"
        elif self._marks.is_forbidden:
            self._why = "forbidden here"
        elif view.standbys and view.asked == self._held.token:
            self._why, self._is_switch = "asked to yield", True
        elif self._plan.fail_back:
            before = [card for card in view.standbys if card.priority < own.priority]
            if before:
                self._why, self._is_switch = f"{safe(before[0].host)} goes before", True
        return bool(self._why)

    def _renew(self) -> None:
        """Renew the lease if an engine answers. Raises LostError."""
        try:
            self._keep(self._engine.renew(self._held, self._soft()))
            if self._engine.is_stirred() and boot_clock() < self._renew_at:
                self._engine.arm()
                self._keep(self._engine.renew(self._held, self._soft()))
        except UnreachableError as error:
            self._renew_at = boot_clock() + _ASK_AGAIN
            if not self._trouble:
                left = durations.spell(self._soft() - boot_clock())
                self._tell(f"could not renew, {left} left: {error}")
            self._trouble = str(error)
        self._ear.wake_guardian()

    def _keep(self, held: Held) -> None:
        """Take note of the lease's new deadline."""
        self._held = held
        self._renew_at = boot_clock() + (self._engine.look_every or self._plan.ttl / 3)
        self._trouble = ""
        self._link.extend(held.deadline - self._margin)

    # The three times before the deadline, in boot clock seconds

    @property
    def _margin(self) -> float:
        return self._plan.ttl / 10

    def _hard(self) -> float:
        return self._held.deadline - 2 * self._margin

    def _soft(self) -> float:
        return self._hard() - self._plan.stop

    # Letting go

    def _stop(self) -> Ending:
        """Ask the command to end, and wait as long as it may take."""
        self._ear.tell_child(signal.SIGTERM)
        until = boot_clock() + self._plan.stop
        while not self._ear.death and boot_clock() < min(until, self._hard()):
            if self._renew_at <= boot_clock() < self._soft():
                self._renew()
            self._ear.listen(min(until, self._hard(), self._renew_at))
        why = f"stopped the command: {self._why}"
        return Ending(why, asked=self._code(), away=self._is_switch)

    def _code(self) -> int:
        """Return the exit code that the command's end stands for."""
        death = self._ear.death
        return ABNORMAL if death is None or death.code is None else death.code

    def _end(self) -> None:
        """End what is left of the command; only then let others have the lease."""
        self._ear.note(process_contract.end())
        while not self._is_lost and (left := process_contract.survivors()):
            self._wait_for(", ".join(str(member.pid) for member in left))
        self._link.extend(math.inf)
        if not self._is_lost:
            try:
                ended = self._is_noted and not process_contract.survivors()
                self._engine.give_up(self._held, ended)
            except UnreachableError as error:
                self._tell(f"could not give the lease up, it ends by itself: {error}")

    def _wait_for(self, pids: str) -> None:
        """Keep the lease, as long as it can be, while processes do not die of KILL."""
        self._tell(f"does not die of KILL, so the lease is kept: {pids}")
        try:
            while process_contract.survivors() and boot_clock() < self._held.deadline:
                self._renew()
                self._ear.listen(boot_clock() + 1)
        except LostError:
            pass
        self._is_lost = bool(process_contract.survivors())

    def _tell(self, text: str) -> None:
        say("viagra-lease", f"{self._engine.name}: {text}")
