"""The last run: when it was, and whether cron still runs viagra.py as it should."""

from __future__ import annotations

import time

from viagralib.base.durations import spell
from viagralib.state.run_context import Run

_SLACK = 60.0  # seconds that cron and a run may take


def at(run: Run) -> float:
    """Return since when a run has looked at each of the daemons that it is about.

    In seconds since 1970; 0.0: not known. What no run has ever looked at does not
    count: a crontab may have lines for a few names alone.
    """
    names = [name for name in run.names if name in run.settings.daemons]
    return min(filter(None, map(run.last_look, names)), default=run.last_look())


def tell(run: Run) -> str:
    """Return how long ago the last run was, and whether that is too long, in words."""
    if not run.is_ours:
        return "when the last run was, its owner can see"
    if not (last := at(run)):
        return "no run yet: it needs a line in a crontab: man viagra.py, EXAMPLES"
    age = time.time() - last
    if age < 0:
        return "last run in the future: the clock was set back"
    text = f"last run {spell(age)} ago"
    if is_overdue(run):
        every = spell(run.settings.every)
        text += f": OVERDUE, cron should run it every {every} ([run] every)"
    return text


def is_overdue(run: Run) -> bool:
    """Return whether cron should have run it since."""
    return time.time() - at(run) > run.settings.every + _SLACK
