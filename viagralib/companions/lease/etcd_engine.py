"""The engine on etcd.

Keys, below the prefix, for a resource NAME:

    NAME/primary        the primary's entry, on its lease; create_revision is the token
    NAME/standby/ID     a standby's entry, on a lease of its own
    NAME/last           who started the command last, put anew with each renewal;
                        `released`: and saw it end
    NAME/yield          the token of the primary that is asked to give up

Every read is linearizable: a member that is cut off from the others answers none. All
that is read of an answer is checked; where it is not as it should be, the next member
is asked (`Members.ask`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import signals
from viagralib.companions.lease import etcd_messages as messages
from viagralib.companions.lease.decisions import counts, deadline_of
from viagralib.companions.lease.engine import (
    Engine,
    Entry,
    Lease,
    LostError,
    Snapshot,
    UnreachableError,
)
from viagralib.companions.lease.engine_url import Address
from viagralib.companions.lease.etcd_client import Members
from viagralib.companions.lease.etcd_wire import Answer, Stream

_ORDER_LASTS = 60.0  # seconds until an order to yield that nobody heeded is forgotten
_TERM_CHANGES = 5  # the cluster may change its leader while we renew: then once more
Many = Sequence[Answer]


class EtcdEngine(Engine):
    """One resource on an etcd cluster."""

    def __init__(self, address: Address, name: str, ttl: float, entry: Entry) -> None:
        ttl = math.ceil(ttl)  # etcd knows whole seconds only
        super().__init__(name, ttl, dataclasses.replace(entry, ttl=ttl))
        self._members = Members(address, ttl / 5)
        self._prefix = address.prefix
        self._keys = messages.Keys(f"{address.prefix}{name}/")
        self._lease_id = 0  # the primary's
        self._standby = 0  # the standby's
        self._standby_since = -math.inf  # boot clock: when it was last kept alive
        self._note = ""  # what NAME/last has while our command may run
        self._stream: Stream | None = None
        self._is_primarys = False  # the stream: as primary we do not watch NAME/last

    # The three calls

    def take(self) -> Lease | None:
        """Grant a lease and put the key on it, if there is no such key."""
        return self._take([], [])

    def _take(
        self, conditions: Many, orders: Many, until: float = math.inf
    ) -> Lease | None:
        """Take the lease, and do `orders` with that, if `conditions` hold as well."""
        lease_id = self._grant(self.ttl, until)
        began = self._members.asked_at
        primary = messages.put(self._keys.primary, self.entry.now().text(), lease_id)
        conditions = [self._keys.is_held(0), *conditions]
        try:
            snapshot = self._transact(conditions, [primary, *orders], until)
        except UnreachableError:
            self._revoke(lease_id, until)  # the order may have arrived all the same
            raise
        # An order that was sent twice is won by its first arrival.
        if snapshot.lease_id != lease_id:
            self._revoke(lease_id, until)
            return None
        self._lease_id = lease_id
        deadline = deadline_of(began, self.ttl, self.ttl)
        return Lease(snapshot.token, deadline, snapshot)

    def renew(self, lease: Lease, until: float) -> Lease:
        """Keep the lease alive, then see that the key is still ours.

        The second tells all others, by NAME/last put anew, that the command may run
        for one more ttl; and whether the first one counts (`decisions.counts`).
        """
        for _ in range(_TERM_CHANGES):
            ttl, term = self._members.ask(
                "/lease/keepalive", {"ID": self._lease_id}, messages.kept, until
            )
            if not ttl:
                return self._take_again("its time was over", until)
            began = self._members.asked_at
            last = [messages.put(self._keys.last, self._note)] if self._note else []
            snapshot = self._transact([self._keys.is_held(lease.token)], last, until)
            if snapshot.token != lease.token:
                return self._take_again("its key was removed", until)
            if counts(term, snapshot.term):
                deadline = deadline_of(began, ttl, self.ttl)
                return Lease(lease.token, deadline, snapshot)
        raise UnreachableError("the cluster changes its leader again and again")

    def _take_again(self, why: str, until: float) -> Lease:
        """Take a lease that was revoked while our command runs. Raises LostError.

        Only if nobody has it, nor had it and started the command: NAME/last is ours.
        """
        note = self._note
        is_ours, again = self._keys.is_noted(note), messages.put(self._keys.last, note)
        lease = self._take([is_ours], [again], until) if note else None
        if lease is None:
            raise LostError(why)
        return lease

    def give_up(self, lease: Lease, ended: bool, is_lost: bool = False) -> None:
        """Remove the key, with a note that the command has ended; then the lease."""
        lease_id, self._lease_id = self._lease_id, 0
        note, self._note = self._note, ""
        try:
            if ended and note:
                # Lost: only if nobody else has started the command meanwhile.
                told = messages.put(self._keys.last, self._last(lease, released=True))
                if is_lost:
                    self._transact([self._keys.is_noted(note)], [told])
                else:
                    key = {"key": messages.coded(self._keys.primary)}
                    remove = {"request_delete_range": key}
                    self._transact([self._keys.is_held(lease.token)], [remove, told])
        finally:
            if lease_id and not is_lost:
                self._revoke(lease_id)

    # Standing by

    def connect(self) -> None:
        self._members.connect()

    def stand_by(self) -> Snapshot:
        """Have an entry on a lease of its own, and look."""
        now = boot_clock()
        if now - self._standby_since >= self.ttl / 6:
            order = {"ID": self._standby}
            ask = self._members.ask
            if (
                not self._standby
                or not ask("/lease/keepalive", order, messages.kept)[0]
            ):
                standby = self._grant(self.ttl)
                key = f"{self._keys.base}standby/{self.entry.node}.{self.entry.pid}"
                entry = messages.put(key, self.entry.now().text(), standby)
                ask("/kv/put", entry["request_put"], messages.nothing)
                self._standby = standby  # only now: else nobody would put it again
            self._standby_since = now
        return self._look()

    def withdraw(self) -> None:
        """Revoke the standby's lease, and its entry with it."""
        lease_id, self._standby = self._standby, 0
        self._standby_since = -math.inf
        if lease_id:
            self._revoke(lease_id)

    def watch(self, as_primary: bool) -> bool:
        """Ask for a stream of changes, of which nothing is read but that some came.

        Of another member, where the last one does not answer: it may be cut off, and
        nothing would come from it.
        """
        stream = self._stream
        if stream is not None:
            is_same = stream.is_open and as_primary is self._is_primarys
            if is_same and self._members.is_first(stream):
                return False
            stream.close()
            self._stream = None
        below = messages.below(self._keys.base)
        if as_primary:  # from NAME/primary on: not NAME/last, which it puts itself
            below["key"] = messages.coded(self._keys.primary)
        stream = self._members.stream("/watch", {"create_request": below})
        signals.watch(stream.fileno())
        self._stream, self._is_primarys = stream, as_primary
        return True

    def has_changed(self) -> bool:
        """Return whether anything came, the stream's end included."""
        stream = self._stream
        return stream is not None and stream.is_open and stream.has_more()

    def note_start(self, lease: Lease) -> None:
        """Note, if the key is ours, that we are the last to have started it."""
        note = self._last(lease, released=False)
        snapshot = self._transact(
            [self._keys.is_held(lease.token)], [messages.put(self._keys.last, note)]
        )
        if snapshot.token != lease.token:
            raise LostError("its key was removed")
        self._note = note

    # For people

    def look(self) -> Snapshot:
        """Return what there is to see, with the time that is left to the primary."""
        snapshot = self._look()
        if not snapshot.lease_id:
            return snapshot
        order = {"ID": snapshot.lease_id}
        left = self._members.ask("/lease/timetolive", order, messages.time_to_live)
        return dataclasses.replace(snapshot, left=left)

    def ask_to_yield(self, token: int) -> None:
        """Put the order, which is forgotten after a while."""
        order = messages.put(
            f"{self._keys.base}yield", str(token), self._grant(_ORDER_LASTS)
        )
        self._members.ask("/kv/put", order["request_put"], messages.nothing)

    def names(self) -> list[str]:
        def read(answer: Answer) -> set[str]:
            keys = [messages.decoded(pair["key"]) for pair in answer.get("kvs", [])]
            return {key[len(self._prefix) :].partition("/")[0] for key in keys}

        order = {**messages.below(self._prefix), "keys_only": True}
        return sorted(self._members.ask("/kv/range", order, read))

    # Requests

    def _grant(self, seconds: float, until: float = math.inf) -> int:
        order = {"TTL": math.ceil(seconds), "ID": 0}
        return self._members.ask("/lease/grant", order, messages.granted, until)

    def _revoke(self, lease_id: int, until: float = math.inf) -> None:
        """Revoke a lease and all keys on it; if that fails, time does it."""
        with contextlib.suppress(UnreachableError):
            order = {"ID": lease_id}
            self._members.ask("/lease/revoke", order, messages.nothing, until)

    def _transact(
        self, conditions: Many, orders: Many, until: float = math.inf
    ) -> messages.EtcdSnapshot:
        """Do `orders` if all `conditions` hold; return what there is then."""
        order = self._keys.transact(conditions, orders)
        return self._members.ask("/kv/txn", order, self._keys.transacted, until)

    def _last(self, lease: Lease, released: bool) -> str:
        return self.entry.now(lease.token).text(released=released)

    def _look(self) -> messages.EtcdSnapshot:
        return self._members.ask("/kv/range", self._keys.look(), self._keys.snapshot)
