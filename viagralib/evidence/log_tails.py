"""The ends of a daemon's own log files, kept before a restart writes over them."""

from __future__ import annotations

import os
import stat

from viagralib.base.messages import reason
from viagralib.settings.configuration import Daemon
from viagralib.state.incidents import Incident

_MOST = 100_000  # bytes of each log


def take(daemon: Daemon, incident: Incident) -> dict[str, list[str]]:
    """Copy the end of each log into the incident; return their lines, by path."""
    tails = {}
    for number, path in enumerate(daemon.facts.logs, 1):
        try:
            text = _tail(path)
        except OSError as error:
            incident.missing.append(f"log {path}: {error.strerror or reason(error)}")
            continue
        incident.write(f"log-{number}-{os.path.basename(path)}.txt", text)
        tails[path] = text.rstrip("\n").split("\n")
    return tails


def _tail(path: str) -> str:
    """Return the last lines of a log. Raises OSError.

    A log's directory may be the daemon's user's: a link put there could lead root to
    any file, and a pipe could keep it waiting, so neither is followed.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "no regular file", path)
        data = os.pread(descriptor, _MOST, max(0, status.st_size - _MOST))
    finally:
        os.close(descriptor)
    if status.st_size > _MOST:
        data = data.partition(b"\n")[2]
    return data.decode(errors="surrogateescape")
