"""What a look found, told daemon by daemon: as lines and as a JSON document."""

from __future__ import annotations

from viagralib.messages import exit_code, safe
from viagralib.processes import UP, Verdict
from viagralib.run import Run

FORMAT = 1  # of the JSON documents: grows when a key changes its meaning or goes


def line(name: str, verdict: Verdict, standing: str = "") -> str:
    """Return one daemon's verdict with its reason, and its standing, if it has one."""
    reason = verdict.reason
    if verdict.word == UP:
        pids = ", ".join(str(one.pid) for one in verdict.processes()[:3])
        reason = f"pid {pids}{'; ' + reason if reason else ''}"
    standing = f" ({safe(standing)})" if standing else ""
    return f"{safe(name)} is {verdict.word}: {safe(reason)}{standing}"


def lines(
    run: Run, verdicts: dict[str, Verdict], standings: dict[str, str]
) -> list[str]:
    """Return a line for each daemon that the run is about, also of those left alone."""
    told = [line(name, one, standings.get(name, "")) for name, one in verdicts.items()]
    for name in run.names:
        if name in run.settings.set_aside:
            told.append(f"{safe(name)} is off: {run.settings.set_aside[name]}")
    return told


def document(
    run: Run,
    verdicts: dict[str, Verdict],
    standings: dict[str, str],
    codes: dict[str, int],
) -> dict[str, object]:
    """Return what --json prints of a look."""
    return {
        "version": FORMAT,
        "exit": exit_code(codes.values()),
        "home": run.settings.home,
        "daemons": {
            name: {
                "verdict": verdict.word,
                "reason": verdict.reason,
                "standing": standings.get(name, ""),
                "pids": [one.pid for one in verdict.processes()],
            }
            for name, verdict in verdicts.items()
        },
    }
