"""One process as Linux tells of it in /proc, and the table of all of them.

proc(5) is the source for every file and field named here. What a process is
called and what its command line says is chosen by whoever runs it.
"""

from __future__ import annotations

import errno
import os

from viagralib.base import files
from viagralib.base.clocks import boot_clock

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator

NAME_LENGTH = 15  # bytes that the kernel keeps of a name (TASK_COMM_LEN - 1)
# A stat line up to its start time is far shorter; its name comes first.
_SMALL = 512
_KERNEL_THREADS = 2  # the pid of the parent of them all
_CAP_SYS_PTRACE = 19  # linux/capability.h
# Bytes of a command line that tell its program and script: anybody can make it long.
FEW_ARGUMENTS = 8192
_LONGEST_FILE = 2_200_000  # bytes: a command line is at most 2 MB (execve(2))


class Vanished(Exception):  # noqa: N818
    """The process ended while it was looked at: it is as if never seen."""


class Unreadable(Exception):  # noqa: N818
    """The system does not let us see this of the process; says what."""


class Process:
    """One process at one look. `start` tells it from a later one of the same pid."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        pid: int,
        start: float,  # clock ticks since boot; seconds elsewhere
        name: str = "",  # as the kernel keeps it: cut at NAME_LENGTH on Linux
        parent: int = 0,
        group: int = 0,
        session: int = 0,
        state: str = "R",  # the letter of proc(5)
    ) -> None:
        self.pid = pid
        self.start = start
        self.name = name
        self.parent = parent
        self.group = group
        self.session = session
        self.state = state
        self.zombie = state in "ZX"
        self.headless = False  # its first thread has ended, others live on
        self._status_file = b""
        self._command_line = b""  # once all of it was read

    @property
    def identity(self) -> tuple[int, float]:
        """What no other process of this boot has: pid and start."""
        return self.pid, self.start

    def arguments(self, most: int = FEW_ARGUMENTS) -> list[str]:
        """Return its argument vector, up to so many bytes; [] for a kernel thread.

        A program that renames itself may leave one text with blanks in it.
        """
        line = self._command_line or _contents(f"{self.place()}/cmdline", most)
        if len(line) < min(most, FEW_ARGUMENTS):  # a thousand long ones fill memory
            self._command_line = line
        text = os.fsdecode(line).rstrip("\0")
        return text.split("\0") if text else []

    def executable(self) -> str:
        """Return the path of its program, without the mark of a deleted file.

        After an upgrade the running program is the deleted one.
        """
        try:
            return os.readlink(f"{self.place()}/exe").removesuffix(" (deleted)")
        except FileNotFoundError:
            if _KERNEL_THREADS in {self.pid, self.parent}:
                raise Unreadable("its executable: a kernel thread has none") from None
            raise Vanished from None  # it is about to end, if it is still there
        except ProcessLookupError:
            raise Vanished from None
        except OSError as error:
            raise Unreadable(f"its executable: {error.strerror}") from None

    def runs_set_user_id(self) -> bool:
        """Return whether its program changes the user who starts it (chmod u+s)."""
        try:
            return bool(os.stat(f"{self.place()}/exe").st_mode & 0o4000)
        except OSError:
            return False

    def users(self) -> tuple[int, ...]:
        """Return its real, effective and saved user ids."""
        return tuple(map(int, self._status(b"Uid:")[:3]))

    def elsewhere(self) -> bool:
        """Return whether it lives in another pid namespace: a container's process."""
        # One pid for each namespace from ours down to its own; absent before Linux 4.1.
        return len(self._status(b"NSpid:")) > 1

    def may_trace(self) -> bool:
        """Return whether it may look into every process: has CAP_SYS_PTRACE."""
        capabilities = self._status(b"CapEff:")
        return bool(capabilities and int(capabilities[0], 16) >> _CAP_SYS_PTRACE & 1)

    def environment(self) -> list[str]:
        """Return the variables of its environment, as its program was given them."""
        return os.fsdecode(_contents(f"{self.place()}/environ")).split("\0")

    def directory(self) -> str:
        """Return its working directory."""
        try:
            return os.readlink(f"{self.place()}/cwd")
        except OSError as error:
            raise Unreadable(f"its working directory: {error.strerror}") from None

    def age(self) -> float:
        """Return for how many seconds it has lived."""
        return boot_clock() - self.start / os.sysconf("SC_CLK_TCK")

    def _status(self, field: bytes) -> list[bytes]:
        if not self._status_file:
            self._status_file = _contents(f"/proc/{self.pid}/status")
        # The name, on the first line, has its newlines escaped by the kernel.
        _, found, rest = self._status_file.partition(b"\n" + field)
        return rest.split(b"\n", 1)[0].split() if found else []

    def place(self) -> str:
        """Return the directory that tells of it: where the first thread, which stands
        for all, has ended, that of one which lives."""
        place = f"/proc/{self.pid}"
        if not self.headless:
            return place
        try:
            threads = set(os.listdir(f"{place}/task")) - {str(self.pid)}
        except OSError:
            raise Vanished from None
        return f"{place}/task/{max(threads, key=int)}" if threads else place


