"""A whole file, by read(2) itself: what cannot be read is an OSError, and nothing else.

Python's own file objects return None, or raise a TypeError, for a read that gave no
answer; the files of /proc are made while they are read, and may give none.
"""

from __future__ import annotations

import os

_AT_ONCE = 8192  # bytes: small enough to be had on a bad day


def read(path: str, most: int = 1 << 40) -> bytes:
    """Return what a file holds, the first `most` bytes of it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return rest(descriptor, most)
    finally:
        os.close(descriptor)


def rest(descriptor: int, most: int) -> bytes:
    """Return what is left to read of an open file, up to `most` bytes. Raises OSError.

    It takes the memory of what is there, not of what there might be.
    """
    parts = []
    while most > 0 and (part := os.read(descriptor, min(most, _AT_ONCE))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
