"""The runs of viagra.py: started each second, some killed, and what they said."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from testbed import ENVIRONMENT, PLACE, command

CODES = (0, 1, 75)  # what a run may exit with, whatever happens to daemons here
LONGEST = 120.0  # seconds; a run that takes longer will have no end


class Run:
    """One run. Its times are in seconds since 1970."""

    def __init__(self, pid: int, output: Path, kill_at: float | None) -> None:
        self.pid = pid
        self.output = output
        self.began = time.time()
        self.ended = 0.0  # not yet
        self.kill_at = kill_at  # None: it may go on to its end
        self.is_endless = False
        self.was_killed = False
        self.code = 0
        self.told: list[str] = []  # the daemons whose restart it told
        self.out = ""

    @property
    def is_odd(self) -> bool:
        """Whether it said, or exited with, what no run should."""
        if self.was_killed:
            return self.is_endless
        return self.code not in CODES or "viagra.py:" in self.out or "File " in self.out

    def met(self, began: float, ended: float) -> bool:
        """Return whether a part of it was between these times."""
        return self.began <= ended and began <= (self.ended or time.time())


class Runs:
    """All runs of a soak."""

    def __init__(self) -> None:
        self.all: list[Run] = []
        self._at_work: dict[int, Run] = {}

    def start(self, lives_for: float | None = None) -> Run:
        """Start a run, to be killed after so many seconds; None: not at all."""
        output = PLACE / "out" / str(len(self.all))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        arguments = command()
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        run = Run(pid, output, None if lives_for is None else time.time() + lives_for)
        self.all.append(run)
        self._at_work[pid] = run
        return run

    def kill_due(self) -> None:
        """Kill the runs whose time has come, or that take too long."""
        now = time.time()
        for run in self._at_work.values():
            run.is_endless = now > run.began + LONGEST
            if run.is_endless or (run.kill_at is not None and now >= run.kill_at):
                os.kill(run.pid, signal.SIGKILL)

    def bury(self, pid: int, status: int) -> None:
        """Take note of a process that has ended, whether it was a run or not."""
        run = self._at_work.pop(pid, None)
        if run is None:
            return
        run.ended = time.time()
        run.code = os.waitstatus_to_exitcode(status)
        run.was_killed = run.code == -signal.SIGKILL
        run.out = run.output.read_text(errors="replace")
        run.told = re.findall(r"^Restarting (\S+)$", run.out, re.MULTILINE)
        run.output.unlink()

    def of(self, pid: int, moment: float) -> Run | None:
        """Return the run that had this pid at a moment, or last before that."""
        fitting = (run for run in self.all if run.pid == pid and run.began <= moment)
        return max(fitting, key=lambda run: run.began, default=None)

    def are_over(self) -> bool:
        """Return whether none is at work."""
        return not self._at_work
