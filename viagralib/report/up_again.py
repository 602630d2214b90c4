"""The end of what is open for a daemon that is up again."""

from __future__ import annotations

import contextlib

from viagralib.base.messages import WELL
from viagralib.processes.verdicts import UP, Verdict
from viagralib.report.announcer import UP_AGAIN, Announcer
from viagralib.state import announced, incidents
from viagralib.state.incidents import CLOSED, OPEN, Incident
from viagralib.state.run_context import Run


def close(announcer: Announcer, verdicts: dict[str, Verdict]) -> None:
    """Close what is open for the daemons that are up, and say so once."""
    run, codes = announcer.run, announcer.codes
    if run.is_state_unsafe:
        return
    for name in run.state.names("open"):
        if name in verdicts and _is_over(run, name, verdicts[name]):
            _close(announcer, name)
        elif name == announced.GENERAL:
            if "" not in codes:
                announced.close(run.state, name)
        elif run.daemon(name) is None and name not in codes:
            announced.close(run.state, name)


def _is_over(run: Run, name: str, verdict: Verdict) -> bool:
    """Return whether it is up, and nothing is open but that this has a reason."""
    record = announced.of(run.state, name)
    is_only_said = record.get("word") == UP and "incident" not in record
    return verdict.is_well or (verdict.word == UP and not is_only_said)


def _close(announcer: Announcer, name: str) -> None:
    state = announcer.run.state
    try:
        lock = state.lock(name, announcer.run.settings.home)
    except OSError:  # what takes no lock forgets nothing: said once it does
        lock = None
    if lock is None:
        announcer.codes[name] = WELL  # it is up; the other run says how that went
        return
    record = announced.of(state, name)
    incident = incidents.load(state, str(record.get("incident") or ""))
    more = ""
    if incident is not None and incident.record.get("status") == OPEN:
        more = _close_incident(announcer.run, incident, record.get("ended"))
    # Said before it is forgotten: a run killed in between makes it said twice.
    if line := announced.up_again(name, record):
        announcer.notify(name, UP_AGAIN, f"{line}{more}", incident)
    announced.close(state, name)
    lock.release()


def _close_incident(run: Run, incident: Incident, ended: object) -> str:
    """Close an incident; return what is to be said of it.

    `ended` is the result of a run that could not write it into the record any more.
    """
    if isinstance(ended, str):
        incident.record["result"] = ended
    unfinished = "result" not in incident.record
    if unfinished and "hook" in incident.record:
        with contextlib.suppress(OSError):
            run.state.count_up(incident.daemon)
    incident.update(status=CLOSED, up_again=run.began)
    text = "; the run that was bringing it back did not finish" if unfinished else ""
    return f"{text}\n  evidence  {incident.directory}"
