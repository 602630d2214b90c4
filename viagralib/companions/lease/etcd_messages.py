"""What etcd is asked for a resource, and what its answers say: each value checked.

The readers raise what `etcd_wire.ODD` lists where an answer is not as it should be.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from viagralib.companions.lease.engine import Entry, Snapshot, read_entry
from viagralib.companions.lease.etcd_wire import Answer

_DIGITS = 19  # of the largest number that etcd has: 2**63 - 1


@dataclass(frozen=True)
class EtcdSnapshot(Snapshot):
    """A look at a resource; `lease_id` is the primary's, `term` whose answer it is."""

    lease_id: int = 0
    term: tuple[int, int] = (0, 0)  # the member that gave it, and its raft term


class Keys:
    """The keys of one resource, all of which begin with `base`."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.primary = f"{base}primary"
        self.last = f"{base}last"

    def look(self) -> Answer:
        """Return a request for all of them."""
        return below(self.base)

    def transact(
        self, conditions: Sequence[Answer], orders: Sequence[Answer]
    ) -> dict[str, Sequence[Answer]]:
        """Return a request to do `orders` if all `conditions` hold, and to look."""
        look = {"request_range": self.look()}
        return {
            "compare": conditions,
            "success": [*orders, look],
            "failure": [look],
        }

    def is_held(self, token: int) -> Answer:
        """Return the condition that the primary's key has this token; 0: is not."""
        key = coded(self.primary)
        return {"key": key, "target": "CREATE", "create_revision": token}

    def is_noted(self, note: str) -> Answer:
        """Return the condition that the key `last` says this."""
        return {"key": coded(self.last), "target": "VALUE", "value": coded(note)}

    def transacted(self, answer: Answer) -> EtcdSnapshot:
        """Read the look that ends a transaction."""
        found = answer["responses"][-1]["response_range"]
        return self.snapshot({**found, "header": answer["header"]})

    def snapshot(self, answer: Answer) -> EtcdSnapshot:
        snapshot = EtcdSnapshot(term=_term(answer))
        for pair in answer.get("kvs", []):
            key = decoded(pair["key"])[len(self.base) :]
            text = decoded(pair.get("value", ""))
            entry, more = read_entry(text)
            found: dict[str, Any] = {}
            if key == "primary":
                found = {
                    "primary": entry or Entry("?"),
                    "token": _number(pair["create_revision"]),
                    "lease_id": _number(pair.get("lease", 0)),
                }
            elif key == "last" and entry:
                found = {
                    "uncertain": None if more.get("released") else entry,
                    "mark": _number(pair["mod_revision"]),
                }
            elif key == "yield" and text.isdecimal() and len(text) <= _DIGITS:
                found = {"asked": int(text)}
            elif key.startswith("standby/") and entry:
                found = {"standbys": (*snapshot.standbys, entry)}
            snapshot = dataclasses.replace(snapshot, **found)
        return snapshot


def put(key: str, value: str, lease_id: int = 0) -> dict[str, dict[str, Any]]:
    """Return what puts a key, in a transaction."""
    return {
        "request_put": {"key": coded(key), "value": coded(value), "lease": lease_id}
    }


def below(prefix: str) -> dict[str, Any]:
    """Return what asks for all keys below a prefix that ends in a slash."""
    return {"key": coded(prefix), "range_end": coded(f"{prefix[:-1]}0")}  # "/" + 1


def coded(text: str) -> str:
    """Return a text as etcd's JSON has bytes."""
    return base64.b64encode(text.encode(errors="surrogateescape")).decode()


def decoded(text: str) -> str:
    """Return what bytes of etcd's JSON stand for."""
    return base64.b64decode(text).decode(errors="backslashreplace")


def granted(answer: Answer) -> int:
    return _number(answer["ID"], least=1)


def kept(answer: Answer) -> tuple[int, tuple[int, int]]:
    """Read how long a lease lasts from now on, 0: it is gone; and whose answer it is.

    The head is filled before the lease is renewed (etcd: v3rpc/lease.go).
    """
    result = answer["result"]
    return _number(result.get("TTL", 0)), _term(result)


def time_to_live(answer: Answer) -> float:
    """Read how long a lease lasts without being renewed."""
    return float(max(0, int(answer.get("TTL", 0))))


def nothing(answer: Answer) -> None:
    """Read an answer that says no more than that it was done."""
    _term(answer)


def _term(answer: Answer) -> tuple[int, int]:
    header = answer["header"]
    return _number(header["member_id"], least=1), _number(header["raft_term"], least=1)


def _number(value: object, least: int = 0) -> int:
    """Return a number of etcd's, which JSON has as text. Raises ValueError."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= _DIGITS + 1:
        value = int(value)
    if type(value) is not int or value < least:
        raise ValueError(f"no number: {str(value)[:40]}")
    return value
