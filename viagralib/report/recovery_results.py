"""The end of a recovery: written down, told, and forgotten where all is well."""

from __future__ import annotations

import contextlib
import time

from viagralib.base.messages import NOT_WELL, WELL
from viagralib.evidence.collector import Evidence
from viagralib.health import log_alarms
from viagralib.processes.verdicts import UP
from viagralib.recovery import standing
from viagralib.recovery.recovery import (
    BACK,
    CAME_BACK,
    PUT_OFF,
    QUIT,
    TOLD,
    WAITS,
    Recovery,
)
from viagralib.recovery.standing import NOT_NOW, Standing
from viagralib.report.announcer import UP_AGAIN, Announcer
from viagralib.state import announced, incidents
from viagralib.state.directory import this_boot
from viagralib.state.incidents import CLOSED, OPEN

_WELL = (BACK, CAME_BACK, PUT_OFF, QUIT)


def write_down(recovery: Recovery, notice: str, evidence: Evidence) -> None:
    """Bring the incident and what is open for the daemon to their end."""
    incident = recovery.incident
    incident.write("notice.txt", notice + "\n")
    is_written = incident.update(
        status=CLOSED if recovery.result in _WELL else OPEN,
        result=recovery.result,
        remark=recovery.remark,
        cause=recovery.cause,
        pids=[one.pid for one in recovery.verdict.processes()],
        seconds=round(recovery.seconds, 3),
        ended=time.time(),
    )
    if recovery.result in (WAITS, PUT_OFF):  # nothing was done
        evidence.discard(incident.directory)
        incident.directory = ""
    with contextlib.suppress(OSError):
        if recovery.result == BACK:
            oldest, state = recovery.verdict.oldest(), recovery.run.state
            log_alarms.keep_position(
                state, recovery.daemon, recovery.log_position, oldest
            )
    _note_what_is_open(recovery, is_written or not incident.directory)


def _note_what_is_open(recovery: Recovery, is_written: bool) -> None:
    state, name, incident = recovery.run.state, recovery.daemon.name, recovery.incident
    if recovery.result in (PUT_OFF, WAITS):  # nothing was done
        recovery.earlier.pop("quit", None)  # whoever restarted it wants it tried
        announced.put_back(state, name, recovery.earlier)
        was_open = str(recovery.earlier.get("incident") or "")
        if "before" in incident.record and (last := incidents.load(state, was_open)):
            last.update(status=OPEN)
    elif recovery.result == QUIT:
        announced.close(state, name)
        quits = {"quit": this_boot(), "ended": QUIT, "incident": incident.id}
        announced.note(state, name, standing.QUIT, told=True, **quits)
    elif recovery.result in _WELL and is_written:
        announced.close(state, name)
    elif recovery.result in _WELL:  # told, but a later run has to close its record
        ended = recovery.result
        announced.note(state, name, UP, incident=incident.id, ended=ended)
    else:
        more = {"incident": incident.id, "alarmed": recovery.alarmed, "quit": ""}
        more["told"] = recovery.result in TOLD or bool(recovery.earlier.get("told"))
        announced.note(state, name, recovery.verdict.word, **more)


def tell(announcer: Announcer, recovery: Recovery, notice: str) -> None:
    """Say how a recovery ended, and note the exit code that it asks for."""
    name, result, remark = recovery.daemon.name, recovery.result, recovery.remark
    announcer.newest[name] = recovery.verdict
    announcer.codes[name] = WELL if result in _WELL else NOT_WELL
    if recovery.incident.id:
        announcer.incidents[name] = recovery.incident.id
    if result in TOLD:
        announcer.notify(name, result, notice, recovery.incident)
    elif result == PUT_OFF:
        announcer.leave_alone(name, Standing(NOT_NOW, remark))
    elif result == CAME_BACK:
        if text := announced.up_again(name, recovery.earlier):
            announcer.notify(name, UP_AGAIN, text, recovery.incident)
    elif result == WAITS:
        why = f"{recovery.verdict.reason}; waits {remark}"
        announcer.announce(name, recovery.verdict.word, why)
    else:
        announcer.leave_alone(name, Standing(result, remark))
