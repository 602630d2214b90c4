"""The entries that the system passes on the way to what a path names."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_CHAIN = 40  # links followed, as Linux does: path_resolution(7)


def walk(path: str, lstat: Callable[[str], os.stat_result] = os.lstat) -> Iterator[str]:
    """Yield each entry that the system passes on the way to what `path` names.

    `lstat` may remember what many ways have in common. Raises OSError when an entry
    cannot be looked at, or the way goes in a circle.
    """
    rest = [part for part in reversed(path.split("/")) if part]
    here, links = "/", 0
    yield here
    while rest:
        part = rest.pop()
        if part in (".", ".."):
            here = os.path.dirname(here) if part == ".." else here
            continue
        entry = f"{here.rstrip('/')}/{part}"
        yield entry
        if not _is_link(entry, lstat):
            here = entry
            continue
        links += 1
        if links > _LONGEST_CHAIN:
            raise OSError(None, "too many symbolic links", path)
        target = os.readlink(entry)
        rest += [part for part in reversed(target.split("/")) if part]
        here = "/" if target.startswith("/") else here


def _is_link(path: str, lstat: Callable[[str], os.stat_result]) -> bool:
    """Return whether it is a link; in doubt, OSError is raised."""
    try:
        return stat.S_ISLNK(lstat(path).st_mode)
    except FileNotFoundError:
        return False
