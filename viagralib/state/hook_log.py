"""Outputs: the files that what we start prints into, and how they are kept small."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable

from viagralib.base import files, guarded_files
from viagralib.base.forked import within
from viagralib.base.messages import reason
from viagralib.state.directory import HOOK_LOG_CAP

_PAGE = 4096  # bytes: what a disk gives at least
_TRIES = 30  # to read the end of a file to which nothing is added meanwhile
_SHOWN = 20_000  # bytes of the end that people are shown
_HALF = HOOK_LOG_CAP // 2
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE: linux/falloc.h


def create_roomy(path: str, flags: int) -> int:
    """Open a file of ours that can hold something: of a page at least. Raises OSError.

    On a full disk files can be made for long, but not be written.
    """
    return _tried(guarded_files.open_file(path, flags | os.O_CREAT, link=False))


def memory(name: str) -> int:
    """Return a descriptor of a file that has no name on any disk.

    Where there is none to be had, as with a quota on files, it keeps nothing. Raises
    OSError.
    """
    try:
        if hasattr(os, "memfd_create"):
            descriptor = _tried(os.memfd_create(name))
            os.fchmod(descriptor, 0o622)  # /dev/stdout: to write only, for all
            return descriptor
        import tempfile  # where there is no such call

        with tempfile.TemporaryFile() as file:
            return fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        return files.open_system("/dev/null", os.O_RDWR)


def _tried(descriptor: int) -> int:
    """Return the descriptor of an empty file if it takes a page. Raises OSError."""
    try:
        files.write(descriptor, b"?" * _PAGE)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class HookLog:
    """An incident's hook.log: what its hooks append to, and how it is kept small.

    Its first and its last HOOK_LOG_CAP / 2 bytes are kept; what was between them is
    counted. While a hook prints, room is freed in the middle (fallocate(2)), and the
    file is cut once that hook is over; only where a file system cannot do that, it is
    cut meanwhile, and what is printed in the very instant of a cut is lost. Who goes on
    with it can make it say anything: what is shown of the programs before is put by.
    And it can keep everybody from changing it: so a child of ours does that.
    """

    def __init__(self, path: str) -> None:
        """Without a `path`, it is kept in memory."""
        self.problem = ""  # why there is no such file
        self._path = path
        self._place = os.path.dirname(path)
        self._descriptor = -1
        self._end = b""  # what was last in the file when it was cut
        self._cut = 0  # bytes taken out of the file
        self._hole = _HALF  # up to where its room was freed, from _HALF on
        self._earlier = b""  # what was last in the file when the program began
        self._began = 0  # bytes that it had then

    def open(self) -> int:
        """Return a descriptor for the next program, which cannot read; to be closed.

        A second open(2), not a copy: that would have one set of flags with the first.
        It is of memory where the disk takes nothing: a hook that cannot print fails
        (`set -e`), and nobody sees why.
        """
        if self._descriptor < 0 and self._path:
            try:
                self._descriptor = create_roomy(self._path, os.O_RDWR | os.O_APPEND)
            except OSError as error:
                self.problem = reason(error)
        if self._descriptor < 0:
            self._descriptor = memory("hook.log")
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_APPEND)
        self._earlier, self._began = self.last(), self._size()
        flags = os.O_WRONLY | os.O_APPEND
        with contextlib.suppress(OSError):
            return files.open_system(f"/proc/self/fd/{self._descriptor}", flags)
        if self._path and not self.problem:  # no /proc is mounted
            return guarded_files.open_file(self._path, flags, link=False)
        return os.dup(self._descriptor)

    def watch(self) -> None:
        """Free, else take out, its middle when that has outgrown HOOK_LOG_CAP."""
        size = self._size()
        if size < self._hole:  # somebody has made it shorter
            self._hole = _HALF
        if size - self._hole > _HALF + HOOK_LOG_CAP:
            self._change(self._shorten)

    def complete(self) -> None:
        """Put the end back. What still appends to it goes on behind that."""
        if self._is_long():
            self._change(self._put_back)

    def cut(self) -> bytes:
        """Open the file as it is, and cut it, for a child. Raises OSError.

        Who has it open may also have made it longer without writing, or have room kept.
        """
        flags = os.O_RDWR | os.O_APPEND
        self._descriptor = guarded_files.open_file(self._path, flags, link=False)
        if self._is_long():
            self._put_back()
        # Frees what the disk keeps for it behind its end: fallocate(2).
        os.ftruncate(self._descriptor, self._size())
        return b""

    def last(self) -> bytes:
        """Return its last bytes, for people."""
        own = b""
        size = self._size()
        begin = max(self._began, size - _SHOWN)
        try:
            if size > begin:
                own = self._read(size - begin, begin)
        except OSError as error:
            self.problem = reason(error)
        return (self._earlier + own)[-_SHOWN:]

    def _read(self, most: int, begin: int) -> bytes:
        """Return its bytes from `begin` on, or b"". Raises OSError."""
        found = bytearray(most)
        try:
            read = os.preadv(self._descriptor, [found], begin, os.RWF_NOWAIT)
            if read == most:
                return bytes(found)
        except BlockingIOError:
            pass  # on XFS, who reads waits for who writes
        except (OSError, AttributeError):  # where none can be asked not to, none does
            return os.pread(self._descriptor, most, begin)
        read_it = lambda: os.pread(self._descriptor, most, begin)  # noqa: E731
        return within(self._place, read_it, self._descriptor) or b""

    def close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def _is_long(self) -> bool:
        return bool(self._end) or self._size() > 2 * HOOK_LOG_CAP

    def _change(self, how: Callable[[], None]) -> None:
        """Have a child change the file; take on what it knows of it then."""

        def change() -> bytes:
            how()
            numbers = self._cut, self._hole, self._began
            return b"%d %d %d " % numbers + self._end

        told = within(self._place, change, self._descriptor)
        if told is None:
            self.problem = "not cut: who has it open keeps it from being changed"
            self.problem += f"; see fuser {self._path}" if self._path else ""
            return
        *numbers, self._end = told.split(b" ", 3)
        self._cut, self._hole, self._began = map(int, numbers)

    def _shorten(self) -> None:
        end = self._size() - _HALF
        if _free(self._descriptor, _HALF, end):
            self._hole = end
        else:
            self._take_out()

    def _put_back(self) -> None:
        self._take_out()
        self._cut -= len(self._end)
        mark = b"\n[... about %d bytes were here ...]\n" % self._cut
        with contextlib.suppress(OSError):
            os.write(self._descriptor, mark + self._end)
        self._end = b""

    def _take_out(self) -> None:
        for _ in range(_TRIES):
            size = self._size()
            added = os.pread(self._descriptor, _HALF, max(_HALF, size - _HALF))
            if self._size() == size:
                break
        self._end = (self._end + added)[-_HALF:]
        # As a cut does, it waits for who writes: better before the count than after it.
        os.utime(self._descriptor)
        self._cut += self._size() - _HALF
        os.ftruncate(self._descriptor, _HALF)
        self._began, self._hole = min(self._began, _HALF), _HALF


def _free(descriptor: int, begin: int, end: int) -> bool:
    """Free the room of what is in a file from `begin` to `end`, which then reads as
    zeros; return whether that could be done."""
    import ctypes  # dear, and needed for such a file alone

    libc = ctypes.CDLL(None)
    punch = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    numbers = ctypes.c_int64(begin), ctypes.c_int64(end - begin)
    return punch is not None and punch(descriptor, _PUNCH_HOLE, *numbers) == 0


def cut_log(path: str) -> None:
    """Cut a hook.log that has outgrown its cap, whoever still writes into it."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if max(status.st_size, status.st_blocks * 512) > 2 * HOOK_LOG_CAP:
            within(os.path.dirname(path), HookLog(path).cut)
