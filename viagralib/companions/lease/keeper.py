"""What viagra-lease does: it waits as secondary, and becomes primary with the lease."""

from __future__ import annotations

import os
import signal

from viagralib.base import durations
from viagralib.base.clocks import boot_clock
from viagralib.base.messages import reason, safe
from viagralib.companions.contract import process_contract
from viagralib.companions.contract.guardian import Link
from viagralib.companions.contract.spawn import NotStarted
from viagralib.companions.lease.decisions import LastSign, is_our_turn
from viagralib.companions.lease.engine import Engine, Lease, UnreachableError
from viagralib.companions.lease.events import Events
from viagralib.companions.lease.node_records import (
    INIT,
    PRIMARY,
    SECONDARY,
    NodeRecords,
)
from viagralib.companions.lease.options import PROGRAM, Plan
from viagralib.companions.lease.primary import Primary
from viagralib.companions.lease.reporter import Reporter
from viagralib.companions.lease.role_programs import LIMIT, RoleProgram

WELL = 0
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits(3)

_ASK_AGAIN = 1.0  # seconds, at most, when no member has answered
_TURN = 0.25  # seconds between two looks at a lease that is free, and others' first
_AGAIN = 0.5  # seconds for whom a lease was revoked from, to take it again


class _DoneError(Exception):
    """There is nothing to wait for; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class Keeper:
    """Keeps one resource on this node. Must be the holder of a contract."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        records: NodeRecords,
        wanted: frozenset[int],
        link: Link,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._records = records
        self._role_program = RoleProgram(PROGRAM, plan.on_role, engine.name)
        self._events = Events(wanted, link, self._role_program)
        self._role = INIT
        self._tell = Reporter(plan, engine.name)
        self._away_until = 0.0  # boot clock, for what could not be noted
        self._free_since: float | None = None
        self._last_sign = LastSign()

    def run(self) -> int:
        """Return the exit code. Raises NotStarted, GuardianGoneError."""
        try:
            while True:
                code = self._serve(self._await_lease())
                if code is not None:
                    return code
        except _DoneError as done:
            return done.code
        finally:
            self._become(INIT)
            self._finish()

    def _serve(self, lease: Lease) -> int | None:
        """Be primary; return the exit code, or None to stand by again."""
        primary = Primary(
            self._plan, self._engine, self._events, self._records, self._last_sign
        )
        try:
            ending = primary.serve(lease, lambda: self._become(PRIMARY))
        except NotStarted:
            self._rest(self._plan.retry_after)
            raise
        if ending.code is not None:
            self._rest(self._plan.retry_after)
            return ending.code
        self._become(SECONDARY)
        if self._events.to_end:
            # As a service manager asks: then it ended as it was to.
            return WELL if self._events.asked_by == signal.SIGTERM else ending.asked
        if ending.away:
            self._rest(self._plan.retry_after, os.getpid())
        return None

    # As secondary

    def _await_lease(self) -> Lease:
        """Stand by until the lease is ours. Raises _DoneError."""
        silent_since = boot_clock()
        self._free_since = None
        while not self._events.to_end:
            # A primary's renewals wake us more often than this.
            wait = self._engine.look_every or 0.4 * self._engine.ttl
            try:
                if self._is_away():
                    self._engine.withdraw()
                elif lease := self._try():
                    return lease
                elif self._free_since is not None:
                    wait = min(wait, _TURN)
                silent_since = boot_clock()
            except UnreachableError as error:
                self._tell.trouble(f"no engine answers: {error}", "no engine")
                patience = self._plan.patience
                if patience is not None and boot_clock() - silent_since >= patience:
                    raise _DoneError(UNREACHABLE) from None
                wait = min(self._plan.ttl / 3, _ASK_AGAIN)
            self._events.listen(boot_clock() + wait)
            self._events.wake_guardian()
        self._leave()
        raise _DoneError(WELL)

    def _is_away(self) -> bool:
        """Return whether this node must not try now, and say why."""
        if self._records.is_forbidden:
            self._become(INIT)
            self._away_until = 0.0  # once it is allowed again, it is allowed now
            cure = f"viagra-lease allow {safe(self._engine.name)}"
            self._refuse(f"forbidden here; to end that: {cure}")
            return True
        self._become(SECONDARY)
        if left := self._records.rest_left():
            text = f"the command ended here, next try in {durations.spell(left)}"
            self._refuse(text, "rest")
            return True
        own = os.getpid()
        left = self._records.rest_left(own) or self._away_until - boot_clock()
        if left > 0:
            if self._engine.look().primary is None:
                text = f"others go first, next try in {durations.spell(left)}"
                self._refuse(text, "away")
                return True
            self._rest(0.0, own)  # another has taken its turn
        return False

    def _try(self) -> Lease | None:
        """Be known as a standby, and take the lease if it is free and our turn."""
        self._engine.has_changed()  # before the look, so that nothing is missed
        snapshot = self._engine.stand_by()
        if self._engine.watch(as_primary=False):
            snapshot = self._engine.stand_by()
        now = boot_clock()
        self._last_sign.see(snapshot, now)
        if snapshot.primary:
            self._free_since = None
            self._refuse(f"{safe(snapshot.primary.host)} is primary")
            return None
        self._free_since = now if self._free_since is None else self._free_since
        priority = self._engine.entry.priority
        free_for = now - self._free_since
        if self._last_sign.clear_at(snapshot, self._engine.may_last) > now:
            free_for -= _AGAIN  # its command may still run, and goes before ours
        if not is_our_turn(priority, snapshot.standbys, free_for):
            return None
        lease = self._engine.take()
        if lease:
            self._engine.withdraw()
        return lease

    def _refuse(self, why: str, about: str = "") -> None:
        """Say why we wait; with --no-wait, do not."""
        self._tell.news(why, about)
        if self._plan.no_wait:
            self._leave()
            raise _DoneError(self._plan.held_code)

    # The role

    def _become(self, role: str) -> None:
        if role == self._role:
            return
        old, self._role = self._role, role
        self._tell.news(role)
        try:
            self._records.prepare()
            self._records.note_role(role)
        except OSError as error:
            self._tell.trouble(f"could not note the role: {reason(error)}")
        self._role_program.tell(old, role)

    def _rest(self, seconds: float, pid: int = 0) -> None:
        """Let other nodes have their turn, also after our end; or other keepers."""
        self._away_until = 0.0
        try:
            self._records.rest(seconds, pid)
        except OSError as error:
            self._tell.trouble(f"could not note when to try again: {reason(error)}")
            self._away_until = boot_clock() + seconds

    def _leave(self) -> None:
        try:
            self._engine.withdraw()
        except UnreachableError:
            pass  # it ends by itself

    def _finish(self) -> None:
        """Have the last changes told, then end whatever is left."""
        until = boot_clock() + LIMIT
        try:
            while not self._role_program.is_done and boot_clock() < until:
                self._events.listen(min(until, boot_clock() + 1))
        finally:
            process_contract.end()
