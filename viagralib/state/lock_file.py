"""A file for flock(2), which says that somebody lives and has what it stands for."""

from __future__ import annotations

import fcntl
import os
import zlib

from viagralib.base import files, guarded_files

RUN_LOCKS = "/run/viagra" if os.path.isdir("/run") else "/var/run/viagra"


class LockFile:
    """A file that is opened once; what replaces it in its place is another lock."""

    def __init__(self, path: str, flags: int = os.O_RDWR | os.O_CREAT) -> None:
        """Open the file. Raises OSError."""
        self._path = path
        self._descriptor = guarded_files.open_file(path, flags, link=False)

    def take(self) -> bool:
        """Lock, if nobody else has; return whether it is ours."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_free(self) -> bool:
        """Return whether nobody has locked it; for a moment we do."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.release()
        return True

    def is_in_place(self) -> bool:
        """Return whether the path still leads to this file. Raises OSError."""
        try:
            now = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(now, os.fstat(self._descriptor))

    def deleted_at(self) -> float:
        """Return since when no path leads to this file, as ctime; 0 where one does."""
        now = os.fstat(self._descriptor)
        return 0.0 if now.st_nlink else now.st_ctime

    def write(self, text: str) -> None:
        """Append text. Raises OSError."""
        files.write(self._descriptor, text.encode())

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and unlock it if nobody else has it open."""
        os.close(self._descriptor)


class Lock:
    """A lock of several files, held until release() or the end of this process.

    The descriptors are closed in every child before it executes anything.
    """

    def __init__(self) -> None:
        self._files: list[LockFile] = []

    def add(self, path: str) -> None:
        """Open one of its files, if its directory takes one."""
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._files.append(LockFile(path))
        except OSError:
            pass

    def take(self) -> bool:
        """Return whether it is ours; if not, it is let go. Raises OSError."""
        is_taken = False
        try:
            if not self._files:
                raise OSError(None, "neither the state nor /run takes a lock")
            is_taken = all([file.take() for file in self._files])
        finally:
            if not is_taken:
                self.release()
        return is_taken

    def release(self) -> None:
        """Let another run have it."""
        while self._files:
            try:
                self._files.pop().close()
            except OSError:
                pass  # then at our end


def run_lock(name: str, place: str) -> str:
    """Return the lock in /run of what `name` is in that place.

    It is root's own, and stays when all state is deleted.
    """
    return f"{RUN_LOCKS}/{name}.{zlib.crc32(os.fsencode(place)):08x}"
