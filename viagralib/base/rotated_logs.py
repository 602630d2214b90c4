"""Dated files: of a log that is begun anew under another name, which one is meant."""

from __future__ import annotations

import errno
import os

from viagralib.base.files import real_path

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterator

_WILDCARDS = "*?["
# Entries of a directory that are looked at: who may write in it adds any number.
_MOST = 20_000


def newest(pattern: str) -> str:
    """Return the newest file whose name fits a pattern of glob(3); a plain path itself.

    Only the last part of the path is a pattern. Raises OSError: there is none, or it is
    among too many.
    """
    place, name = os.path.split(pattern)
    if not any(one in name for one in _WILDCARDS):
        return pattern
    import fnmatch

    fitting = (
        (entry.stat(follow_symlinks=False).st_mtime, entry.path)
        for entry in _entries(place)
        if fnmatch.fnmatchcase(entry.name, name)
        and entry.is_file(follow_symlinks=False)
    )
    found = max(fitting, default=None)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no file fits it", pattern)
    return found[1]


def _entries(place: str) -> Iterator[os.DirEntry[str]]:
    """Give the entries of a directory. Raises OSError: these are too many."""
    with os.scandir(place) as entries:
        for number, entry in enumerate(entries):
            if number == _MOST:
                text = f"more than {_MOST:,} entries: move old ones elsewhere"
                raise OSError(errno.E2BIG, text, place)
            yield entry


def former(path: str, inode: object) -> str:
    """Return what a log is called now that had this inode, by any scheme; "": gone.

    A rotated one stays in its directory, and its name begins alike: food.log.1,
    food.log-20261128, food-20261128.log (logrotate.conf(5), dateext). So do dated logs,
    to whose newest a link may lead.
    """
    target = real_path(path)
    is_link = os.path.islink(path)
    place, stem = os.path.split(target if is_link else path)
    for mark in (*_WILDCARDS, "."):
        stem = stem.partition(mark)[0]
    try:
        for entry in _entries(place):
            is_alike = is_link or entry.name.startswith(stem)
            if is_alike and entry.inode() == inode and entry.is_file():
                return entry.path
    except OSError:
        pass
    return ""
