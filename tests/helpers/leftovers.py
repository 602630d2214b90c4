"""What the tests of one worker leave behind: processes, and files outside their own.

A worker is in a UTS namespace of its own, on which nothing but the host's name depends:
all that comes of it is in there, whatever session, parent and environment it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from pathlib import Path

from world import alive, all_pids, arguments, comm, of

from viagralib.state.lock_file import RUN_LOCKS

_NEW_UTS = 0x04000000  # CLONE_NEWUTS, unshare(2)


class Leftovers:
    """What is left of a worker's tests, whose directories are below `place`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._outer = _machine(os.getpid())
        ctypes.CDLL(None).unshare(_NEW_UTS)  # root's right; others have the marks alone
        self._own = _machine(os.getpid())

    def processes(self) -> list[str]:
        """Return the living that came of this worker, as "PID NAME: COMMAND"."""
        found = set(of(os.fsencode(self._place) + b"/"))
        if self._own != self._outer:
            found.update(pid for pid in all_pids() if _machine(pid) == self._own)
        found.discard(os.getpid())
        return [
            f"{pid} {comm(pid)}: {' '.join(arguments(pid))}"
            for pid in sorted(found)
            if alive(pid)
        ]

    def files(self) -> list[Path]:
        """Return what bears our pid outside `place`, but for locks."""
        places = (tempfile.gettempdir(), "/dev/shm", "/var/tmp")
        return [path for place in places for path in _ours(Path(place))]

    def remove_locks(self) -> None:
        """Remove root's locks in /run, which the program keeps until the next boot."""
        for lock in _ours(Path(RUN_LOCKS)):
            lock.unlink()


def _machine(pid: int) -> str:
    """Return the UTS namespace of a process; "" when it is gone, or not ours to see."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def _ours(place: Path) -> list[Path]:
    """Return what bears our pid, as unique(), fresh() and public_world() write it."""
    pid = os.getpid()
    marks = (f"-{pid:x}-", f"f{pid:x}.", f"viagra-test.{pid}.")
    with contextlib.suppress(FileNotFoundError):
        return [p for p in place.iterdir() if any(mark in p.name for mark in marks)]
    return []
