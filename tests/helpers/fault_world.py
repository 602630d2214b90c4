"""What tests of faults share: daemons that count their own lives, private mounts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from other_users import public_world, run_as, users_python
from world import Result, World, absent, alive, all_pids, need, need_root, unique, until

# It writes its pid down at each start, so that no start escapes the count; and it
# waits without a child, so that nothing of it lives on when it is killed.
DAEMON = """\
#!/bin/sh
echo $$ >>{lives}
exec 9<>{fifo}
read -r line <&9
"""
NO_MORE = "No space left on device"


def quick(*values: object, of: Iterable[object]) -> list[object]:
    """Return all values `of` a parameter; what is not named first takes long."""
    long = pytest.mark.long
    return [pytest.param(one, marks=() if one in values else long) for one in of]


class Watched:
    """A daemon with its start hook; what runs it again is the real program."""

    def __init__(self, world: World, facts: str = "", before: str = "") -> None:
        """`before` is what its hook does before it starts the daemon."""
        self.world = world
        self.name = unique("food")
        self.lives_file = world.place / f"{self.name}.lives"
        self.program = world.bin / self.name
        fifo = world.place / f"{self.name}.fifo"
        os.mkfifo(fifo)
        self.lives_file.touch()
        for path in (fifo, self.lives_file):
            path.chmod(0o666)
        text = DAEMON.format(lives=self.lives_file, fifo=fifo)
        world.write(self.program, text, 0o755)
        if facts:
            world.facts(self.name, facts)
        world.hook(
            self.name,
            f"echo hook of {self.name} was here\n{before}\n"
            f"{self.program} >/dev/null 2>&1 &",
        )

    def lives(self) -> int:
        """Return how often it was started, by its own account."""
        return len(self.lives_file.read_text().split())

    def living(self) -> list[int]:
        """Return the pids of all of it that live now."""
        return [pid for pid in all_pids() if self._is_it(pid)]

    def _is_it(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[1:2] == [os.fsencode(self.program)] and alive(pid)

    def start(self, *wrapper: str, **options: object) -> int:
        """Start it as nobody's hook; return its pid when it is up."""
        before = self.lives()
        self.world.spawn([*wrapper, str(self.program)], **options)
        until(lambda: self.lives() > before and self.living())
        [pid] = self.living()
        return pid

    def kill(self) -> None:
        """Kill all of it that lives."""
        for pid in self.living():
            self.world.kill(pid)

    def assert_back(self, lives: int) -> None:
        """It is up, once, and was started exactly that often."""
        assert (len(self.living()), self.lives()) == (1, lives)


class Chamber:
    """A mount namespace of its own, for all the runs of a test. Needs root."""

    def __init__(self, world: World, script: str = ":") -> None:
        """`script` is what a shell does first in it, such as mounting."""
        need_root()
        for program in ("unshare", "nsenter", "mount", "umount"):
            need(program)
        self.world = world
        self._holder = world.spawn(
            [
                "unshare",
                "--mount",
                "sh",
                "-ec",
                f"{script}\necho ready\nexec sleep 600",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._holder.stdout
        line = self._holder.stdout.readline()
        if line != b"ready\n":
            absent(f"needs to mount in a namespace of its own: {line.decode()}")

    @property
    def enter(self) -> list[str]:
        """What runs a command in it."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--wd=/"]

    def shell(self, script: str) -> str:
        """Run a script in it, and return what it prints; it must succeed."""
        done = run_as([*self.enter, "sh", "-ec", script])
        assert done.code == 0, done
        return done.out

    def see(self, path: Path) -> Path:
        """Return where a path of it is seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def run(self, *arguments: str, through: Sequence[str] = ()) -> Result:
        """Run the program in it."""
        return run_as([*self.enter, *through, *self.world.command(*arguments)])

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program in it, and do not wait."""
        return self.world.spawn(
            [*self.enter, *self.world.command(*arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def users_world(program: Path) -> Iterator[tuple[World, int]]:
    """Give a world, and an ordinary user whom no other test has, to run in it."""
    need_root()
    user = 10_000 + os.getpid() % 40_000
    with public_world(program) as world:
        world.state.mkdir(mode=0o700)
        os.chown(world.state, user, user)
        yield world, user


def run_by(world: World, user: int, *wrapper: str) -> Result:
    """Run the program as an ordinary user, through a wrapper such as prlimit(1)."""
    command = world.command()
    command[0] = users_python()
    return run_as([*wrapper, *command], user)


def assert_told(result: Result) -> None:
    """A run that did not end well says why, and never by a traceback."""
    assert "Traceback" not in result.out + result.err, result
    assert result.code in (0, 1, 2), result
    assert result.code == 0 or result.out + result.err, result


def assert_kept(state: Path) -> list[Path]:
    """Each incident is whole, and free of what half a write leaves; return them."""
    found = sorted((state / "incidents").iterdir())
    for incident in found:
        record = json.loads((incident / "incident.json").read_text())
        assert record["id"] == incident.name and record["began"], incident
        assert list(incident.glob(".*")) == [], incident
    return found


def assert_quiet(first: Result, second: Result, state: Path) -> None:
    """After the fault one word may be said; then nothing is, and no lock is held."""
    for result in (first, second):
        assert (result.code, result.err) == (0, ""), result
    assert re.fullmatch(r"(.* is up again, .*\n(  evidence .*\n)?)*", first.out), first
    assert second.out == "", second
    for path in (state / "locks").glob("*"):
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def find_program(name: str) -> str:
    """Return the file that a command is in the end."""
    return os.path.realpath(need(name))


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process that a test started."""
    child.send_signal(signal.SIGKILL)
    child.wait()


def copy_of(world: World, program: str) -> Path:
    """Return a copy of a program, by which its processes are known to be the test's."""
    path = world.bin / unique("copy")
    shutil.copy(need(program), path)
    path.chmod(0o755)
    return path
