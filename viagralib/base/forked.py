"""Calls that may wait for ever: a child makes them, and is left behind if need be.

Whoever writes into a file from memory that is never filled, such as a page of a file
system of its own (FUSE), holds the lock of that file's inode; who lists a directory
into such memory, that of the directory. Who changes that file, or a name in that
directory, waits for it in a state that not even SIGKILL ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time

from viagralib.base import files

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 100  # looks at a child, at most: it may want for a processor
_ROUND = 100  # ms
_PATIENCE = 10  # looks in a row at which it waits, of the first child that is left
_END = b"."  # of an answer that is whole
_left: list[str] = []  # the places of the children that this process has left


def within(place: str, call: Callable[[], bytes], kept: int = -1) -> bytes | None:
    """Have a child make a call; return what that returns, None if it waits for long.

    Such a child goes on by itself; and while it does, it has the lock (flock(2)) of
    `place`, a directory of ours, so that there is no second one. "" is none: one child
    of this process. None, too, where the call fails, or there is no process to be had.
    It has no descriptor open but `kept`. With each one that is left, the patience with
    the next is half as long.
    """
    if not place and place in _left:
        return None
    opened: list[int] = []
    try:
        if place:
            opened.append(files.open_system(place, os.O_RDONLY | os.O_DIRECTORY))
            if not _lock(opened[0]):  # to a child that an earlier run has left
                _left.append(place)
                return None
        opened += os.pipe()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it hides who ended
        pid = os.fork()
        if not pid:
            _be_the_child(call, [*opened, kept])
        os.close(opened.pop())
        return _answer(pid, opened[-1], place)
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _patience() -> float:
    return _PATIENCE * 0.5 ** len(_left)


def _lock(directory: int) -> bool:
    """Lock it, unless another has it for half of our patience; return whether not."""
    deadline = time.monotonic() + _patience() * _ROUND / 2000
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        except OSError:
            return True  # a file system that has no locks
        else:
            return True


def _be_the_child(call: Callable[[], bytes], kept: list[int]) -> None:
    """Make the call, and send the answer by kept[-2]. Never returns."""
    try:
        os.setsid()
        files.close_all_but(kept)
        null = files.open_system("/dev/null", os.O_RDWR)
        for number in {0, 1, 2}.difference(kept):
            os.dup2(null, number)
        files.write(kept[-2], call() + _END)
    finally:
        os._exit(0)


def _answer(pid: int, pipe: int, place: str) -> bytes | None:
    told, waited = b"", 0
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    for _ in range(_ROUNDS):
        while ready.poll(_ROUND):
            part = os.read(pipe, 1 << 16)
            if not part:
                os.waitpid(pid, 0)
                return told[:-1] if told else None
            told += part
        waited = waited + 1 if _waits(pid) else 0
        if waited >= _patience():
            break
    _left.append(place)
    return None


def _waits(pid: int) -> bool:
    """Return whether a child waits for something other than a processor."""
    try:
        return files.proc_state(f"/proc/{pid}") != "R"
    except OSError:
        return True  # as far as can be known
