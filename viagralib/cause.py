"""The cause of death, where the system knows it."""

from __future__ import annotations

import time

from viagralib import kernellog
from viagralib.matching import cut
from viagralib.messages import safe
from viagralib.recovery import Recovery

UNKNOWN = "unknown"
_SLACK = 60.0  # seconds: the last run saw it up a little later than it was noted
# Without a last run to go by: what is older has nothing to do with this death.
_LONGEST_AGO = 86400.0


def find(recovery: Recovery, lines: list[kernellog.Line]) -> str:
    """Return what ended the daemon, for people; "unknown" when nothing says it.

    What the kernel said before the last run was somebody else's death: the daemon was
    up, or already down, at that time.
    """
    since = recovery.run.previous - _SLACK
    since = max(since, time.time() - _LONGEST_AGO)
    death = kernellog.find_death(lines, cut(recovery.daemon.process), since)
    if death is None:
        return UNKNOWN
    at = time.strftime("%H:%M:%S", time.localtime(death.at))
    return (
        f"kernel: {safe(death.cause)}, killed {safe(death.name)} "
        f"(pid {death.pid}) at {at}"
    )
