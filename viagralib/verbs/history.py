"""The verb history: incidents, newest first, and one of them whole."""

from __future__ import annotations

import os
import time

from viagralib.base import durations, guarded_files, records
from viagralib.base.clocks import date
from viagralib.base.files import rest
from viagralib.base.messages import WELL, Fault, reason, safe, safe_lines
from viagralib.base.printer import Printer
from viagralib.report.verdict_lines import written
from viagralib.settings.command_line import Options
from viagralib.state import incidents
from viagralib.state.directory import HOOK_LOG_CAP
from viagralib.state.incidents import Incident
from viagralib.state.run_context import Run

_LARGEST = 4_000_000  # bytes that are shown of a file: no evidence has more


def history(run: Run, options: Options, out: Printer) -> int:
    """Show incidents: when, which daemon, verdict, how it ended, cause."""
    if options.show is not None:
        return _show(run, options, out)
    since = _since(options.since)
    names = set(options.names)
    found = []
    for incident_id in reversed(run.state.names("incidents")):
        incident = incidents.load(run.state, incident_id)
        if incident is None or (names and incident.daemon not in names):
            continue
        if _began(incident) >= since:
            found.append(incident)
    if not found and not since:
        run.require_hooks()  # else there never was such a daemon
    if options.json:
        out.say(written({"incidents": [one.record for one in found]}))
        return WELL
    for text in map(_line, found) if found else ["no incidents"]:
        out.say(text)
    return WELL


def _since(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        return time.time() - durations.parse(text)
    except ValueError as error:
        raise Fault("--since", str(error)) from None


def _began(incident: Incident) -> float:
    return records.number(incident.record, "began") or 0.0


def _line(incident: Incident) -> str:
    record = incident.record
    seconds = records.number(record, "seconds")
    took = f" in {durations.spell(seconds)}" if seconds else ""
    result = safe(str(record.get("result") or "did not finish"))
    if record.get("up_again"):
        result += f", up again {date(record['up_again'])}"
    verdict = safe(str(record.get("verdict")))
    why = record.get("reason") or "cause: unknown"  # of what did not die: only that
    why = f"cause: {record['cause']}" if record.get("cause") else why
    return f"{incident.id}  {verdict}, {result}{took}; {safe(str(why))}"


def _show(run: Run, options: Options, out: Printer) -> int:
    shown = options.show or ""
    incident = incidents.load(run.state, shown)
    if incident is None:
        text = "no such incident, or damaged: see viagra.py history"
        raise Fault(safe(shown), text)
    if options.json:
        out.say(written(incident.record))
        return WELL
    text = "\n".join(_whole(incident)) + "\n"
    if not (os.isatty(1) and _paged(run, text)):
        out.say(text.rstrip("\n"))
    return WELL


def _whole(incident: Incident) -> list[str]:
    """Return all files of an incident, its notice first, safe for a terminal."""
    names = sorted(os.listdir(incident.directory))
    names.sort(key=lambda name: name != "notice.txt")
    lines = []
    for name in names:
        lines.append(f"==== {safe(name)}")
        try:
            content = _content(f"{incident.directory}/{name}")
            text = content.decode(errors="surrogateescape")
        except OSError as error:
            text = f"could not read it: {reason(error)}"
        lines += safe_lines(text.rstrip("\n"))
    return lines


def _content(path: str) -> bytes:
    """Return a file, or its two ends where somebody made it larger than we do."""
    with guarded_files.opened(path, link=False) as file:
        size, half = os.fstat(file).st_size, HOOK_LOG_CAP // 2
        if size <= _LARGEST:
            return rest(file, _LARGEST)
        mark = b"\n[... %d bytes are not shown ...]\n" % (size - 2 * half)
        return os.pread(file, half, 0) + mark + os.pread(file, half, size - half)


def _paged(run: Run, text: str) -> bool:
    """Show a text page by page; False when there is no pager."""
    try:
        pager = run.gate.find("less", "more")
    except OSError:
        return False
    # LESSSECURE: what is shown is evidence, not a way to a shell.
    environment = {
        "PATH": run.gate.search_path,
        "LESSSECURE": "1",
        "LESS": "-F",
        "TERM": os.environ.get("TERM", "dumb"),
    }
    data = text.encode(errors="backslashreplace")
    run.gate.feed(pager, environment, data)
    return True
