"""The cause of death, where the system knows it."""

from __future__ import annotations

import time

from viagralib import incidents, kernellog
from viagralib.matching import cut
from viagralib.messages import safe
from viagralib.recovery import Recovery

UNKNOWN = "unknown"
# Without a last run to go by: what is older has nothing to do with this death.
_LONGEST_AGO = 86400.0
# The kernel stamps its log by a clock that nobody corrects: dmesg(1) warns of it. In
# each second since boot it may go wrong by this much, and the last run looked a moment
# before it was noted.
_DRIFT = 50e-6
_SLACK = 2.0


def find(recovery: Recovery, lines: list[kernellog.Line]) -> str:
    """Return what ended the daemon, for people; "unknown" when nothing says it.

    What the kernel said before the last run was another death: the daemon was up, or
    already down, at that time. So is what an earlier incident of the daemon told.
    """
    slack = _SLACK + _DRIFT * time.clock_gettime(time.CLOCK_MONOTONIC)
    since = max(recovery.run.previous - slack, time.time() - _LONGEST_AGO)
    death = kernellog.find_death(lines, cut(recovery.daemon.process), since)
    if death is None or death.pid == _told_before(recovery):
        return _still_the_same(recovery)
    recovery.incident.record["killed_pid"] = death.pid
    at = time.strftime("%H:%M:%S", time.localtime(death.at))
    return (
        f"kernel: {safe(death.cause)}, killed {safe(death.name)} "
        f"(pid {death.pid}) at {at}"
    )


def _still_the_same(recovery: Recovery) -> str:
    """Return the cause that was told when the daemon went down, if it still is."""
    state, was_open = recovery.run.state, str(recovery.earlier.get("incident"))
    incident = incidents.load(state, was_open)
    return str(incident.record.get("cause") or UNKNOWN) if incident else UNKNOWN


def _told_before(recovery: Recovery) -> object:
    """Return the pid whose death the daemon's last incident told, if it told one."""
    name, this = recovery.daemon.name, recovery.incident.id
    for incident_id in reversed(recovery.run.state.names("incidents")):
        if incidents.daemon_of(incident_id) == name and incident_id != this:
            earlier = incidents.load(recovery.run.state, incident_id)
            return earlier.record.get("killed_pid") if earlier else None
    return None
