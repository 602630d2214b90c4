"""The clocks: since the boot of the machine, with and without its sleep; and dates."""

from __future__ import annotations

import time


def boot_clock() -> float:
    """Return seconds since boot, time spent asleep included where the system can.

    It does not jump when the time of day is set.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def awake_clock() -> float:
    """Return seconds since boot without sleep: the kernel stamps its log by these."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def date(moment: object) -> str:
    """Return seconds since 1970 as date(1) writes them; "?" for anything else."""
    if not isinstance(moment, int | float):
        return "?"
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(moment))
