"""What a look found, told daemon by daemon: as lines and as a JSON document."""

from __future__ import annotations

import json
import time

from viagralib.base.messages import FAULTY, Fault, exit_code, safe
from viagralib.base.users import user_name
from viagralib.processes.table import told
from viagralib.processes.verdicts import UP, Verdict
from viagralib.settings.hook_files import NO_STEP, NOT_EXECUTABLE
from viagralib.state.run_context import Run

FORMAT = 1  # of the JSON documents: grows when a key changes its meaning or goes


def sentence(name: str, word: str, why: str, standing: str = "") -> str:
    """Return what a daemon is, why, and its standing, if it has one, in one line."""
    standing = f" ({safe(standing)})" if standing else ""
    return f"{safe(name)} is {word}: {safe(why)}{standing}"


def line(name: str, verdict: Verdict, standing: str = "") -> str:
    """Return one daemon's verdict with its reason, and its standing, if it has one."""
    reason = verdict.reason
    if verdict.word == UP:
        pids = ", ".join(str(one.pid) for one in verdict.processes()[:3])
        reason = "; ".join(filter(None, (f"pid {pids}", reason, verdict.remark)))
    elif verdict.phase:
        reason += f"; its recovery has begun: {verdict.phase}"
    word = f"{verdict.word}, {verdict.few}" if verdict.few else verdict.word
    return sentence(name, word, reason, standing)


def why_not_watched(run: Run, name: str) -> str:
    """Return why a file of start.d is not watched, with what switches it on."""
    why = run.settings.set_aside[name]
    what = f"{run.settings.home}/start.d/{name}"
    if why.startswith(NO_STEP):
        what += "/*"
    elif not why.startswith(NOT_EXECUTABLE):
        return safe(why)
    return f"{safe(why)}: chmod +x {safe(what)}"


def nothing_watched(run: Run) -> str:
    """Return what to do where no hook is on."""
    place = safe(f"{run.settings.home}/start.d")
    return f"nothing is watched: chmod +x a hook in {place}, or put one in"


def written(found: dict[str, object]) -> str:
    """Return a document as --json prints it; docs/json-schema.json has its keys."""
    return json.dumps({"version": FORMAT, **found}, indent=1)


def fault_document(fault: Fault) -> str:
    """Return what --json prints when nothing else could be done."""
    return written({"exit": FAULTY, "faults": [str(fault)]})


class Overview:
    """What a look found: verdicts, standings and exit codes, by daemon, and faults."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.verdicts: dict[str, Verdict] = {}
        self.standings: dict[str, str] = {}
        self.owners: dict[str, str] = {}  # units, by daemon; for who asks for them
        self.codes: dict[str, int] = {}
        self.faults: list[str] = []

    @property
    def code(self) -> int:
        return exit_code(self.codes.values())

    def lines(self, names: list[str], everything: bool = True) -> list[str]:
        """Return a line for each daemon that is not up and well, or for `everything`.

        One that is off has no verdict; it is told of when it was asked for.
        """
        texts = []
        for name in names:
            verdict, standing = self.verdicts.get(name), self.standings.get(name, "")
            if verdict and (everything or not verdict.is_well):
                texts.append(line(name, verdict, standing))
            elif not verdict and name in self.run.settings.set_aside:
                texts.append(f"{safe(name)} is {why_not_watched(self.run, name)}")
        return texts

    def document(self) -> dict[str, object]:
        return {
            "exit": self.code,
            "home": self.run.settings.home,
            "daemons": {
                name: {
                    "verdict": verdict.word,
                    "reason": verdict.reason,
                    "few": verdict.few,
                    "remark": verdict.remark,
                    "phase": verdict.phase,
                    "standing": self.standings.get(name, ""),
                    "since": since(verdict),
                    "pids": [one.pid for one in verdict.processes()],
                    "user": user(verdict),
                    "owner": self.owners.get(name, ""),
                }
                for name, verdict in self.verdicts.items()
            },
            "standings": self.standings,
            "notes": self.run.notes,
            "off": self.run.settings.set_aside,
            "faults": self.faults,
        }


def user(verdict: Verdict) -> str:
    """Return whose the daemon's processes are; "" when none is there."""
    names = [
        told(lambda: user_name(process.users()[1]), "")  # noqa: B023
        for process in verdict.processes()
    ]
    return next(filter(None, names), "")


def since(verdict: Verdict) -> float | None:
    """Return since when the oldest process counted is there; seconds since 1970."""
    ages = [process.age() for process in verdict.processes()]
    return round(time.time() - max(ages), 1) if ages else None
