"""The scheduler: all recoveries of a run side by side, one look after another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from viagralib.base.messages import Fault, trouble
from viagralib.evidence.collector import Evidence
from viagralib.hooks.execution import Task
from viagralib.processes import reaper
from viagralib.processes.verdicts import Verdict, judge
from viagralib.recovery.phases import steps
from viagralib.recovery.recovery import Recovery

TICK = 0.04  # seconds between two looks, when a look costs less than that


def side_by_side(
    recoveries: list[Recovery],
    evidence: Evidence,
    ended: Callable[[Recovery], list[Recovery]],
) -> None:
    """Drive recoveries from look to look, until all of them have ended.

    `ended` is called with each at its end, and returns those that follow from it.
    """
    with contextlib.suppress(Fault, OSError, ImportError, MemoryError):
        reaper.hold()  # else marks alone tell what came of a hook
    named: dict[str, Recovery] = {}
    active: dict[str, Task[None]] = {}
    fresh = recoveries
    while fresh or active:
        for recovery in fresh:
            name = recovery.daemon.name
            named[name] = recovery
            active[name] = steps(recovery, named, evidence)
            next(active[name])
        fresh = []
        began = time.monotonic()
        daemons = [named[name].daemon for name in active]
        verdicts = judge(daemons, recoveries[0].run.observer, every=True)
        for name, verdict in verdicts.items():
            if _goes_on(named[name], active[name], verdict):
                continue
            del active[name]
            fresh += ended(named[name])
        # A look that is dear must not become all that this run does.
        time.sleep(max(TICK, time.monotonic() - began) if active else 0)


def _goes_on(recovery: Recovery, task: Task[None], verdict: Verdict) -> bool:
    """Send a recovery the newest verdict; return whether it has not ended."""
    try:
        task.send(verdict)
    except StopIteration:
        return False
    except (OSError, MemoryError) as error:  # of this one alone: the others go on
        recovery.fail(f"could not go on: {trouble(error)}")
        return False
    return True
