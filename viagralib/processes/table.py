"""The process table of this system: /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import sys

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
    "bearers",
    "boot_id",
    "children_finder",
    "find",
    "look",
    "outputs",
    "own_pid",
    "sees_all",
]
