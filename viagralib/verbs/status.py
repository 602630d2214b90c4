"""The verb status: a table of all daemons, and when the last run was."""

from __future__ import annotations

import json
import time

from viagralib.base.messages import exit_code, safe
from viagralib.base.printer import Printer
from viagralib.report import last_run
from viagralib.report.verdict_lines import document, since, user
from viagralib.settings.command_line import Options
from viagralib.state.incident_ids import began_at, newest
from viagralib.state.run_context import Run
from viagralib.verbs.check_and_explain import Overview, look

_HEADER = ("DAEMON", "STATE", "PIDS", "USER", "SINCE", "24H", "LAST INCIDENT")
_WIDTHS = (16, 9, 12, 9, 12, 3, 13)  # with one blank between: 80 columns


def status(run: Run, options: Options, out: Printer) -> int:
    """Show every daemon: verdict or standing, pids, user, since, restarts, incident."""
    overview = look(run)
    code = exit_code(overview.codes.values())
    incidents = newest(run.state.names("incidents"))
    if options.json:
        out.say(json.dumps(_document(run, overview, incidents), indent=1))
        return code
    if options.html:
        from viagralib.report.status_page import Page

        found = (overview.verdicts, overview.standings, overview.faults)
        out.say(Page(run, *found).text())
        return code
    out.say(_row(_HEADER))
    for name in run.names:
        out.say(_row(_cells(run, overview, name, incidents.get(name, ""))))
    for fault in overview.faults:
        out.say(f"viagra.py: {fault}")
    for name, verdict in overview.verdicts.items():
        why = overview.standings.get(name) or (
            "" if verdict.is_well else verdict.reason
        )
        if why:
            out.say(f"{safe(name)}: {safe(why)}")
    for name, why in overview.standings.items():
        if name not in overview.verdicts:
            out.say(f"{safe(name)}: {safe(why)}")
    out.say(last_run.tell(run))
    return code


def _row(cells: tuple[str, ...]) -> str:
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + "+"
        for cell, width in zip(cells, _WIDTHS, strict=True)
    ]
    padded = [f"{cell:<{width}}" for cell, width in zip(fitted, _WIDTHS, strict=True)]
    return " ".join(padded).rstrip()


def _cells(run: Run, overview: Overview, name: str, incident: str) -> tuple[str, ...]:
    verdict = overview.verdicts.get(name)
    began = since(verdict) if verdict else None
    return (
        safe(name),
        _state(run, overview, name),
        ",".join(str(one.pid) for one in verdict.processes()) if verdict else "",
        user(verdict) if verdict else "",
        _moment(began) if began else "",
        str(run.state.recent(name) or ""),
        _moment(began_at(incident)) if incident else "",
    )


def _state(run: Run, overview: Overview, name: str) -> str:
    if name in overview.standings:
        return overview.standings[name].partition(":")[0]
    if name in overview.verdicts:
        return overview.verdicts[name].word
    return "off" if name in run.settings.set_aside else "faulty"


def _moment(seconds: float) -> str:
    return time.strftime("%b %e %H:%M", time.localtime(seconds))


def _document(
    run: Run, overview: Overview, incidents: dict[str, str]
) -> dict[str, object]:
    told = document(run, overview.verdicts, overview.standings, overview.codes)
    told["faults"] = [str(fault) for fault in overview.faults]
    told["last_run"] = run.previous or None
    told["overdue"] = last_run.is_overdue(run)
    told["restarts_24h"] = {name: run.state.recent(name) for name in run.names}
    told["last_incident"] = {name: incidents.get(name) for name in run.names}
    told["restarts"] = {name: run.state.count(name) for name in run.names}
    return told
