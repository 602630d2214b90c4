"""The same as linux.py through psutil, for the systems that are not Linux.

On Linux it is what linux.py is held to: both must give the same answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import psutil

from viagralib.base.clocks import boot_clock
from viagralib.processes import linux
from viagralib.processes.linux import Unreadable, Vanished
from viagralib.processes.linux_system import finder_among

if TYPE_CHECKING:
    from typing import TypeVar

    from viagralib.processes.linux_system import Finder

    _T = TypeVar("_T")

# As in proc(5); what is not told apart from a running one needs no name.
_STATES = {
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_DISK_SLEEP: "D",
}


class Process(linux.Process):
    """One process at one look, as psutil tells of it; `start` is in seconds."""

    def arguments(self, most: int = 0) -> list[str]:  # noqa: ARG002
        words: list[str] = self._ask("cmdline")
        return [*words] if any(words) else []

    def executable(self) -> str:
        path: str = self._ask("exe")
        if not path:
            raise Unreadable("its executable: the system does not tell")
        return path.removesuffix(" (deleted)")

    def runs_set_user_id(self) -> bool:
        try:
            return bool(os.stat(self.executable()).st_mode & 0o4000)
        except (OSError, Unreadable, Vanished):
            return False

    def users(self) -> tuple[int, ...]:
        return tuple(self._ask("uids"))

    def elsewhere(self) -> bool:
        return False  # only Linux has pid namespaces; a jail's processes count

    def environment(self) -> list[str]:
        return [f"{name}={value}" for name, value in self._ask("environ").items()]

    def directory(self) -> str:
        place: str = self._ask("cwd")
        return place

    def ask(self, file: str, call: Callable[..., _T], *arguments: object) -> _T:
        return call(f"{self.place()}/{file}", *arguments)

    def age(self) -> float:
        age = time.time() - self.start
        return age if age >= 0 else boot_clock()  # the clock was set back

    def _ask(self, what: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        try:
            return getattr(psutil.Process(self.pid), what)()
        except psutil.NoSuchProcess:
            raise Vanished from None
        except psutil.AccessDenied:
            words = {"exe": "executable", "cwd": "working directory"}
            what = words.get(what, what)
            raise Unreadable(f"its {what}: Permission denied") from None


def look(
    names: Container[str] | None = None,
    hidden: list[int] | None = None,
    first: Iterable[int] = (),
) -> Iterator[Process]:
    """Yield the processes whose name is one of `names` (None: all of them).

    Those of the pids `first` come first. The pids of those that we may not read are
    added to `hidden`. psutil.pids() is asked anew at each look: process_iter() would
    remember, and skip zombies
    (giampaolo/psutil 2601, 2793).
    """
    seen = set()
    for pid in chain(first, psutil.pids()):
        if pid in seen:
            continue
        try:
            process = _read(pid)
        except psutil.AccessDenied:
            if hidden is not None:
                hidden.append(pid)
            continue
        if process is not None and (names is None or process.name in names):
            seen.add(pid)
            yield process


def find(pid: int) -> Process | None:
    """Return the process that has this pid now, or None."""
    try:
        return _read(pid)
    except psutil.AccessDenied:
        return None


def _read(pid: int) -> Process | None:
    try:
        asked = psutil.Process(pid)
        with asked.oneshot():
            return Process(
                pid=pid,
                name=asked.name(),
                start=asked.create_time(),
                parent=asked.ppid() or 0,
                group=_of(os.getpgid, pid),
                session=_of(os.getsid, pid),
                state=_STATES.get(asked.status(), "R"),
            )
    except psutil.ZombieProcess:
        return Process(pid, 0.0, state="Z")
    except psutil.NoSuchProcess:
        return None


def bearers(_: Iterable[str]) -> Iterator[int]:
    """Yield all pids: each may have a name by its arguments, or its executable."""
    yield from psutil.pids()


def own_pid() -> int:
    return os.getpid()


def sees_all() -> bool:
    """Return whether no process is hidden from us (security.bsd.see_other_uids)."""
    return os.geteuid() == 0 or find(1) is not None


def outputs(_: linux.Process) -> list[str]:
    """Return nothing: it is not told at a bearable cost."""
    return []


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return str(int(psutil.boot_time()))


def children_finder() -> Finder:
    """Return what finds the children of a pid, by one look at all."""
    return finder_among(look())


def _of(ask: Callable[[int], int], pid: int) -> int:
    try:
        return ask(pid)
    except OSError:
        return 0
