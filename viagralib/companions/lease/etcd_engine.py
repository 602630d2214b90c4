"""The engine on etcd.

Keys, below the prefix, for a resource NAME:

    NAME/primary        the primary's card, on its lease; create_revision is the token
    NAME/standby/ID     a standby's card, on a lease of its own
    NAME/last           who started the command last; `released`: and saw it end
    NAME/yield          the token of the primary that is asked to give up

Every read is linearizable: a member that is cut off from the others answers none.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import math
import select
from collections.abc import Sequence
from typing import Any

from viagralib.companions.contract import signals
from viagralib.companions.contract.guardian import boot_clock
from viagralib.companions.lease.engine import (
    Card,
    Engine,
    Held,
    LostError,
    UnreachableError,
    View,
    read_card,
)
from viagralib.companions.lease.etcd_client import Address, Answer, Members, Stream

_ORDER_LASTS = 60.0  # seconds until an order to yield that nobody heeded is forgotten
_TERM_CHANGES = 5  # the cluster may change its leader while we renew: then once more


class EtcdEngine(Engine):
    """One resource on an etcd cluster."""

    def __init__(self, address: Address, name: str, ttl: float, card: Card) -> None:
        super().__init__(name, ttl, card)
        self._members = Members(address, ttl / 5)
        self._prefix = address.prefix
        self._base = f"{address.prefix}{name}/"
        self._lease: int | None = None  # the primary's
        self._standby: int | None = None  # the standby's
        self._term: tuple[object, object] | None = None
        self._stream: Stream | None = None

    # The three calls

    def take(self) -> Held | None:
        """Grant a lease and put the key on it, if there is no such key."""
        began = boot_clock()
        lease, ttl = self._grant(self.ttl)
        try:
            primary = _put(f"{self._base}primary", self.card.now().text(), lease)
            won = self._transact(0, [primary, {"request_range": _below(self._base)}])
        except UnreachableError:
            self._revoke(lease)  # the order may have arrived all the same
            raise
        if not won.get("succeeded"):
            self._revoke(lease)
            return None
        self._lease = lease
        view = self._view(won["responses"][1]["response_range"])
        return Held(int(won["header"]["revision"]), began + ttl, view)

    def renew(self, held: Held, until: float) -> Held:
        """Keep the lease alive, then see that the key is still ours.

        A leader that has been replaced and does not know it yet may answer the first
        question, while its successor counts from its own election. So the answer
        counts only if the member that we asked was in the same raft term before it
        and at the read after it, for which a majority has to confirm the leader.
        """
        for _ in range(_TERM_CHANGES):
            before = self._term
            began = boot_clock()
            ttl = self._keep_alive(self._lease, until)
            if ttl is None:
                raise LostError("its time was over")
            view = self._look(until)
            if view.token != held.token:
                raise LostError("its key was removed")
            if before == self._term:
                return Held(held.token, began + ttl, view)
        raise UnreachableError("the cluster changes its leader again and again")

    def give_up(self, held: Held, ended: bool) -> None:
        """Remove the key, with a note that the command has ended; then the lease."""
        lease, self._lease = self._lease, None
        try:
            if ended:
                remove = {
                    "request_delete_range": {"key": _coded(f"{self._base}primary")}
                }
                self._transact(held.token, [remove, self._last(held, released=True)])
        finally:
            if lease is not None:
                self._revoke(lease)

    # Standing by

    def connect(self) -> None:
        """Get ready, in the holder alone: the guardian stays small."""
        self._members.connect()

    def stand_by(self) -> View:
        """Have a card on a lease of its own, and look."""
        if self._standby is None or self._keep_alive(self._standby) is None:
            self._standby, _ = self._grant(self.ttl)
            key = f"{self._base}standby/{self.card.node}.{self.card.pid}"
            card = _put(key, self.card.now().text(), self._standby)
            self._members.ask("/kv/put", card["request_put"])
        return self._look()

    def withdraw(self) -> None:
        """Revoke the standby's lease, and its card with it."""
        lease, self._standby = self._standby, None
        if lease is not None:
            self._revoke(lease)

    def arm(self) -> None:
        """Ask for a stream of changes, of which nothing is read but that it stirs."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        stream = self._members.stream("/watch", {"create_request": _below(self._base)})
        signals.watch(stream.fileno())
        self._stream = stream

    def is_stirred(self) -> bool:
        """Return whether anything came, the stream's end included.

        A member that did not answer may be cut off: nothing would come from it.
        """
        if self._stream is None or not self._members.is_first(self._stream):
            return True
        return bool(select.select([self._stream.fileno()], [], [], 0)[0])

    def note_start(self, held: Held) -> None:
        """Note, if the key is ours, that we are the last to have started it."""
        last = self._last(held, released=False)
        if not self._transact(held.token, [last]).get("succeeded"):
            raise LostError("its key was removed")

    # For people

    def look(self) -> View:
        """Return what there is to see, with the time that is left to the primary."""
        answer = self._members.ask("/kv/range", _below(self._base))
        view = self._view(answer)
        for entry in answer.get("kvs", []):
            if _text(entry["key"]) == f"{self._base}primary" and "lease" in entry:
                time = self._members.ask("/lease/timetolive", {"ID": entry["lease"]})
                return dataclasses.replace(view, left=float(time.get("TTL", 0)))
        return view

    def ask_to_yield(self, token: int) -> None:
        """Put the order, which is forgotten after a while."""
        lease, _ = self._grant(_ORDER_LASTS)
        order = _put(f"{self._base}yield", str(token), lease)
        self._members.ask("/kv/put", order["request_put"])

    def names(self) -> list[str]:
        """Return the resources below the prefix."""
        answer = self._members.ask(
            "/kv/range", {**_below(self._prefix), "keys_only": True}
        )
        keys = [_text(entry["key"]) for entry in answer.get("kvs", [])]
        return sorted({key[len(self._prefix) :].partition("/")[0] for key in keys})

    # Requests

    def _grant(self, seconds: float) -> tuple[int, float]:
        """Return a new lease and its time; etcd knows whole seconds only."""
        answer = self._members.ask("/lease/grant", {"TTL": math.ceil(seconds), "ID": 0})
        return int(answer["ID"]), float(answer["TTL"])

    def _keep_alive(self, lease: int | None, until: float = math.inf) -> float | None:
        """Return the seconds that the lease lasts from now on; None: it is gone."""
        answer = self._members.ask("/lease/keepalive", {"ID": lease}, until)["result"]
        ttl = float(answer.get("TTL", 0))
        return ttl if ttl > 0 else None

    def _revoke(self, lease: int) -> None:
        """Revoke a lease and all keys on it; if that fails, time does it."""
        with contextlib.suppress(UnreachableError):
            self._members.ask("/lease/revoke", {"ID": lease})

    def _transact(self, token: int, orders: Sequence[Answer]) -> Answer:
        """Do all `orders` if the key was created with `token` (0: is not there)."""
        key = _coded(f"{self._base}primary")
        condition = {"key": key, "target": "CREATE", "create_revision": token}
        return self._members.ask("/kv/txn", {"compare": [condition], "success": orders})

    def _last(self, held: Held, released: bool) -> Answer:
        card = self.card.now(held.token)
        return _put(f"{self._base}last", card.text(released=released))

    def _look(self, until: float = math.inf) -> View:
        answer = self._members.ask("/kv/range", _below(self._base), until)
        header = answer["header"]
        self._term = (header["member_id"], header["raft_term"])
        return self._view(answer)

    def _view(self, answer: Answer) -> View:
        """Return what the answer to a range request shows of the resource."""
        view = View()
        for entry in answer.get("kvs", []):
            key = _text(entry["key"])[len(self._base) :]
            text = _text(entry.get("value", ""))
            card, more = read_card(text)
            if key == "primary":
                token = int(entry["create_revision"])
                view = dataclasses.replace(view, primary=card or Card("?"), token=token)
            elif key == "last" and card and not more.get("released"):
                view = dataclasses.replace(view, uncertain=card)
            elif key == "yield" and text.isdecimal():
                view = dataclasses.replace(view, asked=int(text))
            elif key.startswith("standby/") and card:
                view = dataclasses.replace(view, standbys=(*view.standbys, card))
        return view


def _put(key: str, value: str, lease: int | None = None) -> dict[str, dict[str, Any]]:
    order: dict[str, Any] = {"key": _coded(key), "value": _coded(value)}
    return {"request_put": order if lease is None else {**order, "lease": lease}}


def _below(prefix: str) -> dict[str, str]:
    """Return what asks for all keys below a prefix that ends in a slash."""
    return {"key": _coded(prefix), "range_end": _coded(f"{prefix[:-1]}0")}  # "/" + 1


def _coded(text: str) -> str:
    return base64.b64encode(text.encode(errors="surrogateescape")).decode()


def _text(coded: str) -> str:
    return base64.b64decode(coded).decode(errors="backslashreplace")
