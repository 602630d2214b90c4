"""One process as Linux tells of it in /proc, and the table of all of them.

proc(5) is the source for every file and field named here. What a process is
called and what its command line says is chosen by whoever runs it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

NAME_LENGTH = 15  # bytes that the kernel keeps of a name (TASK_COMM_LEN - 1)
# A stat line up to its start time is far shorter; its name comes first.
_STAT_SIZE = 512
_LONGEST_FILE = 2_200_000  # bytes: a command line is at most 2 MB (execve(2))


class Vanished(Exception):  # noqa: N818
    """The process ended while it was looked at: it is as if never seen."""


class Unreadable(Exception):  # noqa: N818
    """The system does not let us see this of the process; says what."""


class Process:
    """One process at one look. `start` tells it from a later one of the same pid."""

    __slots__ = ("pid", "name", "start", "parent", "session", "zombie", "_status_file")

    def __init__(  # noqa: PLR0913, PLR0917
        self, pid: int, name: str, start: float, parent: int, session: int, zombie: bool
    ) -> None:
        self.pid = pid
        self.name = name  # as the kernel keeps it: cut at NAME_LENGTH on Linux
        self.start = start  # clock ticks since boot; seconds elsewhere
        self.parent = parent
        self.session = session
        self.zombie = zombie
        self._status_file = b""

    @property
    def identity(self) -> tuple[int, float]:
        """What no other process of this machine's life has: pid and start."""
        return self.pid, self.start

    def arguments(self) -> list[str]:
        """Return its argument vector; [] for a kernel thread.

        A program that renames itself may leave one text with blanks in it.
        """
        text = os.fsdecode(_contents(self.pid, "cmdline")).rstrip("\0")
        return text.split("\0") if text else []

    def executable(self) -> str:
        """Return the path of its program, without the mark of a deleted file.

        After an upgrade the running program is the deleted one.
        """
        try:
            return os.readlink(f"/proc/{self.pid}/exe").removesuffix(" (deleted)")
        except FileNotFoundError:
            _check_there(self.pid)
            raise Unreadable("its executable: a kernel thread has none") from None
        except ProcessLookupError:
            raise Vanished from None
        except OSError as error:
            raise Unreadable(f"its executable: {error.strerror}") from None

    def runs_set_user_id(self) -> bool:
        """Return whether its program changes the user who starts it (chmod u+s)."""
        try:
            return bool(os.stat(f"/proc/{self.pid}/exe").st_mode & 0o4000)
        except OSError:
            return False

    def users(self) -> tuple[int, ...]:
        """Return its real, effective and saved user ids."""
        return tuple(map(int, self._status(b"Uid:")[:3]))

    def elsewhere(self) -> bool:
        """Return whether it lives in another pid namespace: a container's process."""
        pids = self._status(b"NSpid:")  # absent before Linux 4.1: nothing to tell
        return bool(pids) and int(pids[-1]) != self.pid

    def environment(self) -> list[str]:
        """Return the variables of its environment, as its program was given them."""
        return os.fsdecode(_contents(self.pid, "environ")).split("\0")

    def directory(self) -> str:
        """Return its working directory."""
        try:
            return os.readlink(f"/proc/{self.pid}/cwd")
        except OSError as error:
            raise Unreadable(f"its working directory: {error.strerror}") from None

    def age(self) -> float:
        """Return for how many seconds it has lived."""
        ticks = os.sysconf("SC_CLK_TCK")
        return _seconds_since_boot() - self.start / ticks

    def _status(self, field: bytes) -> list[bytes]:
        if not self._status_file:
            self._status_file = _contents(self.pid, "status")
        # The name, on the first line, has its newlines escaped by the kernel.
        _, found, rest = self._status_file.partition(b"\n" + field)
        return rest.split(b"\n", 1)[0].split() if found else []


def look(names: Container[str] | None = None) -> Iterator[Process]:
    """Yield the processes whose name is one of `names` (None: all of them).

    Each is read when it is asked for, so whoever has seen enough may stop. Raises
    OSError when there is no /proc.
    """
    with os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdecimal():
                continue
            process = _read(int(entry.name), names)
            if process is not None:
                yield process


def find(pid: int) -> Process | None:
    """Return the process that has this pid now, or None."""
    return _read(pid, None)


def own_pid() -> int:
    """Return our pid as /proc numbers it: it may be another namespace's /proc."""
    try:
        return int(os.readlink("/proc/self"))
    except OSError:
        return os.getpid()


def sees_all() -> bool:
    """Return whether no process is hidden from us (hidepid, ProtectProc).

    Under every hidepid that hides anything, process 1 is hidden too, unless we may
    look into all of them.
    """
    return _read(1, None) is not None


def boot_id() -> str:
    """Return what names this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _read(pid: int, names: Container[str] | None) -> Process | None:
    """Return one process from its stat file; None when gone, hidden, or not named."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(descriptor, _STAT_SIZE)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name may hold blanks and brackets itself: it ends at the last bracket.
    end = line.rindex(b")")
    name = os.fsdecode(line[line.index(b"(") + 1 : end])
    if names is not None and name not in names:
        return None
    fields = line[end + 2 :].split(b" ", 20)
    # A dead first thread whose other threads live on is called a zombie as well.
    dead = fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) < 2)
    return Process(
        pid=pid,
        name=name,
        start=int(fields[19]),
        parent=int(fields[1]),
        session=int(fields[3]),
        zombie=dead,
    )


def _contents(pid: int, file: str) -> bytes:
    try:
        descriptor = os.open(f"/proc/{pid}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:
            return opened.read(_LONGEST_FILE)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
    except OSError as error:
        raise Unreadable(f"its {file}: {error.strerror}") from None


def _check_there(pid: int) -> None:
    if not os.path.exists(f"/proc/{pid}"):
        raise Vanished


def _seconds_since_boot() -> float:
    import time

    return time.clock_gettime(time.CLOCK_BOOTTIME)
