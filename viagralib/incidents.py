"""Incidents: one directory for each failure of a daemon, and their pruning."""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from viagralib.messages import reason
from viagralib.procfs import Process
from viagralib.state import Record, State, read_record, this_boot, write_record

OPEN, CLOSED = "open", "closed"
HOOK_LOG_CAP = 1_000_000  # bytes kept of a hook's output: half its start, half its end
_ID_TIME = "%Y%m%dT%H%M%SZ"


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

    @property
    def id(self) -> str:
        """Return its name among the incidents; "" when it has no directory."""
        return os.path.basename(self.directory)

    def update(self, **changes: object) -> None:
        """Change the record, and replace incident.json by it."""
        self.record.update(changes)
        if self.directory:
            with self._noting("incident.json"):
                write_record(f"{self.directory}/incident.json", self.record)

    def write(self, file: str, text: str) -> None:
        """Write one file of the incident."""
        if self.directory:
            with self._noting(file):
                descriptor = create(f"{self.directory}/{file}")
                with open(descriptor, "w", encoding="utf-8", errors="replace") as out:
                    out.write(text)

    def open_log(self) -> int:
        """Return a descriptor to append to hook.log; of /dev/null on a full disk."""
        if self.directory:
            with self._noting("hook.log"):
                return create(f"{self.directory}/hook.log", os.O_WRONLY | os.O_APPEND)
        return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def note_process(self, key: str, process: Process) -> None:
        """Record a process so that a later run knows it again."""
        identity = {"pid": process.pid, "start": process.start, "boot": this_boot()}
        self.update(**{key: identity})

    @contextlib.contextmanager
    def _noting(self, file: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        try:
            yield
        except OSError as error:
            self.missing.append(f"{file}: {reason(error)}")


def create(path: str, flags: int = os.O_WRONLY) -> int:
    """Open a file of ours for writing, made if it is not there. Raises OSError."""
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def begin(state: State, daemon: str, record: Record) -> Incident:
    """Make the directory of a new incident, with status `open`."""
    now = time.time()
    incident = Incident(daemon, "", {})
    try:
        incident.directory = _make_directory(state, daemon, now)
    except OSError as error:
        incident.missing.append(f"the whole incident: {reason(error)}")
    incident.update(
        version=1, id=incident.id, daemon=daemon, status=OPEN, began=now, **record
    )
    return incident


def _make_directory(state: State, daemon: str, now: float) -> str:
    state.prepare()
    while True:
        stamp = time.strftime(_ID_TIME, time.gmtime(now))
        directory = f"{state.path}/incidents/{stamp}-{daemon}"
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            now += 1  # two in one second: the next one's name is free or will be
            continue
        return directory


def load(state: State, incident_id: str) -> Incident | None:
    """Return the incident of this id; None when it is missing or damaged."""
    directory = f"{state.path}/incidents/{incident_id}"
    record = read_record(f"{directory}/incident.json")
    if not incident_id or "/" in incident_id or not record.get("daemon"):
        return None
    return Incident(str(record["daemon"]), directory, record)


def recorded_process(incident: Incident, key: str) -> Process | None:
    """Return the process that the incident recorded, if it was of this boot."""
    identity = incident.record.get(key)
    if not isinstance(identity, dict) or identity.get("boot") != this_boot():
        return None
    pid, start = identity.get("pid"), identity.get("start")
    if not isinstance(pid, int) or not isinstance(start, int | float):
        return None
    return Process(pid, "", start, 0, 0, False)


def cap_log(path: str, cut_before: int = 0) -> int:
    """Cut the middle out of a log that has outgrown twice HOOK_LOG_CAP.

    Its start and its end are kept; whoever appends to it goes on behind them. Returns
    the bytes cut so far, `cut_before` by earlier calls included: the mark says them.
    """
    half = HOOK_LOG_CAP // 2
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return cut_before
    with contextlib.suppress(OSError), open(descriptor, "r+b") as file:
        size = os.fstat(descriptor).st_size
        if size <= 2 * HOOK_LOG_CAP:
            return cut_before
        file.seek(size - half)
        end = file.read(half)
        cut_before += size - 2 * half
        file.seek(half)
        file.truncate()
        file.write(b"\n[... %d bytes were here ...]\n" % cut_before + end)
    return cut_before


def prune(state: State, keep: int, keep_bytes: int) -> None:
    """Remove the oldest incidents beyond `keep` or `keep_bytes`.

    Never an open one, and never a daemon's newest.
    """
    names = state.names("incidents")
    newest: dict[str, str] = {}
    for name in names:
        newest[_daemon_of(name)] = name
    sizes = {name: _size(f"{state.path}/incidents/{name}") for name in names}
    number, total = len(names), sum(sizes.values())
    for name in names:
        if number <= keep and total <= keep_bytes:
            return
        if name != newest[_daemon_of(name)] and not _is_open(state, name):
            shutil.rmtree(f"{state.path}/incidents/{name}", ignore_errors=True)
            number, total = number - 1, total - sizes[name]


def _daemon_of(incident_id: str) -> str:
    return incident_id.partition("-")[2]


def _is_open(state: State, name: str) -> bool:
    incident = load(state, name)
    return incident is not None and incident.record.get("status") == OPEN


def _size(directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(e.stat(follow_symlinks=False).st_size for e in entries)
    except OSError:
        return 0
