"""One time as primary: from a lease that was taken to a command that has ended."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from viagralib.base import durations
from viagralib.base.clocks import boot_clock
from viagralib.base.messages import safe
from viagralib.companions.contract import process_contract, spawn
from viagralib.companions.lease.decisions import (
    GoesBefore,
    LastSign,
    Limits,
    may_tell_end,
)
from viagralib.companions.lease.engine import (
    DeafError,
    Engine,
    Entry,
    Lease,
    LostError,
    UnreachableError,
)
from viagralib.companions.lease.events import Events
from viagralib.companions.lease.node_records import NodeRecords
from viagralib.companions.lease.options import Plan
from viagralib.companions.lease.reporter import Reporter
from viagralib.processes import reaper

ABNORMAL = 123  # killed by a signal, as viagra-run has it
FENCE_LIMIT = 60.0  # seconds that fencing may take
_ASK_AGAIN = 0.2  # seconds, when no member has answered


@dataclass(frozen=True)
class Outcome:
    """How it ended: `why` for people; `code` of a command that ended by itself.

    `asked` is the code for who has asked the keeper to end; `away` is whether others
    shall have their turn first, `trouble` whether somebody may have to look after it.
    """

    why: str
    code: int | None = None
    asked: int = 0
    away: bool = False
    trouble: bool = False


class Primary:
    """The keeper as primary. Whatever happens, the command does not outlive it."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        events: Events,
        records: NodeRecords,
        last_sign: LastSign,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._events = events
        self._records = records
        self._last_sign = last_sign
        self._limits = Limits(engine.ttl, plan.stop)
        self._before = GoesBefore(engine.entry.priority)
        self._tell = Reporter(plan, engine.name)
        self._lease: Lease
        self._renew_at = 0.0
        self._why = ""  # why the command is to be stopped
        self._is_late = False  # so that it is no decision of anybody's
        self._is_switch = False  # so that another node gets it
        self._is_lost = False
        self._noted = 0  # the token under which the command was started here, or 0
        self._trouble = ""

    def serve(self, lease: Lease, started: Callable[[], None]) -> Outcome:
        """Fence, start the command, and keep the lease as long as it runs.

        `started` is called once it does. Returns with the contract empty and the lease
        given up. Raises NotStarted, GuardianGoneError.
        """
        self._events.follow(0)  # nothing yet: what ended before was another time's
        self._keep(lease)
        try:
            ending = self._serve(started)
        except LostError as error:
            self._is_lost = True
            ending = Outcome(f"the lease is lost: {error}", trouble=True)
        except UnreachableError as error:
            ending = Outcome(f"no engine answers: {error}", trouble=True)
        finally:
            self._end()
        is_trouble = ending.trouble or ending.code
        (self._tell.trouble if is_trouble else self._tell.news)(ending.why)
        return ending

    def _serve(self, started: Callable[[], None]) -> Outcome:
        """Go through the steps; raises LostError, UnreachableError, NotStarted."""
        if refused := self._make_sure():
            return Outcome(refused, away=True, trouble=True)
        self._renew()
        if self._is_to_stop():
            return Outcome(self._why, trouble=self._is_late)
        self._engine.note_start(self._lease)
        self._noted = self._lease.token
        environment = {**os.environ, "VIAGRA_TOKEN": str(self._lease.token)}
        tie = functools.partial(reaper.die_with, os.getpid())
        self._events.follow(spawn.start(self._plan.command, environment, prepare=tie))
        started()
        self._hold(lambda: math.inf)
        if not self._events.death:
            return self._stop()
        if self._events.to_end:  # a terminal asks all of us at once
            return Outcome("asked to end", asked=self._code())
        return Outcome(f"the command ended: {self._events.death}", code=self._code())

    def _make_sure(self) -> str:
        """See that no other node runs the command; return why that cannot be said.

        The lease of one that is cut off or dead was over only after its command. But a
        lease may also be revoked, by hand or by mistake, from one that still runs it.
        """
        other = self._last_sign.other(self._lease.snapshot)
        if other and self._plan.fence and other.node != self._engine.entry.node:
            return self._fence(self._plan.fence, other)
        left = self._clear_at() - boot_clock()
        if other and left > 0:
            text = f"may still run the command: waiting {durations.spell(left)}"
            self._tell.news(f"{safe(other.host)} {text}")
            self._hold(self._clear_at)
        return ""

    def _clear_at(self) -> float:
        return self._last_sign.clear_at(self._lease.snapshot, self._engine.may_last)

    def _fence(self, program: str, other: Entry) -> str:
        """Fence the node that may still run the command; return why it failed."""
        words = [program, self._engine.name, other.node, str(other.token)]
        environment = {**os.environ, "VIAGRA_FENCE_HOST": safe(other.host)}
        self._tell.trouble(f"fencing {safe(other.host)} ({safe(other.node)})")
        self._events.follow(spawn.start(words, environment), hears=False)
        limit = boot_clock() + FENCE_LIMIT
        self._hold(lambda: limit)
        if (death := self._events.death) and death.code == 0:
            return ""
        how = str(death) if death else self._why or "it takes too long"
        return f"could not fence {safe(other.host)}: {how}"

    # Holding on

    def _hold(self, until: Callable[[], float]) -> None:
        """Renew until the child ends, something says stop, or the time is over."""
        while not self._events.death and boot_clock() < until():
            if self._is_to_stop():
                return
            if boot_clock() >= self._renew_at or self._engine.has_changed():
                self._renew()
                continue  # what it has just seen may ask to stop
            self._events.listen(min(self._renew_at, self._soft(), until()))

    def _is_to_stop(self) -> bool:
        """Return whether the command must not run on, and note why."""
        snapshot = self._lease.snapshot
        if boot_clock() >= self._soft():
            self._why = f"no engine answers: {self._trouble or 'too late'}"
            self._is_late = True
        elif self._events.to_end:
            self._why = "asked to end"
        elif self._records.is_forbidden:
            self._why = "forbidden here"
        elif snapshot.standbys and snapshot.asked == self._lease.token:
            self._why, self._is_switch = "asked to yield", True
        elif self._plan.fail_back_after is not None:
            after = self._plan.fail_back_after
            if before := self._before.due(snapshot.standbys, after, boot_clock()):
                self._why, self._is_switch = f"{safe(before[0].host)} goes before", True
        return bool(self._why)

    def _renew(self) -> None:
        """Renew the lease if an engine answers. Raises LostError."""
        try:
            self._keep(self._engine.renew(self._lease, self._soft()))
            if self._engine.watch(bool(self._noted)):
                self._keep(self._engine.renew(self._lease, self._soft()))
        except DeafError as error:  # it is renewed: with the next renewal, once more
            self._tell.trouble(f"renewed, but sees changes late: {error}", "changes")
        except UnreachableError as error:
            self._renew_at = boot_clock() + _ASK_AGAIN
            if not self._trouble:
                left = durations.spell(self._soft() - boot_clock())
                self._tell.trouble(f"could not renew, {left} left: {error}")
            self._trouble = str(error)
        self._events.wake_guardian()

    def _keep(self, lease: Lease) -> None:
        """Take note of the lease's new deadline."""
        now = boot_clock()
        if self._noted and lease.token != self._lease.token:
            self._tell.trouble("the lease was revoked: took it again at once")
        self._lease = lease
        self._last_sign.see(lease.snapshot, now)
        self._before.see(lease.snapshot.standbys, now)
        every = self._engine.look_every
        self._renew_at = now + every if every else self._limits.renew_at(now)
        self._trouble = ""
        self._events.extend(self._limits.guardian_at(lease.deadline))

    def _soft(self) -> float:
        return self._limits.term_at(self._lease.deadline)

    # Letting go

    def _stop(self) -> Outcome:
        """Ask the command to end, and wait as long as it may take."""
        self._events.tell_child(signal.SIGTERM)
        hard = self._limits.kill_at(self._lease.deadline)
        end = min(boot_clock() + self._plan.stop, hard)
        while not self._events.death and boot_clock() < end:
            is_late = boot_clock() >= self._soft()  # then nothing is renewed any more
            if not is_late and boot_clock() >= self._renew_at:
                self._renew()
            self._events.listen(end if is_late else min(end, self._renew_at))
        why = f"stopped the command: {self._why}"
        return Outcome(why, None, self._code(), self._is_switch, self._is_late)

    def _code(self) -> int:
        """Return the exit code that the command's end stands for."""
        death = self._events.death
        return ABNORMAL if death is None or death.code is None else death.code

    def _end(self) -> None:
        """End what is left of the command; only then let others have the lease."""
        self._events.note(process_contract.end())
        while not self._is_lost and (left := process_contract.survivors()):
            self._wait_for(", ".join(str(member.pid) for member in left))
        self._events.extend(math.inf)
        if ended := may_tell_end(bool(self._noted), process_contract.survivors()):
            self._last_sign.ended = self._noted
        try:
            self._engine.give_up(self._lease, ended, self._is_lost)
        except UnreachableError as error:
            self._tell.trouble(f"could not give it up, it ends by itself: {error}")

    def _wait_for(self, pids: str) -> None:
        """Keep the lease, as long as it can be, while processes do not die of KILL."""
        self._tell.trouble(f"does not die of KILL, so the lease is kept: {pids}")
        with contextlib.suppress(LostError):
            while process_contract.survivors() and boot_clock() < self._lease.deadline:
                self._renew()
                self._events.listen(boot_clock() + 1)
        self._is_lost = bool(process_contract.survivors())
