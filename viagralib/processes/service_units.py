"""Units: which of the service manager's units a process belongs to, by its cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterable

from viagralib.base import files
from viagralib.processes import table
from viagralib.processes.linux import Process


def unit_of(processes: Iterable[Process]) -> str:
    """Return the system's unit, such as "nginx.service", of one of these; "": none.

    Ours does not count: what cron started by a hook is in the unit of cron.
    """
    own = _service(table.own_pid())
    for process in processes:
        name = _service(process.pid)
        if name and name != own:
            return name
    return ""


def _service(pid: int) -> str:
    """Return the unit by which systemd.slice(5) has named a cgroup of the process."""
    try:
        lines = os.fsdecode(files.read(f"/proc/{pid}/cgroup")).split("\n")
    except OSError:
        return ""
    for line in lines:
        # "0::/system.slice/nginx.service"; below user.slice are the users' own units.
        path = line.partition(":")[2].partition(":")[2]
        if path.startswith("/system.slice/"):
            for part in path.split("/"):
                if part.endswith(".service"):
                    return part
    return ""
