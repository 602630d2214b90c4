"""The cause of death, where the system knows it."""

from __future__ import annotations

import time
from collections.abc import Container

from viagralib.base.clocks import awake_clock
from viagralib.base.messages import safe, signal_name
from viagralib.evidence import core_dumps, kernel_log
from viagralib.evidence.collector import Evidence, unit_file
from viagralib.evidence.service_manager import ended_at, properties
from viagralib.processes.matching import cut
from viagralib.processes.verdicts import DOWN
from viagralib.recovery.recovery import Recovery
from viagralib.state import death_records, incidents
from viagralib.state.incident_ids import daemon_of

UNKNOWN = "unknown"
# Without a last run to go by: what is older has nothing to do with this death.
_LONGEST_AGO = 86400.0
# systemd's ExecMainCode is what waitid(2) calls si_code.
_EXITED, _KILLED, _DUMPED = "1", "2", "3"
# Results of systemd.exec(5), and org.freedesktop.systemd1(5), that say more than that.
_RESULTS = {
    "oom-kill": "out of memory",
    "watchdog": "its watchdog ran out",
    "timeout": "a time limit ran out",
    "start-limit-hit": "started too often, given up",
    "resources": "no resources to start it",
}
# The kernel stamps its log by a clock that nobody corrects: dmesg(1) warns of it. In
# each second since boot it may go wrong by this much, and the last run looked a moment
# before it was noted.
_DRIFT = 50e-6
_SLACK = 2.0
_SET_BACK = 60.0  # a last run that is so far in the future: the clock was set back


def find(recovery: Recovery, evidence: Evidence) -> tuple[str, int | None]:
    """Return what ended the daemon, for people; "unknown" when nothing says it.

    And the pid whose death the kernel's log told, if it did.
    """
    # viagra-run knows how it died, and the kernel why.
    death = _in_kernel_log(recovery, evidence.kernel_log)
    told = _from_kernel(death, recovery.run.pids_before) if death else ""
    seen = (recovery.recorded_death, told)
    text = (
        "; ".join(text for text in seen if text)
        or _by_order(recovery)
        or _from_unit(recovery, evidence)
        or _from_core(recovery, evidence)
        or _still_the_same(recovery)
    )
    return text, death.pid if death else None


def recorded(recovery: Recovery) -> str:
    """Return what viagra-run recorded of the death since the last run, or "".

    To be asked before the start: then the record is the new instance's.
    """
    state, name = recovery.run.state, recovery.daemon.name
    return death_records.death_since(state, name, _last_look(recovery) - _SLACK)


def find_cores(recoveries: list[Recovery]) -> dict[str, str]:
    """Return the commands that tell of their core dumps, by the files of evidence."""
    return {
        core_dumps.file(one.daemon.name): core_dumps.command(one.daemon, _oldest(one))
        for one in recoveries
        if one.why == DOWN
    }


def _last_look(recovery: Recovery) -> float:
    """Return when the last run looked at it; 0.0: not known, as when the clock was set
    back."""
    at = recovery.run.last_look(recovery.daemon.name)
    return at if at < time.time() + _SET_BACK else 0.0


def _oldest(recovery: Recovery, slack: float = _SLACK) -> float:
    """Return when, in seconds since 1970, what tells of this death was at the earliest.

    What was before the last run was another death: the daemon was up then, or down.
    """
    return max(_last_look(recovery) - slack, time.time() - _LONGEST_AGO)


def _in_kernel_log(
    recovery: Recovery, lines: list[kernel_log.Line]
) -> kernel_log.Death | None:
    """Return the death of a process of that name that the kernel logged, or None.

    What an earlier incident of the daemon told was another one.
    """
    since = _oldest(recovery, _SLACK + _DRIFT * awake_clock())
    known = recovery.run.pids_before
    death = kernel_log.find_death(lines, cut(recovery.daemon.process), since, known)
    return None if death and death.pid == _told_before(recovery) else death


def _from_kernel(death: kernel_log.Death, known: Container[int]) -> str:
    """Return that death for people; `known` are the pids where runs saw the daemon."""
    at = time.strftime("%H:%M:%S", time.localtime(death.at))
    what, doubt = f"{safe(death.name)} (pid {death.pid}) at {at}", ""
    if death.pid not in known:  # anybody can give a process this name, and crash it
        what, doubt = f"a process named {what}", ", which no run has seen as the daemon"
    return f"kernel: {safe(death.cause)}, killed {what}{doubt}"


def _by_order(recovery: Recovery) -> str:
    """Return that systemd or OpenRC was told to stop it since the last run, or ""."""
    if service := recovery.run.stopped_service.get(recovery.daemon.name):
        return f"OpenRC: stopped by an order ({safe(service)})"
    at = recovery.run.stopped_at.get(recovery.daemon.name, 0.0)
    if at < _oldest(recovery):
        return ""
    when = time.strftime("%H:%M:%S", time.localtime(at))
    return f"systemd: stopped by an order at {when} ({safe(recovery.unit)})"


def _from_unit(recovery: Recovery, evidence: Evidence) -> str:
    """Return how the service manager says that the unit's main process ended, or ""."""
    unit = recovery.unit
    values = properties(evidence.text(unit_file(unit))) if unit else {}
    if ended_at(values) < _oldest(recovery):
        return ""
    words = how_unit_ended(values)
    return f"systemd: {safe(words)} ({safe(unit)})" if words else ""


def _from_core(recovery: Recovery, evidence: Evidence) -> str:
    text = evidence.text(core_dumps.file(recovery.daemon.name))
    return safe(core_dumps.cause(text, recovery.run.pids_before))


def how_unit_ended(values: dict[str, str]) -> str:
    """Return in words what `systemctl show` says of a unit's end, or ""."""
    code, status = values.get("ExecMainCode", ""), values.get("ExecMainStatus", "")
    result, limit = values.get("Result", ""), values.get("MemoryMax", "infinity")
    parts = [_RESULTS.get(result, "")]
    if result == "oom-kill" and limit.isdecimal():
        parts.append(f"with a MemoryMax= of {limit} bytes")
    if code in (_KILLED, _DUMPED):
        parts.append(f"signal {signal_name(status)}")
        parts.append("core dumped" if code == _DUMPED else "")
    elif code == _EXITED:
        parts.append(f"exit {status}")
    return ", ".join(part for part in parts if part)


def _still_the_same(recovery: Recovery) -> str:
    """Return the cause that was told when the daemon went down, if it still is."""
    state, was_open = recovery.run.state, str(recovery.earlier.get("incident") or "")
    incident = incidents.load(state, was_open)
    return str(incident.record.get("cause") or UNKNOWN) if incident else UNKNOWN


def _told_before(recovery: Recovery) -> object:
    """Return the pid whose death the daemon's last incident told, if it told one."""
    name, this = recovery.daemon.name, recovery.incident.id
    for incident_id in reversed(recovery.run.state.names("incidents")):
        if daemon_of(incident_id) == name and incident_id != this:
            earlier = incidents.load(recovery.run.state, incident_id)
            return earlier.record.get("killed_pid") if earlier else None
    return None