def look(
    names: Collection[str] | None = None,
    hidden: list[int] | None = None,
    first: Iterable[int] = (),
) -> Iterator[Process]:
    """Yield the processes whose name is one of `names` (None: all of them).

    Those of the pids `first` come first. Each is read when it is asked for, so whoever
    has seen enough may stop. `hidden` gets the pids of those that we may not read.
    Raises OSError when there is no /proc, or when the system is out of what it takes to
    read it: that is no process's end.
    """
    denied = [] if hidden is None else hidden
    seen = set()
    for pid in first:
        if pid not in seen and (process := _read(pid, names, denied)):
            seen.add(pid)
            yield process
    # Of a name, /proc/PID/comm tells at half the cost of stat.
    wanted = None if names is None else {os.fsencode(name) + b"\n" for name in names}
    for pid, line in each("stat" if wanted is None else "comm", denied):
        if pid in seen or not line or (wanted is not None and line not in wanted):
            continue
        if process := parse(pid, line) if names is None else _read(pid, names, denied):
            yield process


def each(
    file: str, hidden: list[int], most: int = _SMALL
) -> Iterator[tuple[int, bytes]]:
    """Yield each pid, and how its `file` begins; b"": gone, hidden. Raises OSError."""

    def failed(pid: int, why: OSError) -> None:
        _note_unread(pid, why, hidden)

    return files.read_each("/proc", file, most, failed)


def find(pid: int) -> Process | None:
    """Return the process that has this pid now, or None."""
    try:
        return read(pid)
    except OSError:
        return None


def read(pid: int) -> Process | None:
    """Return the process that has this pid now, or None: there is none.

    Raises OSError where that cannot be told.
    """
    hidden: list[int] = []
    process = _read(pid, None, hidden)
    if hidden:
        raise PermissionError(errno.EACCES, "hidden from us", f"/proc/{pid}")
    return process


def _read(pid: int, names: Container[str] | None, hidden: list[int]) -> Process | None:
    """Return one process from its stat file; None when it is gone, or not named."""
    try:
        line = files.read_once(f"/proc/{pid}/stat", _SMALL)
    except OSError as why:
        _note_unread(pid, why, hidden)
        return None
    return parse(pid, line, names) if line else None


def _note_unread(pid: int, why: OSError, hidden: list[int]) -> None:
    """Note whose file is kept from us; nothing of who is gone. Else raises `why`."""
    if isinstance(why, PermissionError):  # hidepid=1, or a security module
        hidden.append(pid)
    elif not isinstance(why, FileNotFoundError | ProcessLookupError):
        raise why


def parse(pid: int, line: bytes, names: Container[str] | None = None) -> Process | None:
    """Return what a line of /proc/PID/stat, which may be cut after the start time, says
    of a process named one of `names`. Raises OSError for what is no such line."""
    try:
        # The name may hold blanks and brackets itself: it ends at the last bracket.
        end = line.rindex(b")")
        name = os.fsdecode(line[line.index(b"(") + 1 : end])
        if names is not None and name not in names:
            return None
        fields = line[end + 2 :].split(b" ", 20)
        # A dead first thread whose other threads live on is called a zombie as well.
        headless = fields[0] == b"Z" and int(fields[17]) > 1
        parent, group, session, start = (int(fields[n]) for n in (1, 2, 3, 19))
    except (ValueError, IndexError):
        raise OSError(None, "not as proc(5) says", f"/proc/{pid}/stat") from None
    state = "S" if headless else fields[0].decode(errors="replace")
    process = Process(pid, start, name, parent, group, session, state)
    process.headless = headless
    return process


def _contents(path: str, most: int = _LONGEST_FILE) -> bytes:
    try:
        return files.read_proc(path, most)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
    except OSError as error:
        file = os.path.basename(path)
        raise Unreadable(f"its {file}: {error.strerror}") from None
