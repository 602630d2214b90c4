"""How many runs in a row found a daemon sick: what the fact sick_after waits for."""

from __future__ import annotations

from viagralib.base import records
from viagralib.settings.configuration import Daemon
from viagralib.state import announced
from viagralib.state.run_context import Run


def count(run: Run, daemon: Daemon) -> str:
    """Count a run that found it sick; return "1 of 3 runs" while these are too few.

    A run that is not to be counted, as of `check`, tells of those before it. Where the
    count cannot be kept, it is as with sick_after = 1.
    """
    wanted = daemon.facts.sick_after
    if wanted == 1 or run.is_state_unsafe:
        return ""
    record = announced.of(run.state, daemon.name)
    number = records.integer(record, "sick_runs") or 0
    if run.executes_nothing or not run.only_looks:
        number += 1
    if not run.only_looks:
        try:
            run.state.prepare()
            run.state.write("open", daemon.name, {**record, "sick_runs": number})
        except OSError:
            return ""
    return f"{number} of {wanted} runs" if number < wanted else ""
