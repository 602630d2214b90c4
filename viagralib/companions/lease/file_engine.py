"""The engine on files: one host, or hosts that share a file system with flock(2).

Files in the directory, for a resource NAME:

    NAME/lock           who holds flock(2) on it is the primary
    NAME/lease          the primary's entry with its token
    NAME/last           who started the command last; `released`: and saw it end
    NAME/yield          the token of the primary that is asked to give up
    NAME/standby.ID     a standby's entry; it holds flock(2) on it

The lock is shared with the guardian, so it is free only when both are gone, and with
them the command.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from viagralib.base import guarded_files
from viagralib.base.clocks import boot_clock
from viagralib.base.messages import Fault, reason
from viagralib.companions.lease.engine import (
    LARGEST_ENTRY,
    Engine,
    Entry,
    Lease,
    LostError,
    Snapshot,
    UnreachableError,
    read_entry,
)
from viagralib.state.directory import check_ours
from viagralib.state.lock_file import LockFile, run_lock

_NEW = 1.0  # seconds: by then, who had a lock that was removed has ended all


class FileEngine(Engine):
    look_every = 0.5  # a lock that becomes free tells nobody

    def __init__(self, directory: str, name: str, ttl: float, entry: Entry) -> None:
        super().__init__(name, ttl, entry)
        self._above = directory
        self._directory = f"{directory}/{name}"
        self._locks: list[LockFile] = []
        self._standby: LockFile | None = None
        self._own_entry = f"standby.{entry.node}.{entry.pid}"
        self._is_noted = False  # that our command may run

    def may_last(self, other: Entry) -> float:
        """Return as others do; but on one host the lock is free only after it."""
        return 0.0 if other.node == self.entry.node else super().may_last(other)

    def prepare(self) -> None:
        """Open the locks, which the guardian is to share. Raises Fault."""
        try:
            for place in (self._above, self._directory):
                os.makedirs(place, mode=0o700, exist_ok=True)
                check_ours(place)
            self._locks = [LockFile(path) for path in self._lock_paths()]
        except OSError as error:
            raise Fault("", f"no lock can be made: {reason(error)}") from None

    def connect(self) -> None:
        """Refuse what others could change, also to people: files are removed there."""
        for place in (self._above, self._directory):
            with contextlib.suppress(OSError):  # not there: no leases
                check_ours(place)

    def _lock_paths(self) -> list[str]:
        """Return the lock's file, and for root one more: all state may be deleted."""
        paths = [self._path("lock")]
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                path = run_lock(f"{self.name}.lease", self._directory)
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                paths.append(path)
        return paths

    # The three calls

    def take(self) -> Lease | None:
        """Lock; the token is larger than the last one, and than the last second's."""
        began = boot_clock()
        # All state may just have been deleted, but for a second lock, in /run.
        is_new = len(self._locks) == 1 and _is_recent(self._touched("lock") / 1e9)
        if is_new or not all(lock.take() for lock in self._locks):
            self._unlock()
            return None
        if not all(lock.is_in_place() for lock in self._locks):
            raise OSError(None, "the lock was replaced: start anew")
        try:
            before, _ = read_entry(self._text("lease"))
            token = max(before.token + 1 if before else 0, int(time.time()))
            self._write("lease", self.entry.now(token).text())
            self._forget("yield")
        except OSError as error:
            self._unlock()
            raise UnreachableError(reason(error)) from None
        return Lease(token, began + self.ttl, self._snapshot(is_primary=True))

    def renew(self, lease: Lease, until: float) -> Lease:
        """See that the lock's files are those that we hold."""
        began = boot_clock()
        with _failures():
            if not all(lock.is_in_place() for lock in self._locks):
                raise LostError("its lock was replaced")
            for kind in ("lease", "last")[: 1 + self._is_noted]:
                try:
                    os.utime(self._path(kind))
                except FileNotFoundError:
                    raise LostError("its file was removed") from None
        return Lease(lease.token, began + self.ttl, self._snapshot(is_primary=True))

    def give_up(self, lease: Lease, ended: bool, is_lost: bool = False) -> None:
        """Note that the command has ended, and unlock."""
        self._is_noted = False
        if is_lost:
            return  # the lock that we have is not the one that others see
        try:
            if ended:
                with _failures():
                    self._write("last", self.entry.now(lease.token).text(released=True))
        finally:
            self._unlock()

    # Standing by

    def stand_by(self) -> Snapshot:
        """Have an entry in a locked file of our own, and look. Raises OSError."""
        with _failures():
            deleted = max(lock.deleted_at() for lock in self._locks)
            if _is_recent(deleted):
                raise UnreachableError("the lock was deleted")
        if deleted:  # the guardian shares no other
            raise OSError(None, "the lock was deleted: start anew")
        with _failures():
            if self._standby and not self._standby.is_in_place():
                self.withdraw()  # another took it for a dead one's
            if self._standby is None:
                self._standby = LockFile(self._path(self._own_entry))
                self._standby.take()
                self._standby.write(self.entry.now().text())
        return self.look()

    def withdraw(self) -> None:
        if self._standby is not None:
            if self._standby.is_in_place():
                self._forget(self._own_entry)
            self._standby.close()
            self._standby = None

    def note_start(self, lease: Lease) -> None:
        with _failures():
            self._write("last", self.entry.now(lease.token).text(released=False))
            self._is_noted = True

    # For people

    def look(self) -> Snapshot:
        return self._snapshot(is_primary=False)

    def ask_to_yield(self, token: int) -> None:
        with _failures():
            self._write("yield", str(token))

    def names(self) -> list[str]:
        """Return the resources that have a lock's file here."""
        above = self._above
        return [n for n in _files(above) if os.path.isfile(f"{above}/{n}/lock")]

    def _path(self, kind: str) -> str:
        return f"{self._directory}/{kind}"

    def _snapshot(self, is_primary: bool) -> Snapshot:
        entry, _ = read_entry(self._text("lease"))
        last, more = read_entry(self._text("last"))
        if not is_primary and not self._is_locked("lock"):
            entry = None
        asked = self._text("yield")
        return Snapshot(
            entry,
            entry.token if entry else 0,
            tuple(self._standbys()),
            None if more.get("released", True) else last,
            self._touched("last"),
            asked=int(asked) if asked.isdecimal() else 0,
            left=self._left(entry.ttl) if entry else None,
        )

    def _touched(self, kind: str) -> int:
        """Return when a file was last written or renewed (ns since 1970), or 0."""
        with contextlib.suppress(OSError):
            return os.stat(self._path(kind)).st_mtime_ns
        return 0

    def _left(self, ttl: float) -> float | None:
        renewed = self._touched("lease") / 1e9
        return max(0.0, renewed + ttl - time.time()) if renewed else None

    def _standbys(self) -> Iterator[Entry]:
        """Yield the entries whose owners live; what others left is removed."""
        for kind in _files(self._directory, "standby."):
            lives = self._standby if kind == self._own_entry else self._is_locked(kind)
            entry, _ = read_entry(self._text(kind))
            if not lives:
                self._forget(kind)
            elif entry:
                yield entry

    def _is_locked(self, kind: str) -> bool:
        """Return whether another opening of the file is locked."""
        try:
            lock = LockFile(self._path(kind), os.O_RDONLY)
        except OSError:
            return False
        free = lock.is_free()
        lock.close()
        return not free

    def _text(self, kind: str) -> str:
        """Return what a file says; "" when it is not there or no file of ours."""
        with contextlib.suppress(OSError):
            text = guarded_files.read(self._path(kind), LARGEST_ENTRY)
            return text.decode(errors="replace").strip()
        return ""

    def _write(self, kind: str, text: str) -> None:
        """Replace a file: a token that is forgotten would be given twice."""
        guarded_files.replace(self._path(kind), text.encode() + b"\n", sync=True)

    def _forget(self, kind: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path(kind))

    def _unlock(self) -> None:
        for lock in self._locks:
            lock.release()


def _is_recent(moment: float) -> bool:
    return 0 <= time.time() - moment < _NEW


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreachableError(reason(error)) from None


def _files(directory: str, prefix: str = "") -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(n for n in os.listdir(directory) if n.startswith(prefix))
    return []
