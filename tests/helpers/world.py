"""A home of its own for one test, with real daemons in it, and the real program."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from viagralib.state.lock_file import RUN_LOCKS, run_lock

SLEEP = "1000"  # seconds that a test's daemon would live if nobody ended it
# Quick, and enough for most tests; one of patience, evidence or limits sets its own.
# A start may take long where much else is at work: what must run out is a test's own.
SETTINGS = """\
[defaults]
patience = "0.1s"
start_timeout = "60s"
[evidence]
commands = []
"""
# In the table [run].
STEADY = ('boot = "0s"\n', 'packages = "0s"\n')

T = TypeVar("T")

# One process table serves all the tests that run side by side.
_NUMBERS = itertools.count()


def unique(stem: str) -> str:
    """Return a name of at most 15 bytes that no other test's daemon has."""
    # Apart from the stem: "pause" and a pid like d7c would be "paused" and 7c.
    number = f"-{os.getpid():x}-{next(_NUMBERS):x}"
    return f"{stem[: 15 - len(number)]}{number}"


class Result:
    """What a run of the program printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


class World:
    """A home, a state directory, and all the processes that came of them."""

    def __init__(self, place: Path, program: Path) -> None:
        self.place = place
        self.program = program
        self.home = place / "home"
        self.state = place / "state"
        self.bin = place / "bin"
        # And those of the worlds within this one.
        self.locked = [self.home, self.state]
        for directory in (self.home, self.home / "start.d", self.bin):
            directory.mkdir(mode=0o755)
        self.settings(SETTINGS)
        self._children: list[subprocess.Popen[bytes]] = []

    # What is in the home

    def settings(self, text: str) -> None:
        """Write viagra.toml, and that the machine's boot and packages change nothing.

        Where these are the subject, `text` says so: all others also hold on a machine
        that has just booted, or that installs packages. Skips the test where a tool
        that it is to take evidence by is missing.
        """
        for tool in re.findall(r"""["'](ps|w|vmstat)[ "']""", text):
            need(tool)
        own = [line for line in STEADY if line.split()[0] not in text.split()]
        before, table, after = text.partition("[run]\n")
        lines = [before, table or "\n[run]\n", *own, after]
        self.write(self.home / "viagra.toml", "".join(lines))

    def hook(
        self, name: str, text: str, kind: str = "start.d", mode: int = 0o755
    ) -> Path:
        """Write a hook (or a step: NAME/STEP); a shell script if it has no #!."""
        path = self.home / kind / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.write(
            path, text if text.startswith("#!") else f"#!/bin/sh\n{text}\n", mode
        )
        return path

    def facts(self, name: str, text: str) -> Path:
        """Write start.d/NAME.toml."""
        path = self.home / "start.d" / f"{name}.toml"
        self.write(path, text)
        return path

    @staticmethod
    def write(path: Path, text: str, mode: int = 0o644) -> None:
        path.write_text(text)
        path.chmod(mode)

    def daemon(self, name: str) -> Path:
        """Return a program of this name that sleeps: what a hook can start."""
        path = self.bin / name
        if not path.exists():
            shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
            path.chmod(0o755)
        return path

    def calculation(self, name: str) -> str:
        """Return a command of this name that ends well once `place`/done is there."""
        path = self.bin / name
        shutil.copy(shutil.which("sh") or "/bin/sh", path)
        path.chmod(0o755)
        return f"{path} -c 'until [ -e {self.place}/done ]; do sleep 0.05; done'"

    def watch(self, name: str, facts: str = "") -> Path:
        """Put in a hook that starts a daemon of its name and counts its starts."""
        if facts:
            self.facts(name, facts)
        return self.hook(
            name,
            f"echo started >> {self.place}/{name}.starts\n"
            f"{self.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
        )

    def starts(self, name: str) -> int:
        """Return how often the hook made by watch() was executed."""
        path = self.place / f"{name}.starts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    # What runs

    def spawn(
        self, argv: Sequence[str | bytes | Path], **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own."""
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        more: dict[str, Any] = {**nowhere, **options}
        child = subprocess.Popen(argv, start_new_session=True, **more)
        self._children.append(child)
        return child

    def up(self, name: str) -> subprocess.Popen[bytes]:
        """Start the daemon itself, and wait until it has its name."""
        child = self.spawn([str(self.daemon(name)), SLEEP])
        until(lambda: comm(child.pid) == name[:15])
        return child

    def pids(self, name: str) -> list[int]:
        """Return the processes that execute the program made by daemon()."""
        path = str(self.daemon(name))
        return [pid for pid in all_pids() if executable(pid) == path and alive(pid)]

    def kill(self, pid: int) -> None:
        """Kill one process, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        for child in self._children:
            if child.pid == pid:
                child.wait()
        until(lambda: not alive(pid))

    def command(self, *arguments: str, home: Path | None = None) -> list[str]:
        """Return the command that runs the program on this home."""
        places = ["--dir", str(home or self.home), "--state", str(self.state)]
        return [sys.executable, "-I", str(self.program), *places, *arguments]

    def run(
        self,
        *arguments: str,
        timeout: float = 180,
        parent: str = "",
        **options: object,
    ) -> Result:
        """Run the program as cron would: no terminal, output to pipes.

        With `parent`, as the child of a process of that name.
        """
        command = self.command(*arguments)
        if parent:
            shell = shutil.copy(shutil.which("sh") or "/bin/sh", self.bin / parent)
            command = [str(shell), "-c", '"$@"; exit $?', parent, *command]
        done = subprocess.run(  # type: ignore[call-overload]  # noqa: PLW1510
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            text=True,
            errors="surrogateescape",
            env=environment(),
            **options,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    # What it left

    def incidents(self, name: str = "") -> list[Path]:
        """Return the incidents' directories, oldest first."""
        places = sorted((self.state / "incidents").glob(f"*-{name or '*'}"))
        return [place for place in places if place.is_dir()]

    def record(self, incident: Path) -> dict[str, object]:
        """Return an incident's record."""
        return dict(json.loads((incident / "incident.json").read_text()))

    def end(self) -> None:
        """End every process that this test started, or that came of one."""
        mark = os.fsencode(self.place)
        for _ in range(100):
            rest = of(mark)
            for pid in rest:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for child in self._children:
                child.poll()
            if not rest:
                break
            time.sleep(0.02)
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        remove_locks(self.locked)


def _locks() -> set[str]:
    return set(os.listdir(RUN_LOCKS)) if os.path.isdir(RUN_LOCKS) else set()


# Tests that were killed have left theirs, perhaps thousands, until the next boot.
_LOCKS_BEFORE = _locks()


def remove_locks(places: Iterable[Path]) -> None:
    """Remove second locks: of daemons of a home, and of leases in a state."""
    for lock in _locks() - _LOCKS_BEFORE:
        name = lock.rpartition(".")[0]
        lease = name.removesuffix(".lease")
        below = f"/leases/{lease}" if lease != name else ""
        path = f"{RUN_LOCKS}/{lock}"
        if path in [run_lock(name, f"{one}{below}") for one in places]:
            os.unlink(path)


def environment() -> dict[str, str]:
    """Return what cron gives its jobs, as far as Python is concerned."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def until(look: Callable[[], T | None], seconds: float = 120) -> T:
    """Return what `look` returns once that is true; fail if it is not in `seconds`."""
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not in {seconds} s: {found!r}"
        time.sleep(min(0.005 + waited / 20, 0.2))  # other tests need the machine, too
    return found


def fill(place: Path, leave: int = 0) -> None:
    """Fill the disk of a directory; leave so many bytes, to the page."""
    with open(place / "filling", "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def comm(pid: int) -> str:
    """Return the name of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="surrogateescape")[:-1]
    except OSError:
        return ""


def executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def arguments(pid: int) -> list[str]:
    """Return the words of a process's command line; none when it is gone."""
    return os.fsdecode(_read(pid, "cmdline")).split("\0")[:-1]


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            != b"Z"
        )
    except OSError:
        return False


def of(mark: bytes) -> list[int]:
    """Return the living that run, or were told of, something below a test's place."""
    return [pid for pid in all_pids() if pid != os.getpid() and _has(pid, mark)]


def _has(pid: int, mark: bytes) -> bool:
    told = any(mark in _read(pid, what) for what in ("cmdline", "environ"))
    return (told or os.fsencode(executable(pid)).startswith(mark)) and alive(pid)


def _read(pid: int, what: str) -> bytes:
    """Return a file of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/{what}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def missing(notice: str) -> list[str]:
    """Return what a notice says is missing, but for a kernel log that is not ours.

    It is root's alone, and a container may have none.
    """
    told = re.findall(r"^  missing   (.*)$", notice, re.MULTILINE)
    not_ours = "kernel log: Operation" if reads_kernel_log() else "kernel log: "
    return [text for text in told if not text.startswith(not_ours)]


def reads_kernel_log() -> bool:
    """Return whether the kernel's log is there for us."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def is_first_pid_namespace() -> bool:
    """Return whether our pids are those that the kernel's log names."""
    return os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"  # PROC_PID_INIT_INO


def need(program: str) -> str:
    """Return the path of a program; skip the test without it, fail under CI."""
    path = shutil.which(program)
    if path is None:
        absent(f"needs {program}")
    return str(path)


def need_directory(path: str) -> None:
    """Skip the test where there is none to mount over; fail under CI."""
    if not os.path.isdir(path):
        absent(f"needs {path}")


def need_root() -> None:
    """Skip the test for anybody but root; fail under CI."""
    if os.geteuid() != 0:
        absent("needs root")


def absent(what: str) -> None:
    """Skip the test for want of something; under CI nothing may be wanting."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
