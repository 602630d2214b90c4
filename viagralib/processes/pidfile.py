"""A pidfile: the first word of a file says which process is the daemon."""

from __future__ import annotations

from viagralib.base import guarded_files

_MOST = 64  # bytes; a pid has at most 10 digits


def read(path: str) -> int:
    """Return the pid that a pidfile holds; 0 when it holds none. Raises OSError.

    What stands behind it is the daemon's own: PostgreSQL writes six lines more.
    """
    words = guarded_files.read(path, _MOST).split()[:1]
    return int(words[0]) if words and words[0].isdigit() else 0
