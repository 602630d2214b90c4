"""One process as Linux tells of it in /proc.

proc(5) is the source for every file and field named here. What a process is
called and what its command line says is chosen by whoever runs it.
"""

from __future__ import annotations

import os

from viagralib.base import files
from viagralib.base.clocks import boot_clock

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

NAME_LENGTH = 15  # bytes that the kernel keeps of a name (TASK_COMM_LEN - 1)
# A stat line up to its start time is far shorter; its name comes first.
SMALL = 512
_KERNEL_THREADS = 2  # the pid of the parent of them all
# Bytes of a command line that tell its program and script: anybody can make it long.
FEW_ARGUMENTS = 8192
LONGEST_FILE = 2_200_000  # bytes: a command line is at most 2 MB (execve(2))


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
        self.silent = False  # the kernel keeps back more than is here, and its start
        self.status_file = b""
        self._command_line = b""  # once all of it was read
        self.ahead: dict[tuple[object, ...], object] = {}  # read before it is asked for

    @property
    def identity(self) -> tuple[int, float]:
        """What no other process of this boot has: pid and start."""
        return self.pid, self.start

    def arguments(self, most: int = FEW_ARGUMENTS) -> list[str]:
        """Return its argument vector, up to so many bytes; [] for a kernel thread.

        A program that renames itself may leave one text with blanks in it.
        """
        line = self._command_line or self.ask("cmdline", contents, most)
        if len(line) < min(most, FEW_ARGUMENTS):  # a thousand long ones fill memory
            self._command_line = line
        text = os.fsdecode(line).rstrip("\0")
        return text.split("\0") if text else []

    def executable(self) -> str:
        """Return the path of its program, without the mark of a deleted file.

        After an upgrade the running program is the deleted one.
        """
        try:
            path: str = self.ask("exe", os.readlink)
            return path.removesuffix(" (deleted)")
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
            return bool(self.ask("exe", os.stat).st_mode & 0o4000)
        except OSError:
            return False

    def users(self) -> tuple[int, ...]:
        """Return its real, effective and saved user ids."""
        return tuple(map(int, self.status(b"Uid:")[:3]))

    def elsewhere(self) -> bool:
        """Return whether it lives in another pid namespace: a container's process."""
        # One pid for each namespace from ours down to its own; absent before Linux 4.1.
        return len(self.status(b"NSpid:")) > 1

    def environment(self) -> list[str]:
        """Return the variables of its environment, as its program was given them."""
        return os.fsdecode(self.ask("environ", contents)).split("\0")

    def directory(self) -> str:
        """Return its working directory."""
        try:
            place: str = self.ask("cwd", os.readlink)
            return place
        except OSError as error:
            raise Unreadable(f"its working directory: {error.strerror}") from None

    def age(self) -> float:
        """Return for how many seconds it has lived."""
        return boot_clock() - self.start / os.sysconf("SC_CLK_TCK")

    def ask(self, file: str, call: Callable[..., _T], *arguments: object) -> _T:
        """Return what `call` tells of a file of its place. Raises Unreadable where no
        answer comes. Of root's own it does: nobody else can have them hang."""
        if (told := self.ahead.get((file, call, *arguments))) is not None:
            return told  # type: ignore[return-value]
        if not any(self.users()):
            return call(f"{self.place()}/{file}", *arguments)
        from viagralib.processes.bounded_reads import ask

        return ask(self, lambda: call(f"{self.place()}/{file}", *arguments))

    def status(self, field: bytes) -> list[bytes]:
        """Return the words of a field of its status file, which is told at once."""
        if not self.status_file:
            self.status_file = contents(f"/proc/{self.pid}/status")
        # The name, on the first line, has its newlines escaped by the kernel.
        _, found, rest = self.status_file.partition(b"\n" + field)
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


def contents(path: str, most: int = LONGEST_FILE) -> bytes:
    try:
        return files.read_proc(path, most)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
    except OSError as error:
        file = os.path.basename(path)
        raise Unreadable(f"its {file}: {error.strerror}") from None
