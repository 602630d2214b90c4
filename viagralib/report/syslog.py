"""One line to the system's log for each incident, facility daemon."""

from __future__ import annotations

import os
import socket
import syslog

from viagralib.base.messages import safe
from viagralib.recovery.recovery import BACK, CAME_BACK, Recovery

_SOCKETS = ("/dev/log", "/var/run/log", "/var/run/syslog")


def log(recovery: Recovery) -> None:
    """Log how a recovery ended, if somebody listens; never waits.

    syslog(3), and logging's handler when it connects again, wait for a log daemon
    that hangs: so the line is sent here, and lost if it is not taken at once.
    """
    well = recovery.result in (BACK, CAME_BACK)
    priority = syslog.LOG_DAEMON | (syslog.LOG_INFO if well else syslog.LOG_ERR)
    line = f"<{priority}>{_line(recovery)}".encode(errors="backslashreplace")
    place = next((path for path in _SOCKETS if os.path.exists(path)), _SOCKETS[0])
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(place)
            sender.send(line)
    except OSError:
        return  # nobody listens: the incident and the notice say the same


def _line(recovery: Recovery) -> str:
    parts = [recovery.why, recovery.result, recovery.remark]
    parts.append(f"cause {recovery.cause}" if recovery.cause else "")
    parts.append(f"incident {recovery.incident.id}" if recovery.incident.id else "")
    text = safe(", ".join(part for part in parts if part))
    return f"viagra.py[{os.getpid()}]: {safe(recovery.daemon.name)}: {text}"
