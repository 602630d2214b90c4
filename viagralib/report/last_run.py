"""The last run: when it was, and whether cron still runs viagra.py as it should."""

from __future__ import annotations

import time

from viagralib.base.durations import spell
from viagralib.state.run_context import Run

_SLACK = 60.0  # seconds that cron and a run may take


def tell(run: Run) -> str:
    """Return how long ago the last run was, and whether that is too long, in words."""
    if not run.is_ours:
        return "when the last run was, its owner can see"
    if not run.previous:
        return "no run yet: it needs a line in a crontab: man viagra.py, EXAMPLES"
    age = time.time() - run.previous
    if age < 0:
        return "last run in the future: the clock was set back"
    text = f"last run {spell(age)} ago"
    if is_overdue(run):
        every = spell(run.settings.every)
        text += f": OVERDUE, cron should run it every {every} ([run] every)"
    return text


def is_overdue(run: Run) -> bool:
    """Return whether cron should have run it since."""
    return time.time() - run.previous > run.settings.every + _SLACK
