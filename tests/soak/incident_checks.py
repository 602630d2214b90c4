"""Incidents, looked at while they come and go: complete, or with a known excuse."""

from __future__ import annotations

import calendar
import json
import time
from pathlib import Path

from runs import Runs
from soak_faults import Plan
from testbed import PLACE

INCIDENTS = PLACE / "state" / "incidents"
# What an incident must hold, unless its notice says what is missing.
PIECES = ("ps.txt", "w.txt", "vmstat.txt", "disks.txt", "sockets.txt", "kernel.txt")


class Inspection:
    """What became of the incidents: `faults` are those that nothing excuses."""

    def __init__(self, runs: Runs, plan: Plan) -> None:
        self.seen: set[str] = set()
        self.excused: set[str] = set()
        self.faults: dict[str, str] = {}
        self._suspects: dict[str, str] = {}
        self._runs = runs
        self._plan = plan

    def look(self, is_last: bool = False) -> None:
        """Inspect those that have been closed, or all when this is the last look.

        One that may be on its way out, by pruning, gets a second look.
        """
        suspects = {}
        for place in sorted(INCIDENTS.iterdir()):
            record = _record(place)
            is_closed = "result" in record and record["status"] == "closed"
            if place.name in self.seen or not (is_closed or is_last):
                continue
            why = _why_incomplete(place, record)
            if why and not is_last and place.name not in self._suspects:
                suspects[place.name] = why
                continue
            self.seen.add(place.name)
            if why and place.exists():
                self._judge(place, record, why)
        self._suspects = suspects

    def _judge(self, place: Path, record: dict[str, object], why: str) -> None:
        began = record.get("began")
        if isinstance(began, float):
            is_excused = self._is_excused(began, began)
        else:  # its name says only the second, or one a little later
            stamp = time.strptime(place.name.partition("-")[0], "%Y%m%dT%H%M%SZ")
            second = calendar.timegm(stamp)
            is_excused = self._is_excused(second - 2, second + 1)
        if is_excused:
            self.excused.add(place.name)
        else:
            self.faults[place.name] = why

    def _is_excused(self, after: float, before: float) -> bool:
        """Return whether a run at work then was killed, or had a full disk."""
        full = [(a, b or time.time()) for a, b in self._plan.full.times]
        return any(
            run.was_killed or any(run.met(*times) for times in full)
            for run in self._runs.all
            if run.met(after, before)
        )


def _record(place: Path) -> dict[str, object]:
    try:
        record = json.loads((place / "incident.json").read_text())
    except (OSError, ValueError):
        return {}
    return dict(record)


def _why_incomplete(place: Path, record: dict[str, object]) -> str:
    """Return what an incident lacks, or ""."""
    if "result" not in record:
        return "no record, or one without a result"
    try:
        notice = (place / "notice.txt").read_text()
    except OSError:
        return "no notice"
    pieces = [*PIECES, *(["hook.log"] if "hooks" in record else [])]
    lost = [name for name in pieces if not (place / name).exists()]
    if lost and "\n  missing " not in notice:
        return f"without {', '.join(lost)}, and the notice does not say so"
    return ""
