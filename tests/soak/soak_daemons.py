"""The daemons of a soak: their births, by their own account, and their deaths."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from testbed import PLACE

# How they die: by others, by themselves with exit 0, or with exit 3.
DEATHS = ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGUSR1", "SIGUSR2")


class Life:
    """One life of one daemon, as it told itself when it began."""

    def __init__(self, line: str) -> None:
        name, pid, run, given, twin, born = line.split()
        self.name = name
        self.pid = int(pid)
        self.run = int(run)  # the pid of the run whose hook it came of
        self.given = int(given)  # descriptors besides the first three
        self.is_twin = twin == "1"  # another one of its name was alive
        self.born = float(born)  # in seconds since 1970, as all times here
        self.killed: float | None = None  # when we killed it
        self.has_ended = False


class Fleet:
    """All daemons, and all the lives that they had."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.lives: dict[str, list[Life]] = {name: [] for name in names}
        self._by_pid: dict[int, Life] = {}
        self._ledger = (PLACE / "ledger").open()
        self._rest = ""

    def read(self) -> None:
        """Take note of the daemons that have been born since."""
        *lines, self._rest = (self._rest + self._ledger.read()).split("\n")
        for line in lines:
            life = Life(line)
            self.lives[life.name].append(life)
            self._by_pid[life.pid] = life

    def bury(self, pid: int) -> None:
        """Take note of a process that has ended, whether it was a daemon or not."""
        self.read()  # it may have been born since we read last
        if pid in self._by_pid:
            self._by_pid.pop(pid).has_ended = True

    def kill(self, name: str, how: str) -> None:
        """End a daemon, if it is up."""
        life = self.living(name)
        if life is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(life.pid, signal.Signals[how])
            life.killed = time.time()

    def living(self, name: str) -> Life | None:
        """Return a daemon's newest life, if nothing has ended that."""
        life = self.lives[name][-1] if self.lives[name] else None
        return None if life is None or life.killed or life.has_ended else life

    def is_up(self) -> bool:
        """Return whether all of them are."""
        return all(self.living(name) for name in self.names)

    def all(self) -> list[Life]:
        """Return every life."""
        return [life for lives in self.lives.values() for life in lives]

    def waits(self) -> list[float]:
        """Return for each death that was answered how long that took, in seconds."""
        return sorted(
            later.born - life.killed
            for lives in self.lives.values()
            for life, later in zip(lives, lives[1:], strict=False)
            if life.killed
        )
