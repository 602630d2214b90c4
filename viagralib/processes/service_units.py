"""Units: which of the service manager's units a process belongs to, by its cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterable

from viagralib.base import files
from viagralib.processes import table
from viagralib.processes.linux import Process


def unit_of(processes: Iterable[Process]) -> str:
    """Return the unit, such as "nginx.service", of one of these; "": none.

    It is the system's, or for an ordinary user that of the user's own manager. Ours
    does not count, nor cron's: what a hook starts by itself stays in it, and may be
    found by a run that is in another.
    """
    own = _service(table.own_pid())
    for process in processes:
        name = _service(process.pid)
        if name not in ("", own, "viagra.service") and not name.startswith("cron"):
            return name
    return ""


def _service(pid: int) -> str:
    try:
        return service_in(os.fsdecode(files.read(f"/proc/{pid}/cgroup")), os.geteuid())
    except OSError:
        return ""


def service_in(text: str, user: int) -> str:
    """Return the unit that systemd has named one of these cgroups by; "": none.

    `text` is of /proc/PID/cgroup: cgroups(7). "0::/system.slice/nginx.service", or in
    the slice that Slice= names: systemd.slice(5). What is in user.slice is the business
    of the users' own managers: for root there is none, for a user that of its own.
    """
    for line in text.split("\n"):
        path = line.partition(":")[2].partition(":")[2]
        if path.startswith("/user.slice/"):
            path = path.partition(f"/user@{user}.service/")[2] if user else ""
        for part in path.split("/"):
            if part.endswith(".service"):
                return part
    return ""
