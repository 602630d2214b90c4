"""What else goes wrong in a soak: full disks, collectors and hooks that fail."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from testbed import PLACE, mount

LOST = ("/usr/bin/w", "/usr/bin/vmstat")
STUCK = "/usr/bin/w"
STUCK_SCRIPT = "#!/bin/sh\nsleep 12\n"  # far longer than evidence may take
WINDOW = 60.0  # seconds in which each trouble comes once
MOOD = 5.0  # seconds that a hook's mood lasts
_BLOCK = bytes(1 << 16)


class Trouble:
    """Something that is wrong for a while; does nothing by itself."""

    title = ""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []  # from, until; seconds since 1970

    def begin(self) -> None:
        """Let it go wrong."""

    def go_on(self) -> None:
        """Keep it wrong."""

    def end(self) -> None:
        """Mend it."""


class FullDisk(Trouble):
    """The disk with the state has no room."""

    title = "the state's disk is full"
    _ballast = PLACE / "state" / "ballast"

    def begin(self) -> None:
        self._ballast.touch(mode=0o600)
        self.go_on()

    def go_on(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while file.write(_BLOCK):
                    pass
            except OSError:
                return

    def end(self) -> None:
        self._ballast.unlink()


class Covered(Trouble):
    """Something else lies over programs that take evidence."""

    def __init__(self, title: str, programs: tuple[str, ...], cover: Path) -> None:
        super().__init__()
        self.title = title
        self._programs = [one for one in programs if Path(one).exists()]
        self._cover = cover

    def begin(self) -> None:
        for program in self._programs:
            mount("--bind", str(self._cover), program)

    def end(self) -> None:
        for program in self._programs:
            subprocess.run(["umount", "--lazy", program], check=True)


class Plan:
    """Which trouble comes when: each once in every window, one after another."""

    def __init__(self, seconds: float, chance: random.Random) -> None:
        stuck = PLACE / "stuck"
        stuck.write_text(STUCK_SCRIPT)
        stuck.chmod(0o755)
        self.full = FullDisk()
        self.troubles = [
            self.full,
            Covered("collectors are missing", LOST, Path("/dev/null")),
            Covered("a collector hangs", (STUCK,), stuck),
        ]
        self._due = self._spread(seconds, chance)

    def _spread(
        self, seconds: float, chance: random.Random
    ) -> list[tuple[float, Callable[[], None]]]:
        """Return what is to be done, and how many seconds after the beginning."""
        due: list[tuple[float, Callable[[], None]]] = []
        number = max(1, round(seconds / WINDOW))
        share = seconds / number / len(self.troubles)
        for slot in range(number * len(self.troubles)):
            if slot % len(self.troubles) == 0:
                order = chance.sample(self.troubles, len(self.troubles))
            trouble = order[slot % len(self.troubles)]
            begin = (slot + chance.uniform(0.1, 0.3)) * share
            lasts = min(share / 2, 8.0)
            due.append((begin, partial(self._begin, trouble)))
            due.append((begin + lasts, partial(self._end, trouble)))
        return due

    def go_on(self, moment: float) -> None:
        """Do what is due, so many seconds after the beginning."""
        while self._due and self._due[0][0] <= moment:
            self._due.pop(0)[1]()
        for trouble in self.troubles:
            if trouble.times and trouble.times[-1][1] == 0.0:
                trouble.go_on()

    @staticmethod
    def _begin(trouble: Trouble) -> None:
        trouble.times.append((time.time(), 0.0))
        trouble.begin()

    @staticmethod
    def _end(trouble: Trouble) -> None:
        trouble.end()
        trouble.times[-1] = (trouble.times[-1][0], time.time())


class Moods:
    """The hooks that fail or hang for a while."""

    def __init__(self) -> None:
        self.number = {"fails": 0, "hangs": 0}
        self._until: dict[str, float] = {}

    def set(self, name: str, mood: str) -> None:
        """Let a daemon's hook fail or hang."""
        self.number[mood] += 1
        self._until[name] = time.monotonic() + MOOD
        self._write(name, mood)

    def go_on(self) -> None:
        """Mend the hooks whose time is over."""
        for name, until in list(self._until.items()):
            if time.monotonic() >= until:
                del self._until[name]
                self._write(name, "good")

    def mend(self) -> None:
        """Mend all hooks."""
        for name in self._until:
            self._write(name, "good")
        self._until.clear()

    @staticmethod
    def _write(name: str, mood: str) -> None:
        (PLACE / "moods" / name).write_text(mood + "\n")
