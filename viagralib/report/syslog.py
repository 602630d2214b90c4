"""One line to the system's log for each incident, facility daemon."""

from __future__ import annotations

import os
import socket
import syslog

from viagralib.base.messages import safe
from viagralib.recovery.recovery import BACK, CAME_BACK, PUT_OFF, WAITS, Recovery

# systemd's journal takes fields as well: systemd.journal-fields(7), sd-messages.h.
_JOURNAL = "/run/systemd/journal/socket"
MESSAGE_ID = "27a6c09fb2a9410d9c35bf26175aa2e1"  # of systemd/viagra.catalog
_SOCKETS = ("/dev/log", "/var/run/log", "/var/run/syslog")


def log(recovery: Recovery) -> None:
    """Log how a recovery ended, if somebody listens; never waits.

    syslog(3), and logging's handler when it connects again, wait for a log daemon
    that hangs: so the line is sent here, and lost if it is not taken at once. Then
    the incident and the notice say the same.
    """
    calm = recovery.result in (BACK, CAME_BACK, PUT_OFF, WAITS)
    level = syslog.LOG_INFO if calm else syslog.LOG_ERR
    name, text = safe(recovery.daemon.name), _text(recovery)
    if os.path.exists(_JOURNAL) and _is_sent(_JOURNAL, _entry(recovery, level, text)):
        return
    line = f"<{syslog.LOG_DAEMON | level}>viagra.py[{os.getpid()}]: {name}: {text}"
    place = next((path for path in _SOCKETS if os.path.exists(path)), _SOCKETS[0])
    _is_sent(place, line)


def _is_sent(place: str, text: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(place)
            sender.send(text.encode(errors="backslashreplace"))
    except OSError:
        return False
    return True


def _entry(recovery: Recovery, level: int, text: str) -> str:
    """Return an entry of the journal, in its own protocol: a line for each field."""
    name = safe(recovery.daemon.name)
    fields = {
        "MESSAGE": f"{name}: {text}",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": level,
        "SYSLOG_FACILITY": syslog.LOG_DAEMON >> 3,
        "SYSLOG_IDENTIFIER": "viagra.py",
        "SYSLOG_PID": os.getpid(),
        "VIAGRA_DAEMON": name,
        "VIAGRA_RESULT": safe(recovery.result),
        "VIAGRA_INCIDENT": safe(recovery.incident.id),
    }
    return "".join(f"{key}={value}\n" for key, value in fields.items())


def _text(recovery: Recovery) -> str:
    parts = [recovery.why, recovery.result, recovery.remark]
    parts.append(f"cause {recovery.cause}" if recovery.cause else "")
    parts.append(f"incident {recovery.incident.id}" if recovery.incident.id else "")
    return safe(", ".join(part for part in parts if part))
