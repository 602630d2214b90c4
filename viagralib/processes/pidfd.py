"""A signal to exactly one process, and to no later one of the same pid."""

from __future__ import annotations

import os
import signal

from viagralib.processes import table
from viagralib.processes.linux import Process

STUCK = 1.0  # seconds after KILL: what is still in state D will not go soon
DYING = 10.0  # seconds after KILL for all others, on a machine with much load


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process; False when it is gone, or not ours."""
    if not hasattr(os, "pidfd_open"):
        return _send_by_pid(process, number)
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel before Linux 5.3
        return _send_by_pid(process, number)
    try:
        if not is_running(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(handle)
    return True


def _send_by_pid(process: Process, number: int) -> bool:
    if not is_running(process):
        return False
    try:
        os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def is_running(process: Process) -> bool:
    """Return whether exactly this process still runs; a zombie does not. One whose
    start the kernel keeps back may be another."""
    now = table.find(process.pid)
    if now is None or now.silent:
        return False
    return now.start == process.start and not now.zombie


def is_past_killing(processes: list[Process], seconds: float) -> bool:
    """Return whether those that got KILL so many `seconds` ago will not go soon."""
    stuck = bool(processes) and all(one.state == "D" for one in processes)
    return seconds > (STUCK if stuck else DYING)
