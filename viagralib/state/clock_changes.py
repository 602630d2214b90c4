"""The wall clock: when it was set, which makes the age of a file tell nothing.

It is known by when the machine was booted, the time that it slept left out: by a clock
that was set, that is another time. So it is after a sleep, of the machine or of its
host, in which no daemon did anything. That, and when it was seen, are kept as the two
times of a file in the state.
"""

from __future__ import annotations

import os
import time

from viagralib.base import guarded_files
from viagralib.base.clocks import awake_clock
from viagralib.state.directory import State

_STEP = 5.0  # seconds; what changes by less is being corrected


def set_at(state: State, only_looks: bool) -> float:
    """Return when the clock was seen to be set, or the machine to have slept, by that
    clock; 0.0: not that we know.

    Whoever `only_looks` keeps nothing.
    """
    now = time.time()
    booted = now - awake_clock()
    file = f"{state.path}/clock"
    seen = 0.0
    try:
        known = os.stat(file)
        if abs(known.st_mtime - booted) <= _STEP:
            return known.st_atime
        seen = now
    except OSError:
        pass  # nothing is known yet
    if not only_looks:
        _keep(file, seen, booted)
    return seen


def _keep(file: str, seen: float, booted: float) -> None:
    try:
        guarded_files.put(file, b"")
        os.utime(file, (seen, booted))
    except OSError:
        pass  # the next run tries again
