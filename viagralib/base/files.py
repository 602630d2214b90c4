"""Files of the system's own, by the system calls themselves: what fails is an OSError.

Python's own file objects return None, or raise a TypeError, for a read that gave no
answer; the files of /proc are made while they are read, and may give none. What others
could have put there is opened by guarded_files.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_AT_ONCE = 8192  # bytes: small enough to be had on a bad day


class Descriptor:
    """A descriptor that is closed in the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def open_system(path: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a file of /dev, /proc or /etc. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC)


def close_all_but(kept: Iterable[int]) -> None:
    """Close all descriptors but stdin, stdout, stderr and those."""
    last = 2
    for one in sorted(kept):
        if one > last:  # close_range(2) takes what is below for the last of all
            os.closerange(last + 1, one)
        last = max(last, one)
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def real_path(path: str) -> str:
    """Return what the links of a path lead to; itself, where there are too many.

    "" stays "", which os.path.realpath takes for where we are: that may be gone.
    """
    try:
        return os.path.realpath(path) if path else ""
    except RecursionError:  # Python follows more links than the system does
        return path


def read(path: str, most: int = 1 << 40) -> bytes:
    """Return what a file holds, the first `most` bytes of it. Raises OSError."""
    with Descriptor(open_system(path)) as descriptor:
        return rest(descriptor, most)


def lines(path: str) -> Iterator[str]:
    """Yield the whole lines of a file, in the memory of a few. Raises OSError."""
    with Descriptor(open_system(path)) as descriptor:
        begun = b""
        while part := os.read(descriptor, _AT_ONCE):
            *whole, begun = (begun + part).split(b"\n")
            yield from map(os.fsdecode, whole)


def read_once(path: str, most: int) -> bytes:
    """Return what one read(2) gives, `most` bytes at most. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def read_each(
    place: str,
    file: str,
    most: int,
    failed: Callable[[int, OSError], None],
    through: Callable[..., Iterator[tuple[int, bytes]]] = map,
) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each directory of `place` that has one for a name, and what
    one read(2) gives of its `file`; b"" after `failed` was told why not.

    `through` goes through the names as map() does. Raises OSError, as `failed` may.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    here = os.open(place, flags | os.O_DIRECTORY)

    def read_one(name: str) -> tuple[int, bytes]:
        try:
            descriptor = os.open(f"{name}/{file}", flags, dir_fd=here)
            try:
                return int(name), os.read(descriptor, most)
            finally:
                os.close(descriptor)
        except OSError as error:
            failed(int(name), error)
            return int(name), b""

    try:
        with os.scandir(here) as entries:
            names = (entry.name for entry in entries)
            yield from through(read_one, filter(str.isdecimal, names))
    finally:
        os.close(here)


def noting(hidden: list[int]) -> Callable[[int, OSError], None]:
    """Return what notes whose file is kept from us, nothing of who is gone, and else
    raises why it could not be read."""

    def note(pid: int, why: OSError) -> None:
        if isinstance(why, PermissionError):  # hidepid=1, or a security module
            hidden.append(pid)
        elif not isinstance(why, FileNotFoundError | ProcessLookupError):
            raise why

    return note


def proc_state(place: str) -> str:
    """Return the state of the process or thread of a place in /proc: "R", "D", and so
    on, as in proc(5). Raises OSError."""
    line = read_once(f"{place}/stat", 512)
    return os.fsdecode(line.rpartition(b") ")[2][:1])


def read_proc(path: str, most: int) -> bytes:
    """Return the same of a file of /proc: there, less than was asked for is all."""
    at_once = min(most, _AT_ONCE)
    text = read_once(path, at_once)
    return text if len(text) < at_once else read(path, most)


def write(descriptor: int, text: bytes) -> None:
    """Write all of it. Raises OSError: after a part, the system says why no more."""
    while text:
        text = text[os.write(descriptor, text) :]


def rest(descriptor: int, most: int) -> bytes:
    """Return what is left to read of an open file, up to `most` bytes. Raises OSError.

    It takes the memory of what is there, not of what there might be.
    """
    parts = []
    while most > 0 and (part := os.read(descriptor, min(most, _AT_ONCE))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
