"""The state directory: plain files that may be deleted at any time without harm."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from viagralib import table

SUBDIRECTORIES = ("incidents", "open", "counts", "paused", "deaths", "locks")
LARGEST_RECORD = 1_000_000  # bytes; what is larger was not written by us
# Locks go here when the state directory takes none: its disk is full or read-only.
_SPARE_LOCKS = "/run/viagra"
Record = dict[str, object]


def find_state(given: str | None) -> str:
    """Return the path of the state directory, which need not exist yet."""
    if given is not None:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/db/viagra" if "bsd" in sys.platform else "/var/lib/viagra"
    base = os.environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # the XDG specification says to ignore relative ones
        base = os.path.expanduser("~/.local/state")
    return f"{base}/viagra"


class State:
    """The files of one state directory. What is missing or damaged reads as empty."""

    def __init__(self, path: str) -> None:
        self.path = path

    def places(self) -> list[str]:
        """Return the directories that it has, or would make."""
        return [self.path, *(f"{self.path}/{sub}" for sub in SUBDIRECTORIES)]

    def prepare(self) -> None:
        """Make the directories, open to their owner alone. Raises OSError."""
        for place in self.places():
            os.makedirs(place, mode=0o700, exist_ok=True)
            if os.stat(place).st_mode & 0o077:  # ps output can hold secrets
                os.chmod(place, 0o700)

    def read(self, kind: str, name: str) -> Record:
        """Return the record `name` of `kind`; {} when missing or damaged."""
        return read_record(f"{self.path}/{kind}/{name}")

    def write(self, kind: str, name: str, record: Record) -> None:
        """Replace a record whole, by rename. Raises OSError."""
        write_record(f"{self.path}/{kind}/{name}", record)

    def remove(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        try:
            os.unlink(f"{self.path}/{kind}/{name}")
        except OSError:
            pass

    def names(self, kind: str) -> list[str]:
        """Return the names of the records of `kind`."""
        try:
            names = os.listdir(f"{self.path}/{kind}")
        except OSError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def last_run(self) -> float:
        """Return when the last run was, in seconds since 1970; 0.0: not known."""
        try:
            return os.stat(f"{self.path}/last-run").st_mtime
        except OSError:
            return 0.0

    def note_run(self) -> None:
        """Note that a run was now. Raises OSError."""
        path = f"{self.path}/last-run"
        try:
            os.utime(path)
        except FileNotFoundError:
            self.prepare()
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def lock(self, name: str) -> Lock | None:
        """Take the daemon's lock; None when another run has it. Raises OSError."""
        try:
            descriptor = _open_lock(f"{self.path}/locks", name)
        except OSError:
            if os.geteuid() != 0:
                raise
            descriptor = _open_lock(_SPARE_LOCKS, name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return Lock(descriptor)

    def count(self, name: str) -> int:
        """Return how often the daemon was restarted: VIAGRA_INSTANCE of its life."""
        number = self.read("counts", name).get("restarts")
        return number if isinstance(number, int) else 0

    def count_up(self, name: str) -> None:
        """Note one restart more. Raises OSError."""
        record = self.read("counts", name)
        record["restarts"] = self.count(name) + 1
        record["recent"] = [*self._recent(record), time.time()]
        self.write("counts", name, record)

    def recent(self, name: str) -> int:
        """Return how often the daemon was restarted in the last 24 hours."""
        return len(self._recent(self.read("counts", name)))

    @staticmethod
    def _recent(record: Record) -> list[float]:
        times = record.get("recent")
        times = times if isinstance(times, list) else []
        since = time.time() - 86400
        return [t for t in times if isinstance(t, int | float) and t > since][-1000:]


class Lock:
    """A daemon's lock, held until release() or the end of this process.

    The descriptor is closed in every child before it executes anything.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let another run have it."""
        os.close(self._descriptor)


def _open_lock(directory: str, name: str) -> int:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"{directory}/{name}", flags, 0o600)


def read_record(path: str) -> Record:
    """Return the record in this file; {} when it is missing, damaged or no record."""
    import json

    try:
        with open(path, "rb") as file:
            record = json.loads(file.read(LARGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: str, record: Record) -> None:
    """Replace the file by this record: a reader sees the old one or the new one."""
    import json

    text = json.dumps(record, indent=1) + "\n"
    fresh = f"{os.path.dirname(path)}/.{os.path.basename(path)}.new"
    with open(fresh, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
    os.replace(fresh, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def this_boot() -> str:
    """Return what names this boot; "" when the system does not say."""
    try:
        return table.boot_id()
    except OSError:
        return ""
