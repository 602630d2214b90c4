"""What viagra-lease asks of an engine: who may have a resource, and until when.

An engine is a class with three calls: `take`, `renew`, `give_up`. The others make it
quicker and tell people more; an engine without them still works. All times are those
of the boot clock (`base.clocks`), in seconds: it does not jump, and goes on
while the machine sleeps.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST_ENTRY = 4096  # characters; ours are some hundred
LONGEST_TTL = 86400.0  # seconds
_LARGEST_NUMBER = 2**53  # JSON has larger ones, and infinite ones, but no clock has


class UnreachableError(Exception):
    """The engine did not answer, or not with sense; the text says why, for people."""


class DeafError(UnreachableError):
    """The engine answers, but does not tell of changes."""


class LostError(Exception):
    """The lease is not ours any more: another node may have it at this moment."""


@dataclass(frozen=True)
class Entry:
    """What a keeper tells of itself; others wrote it: print it with care.

    `since` is when it took its role, in seconds since 1970, `ttl` in seconds; the
    lower `priority` goes first; `token` is that of its lease.
    """

    node: str
    host: str = ""
    pid: int = 0
    since: float = 0.0
    priority: int = 0
    ttl: float = 0.0
    token: int = 0

    def now(self, token: int = 0) -> Entry:
        """Return it for a role that is taken now."""
        return dataclasses.replace(self, since=time.time(), token=token)

    def text(self, **more: object) -> str:
        return json.dumps({**dataclasses.asdict(self), **more})


def read_entry(text: str) -> tuple[Entry | None, Mapping[str, object]]:
    """Return an entry and all that was written with it; None if it is none."""
    try:
        found = json.loads(text) if len(text) <= LARGEST_ENTRY else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("node"), str):
        return None, {}
    values = {
        each.name: found[each.name]
        for each in dataclasses.fields(Entry)
        if _fits(found.get(each.name), str(each.type))
    }
    return Entry(**values), found


def _fits(value: object, wanted: str) -> bool:
    """Return whether a value is a text, or a number that can be a date or a time."""
    kind = type(value).__name__
    if kind != wanted and (kind, wanted) != ("int", "float"):
        return False
    return isinstance(value, str) or (
        isinstance(value, int | float) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER
    )


@dataclass(frozen=True)
class Snapshot:
    """One look at a resource.

    `primary` has the lease, under `token`. `uncertain` is the node that had the
    command last, where it never said that the command has ended; `mark` is another
    number after each of its renewals, 0 where nobody ever had it. `asked` is the token
    of the primary that somebody asked to give up, or 0.
    """

    primary: Entry | None = None
    token: int = 0
    standbys: tuple[Entry, ...] = ()
    uncertain: Entry | None = None
    mark: int = 0
    asked: int = 0
    left: float | None = None  # seconds that the primary's lease lasts, if known


@dataclass(frozen=True)
class Lease:
    """A lease that is ours until `deadline`; `token` grows with each change."""

    token: int
    deadline: float
    snapshot: Snapshot = field(default_factory=Snapshot)


class Engine:
    """One resource, as one keeper sees it."""

    # How often a keeper has to look by itself, in seconds; None: `arm` tells.
    look_every: float | None = None

    def __init__(self, name: str, ttl: float, entry: Entry) -> None:
        self.name = name
        self.ttl = ttl
        self.entry = entry

    def take(self) -> Lease | None:
        """Take the lease; None when another has it. Raises UnreachableError."""
        raise NotImplementedError

    def renew(self, lease: Lease, until: float) -> Lease:
        """Return the lease with its new deadline; asks no longer than `until`.

        Raises LostError, and UnreachableError.
        """
        raise NotImplementedError

    def give_up(self, lease: Lease, ended: bool, is_lost: bool = False) -> None:
        """Let others have it; `ended`: the command was started, and is gone.

        With `is_lost` others may have it already: then only the end is told. Raises
        UnreachableError.
        """
        raise NotImplementedError

    def may_last(self, other: Entry) -> float:
        """Return for how many seconds its command can run after it has renewed."""
        return min(other.ttl if other.ttl > 0 else self.ttl, LONGEST_TTL)

    def prepare(self) -> None:
        """Open what the guardian is to share, before it splits off. Raises Fault."""

    def connect(self) -> None:
        """Get ready, in the holder alone: the guardian stays small. Raises Fault."""

    def stand_by(self) -> Snapshot:
        """Be known as a standby, and look. Raises UnreachableError."""
        return Snapshot()

    def withdraw(self) -> None:
        """Be a standby no longer. Raises UnreachableError."""

    def watch(self, as_primary: bool) -> bool:
        """Have SIGIO sent at each change from now on; False: it was so for this role.

        Raises DeafError.
        """
        return False

    def has_changed(self) -> bool:
        """Return whether a change was told since the last call."""
        return False

    def note_start(self, lease: Lease) -> None:
        """Note that the command starts here, under this lease, which may be lost.

        Raises UnreachableError, LostError.
        """

    def look(self) -> Snapshot:
        """Return what there is to see, for people. Raises UnreachableError."""
        return Snapshot()

    def ask_to_yield(self, token: int) -> None:
        """Ask the primary with this token to give up. Raises UnreachableError."""

    def names(self) -> list[str]:
        """Return the resources that the engine knows. Raises UnreachableError."""
        return []
