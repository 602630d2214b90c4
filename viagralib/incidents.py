"""Incidents: one directory for each failure of a daemon, and their pruning."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator

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
        self.log = HookLog(f"{directory}/hook.log")

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

    def note_process(self, key: str, process: Process) -> None:
        """Record a process so that a later run knows it again."""
        identity = {"pid": process.pid, "start": process.start, "boot": this_boot()}
        self.update(**{key: identity})

    @contextlib.contextmanager
    def _noting(self, file: str) -> Iterator[None]:
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
    directory, problem = "", ""
    try:
        directory = _make_directory(state, daemon, now)
    except OSError as error:
        problem = f"the whole incident: {reason(error)}"
    incident = Incident(daemon, directory, {})
    incident.missing += [problem] if problem else []
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


class HookLog:
    """An incident's hook.log: what its hooks append to, and how it is kept small.

    Its first and its last HOOK_LOG_CAP / 2 bytes are kept; what was between them is
    counted, but for what is printed in the very instant of a cut.
    """

    def __init__(self, path: str) -> None:
        self.problem = ""  # why there is no such file
        self._path = path
        self._descriptor = -1
        self._end = b""  # what was last in the file when it was cut
        self._cut = 0  # bytes taken out of the file

    def open(self) -> int:
        """Return the descriptor for all hooks of the incident; not to be closed.

        It is of memory where the disk takes nothing: a hook that cannot print fails
        (`set -e`), and nobody sees why.
        """
        if self._descriptor < 0:
            try:
                self._descriptor = self._on_disk()
            except OSError as error:
                self.problem = reason(error)
                self._descriptor = memory("hook.log")
                fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_APPEND)
        return self._descriptor

    def watch(self) -> None:
        """Cut it when it has outgrown twice HOOK_LOG_CAP; its end is put by."""
        if self._size() > 2 * HOOK_LOG_CAP:
            self._take_out()

    def complete(self) -> None:
        """Put the end back. What still appends to it goes on behind that."""
        if self._end or self._size() > 2 * HOOK_LOG_CAP:
            self._take_out()
            self._cut -= len(self._end)
            mark = b"\n[... about %d bytes were here ...]\n" % self._cut
            with contextlib.suppress(OSError):
                os.write(self._descriptor, mark + self._end)
            self._end = b""

    def last(self, number: int) -> bytes:
        """Return its last bytes, at most this number of them."""
        if self._descriptor < 0:
            return b""
        return os.pread(self._descriptor, number, max(0, self._size() - number))

    def _on_disk(self) -> int:
        descriptor = create(self._path, os.O_RDWR | os.O_APPEND)
        try:
            os.write(descriptor, b"?" * 4096)  # that it can be made says too little
            os.ftruncate(descriptor, 0)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def _take_out(self) -> None:
        half = HOOK_LOG_CAP // 2
        added = os.pread(self._descriptor, half, max(half, self._size() - half))
        self._end = (self._end + added)[-half:]
        self._cut += self._size() - half
        os.ftruncate(self._descriptor, half)


def memory(name: str) -> int:
    """Return a descriptor of a file without a place on any disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


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
