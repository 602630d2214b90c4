"""The reckoning of a soak: what has to hold at its end, and whether it does."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from incident_checks import INCIDENTS, Inspection
from runs import Run, Runs
from soak_daemons import Fleet, Life
from testbed import CROWD, ENVIRONMENT, KEEP, KEEP_BYTES, LOCKS, PLACE, command

STATE = PLACE / "state"
QUIET_RUNS = 3  # at the very end, when all is well
_NAME = r"food\d+"
_INCIDENT = rf"incidents/\d{{8}}T\d{{6}}Z-{_NAME}"
_FILES = re.compile(
    rf"last-run(\.{_NAME})?|known-pids|answers|answers|(counts|locks)/{_NAME}|{_INCIDENT}/(incident\.json|notice\.txt|"
    r"hook\.log|ps\.txt|w\.txt|vmstat\.txt|disks\.txt|sockets\.txt|kernel\.txt)"
)


class Line:
    """Something that has to hold: how many there may be at most, and which there are.

    `cases` are named to whoever has to find out why.
    """

    def __init__(self, text: str, cases: Sequence[object], highest: int = 0) -> None:
        self.text = text
        self.cases = cases
        self.highest = highest

    @property
    def holds(self) -> bool:
        """Whether there are no more than there may be."""
        return len(self.cases) <= self.highest

    def row(self) -> str:
        """Return its line of the table."""
        word = "holds" if self.holds else "**DOES NOT HOLD**"
        return f"| {self.text} | {self.highest:,} | {len(self.cases):,} | {word} |"


class Reckoning:
    """All that is counted at the end of a soak."""

    def __init__(self, fleet: Fleet, runs: Runs, inspection: Inspection) -> None:
        self.fleet = fleet
        self.runs = runs
        self.inspection = inspection

    def lines(self) -> list[Line]:
        """Return what has to hold."""
        return [
            *self._of_lives(),
            *self._of_runs(),
            *self._of_incidents(),
            Line("files left over", _strange_files()),
            Line("processes left over", self.strange_processes()),
            Line("locks still held", _held_locks()),
        ]

    def _of_lives(self) -> list[Line]:
        lives = self.fleet.all()
        ended = [life for life in lives if life.has_ended and life.killed is None]
        twins = [life for life in lives if life.is_twin]
        rich = [life for life in lives if life.given]
        return [
            Line("deaths without an answer", self._unanswered()),
            Line("starts of a daemon that was alive", _told(twins)),
            Line("starts by a run that had started it before", self._repeated()),
            Line("starts that no notice told", self._untold()),
            Line("daemons ended by viagra.py", self._words_on(ended)),
            Line("daemons that inherited a descriptor", _told(rich)),
        ]

    def _words_on(self, lives: list[Life]) -> list[str]:
        """Return lives with what their run said of them."""
        words = []
        for life, told in zip(lives, _told(lives), strict=True):
            run = self.runs.of(life.run, life.born)
            notices = re.split("^(?=Restarting )", run.out if run else "", flags=re.M)
            mine = [x for x in notices if x.startswith(f"Restarting {life.name}\n")]
            words.append(f"{told}: {''.join(mine)[:800] or 'its run said nothing'}")
        return words

    def _unanswered(self) -> list[str]:
        return [name for name in self.fleet.names if self.fleet.living(name) is None]

    def _repeated(self) -> list[str]:
        seen: set[tuple[str, Run]] = set()
        repeated = []
        for life in self.fleet.all():
            run = self.runs.of(life.run, life.born)
            if run is not None and (life.name, run) in seen:
                repeated.append(life)
            elif run is not None:
                seen.add((life.name, run))
        return _told(repeated)

    def _untold(self) -> list[str]:
        """Return the starts that nobody heard of, although their run was not killed."""
        untold = []
        for life in self.fleet.all():
            run = self.runs.of(life.run, life.born)
            # A hook whose run was killed before it began finds process 1 as its parent.
            if run is not None and not run.was_killed and life.name not in run.told:
                untold.append(life)
        return _told(untold)

    def _of_runs(self) -> list[Line]:
        runs = self.runs.all
        odd = [run for run in runs if run.is_odd]
        loud = [run for run in runs[-QUIET_RUNS:] if run.code or run.out]
        return [
            Line(
                "runs with an error, no end, or an exit code but 0, 1, 75", _said(odd)
            ),
            Line(f"of the last {QUIET_RUNS} runs, those not silent", _said(loud)),
        ]

    def _of_incidents(self) -> list[Line]:
        kept = [place.name for place in INCIDENTS.iterdir()]
        faults = [f"{name}: {why}" for name, why in self.inspection.faults.items()]
        return [
            Line("incidents kept", kept, KEEP),
            Line("kB of incidents kept", [*_kilobytes()], KEEP_BYTES // 1000),
            Line("incidents incomplete", faults),
            Line("incidents that `history` cannot read", self._unreadable(kept)),
            Line("incidents still open", os.listdir(STATE / "open")),
        ]

    def _unreadable(self, kept: list[str]) -> list[str]:
        known = json.loads(_ask("history", "--json").stdout)["incidents"]
        ids = {record["id"] for record in known}
        return [
            name
            for name in kept
            if name not in ids or _ask("history", "show", name).returncode
            if name not in self.inspection.excused
        ]

    def strange_processes(self) -> list[str]:
        """Return all processes but us, the crowd, and one of each daemon."""
        living = {life.pid for life in self.fleet.all() if not life.has_ended}
        crowd = CROWD[0].pid
        strange = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text(errors="replace")
            except OSError:
                continue
            pid, parent = int(stat.parent.name), int(text.rpartition(")")[2].split()[1])
            if pid not in {1, crowd, *living} and parent != crowd:
                strange.append(text)
        return strange


def _told(lives: list[Life]) -> list[str]:
    return [f"{life.name}, pid {life.pid}, of the run {life.run}" for life in lives]


def _said(runs: list[Run]) -> list[str]:
    return [f"exit {run.code}: {run.out[:800]}" for run in runs]


def _kilobytes() -> range:
    seen = {(s.st_ino, s.st_size) for s in (p.stat() for p in INCIDENTS.glob("*/*"))}
    return range(sum(size for _, size in seen) // 1000)


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _strange_files() -> list[str]:
    """Return the files of the state that no run should have left there."""
    found = (path for path in STATE.rglob("*") if not path.is_dir())
    names = (str(path.relative_to(STATE)) for path in found)
    return [name for name in names if not _FILES.fullmatch(name)]


def _held_locks() -> list[str]:
    held = []
    for path in [*(STATE / "locks").iterdir(), *LOCKS.iterdir()]:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(str(path))
    return held
