"""The limit: how often a daemon is brought back before it is held."""

from __future__ import annotations

import time

from viagralib.base import records
from viagralib.base.clocks import date
from viagralib.base.durations import spell
from viagralib.base.messages import safe
from viagralib.base.records import Record
from viagralib.settings.configuration import Daemon
from viagralib.state.directory import State

# Tries with gaps below this many times `within` are one series.
_GAP = 2
_TRIES = ("tries", "tried_at", "series_at")  # what counts/NAME holds of them


def why_held(state: State, daemon: Daemon) -> str:
    """Return why the daemon is not tried now, the same text while it is held, or ""."""
    restarts, within = daemon.facts.limit
    record = state.read("counts", daemon.name)
    tries, gap = _series(record), _gap(record)
    if tries < restarts or not 0 <= gap < within:
        return ""
    return (
        f"tried {restarts} times and more, each within {spell(_GAP * within)} of the "
        f"last: from now on one try every {spell(within)}; to try it at once: "
        f"viagra.py restart {safe(daemon.name)}"
    )


def series(state: State, daemon: Daemon) -> str:
    """Return which try of its series the last one was, and when it will be held, or ""
    for the first of several."""
    restarts, within = daemon.facts.limit
    record = state.read("counts", daemon.name)
    number, at = _series(record), records.number(record, "tried_at")
    if at is None or number < min(2, restarts):
        return ""
    since = date(records.number(record, "series_at"))
    held = f"after try {restarts} it is held, and tried every {spell(within)}"
    if number >= restarts:
        held = f"the next one not before {date(at + within)}"
    return f"try {number} since {since}; {held}"


def note_try(state: State, daemon: Daemon) -> Record:
    """Note that the daemon's hook is run now; return its tries before this one.

    Raises OSError.
    """
    _, within = daemon.facts.limit
    record = state.read("counts", daemon.name)
    before = {key: record[key] for key in _TRIES if key in record}
    goes_on = 0 <= _gap(record) < _GAP * within
    record["tries"] = _series(record) + 1 if goes_on else 1
    record["tried_at"] = time.time()
    if not goes_on or "series_at" not in record:
        record["series_at"] = record["tried_at"]
    state.prepare()
    state.write("counts", daemon.name, record)
    return before


def take_back(state: State, daemon: Daemon, before: Record) -> None:
    """Let the newest try not count; `before` are those before it. Raises OSError."""
    record = state.read("counts", daemon.name)
    rest = {key: value for key, value in record.items() if key not in _TRIES}
    state.write("counts", daemon.name, rest | before)


def _series(record: Record) -> int:
    return records.integer(record, "tries") or 0


def _gap(record: Record) -> float:
    """Return the seconds since the last try; below zero if the clock was set back."""
    at = records.number(record, "tried_at")
    return float("inf") if at is None else time.time() - at
