"""OpenRC: what it says of a daemon's service, in files; it has no journal."""

from __future__ import annotations

import os

from viagralib.processes import service_scripts, table
from viagralib.processes.linux import NAME_LENGTH, Process
from viagralib.processes.observer import Observer
from viagralib.settings.configuration import Daemon

_STATES = "/run/openrc"  # a directory for each state, with a link for each service
# What was not told to stop: the others are "options", "daemons", and the like.
_NOT_STOPPED = (
    *("started", "starting", "stopping", "inactive", "wasinactive", "failed"),
    "hotplugged",
)
_SUPERVISOR = "supervise-daemon"
# What interprets scripts that are OpenRC's own. Of others it notes starts and stops
# that it is asked for, but not what is done without it.
_INTERPRETERS = ("openrc-run", "runscript")


def is_there() -> bool:
    """Return whether OpenRC starts and stops this machine's services."""
    return os.path.isdir(_STATES)


def services(daemon: Daemon, observer: Observer) -> list[str]:
    """Return the daemon's services whose state OpenRC knows: those of its own kind."""
    if not is_there():
        return []
    scripts = service_scripts.of(daemon)
    return [
        os.path.basename(script)
        for script in scripts
        if os.path.basename(observer.interpreter(script)) in _INTERPRETERS
    ]


def stopped(daemon: Daemon, observer: Observer) -> str:
    """Return the service if it was told to stop, or was never started; else "".

    What has died, or failed to start at boot, is in another state.
    """
    names = services(daemon, observer)
    paths = [f"{_STATES}/{state}/{name}" for state in _NOT_STOPPED for name in names]
    return "" if not names or any(map(os.path.lexists, paths)) else names[0]


def supervisor(processes: list[Process]) -> Process | None:
    """Return the supervise-daemon that is the parent of one of these, or None."""
    for process in processes if is_there() else []:
        parent = table.find(process.parent)
        if parent and parent.name == _SUPERVISOR[:NAME_LENGTH]:
            return parent
    return None
