"""Heartbeats: a file that the daemon touches, and when it is silent for too long."""

from __future__ import annotations

import stat
import time

from viagralib.base import guarded_files
from viagralib.base.durations import spell
from viagralib.base.messages import reason, safe
from viagralib.health.findings import WELL, Finding
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import SICK, UNKNOWN

LATE = 1.5  # heartbeats: sick when the last one is older than this many periods


def heartbeat(
    file: str, every: float, processes: list[Process], clock_set_at: float
) -> Finding:
    """Judge a file that the daemon touches at least every `every` seconds.

    When the clock was set, only its next heartbeat can tell.
    """
    limit = LATE * every
    if max(process.age() for process in processes) <= limit:
        return Finding(WELL)
    try:
        status = guarded_files.status(file)
    except FileNotFoundError:
        return Finding(SICK, f"heartbeat {safe(file)}: there is none")
    except OSError as error:
        return Finding(UNKNOWN, f"could not look at its heartbeat: {reason(error)}")
    now = time.time()
    age = now - status.st_mtime
    is_file = stat.S_ISREG(status.st_mode)
    if is_file and min(abs(age), abs(now - clock_set_at)) <= limit:
        return Finding(WELL)
    if age < 0 or not is_file:
        what = "has a time in the future: check the clock" if is_file else "is no file"
        return Finding(UNKNOWN, f"heartbeat {safe(file)} {what}")
    return Finding(SICK, f"heartbeat {safe(file)}: silent for {spell(age)}")
