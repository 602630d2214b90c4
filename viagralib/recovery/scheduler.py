"""The scheduler: all recoveries of a run side by side, one look after another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from viagralib.base.messages import Fault, trouble
from viagralib.evidence.collector import Evidence
from viagralib.hooks.execution import Task
from viagralib.processes import reaper
from viagralib.processes.observer import Observer
from viagralib.processes.verdicts import Verdict, judge
from viagralib.recovery.phases import steps
from viagralib.recovery.recovery import FAILED, Recovery

_LONGEST_PAUSE = 2.0  # seconds between two looks, however long one was held up
TICK = 0.04  # seconds between two looks, when a look costs less than that


def pause_after(began: float) -> float:
    """Return for how many seconds to rest after a look that began then and is over.

    One that is dear must not become all that a run does. By time.monotonic().
    """
    return max(TICK, min(time.monotonic() - began, _LONGEST_PAUSE))


class Scheduler:
    """Drives recoveries from look to look, each to its end."""

    def __init__(self, observer: Observer, evidence: Evidence) -> None:
        self._observer = observer
        self._evidence = evidence
        self._named: dict[str, Recovery] = {}
        self._active: dict[str, Task[None]] = {}

    def add(self, recovery: Recovery) -> None:
        """Begin a recovery beside those that are under way."""
        name = recovery.daemon.name
        self._named[name] = recovery
        self._active[name] = steps(recovery, self._named, self._evidence)
        next(self._active[name])

    def run(self) -> Iterator[Recovery]:
        """Yield each recovery at its end, until all of them have ended."""
        with contextlib.suppress(Fault, OSError, ImportError, MemoryError):
            reaper.hold()  # else marks alone tell what came of a hook
        while self._active:
            began = time.monotonic()
            active = [self._named[name] for name in self._active]
            # What is to be stopped must all be known; of what is started, one will do.
            every = not all(recovery.children for recovery in active)
            first = [pid for recovery in active for pid in recovery.where()]
            daemons = [recovery.daemon for recovery in active]
            verdicts = judge(daemons, self._observer, every, first)
            pause = pause_after(began)
            stages = [recovery.stage for recovery in active]
            for name, verdict in verdicts.items():
                if not self._goes_on(name, verdict):
                    del self._active[name]
                    yield self._named[name]
            # A look that has moved a recovery on is followed by the next, which that
            # waits for.
            if stages != [recovery.stage for recovery in active]:
                pause = TICK
            time.sleep(pause if self._active else 0)

    def _goes_on(self, name: str, verdict: Verdict) -> bool:
        """Send a recovery the newest verdict; return whether it has not ended."""
        try:
            self._active[name].send(verdict)
        except StopIteration:
            return False
        except (OSError, MemoryError) as error:  # of this one alone: the others go on
            self._named[name].end(FAILED, f"could not go on: {trouble(error)}")
            return False
        return True
