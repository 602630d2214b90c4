"""One line to the system's log for each incident, facility daemon."""

from __future__ import annotations

import logging
import os
from logging.handlers import SysLogHandler

from viagralib.messages import safe
from viagralib.recovery import BACK, CAME_BACK, Recovery

_SOCKETS = ("/dev/log", "/var/run/log", "/var/run/syslog")


def log(recovery: Recovery) -> None:
    """Log how a recovery ended, if somebody listens; never waits."""
    place = next((path for path in _SOCKETS if os.path.exists(path)), "")
    try:
        _send(place, recovery)
    except OSError:
        pass  # nobody listens: the incident and the notice say the same


def _send(place: str, recovery: Recovery) -> None:
    handler = SysLogHandler(place, SysLogHandler.LOG_DAEMON)
    # A log daemon that hangs must not hold up the run: what it does not take is lost.
    getattr(handler, "socket").setblocking(False)  # noqa: B009  # typeshed lacks it
    logging.raiseExceptions = False
    level = logging.INFO if recovery.result in (BACK, CAME_BACK) else logging.ERROR
    record = logging.LogRecord("viagra.py", level, "", 0, _line(recovery), None, None)
    handler.handle(record)
    handler.close()


def _line(recovery: Recovery) -> str:
    parts = [recovery.why, recovery.result, recovery.remark]
    parts.append(f"cause {recovery.cause}" if recovery.cause else "")
    parts.append(f"incident {recovery.incident.id}" if recovery.incident.id else "")
    text = safe(", ".join(part for part in parts if part))
    return f"viagra.py[{os.getpid()}]: {safe(recovery.daemon.name)}: {text}"
