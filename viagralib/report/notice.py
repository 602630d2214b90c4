"""The notice: what is printed for people about an incident, as text."""

from __future__ import annotations

import os
import re

from viagralib.base.clocks import date
from viagralib.base.durations import spell
from viagralib.base.messages import safe, safe_lines
from viagralib.evidence import core_dumps
from viagralib.evidence.collector import Evidence, journal_file
from viagralib.processes.verdicts import UP
from viagralib.recovery.recovery import (
    BACK,
    CAME_BACK,
    PUT_OFF,
    QUIT,
    TOLD,
    Recovery,
)
from viagralib.state.death_records import finished_at
from viagralib.state.restart_limit import series, why_held

_LOG_LINES = 20  # of a hook's output, and of each log, the last ones
_W_LINES = 12
_BUSIEST = 5
_BUSY = 1.0  # per cent of a processor, from which on a process is worth a line
_LONGEST_LINE = 160  # characters
_LONGEST_ADVICE = 500  # of a hook, which may say what to do


def write(recovery: Recovery, evidence: Evidence) -> str:
    name = safe(recovery.daemon.name)
    begun = any(one.what.startswith("start.d/") for one in recovery.outcomes)
    done = "stopped" if recovery.result == QUIT else "not started"
    what = f"{recovery.why}, {done}"
    if recovery.is_wanted:
        what = f"{recovery.verdict.word}, not restarted"
    first = f"Restarting {name}" if begun else f"{name} is {what}"
    facts = [
        ("host", os.uname().nodename),
        ("why", recovery.incident.record.get("reason")),
        ("cause", recovery.cause),
        ("before", recovery.incident.record.get("before")),
        ("stopped", recovery.stopped),
        *[("hook", f"{one.what}: {one.words}") for one in recovery.outcomes],
        ("now", _now(recovery)),
        ("series", _series(recovery) if begun else ""),
        ("resets", ", ".join(recovery.resets)),
        ("next", _next(recovery)),
        ("evidence", recovery.incident.directory or "none: see missing"),
        *[("missing", text) for text in _missing(recovery, evidence)],
    ]
    lines = [first, date(recovery.incident.record.get("began"))]
    lines += [f"  {key:<9} {safe(str(value))}" for key, value in facts if value]
    lines += _section("hook output", hook_output(recovery), _LONGEST_ADVICE)
    for title, tail in _logs(recovery, evidence).items():
        lines += _section(title, tail[-_LOG_LINES:])
    if recovery.result in TOLD and not evidence.is_told:
        lines += _machine(evidence)
    return "\n".join(lines)


def _machine(evidence: Evidence) -> list[str]:
    """Return what is the same for all daemons of a run: it is told with the first."""
    w = evidence.text("w.txt").rstrip("\n").split("\n")[:_W_LINES]
    vmstat = evidence.text("vmstat.txt").rstrip("\n").split("\n")[:_W_LINES]
    titles = len(vmstat) < 3
    lines = _section("w", _who(w)) + _section("vmstat", [] if titles else vmstat)
    lines += _section("busiest", _busiest(evidence.text("ps.txt")))
    evidence.is_told = bool(lines)
    return lines


def _now(recovery: Recovery) -> str:
    if recovery.result == BACK:
        pids = [str(one.pid) for one in recovery.verdict.processes()]
        some = ", ".join(pids[:3]) + (f" and {len(pids) - 3} more" if pids[3:] else "")
        return f"up, pid {some}, after {spell(recovery.seconds)}"
    if recovery.result == CAME_BACK:
        return "up: came back by itself"
    remark = f": {recovery.remark}" if recovery.remark else ""
    return f"{recovery.verdict.word}, {recovery.result}{remark}"


def _series(recovery: Recovery) -> str:
    """Return which restart of its series this was; by hand, or as a reset, none."""
    return "" if recovery.is_wanted else series(recovery.run.state, recovery.daemon)


def _next(recovery: Recovery) -> str:
    if recovery.result in (BACK, CAME_BACK, PUT_OFF):
        return ""
    name = recovery.daemon.name
    if recovery.result == QUIT or finished_at(recovery.run.state, name):
        return f"left so; to start it: viagra.py restart {safe(name)}"
    if recovery.is_wanted and recovery.verdict.word == UP:
        return f"no run tries this again: viagra.py restart {safe(name)}"
    if held := why_held(recovery.run.state, recovery.daemon):
        return f"held: {held}"
    return f"the next run tries again; to see more: viagra.py explain {safe(name)}"


def _missing(recovery: Recovery, evidence: Evidence) -> list[str]:
    incident = recovery.incident
    log = [f"hook.log: {incident.log.problem}"] if incident.log.problem else []
    return [*dict.fromkeys((*incident.missing, *log, *evidence.problems))]


def hook_output(recovery: Recovery) -> list[str]:
    """Return the last lines that the recovery's hooks printed."""
    text = recovery.incident.log.last().decode(errors="surrogateescape")
    return text.split("\n")[-_LOG_LINES - 1 :]


def _logs(recovery: Recovery, evidence: Evidence) -> dict[str, list[str]]:
    """Return the ends of the daemon's logs, its unit's journal included."""
    logs = {f"log {safe(path)}": tail for path, tail in recovery.logs.items()}
    if unit := recovery.unit:
        text = evidence.text(journal_file(unit, after_start=True)).rstrip("\n")
        logs[f"journal {safe(unit)}, of this start"] = text.split("\n")
        text = evidence.text(journal_file(unit)).rstrip("\n")
        logs[f"journal {safe(unit)}"] = text.split("\n")
    text = evidence.text(core_dumps.file(recovery.daemon.name))
    return {"core dump": core_dumps.backtrace(text), **logs}


def _section(title: str, lines: list[str], most: int = _LONGEST_LINE) -> list[str]:
    """Return a titled part, each line indented so that it cannot pass for ours."""
    short = "\n".join(line[:most] for line in lines)  # one may be of megabytes
    texts = [line for line in safe_lines(short.rstrip("\n")) if line]
    if not texts:
        return []
    return [f"  {title}:", *(f"    {line[:most]}" for line in texts)]


def _who(w: list[str]) -> list[str]:
    """Return the lines of w(1) without the arguments of what its users run, and
    without its titles where there are no users."""
    column = next((line.find("WHAT") for line in w if "WHAT" in line), -1)
    if column < 0:
        return w
    if len(w) == 2:
        return w[:1]
    # Its values begin below their title, or a blank further to the right.
    first_word = re.compile(rf".{{{column}}} *[^ ]*")
    return [found[0] if (found := first_word.match(line)) else line for line in w]


def _busiest(ps: str) -> list[str]:
    """Return the busiest processes of `ps aux`, by name: arguments can hold secrets."""
    header, *rows = ps.split("\n")
    if header.split()[:4] != ["USER", "PID", "%CPU", "%MEM"]:
        return []
    found = []
    for row in rows:
        words = row.split(None, 10)
        if len(words) < 11 or words[1] == str(os.getpid()):
            continue
        if (number := _number(words[2])) >= _BUSY:  # of 20,000, nearly none
            found.append((number, words))
    found.sort(key=lambda pair: -pair[0])
    if not found:
        return []
    lines = [f"{'%CPU':>5} {'%MEM':>5} {'PID':>7} {'USER':<10} NAME"]
    for _, words in found[:_BUSIEST]:
        user, pid, cpu, memory = words[:4]
        command = words[10]
        name = os.path.basename(command.split(" ")[0])
        name = command if command.startswith("[") else name  # a kernel thread
        lines.append(f"{cpu:>5} {memory:>5} {pid:>7} {user:<10} {name}")
    return lines


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
