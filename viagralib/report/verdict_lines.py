"""What a look found, told daemon by daemon: as lines and as a JSON document."""

from __future__ import annotations

import time

from viagralib.base.messages import exit_code, safe
from viagralib.base.users import user_name
from viagralib.processes.linux import Unreadable, Vanished
from viagralib.processes.verdicts import UP, Verdict
from viagralib.state.run_context import Run

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
    run: Run,
    verdicts: dict[str, Verdict],
    standings: dict[str, str],
    everything: bool,
) -> list[str]:
    """Return a line for each daemon that is not up and well, or for `everything`.

    One that is off or paused has no verdict; it is told of when it was asked for.
    """
    told = []
    for name in run.names:
        standing = standings.get(name, "")
        if name in verdicts:
            if everything or not verdicts[name].is_well:
                told.append(line(name, verdicts[name], standing))
        elif name in run.settings.set_aside:
            told.append(f"{safe(name)} is {safe(run.settings.set_aside[name])}")
        elif standing and (everything or run.is_narrowed):
            told.append(f"{safe(name)} is {standing}")
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
                "since": since(verdict),
                "pids": [one.pid for one in verdict.processes()],
                "user": user(verdict),
            }
            for name, verdict in verdicts.items()
        },
        "standings": standings,
        "off": {name: why for name, why in run.settings.set_aside.items()},
    }


def user(verdict: Verdict) -> str:
    """Return whose the daemon's processes are; "" when none is there."""
    for process in verdict.processes():
        try:
            return user_name(process.users()[1])
        except (Vanished, Unreadable):
            continue
    return ""


def since(verdict: Verdict) -> float | None:
    """Return since when the oldest process counted is there; seconds since 1970."""
    ages = [process.age() for process in verdict.processes()]
    return round(time.time() - max(ages), 1) if ages else None
