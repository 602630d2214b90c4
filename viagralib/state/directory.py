"""The state directory: plain files that may be deleted at any time without harm."""

from __future__ import annotations

import os
import time

from viagralib.base import answer_cache, guarded_files, records
from viagralib.base.messages import Fault, safe
from viagralib.base.records import Record
from viagralib.processes import table

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from viagralib.state.lock_file import Lock
    from viagralib.trust.owners import Trust

# The record of a pause of all daemons: no daemon can have that name.
PAUSE_OF_ALL = "viagra.toml"
SUBDIRECTORIES = ("incidents", "open", "counts", "paused", "deaths", "locks")
HOOK_LOG_CAP = 1_000_000  # bytes kept of a hook's output: half its start, half its end


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
        return records.recall(f"{self.path}/{kind}/{name}")

    def write(self, kind: str, name: str, record: Record) -> None:
        """Replace a record whole, by rename. Raises OSError."""
        records.write(f"{self.path}/{kind}/{name}", record)

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

    def recall_answers(self, trust: Trust) -> None:
        """Let what was found before be known, unless others could have written it."""
        file = f"{self.path}/answers"
        if not trust.why_not(file):
            answer_cache.load(file)

    def keep_answers(self) -> None:
        """Keep what this run has found for the next ones. Raises OSError."""
        answer_cache.save(f"{self.path}/answers")

    def last_run(self, name: str = "") -> float:
        """Return when the last run was that was about all daemons, or about `name` by
        its name; in seconds since 1970; 0.0: not known."""
        try:
            return os.stat(self._stamp(name)).st_mtime
        except OSError:
            return 0.0

    def note_run(self, names: list[str]) -> None:
        """Note that a run was now, about these names or, without, about all daemons.

        Raises OSError.
        """
        for path in map(self._stamp, names or [""]):
            try:
                os.utime(path)
            except FileNotFoundError:
                self.prepare()
                guarded_files.put(path, b"")

    def _stamp(self, name: str) -> str:
        return f"{self.path}/last-run{name and '.'}{name}"

    def lock(self, name: str, home: str) -> Lock | None:
        """Take the lock of a home's daemon; None when another run has it.

        It is two: the state may be deleted during a run, be another one, or its disk
        take nothing; what root has in /run is the home's, and stays. One of them is
        enough to be had. Raises OSError.
        """
        from viagralib.state.lock_file import Lock, run_lock  # a quiet run has none

        lock = Lock()
        lock.add(f"{self.path}/locks/{name}")
        if os.geteuid() == 0:
            lock.add(run_lock(name, os.path.realpath(home)))
        return lock if lock.take() else None

    def count(self, name: str) -> int:
        """Return how often the daemon was restarted: its VIAGRA_INSTANCE."""
        return records.integer(self.read("counts", name), "restarts") or 0

    def count_up(self, name: str, unit: str | None = None) -> None:
        """Note one restart more, and the unit that it is in now. Raises OSError."""
        record = self.read("counts", name)
        if unit is not None and record.get("unit", "") != unit:
            record["unit"] = unit
        record["restarts"] = self.count(name) + 1
        record["recent"] = [*self._recent(record), time.time()]
        self.write("counts", name, record)

    def recent(self, name: str) -> int:
        """Return how often the daemon was restarted in the last 24 hours."""
        return len(self._recent(self.read("counts", name)))

    @staticmethod
    def _recent(record: Record) -> list[float]:
        since = time.time() - 86400
        return [when for when in records.numbers(record, "recent") if when > since][
            -1000:
        ]


def check_ours(place: str) -> None:
    """Raise Fault when another user could change what is in the directory `place`.

    Raises OSError when it cannot be looked at.
    """
    if not guarded_files.is_ours(f"{place}/."):
        from viagralib.trust.owners import Trust  # it has the words, and the cure

        why = Trust(os.geteuid()).why_not(place) or "others can change its way"
        raise Fault(safe(place), why)


def this_boot() -> str:
    """Return what names this boot; "" when the system does not say."""
    try:
        return table.boot_id()
    except OSError:
        return ""
