"""The process table of this system: /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import sys

from viagralib.processes.linux import Unreadable, Vanished

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

if sys.platform.startswith("linux"):
    from viagralib.processes.linux import find, look
    from viagralib.processes.linux_system import (
        bearers,
        boot_id,
        children_finder,
        outputs,
        own_pid,
        sees_all,
    )
else:
    from viagralib.processes.portable import (
        bearers,
        boot_id,
        children_finder,
        find,
        look,
        outputs,
        own_pid,
        sees_all,
    )

__all__ = [
    "told",
    "bearers",
    "boot_id",
    "children_finder",
    "find",
    "look",
    "outputs",
    "own_pid",
    "sees_all",
]


def told(ask: Callable[[], _T], otherwise: _T) -> _T:
    """Return what is asked of a process; `otherwise`: it is gone, or hidden."""
    try:
        return ask()
    except (Vanished, Unreadable):
        return otherwise
