"""What keeper and guardian decide: functions of what they know, and of the time.

All times are in seconds of one machine's boot clock. docs/lease.md has the argument
that these lead to one command at a time; tests/helpers/lease_explorer.py searches what
they lead to for a counter-example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from viagralib.companions.lease.engine import Entry, Snapshot

_STEP = 0.25  # seconds by which each lower priority number goes before
_MOST_STEPS = 4


@dataclass(frozen=True)
class Limits:
    """When what has to end, for a lease of `ttl` seconds that is ours until a deadline.

    A tenth of the time is left as a margin, on either side of the guardian's:

        renewed ... | TERM | stop | KILL, by keeper | KILL, by guardian | deadline
                                  |<--- margin ---->|<---- margin ----->|
    """

    ttl: float
    stop: float  # between TERM and KILL

    @property
    def margin(self) -> float:
        """Return for how long a machine may be late, or clocks may differ."""
        return self.ttl / 10

    def term_at(self, deadline: float) -> float:
        """Return when the command has to be asked to end."""
        return self.kill_at(deadline) - self.stop

    def kill_at(self, deadline: float) -> float:
        """Return when the keeper has to kill it."""
        return deadline - 2 * self.margin

    def guardian_at(self, deadline: float) -> float:
        """Return when the guardian has to kill keeper and command."""
        return deadline - self.margin

    def renew_at(self, renewed: float) -> float:
        """Return when to renew what was renewed last at `renewed`."""
        return renewed + self.ttl / 3


def deadline_of(asked_at: float, lasts: float, ttl: float) -> float:
    """Return until when a lease is ours that etcd says lasts for so many seconds.

    Counted from before we asked; and never longer than we told the others (`ttl`).
    """
    return asked_at + min(lasts, ttl)


def counts(renewed_in: object, confirmed_in: object) -> bool:
    """Return whether a renewal counts: member and raft term are the next read's.

    A leader that has been replaced and does not know it yet may answer the renewal, but
    not the read, for which a majority has to confirm it.
    """
    return renewed_in == confirmed_in


def may_tell_end(is_noted: bool, left: Sequence[object]) -> bool:
    """Return whether to tell that our command has ended, when so much of it is left."""
    return is_noted and not left


class LastSign:
    """When another's command last gave a sign that it may run on (`Snapshot.mark`)."""

    def __init__(self) -> None:
        self.mark = 0
        self.seen = 0.0
        self.ended = 0  # the token of our own last command, of which nothing is left
        self._other: Entry | None = None  # who gave it

    def see(self, snapshot: Snapshot, now: float) -> None:
        """Take note of a look that was over at `now`.

        An engine that says nothing at all has been emptied: that is no sign of an end.
        """
        if snapshot.mark and snapshot.mark != self.mark:
            self.mark, self.seen = snapshot.mark, now
            self._other = snapshot.uncertain

    def other(self, snapshot: Snapshot) -> Entry | None:
        """Return who may still run the command, for who has the lease."""
        other = snapshot.uncertain or (None if snapshot.mark else self._other)
        return None if other and other.token == self.ended else other

    def clear_at(self, snapshot: Snapshot, may_last: Callable[[Entry], float]) -> float:
        """Return when no command but ours can run, for who has the lease.

        `may_last` is for how long the other's can run after its last renewal, whatever
        became of its lease; that was before we saw the sign of it.
        """
        other = self.other(snapshot)
        return self.seen + (may_last(other) if other else 0.0)


class GoesBefore:
    """Since when each standby with a lower priority number has been there."""

    def __init__(self, priority: int) -> None:
        self._priority = priority
        self._since: dict[tuple[str, int], float] = {}

    def see(self, standbys: Sequence[Entry], now: float) -> None:
        """Take note of who stands by; who is missing once begins anew."""
        there = [(one.node, one.pid) for one in standbys if self._is_before(one)]
        self._since = {key: self._since.get(key, now) for key in there}

    def due(
        self, standbys: Sequence[Entry], for_long: float, now: float
    ) -> list[Entry]:
        """Return those that have been there for so many seconds."""
        return [
            one
            for one in standbys
            if self._is_before(one)
            and now - self._since.get((one.node, one.pid), now) >= for_long
        ]

    def _is_before(self, entry: Entry) -> bool:
        return entry.priority < self._priority


def is_our_turn(priority: int, standbys: Sequence[Entry], free_for: float) -> bool:
    """Return whether those that go before have had time to take a free lease."""
    before = {entry.priority for entry in standbys if entry.priority < priority}
    # At a start nobody may be known yet: those of number 0 do not wait for others.
    steps = min(len(before) + (priority > 0), _MOST_STEPS)
    return free_for >= steps * _STEP
