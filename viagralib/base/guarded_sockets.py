"""Sockets in files where others could have put something else, as in guarded_files."""

from __future__ import annotations

import os

from viagralib.base.files import Descriptor
from viagralib.base.guarded_files import Refused, Way

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")


def reach(path: str, call: Callable[[str], _T]) -> _T:
    """Return what `call` does with what lies at `path`, by a name that leads nowhere
    else, where the system has such names. Raises OSError, as `call` may."""
    with Way(path) as way:
        way.status()
        if not hasattr(os, "O_PATH"):
            return call(path)
        look = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        with Descriptor(os.open(way.name, look, dir_fd=way.directory)) as handle:
            if way.is_shared and os.fstat(handle).st_nlink > 1:
                raise Refused("a hard link that others could have made")
            return call(f"/proc/self/fd/{handle}")
