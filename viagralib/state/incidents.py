"""Incidents: one directory for each failure of a daemon, and their pruning."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Container, Iterator

from viagralib.base import guarded_files, records
from viagralib.base.forked import within
from viagralib.base.messages import reason, safe
from viagralib.base.records import Record
from viagralib.processes.linux import Process
from viagralib.state import announced, incident_ids
from viagralib.state.directory import HOOK_LOG_CAP, State, this_boot
from viagralib.state.hook_log import HookLog, cut_log

OPEN, CLOSED = "open", "closed"
_ID_TIME = "%Y%m%dT%H%M%SZ"
_LONGEST_BIRTH = 3600.0  # seconds, and then some, from its directory to its name
# A new file before it replaces the old one, and what the programs of notice.d read.
_FRESH = re.compile(r"\..+\.\d+(\.json)?")


class Incident:
    """One failure of one daemon: why, what was done, how it ended.

    What cannot be written to its directory is noted in `missing`, never raised: a
    full disk must not stop a restart.
    """

    def __init__(self, daemon: str, directory: str, record: Record) -> None:
        self.daemon = daemon
        self.directory = directory  # "": it could not be made
        self.record = record
        self.missing: list[str] = []
        self.log = HookLog(f"{directory}/hook.log" if directory else "")

    @property
    def id(self) -> str:
        """Return its name among the incidents; "" when it has no directory."""
        return os.path.basename(self.directory).removeprefix(".")

    @property
    def mark(self) -> str:
        """Return what the environment of its hooks holds; "" when it has no directory.

        A file below its directory that is not there, with a name for us alone.
        """
        return f"{self.directory}/{self.record.get('mark')}" if self.directory else ""

    @property
    def phase(self) -> str:
        """Return the phase of its recovery, if that has not ended; or ""."""
        ended = "result" in self.record
        return "" if ended else safe(str(self.record.get("phase") or ""))

    def publish(self) -> None:
        """Give its directory the name that others know it by: see prepare()."""
        if self.directory:
            place = f"{os.path.dirname(self.directory)}/{self.id}"
            with self._noting("the whole incident"):
                os.rename(self.directory, place)
                self.directory = place
                self.log = HookLog(f"{place}/hook.log")

    def update(self, **changes: object) -> bool:
        """Change the record, and replace incident.json by it; return whether it was."""
        self.record.update(changes)
        if self.directory:
            with self._noting("incident.json"):
                records.write(f"{self.directory}/incident.json", self.record)
                return True
        return False

    def write(self, file: str, text: str) -> None:
        if self.directory:
            with self._noting(file):
                data = text.encode(errors="replace")
                guarded_files.put(f"{self.directory}/{file}", data)

    def note_hook(self, process: Process) -> None:
        """Record who executes the hook, so that a later run knows it again."""
        identity = {"pid": process.pid, "start": process.start, "boot": this_boot()}
        self.update(hook=identity)

    @contextlib.contextmanager
    def _noting(self, file: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.missing.append(f"{file}: {reason(error)}")


def prepare(state: State, daemon: str, record: Record) -> Incident:
    """Make the directory of a new incident, with status `open`, to be published.

    Before that its id has to be noted as the daemon's open incident: a run may be
    killed at any point, and must leave no incident without a record, and none that
    nobody closes.
    """
    began = time.time()
    facts: Record = {"version": 1, "daemon": daemon, "status": OPEN, "began": began}
    facts["mark"] = os.urandom(16).hex()
    incident = Incident(daemon, "", facts | record)
    directory = ""
    try:
        directory = _make_directory(state, daemon, began)
        incident = Incident(daemon, directory, incident.record)
        incident.record["id"] = incident.id
        records.write(f"{directory}/incident.json", incident.record)
    except OSError as error:
        if directory:  # without a record, nobody would find what is in it
            shutil.rmtree(directory, ignore_errors=True)
        incident = Incident(daemon, "", incident.record | {"id": ""})
        incident.missing.append(f"the whole incident: {reason(error)}")
    return incident


def _make_directory(state: State, daemon: str, now: float) -> str:
    state.prepare()
    while True:
        stamp = time.strftime(_ID_TIME, time.gmtime(now))
        place, name = f"{state.path}/incidents", f"{stamp}-{daemon}"
        try:
            os.mkdir(f"{place}/.{name}", 0o700)
        except FileExistsError:
            now += 1  # two in one second: the next one's name is free or will be
            continue
        if os.path.lexists(f"{place}/{name}"):
            os.rmdir(f"{place}/.{name}")
            now += 1
            continue
        return f"{place}/.{name}"


def load(state: State, incident_id: str) -> Incident | None:
    """Return the incident of this id; None when it is missing or damaged."""
    directory = f"{state.path}/incidents/{incident_id}"
    record = records.read(f"{directory}/incident.json")
    if not incident_id or "/" in incident_id or not record.get("daemon"):
        return None
    return Incident(str(record["daemon"]), directory, record)


def last_of(state: State, daemon: str) -> Incident | None:
    """Return the incident that is open for a daemon, or None."""
    return load(state, announced.incident_of(state, daemon))


def recorded_hook(incident: Incident) -> Process | None:
    """Return who executes the hook, as recorded, if that was in this boot."""
    identity = records.process(incident.record, "hook")
    boot = records.inner(incident.record, "hook").get("boot")
    if identity is None or boot != this_boot():
        return None
    return Process(*identity)


def prune(state: State, keep: int, keep_bytes: int, spared: Container[str]) -> None:
    """Remove incidents beyond `keep` or `keep_bytes`.

    The oldest of the daemon that has the most: whoever can make its own die and come
    back by turns is not to push out the others'. Never one of `spared` (ids): a clock
    that was set back makes the newest look old. Never one that is open, as `open` of
    the state has it: a run that was killed, or had a full disk, left its own that way
    for ever. And never a daemon's newest: one that was started with its output open may
    write into that one's hook.log for years, so it is cut here, too.
    """
    _remove_unborn(state)
    names = state.names("incidents")
    for name in names:
        cut_log(f"{state.path}/incidents/{name}/hook.log")
    kept = {state.read("open", name).get("incident") for name in state.names("open")}
    kept |= set(incident_ids.newest(names).values())
    sizes = {name: size(f"{state.path}/incidents/{name}") for name in names}
    total = sum(sizes.values())
    while len(names) > keep or total > keep_bytes:
        number = Counter(map(incident_ids.daemon_of, names))
        old = [name for name in names if name not in kept and name not in spared]
        if not old:
            return
        name = max(old, key=lambda one: number[incident_ids.daemon_of(one)])
        _remove(f"{state.path}/incidents/{name}")
        names.remove(name)
        total -= sizes[name]


def _remove_unborn(state: State) -> None:
    """Remove what those left that were killed before they gave it its name: incidents,
    and files."""
    for place in state.places():
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    continue
                status = entry.stat(follow_symlinks=False)
                if time.time() - status.st_mtime <= _LONGEST_BIRTH:
                    continue
                if place.endswith("/incidents"):
                    _remove(entry.path)
                elif stat.S_ISREG(status.st_mode) and _FRESH.fullmatch(entry.name):
                    os.unlink(entry.path)


def _remove(directory: str) -> None:
    """Remove an incident, unless somebody keeps its hook.log from being removed."""
    within(directory, lambda: _removed(directory))


def _removed(directory: str) -> bytes:
    place, name = os.path.split(directory)
    hidden = f"{place}/.{name.removeprefix('.')}"
    with contextlib.suppress(OSError):
        os.utime(f"{directory}/hook.log")  # waits for the file alone
        # Who waits to remove it holds up whoever looks into its directory: none does
        # into a hidden one.
        os.rename(directory, hidden)
        directory = hidden
    shutil.rmtree(directory, ignore_errors=True)
    return b""


def size(directory: str) -> int:
    """Return the bytes that an incident counts for."""
    try:
        with os.scandir(directory) as entries:
            found = {one.name: one.stat(follow_symlinks=False) for one in entries}
    except OSError:
        return 0
    # What several incidents share by hard links takes its place once.
    sizes = {name: one.st_size // max(1, one.st_nlink) for name, one in found.items()}
    # A daemon that was started with it open may have made it of any size meanwhile:
    # the others' incidents are not to make room for that.
    sizes["hook.log"] = min(sizes.get("hook.log", 0), 2 * HOOK_LOG_CAP)
    return sum(sizes.values())
