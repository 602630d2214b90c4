"""A whole file, by read(2) itself: what cannot be read is an OSError, and nothing else.

Python's own file objects return None, or raise a TypeError, for a read that gave no
answer; the files of /proc are made while they are read, and may give none.
"""

from __future__ import annotations

import os

_AT_ONCE = 65536  # bytes


def read(path: str, most: int = 1 << 40) -> bytes:
    """Return what a file holds, the first `most` bytes of it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while most > 0 and (part := os.read(descriptor, min(most, _AT_ONCE))):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
