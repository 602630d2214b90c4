"""The ends of a daemon's own log files, kept before a restart writes over them."""

from __future__ import annotations

import os

from viagralib.base import guarded_files, rotated_logs
from viagralib.base.messages import reason
from viagralib.settings.configuration import Daemon
from viagralib.state.incidents import Incident

_MOST = 100_000  # bytes of each log


def take(daemon: Daemon, incident: Incident) -> dict[str, list[str]]:
    """Copy the end of each log into the incident; return their lines, by path."""
    tails = {}
    for number, given in enumerate(daemon.facts.logs, 1):
        try:
            path = rotated_logs.newest(given)
            text = _tail(path)
        except OSError as error:
            incident.missing.append(f"log {given}: {error.strerror or reason(error)}")
            continue
        incident.write(f"log-{number}-{os.path.basename(path)}.txt", text)
        tails[path] = text.rstrip("\n").split("\n")
    return tails


def _tail(path: str) -> str:
    with guarded_files.opened(path) as log:
        size = os.fstat(log).st_size
        data = os.pread(log, _MOST, max(0, size - _MOST))
    if size > _MOST:
        data = data.partition(b"\n")[2]
    return data.decode(errors="surrogateescape")
