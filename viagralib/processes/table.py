"""The process table of this system: /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import sys
import time

from viagralib.processes.linux import Unreadable, Vanished

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from viagralib.processes.linux import Process

    _T = TypeVar("_T")

if sys.platform.startswith("linux"):
    from viagralib.processes.linux_system import (
        bearers,
        boot_id,
        children_finder,
        find,
        look,
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
    "ancestors",
    "bearers",
    "boot_id",
    "children_finder",
    "find",
    "look",
    "next_look",
    "outputs",
    "own_pid",
    "sees_all",
    "told",
]
# A look at all processes may be dear: no more than one part in ten of the time goes
# into it. A look that was held up is not to hold up the next one, too.
_SHARE = 10
_LONGEST_PAUSE = 5.0  # seconds


def next_look(began: float) -> float:
    """Return from when on to look at all again, after a look that `began` and is over.

    Both by time.monotonic().
    """
    now = time.monotonic()
    return now + min((now - began) * _SHARE, _LONGEST_PAUSE)


def ancestors(pid: int) -> Iterator[Process]:
    """Yield the process of this pid, its parent, and so on, as far as they are told."""
    seen: set[int] = set()
    while pid not in seen and (process := find(pid)):
        yield process
        seen.add(pid)
        pid = process.parent


def told(ask: Callable[[], _T], otherwise: _T) -> _T:
    """Return what is asked of a process; `otherwise`: it is gone, or hidden."""
    try:
        return ask()
    except (Vanished, Unreadable):
        return otherwise
