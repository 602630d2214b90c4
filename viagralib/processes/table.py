"""The process table of this system: /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import sys

if sys.platform.startswith("linux"):
    from viagralib.processes.linux import find, look, own_pid, uptime
    from viagralib.processes.linux_system import boot_id, outputs, sees_all
else:
    from viagralib.processes.portable import (
        boot_id,
        find,
        look,
        outputs,
        own_pid,
        sees_all,
        uptime,
    )

__all__ = ["boot_id", "find", "look", "outputs", "own_pid", "sees_all", "uptime"]
