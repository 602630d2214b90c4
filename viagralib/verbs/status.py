"""The verb status: a table of all daemons, and when the last run was."""

from __future__ import annotations

import os
import time

from viagralib.base.messages import safe
from viagralib.base.printer import Printer
from viagralib.processes.verdicts import UNKNOWN
from viagralib.report import last_run
from viagralib.report.verdict_lines import Overview, since, user, written
from viagralib.settings.command_line import Options
from viagralib.state.incident_ids import began_at, newest
from viagralib.state.run_context import Run
from viagralib.verbs.check import look, note_owners

_HEADER = (
    *("DAEMON", "VERDICT", "STANDING", "PIDS", "USER", "SINCE", "24H"),
    *("LAST INCIDENT", "OWNER"),
)
_NEEDED = 3  # columns that the narrowest terminal shows
_SHORTEST_NAME = 8  # characters of it there
_PIDS = 3  # shown of a daemon's processes


def status(run: Run, options: Options, out: Printer) -> int:
    """Show every daemon: verdict, standing, pids, user, restarts, incident, unit."""
    overview = look(run)
    note_owners(overview)
    incidents = newest(run.state.names("incidents"))
    if options.json:
        out.say(written(_document(run, overview, incidents)))
        return overview.code
    if options.html:
        from viagralib.report.status_page import Page

        out.say(Page(overview).text())
        return overview.code
    rows = [_cells(run, overview, name, incidents.get(name, "")) for name in run.names]
    if not any(row[-1] for row in rows):  # no service manager that would tell
        rows = [row[:-1] for row in rows]
    header = _HEADER[: len(rows[0])] if rows else ()
    for text in _table([header, *rows], _terminal_width()) if rows else []:
        out.say(text)
    for fault in overview.faults:
        out.say(f"viagra.py: {fault}")
    noted = overview.standings
    for text in overview.lines(
        [n for n in run.names if n in noted or not _is_well(overview, n)]
    ):
        out.say(text)
    out.say(last_run.tell(run))
    return overview.code


def _is_well(overview: Overview, name: str) -> bool:
    verdict = overview.verdicts.get(name)
    return verdict is not None and verdict.is_well and not verdict.remark


def _terminal_width() -> int | None:
    """Return the columns of our terminal; None where we write to none."""
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def _table(rows: list[tuple[str, ...]], width: int | None) -> list[str]:
    """Return rows as lines whose columns are as wide as what is in them.

    On a terminal of `width` columns the last ones go that have no room, and then the
    ends of the names. Elsewhere all is shown: whoever reads it needs it whole.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        while len(widths) > _NEEDED and sum(widths) + len(widths) - 1 > width:
            widths.pop()
        others = sum(widths[1:]) + len(widths) - 1
        widths[0] = min(widths[0], max(width - others, _SHORTEST_NAME))
    return [_line(row[: len(widths)], widths) for row in rows]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + "+"
        for cell, width in zip(cells, widths, strict=True)
    ]
    padded = [f"{cell:<{width}}" for cell, width in zip(fitted, widths, strict=True)]
    return " ".join(padded).rstrip()


def _cells(run: Run, overview: Overview, name: str, incident: str) -> tuple[str, ...]:
    verdict = overview.verdicts.get(name)
    began = since(verdict) if verdict else None
    pids = [str(one.pid) for one in verdict.processes()] if verdict else []
    more = [f"+{len(pids) - _PIDS}"] if pids[_PIDS:] else []
    standing = overview.standings.get(name, "").partition(":")[0]
    is_off = name in run.settings.set_aside
    return (
        safe(name),
        "-" if is_off else verdict.word if verdict else UNKNOWN,
        "off" if is_off else standing or "-",
        ",".join([*pids[:_PIDS], *more]),
        user(verdict) if verdict else "",
        _moment(began) if began else "",
        str(run.state.recent(name) or ""),
        _moment(began_at(incident)) if incident else "",
        safe(overview.owners.get(name, "")),
    )


def _moment(seconds: float) -> str:
    return time.strftime("%b %e %H:%M", time.localtime(seconds))


def _document(
    run: Run, overview: Overview, incidents: dict[str, str]
) -> dict[str, object]:
    told = overview.document()
    told["last_run"] = last_run.at(run) or None
    told["overdue"] = last_run.is_overdue(run)
    told["restarts_24h"] = {name: run.state.recent(name) for name in run.names}
    told["last_incident"] = {name: incidents.get(name) for name in run.names}
    told["restarts"] = {name: run.state.count(name) for name in run.names}
    return told
