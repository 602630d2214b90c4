"""For the tests of the companions: real programs, and who of theirs still lives.

Everything a `Program` starts carries a mark in its environment, also after double
forks and setsid, so those left behind are found by looking at all processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkout import CHECKOUT, COMPANIONS
from other_users import with_mounts
from world import absent, need_root, remove_locks, until

ROOT = CHECKOUT
PYTHON = sys.executable
LONG = 60.0  # seconds; only a machine that hangs takes this long


def state(pid: int) -> str:
    """Return the state letter of a process, "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def marked(mark: str) -> list[int]:
    """Return the living processes that carry `mark` in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
    return [pid for pid in found if lives(pid)]


class Program:
    """A companion at work, with a directory, and a mark on all it starts."""

    def __init__(self, name: str, directory: Path) -> None:
        self.argv = [PYTHON, "-I", str(COMPANIONS / name)]
        self.directory = directory
        self.mark = f"VIAGRA_TEST={uuid.uuid4().hex}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "VIAGRA_STATE": str(directory / "state"),
            "VIAGRA_TEST": self.mark.partition("=")[2],
        }
        self.out = directory / "stdout"
        self.err = directory / "stderr"
        self.runner: subprocess.Popen[bytes]

    def mount(self, script: str) -> None:
        """Have it run in a mount namespace of its own, after a script of mounts."""
        need_root()
        prefix = with_mounts(script)
        if subprocess.call([*prefix, "true"], stderr=subprocess.DEVNULL):
            absent("needs mount namespaces")
        self.argv = [*prefix, *self.argv]

    def start(self, *argv: str, **more: Any) -> int:  # noqa: ANN401
        """Start it in a session of its own; return its pid."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.runner = subprocess.Popen(
                [*self.argv, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
                **more,
            )
        return self.runner.pid

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        return self.runner.wait(LONG)

    def run(self, *argv: str, **more: Any) -> int:  # noqa: ANN401
        self.start(*argv, **more)
        return self.end()

    def send(self, number: int) -> None:
        os.kill(self.runner.pid, number)

    def lines(self, name: str = "out") -> list[str]:
        """Return the lines of a file that the command writes, or of our output."""
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / name).read_text().splitlines()
        return []

    def pids(self, name: str = "out", count: int = 1) -> list[int]:
        """Wait for `count` whole lines in a file; return them as pids."""
        until(lambda: len(self._whole_lines(name)) >= count)
        return [int(line) for line in self._whole_lines(name)]

    def _whole_lines(self, name: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            text = (self.directory / name).read_text()
            return text[: text.rfind("\n") + 1].splitlines()
        return []

    def left(self) -> list[int]:
        """Return who of its processes lives."""
        return marked(self.mark)

    def _is_gone(self) -> bool:
        left = self.left()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        return not left

    def stop(self) -> None:
        """End everything, whatever the test did."""
        until(self._is_gone)
        with contextlib.suppress(AttributeError):
            self.runner.wait(LONG)
        remove_locks({self.directory / "state", Path(self.environment["VIAGRA_STATE"])})


@contextlib.contextmanager
def program(name: str, directory: Path) -> Iterator[Program]:
    made = Program(name, directory)
    try:
        yield made
    finally:
        made.stop()
