"""A file for flock(2), which says that somebody lives and has what it stands for."""

from __future__ import annotations

import fcntl
import os

from viagralib.base.messages import Fault, safe

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
OPEN = READ | os.O_RDWR | os.O_CREAT


class LockFile:
    """A file that is opened once; what replaces it in its place is another lock."""

    def __init__(self, path: str, flags: int = OPEN) -> None:
        """Open the file. Raises OSError."""
        self._path = path
        self._descriptor = os.open(path, flags, 0o600)

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

    def write(self, text: str) -> None:
        """Append text. Raises OSError."""
        os.write(self._descriptor, text.encode())

    def release(self) -> None:
        """Unlock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and unlock it if nobody else has it open."""
        os.close(self._descriptor)


def check_owner(directory: str) -> None:
    """Raise Fault when another user could change what is in `directory`."""
    found = os.stat(directory)
    if found.st_uid not in (0, os.geteuid()):
        raise Fault(safe(directory), f"belongs to uid {found.st_uid}")
    if found.st_mode & 0o022:
        text = f"others can write there: chmod 0700 {safe(directory)}"
        raise Fault(safe(directory), text)
