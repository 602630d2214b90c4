"""The state directory: plain files that may be deleted at any time without harm."""

from __future__ import annotations

import fcntl
import os
import time

from viagralib.base import answers, files
from viagralib.processes import table
from viagralib.trust.owners import Trust

SUBDIRECTORIES = ("incidents", "open", "counts", "paused", "deaths", "locks")
HOOK_LOG_CAP = 1_000_000  # bytes kept of a hook's output: half its start, half its end
LARGEST_RECORD = 1_000_000  # bytes; what is larger was not written by us
LARGEST_NUMBER = 1e11  # in a record: seconds since 1970, clock ticks, bytes, pids
RUN_LOCKS = "/run/viagra" if os.path.isdir("/run") else "/var/run/viagra"
Record = dict[str, object]


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
        _remove(f"{self.path}/{kind}/{name}")

    def names(self, kind: str) -> list[str]:
        """Return the names of the records of `kind`."""
        try:
            names = os.listdir(f"{self.path}/{kind}")
        except OSError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def recall_answers(self) -> None:
        """Let what was found before be known, unless others could have written it."""
        if not Trust(os.geteuid()).why_not(f"{self.path}/answers"):
            answers.load(f"{self.path}/answers")

    def keep_answers(self) -> None:
        """Keep what this run has found for the next ones. Raises OSError."""
        answers.save(f"{self.path}/answers")

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
        """Take the daemon's lock; None when another run has it. Raises OSError.

        It is two: the state may be deleted during a run, or its disk take nothing;
        what root has in /run stays. One of them is enough to be had.
        """
        descriptors: list[int] = []
        try:
            for directory, file in self._lock_files(name):
                _append_open(descriptors, directory, file)
            if not descriptors:
                raise OSError(None, "neither the state nor /run takes a lock")
            for descriptor in descriptors:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            Lock(descriptors).release()
            if isinstance(error, BlockingIOError):
                return None
            raise
        return Lock(descriptors)

    def _lock_files(self, name: str) -> list[tuple[str, str]]:
        files = [(f"{self.path}/locks", name)]
        if os.geteuid() == 0:
            import zlib

            other_states = zlib.crc32(os.fsencode(self.path))
            files.append((RUN_LOCKS, f"{name}.{other_states:08x}"))
        return files

    def count(self, name: str) -> int:
        """Return how often the daemon was restarted: its VIAGRA_INSTANCE."""
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

    The descriptors are closed in every child before it executes anything.
    """

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    def release(self) -> None:
        """Let another run have it."""
        while self._descriptors:
            try:
                os.close(self._descriptors.pop())
            except OSError:
                pass  # then at our end


def _append_open(descriptors: list[int], directory: str, name: str) -> None:
    """Open a lock's file, if the directory takes one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptors.append(os.open(f"{directory}/{name}", flags, 0o600))
    except OSError:
        pass


def read_record(path: str) -> Record:
    """Return the record in this file; {} when it is missing, damaged or no record."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        try:
            text = files.rest(descriptor, LARGEST_RECORD)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):  # ValueError: a NUL, which no path holds
        return {}
    return parse_record(text)


def parse_record(text: bytes) -> Record:
    """Return the record that a file's text is; {} when it is none, or damaged."""
    import json

    try:
        record = json.loads(
            text, parse_constant=_number, parse_float=_number, parse_int=_integer
        )
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _number(text: str) -> float:
    """Return a number that can be a time; ValueError for what we never write."""
    number = float(text)
    if not -LARGEST_NUMBER < number < LARGEST_NUMBER:  # nor for NaN
        raise ValueError(text)
    return number


def _integer(text: str) -> int:
    _number(text)
    return int(text)


def write_record(path: str, record: Record) -> None:
    """Replace the file by this record: a reader sees the old one or the new one."""
    import json

    text = json.dumps(record, indent=1) + "\n"
    fresh = f"{os.path.dirname(path)}/.{os.path.basename(path)}.new"
    try:
        with open(fresh, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        os.replace(fresh, path)
    except OSError:
        _remove(fresh)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def this_boot() -> str:
    """Return what names this boot; "" when the system does not say."""
    try:
        return table.boot_id()
    except OSError:
        return ""
