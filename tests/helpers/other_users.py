"""What tests of a look share: fresh names, other users, what `check` says."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from world import Result, World, absent, comm, environment, until

ORDINARY = 4242  # a person's uid, by login.defs(5); it needs no account
SYSTEM = 1  # no person's: "daemon" on every system
# A first thread that ends, as its exit(2) lets it, while another one lives on.
_EXIT = 60 if os.uname().machine == "x86_64" else 93  # asm/unistd.h
HEADLESS = f"""\
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall({_EXIT}, 0)
"""
_numbers = itertools.count()


def fresh(length: int = 0, text: str = "") -> str:
    """Return a name that no other test's process has, of so many bytes."""
    name = f"f{os.getpid():x}.{next(_numbers)}{text}"
    return name + "z" * (length - len(os.fsencode(name)))


class Look:
    """What `check` says of one daemon."""

    def __init__(self, name: str, result: Result) -> None:
        document = json.loads(result.out)
        told = document["daemons"].get(name, {})
        self.word = told.get("verdict", "")
        self.reason = told.get("reason", "")
        self.standing = told.get("standing", "")
        self.pids = told.get("pids", [])
        self.faults = document["faults"]
        self.code = result.code

    def __repr__(self) -> str:
        return f"{self.word} {self.pids}: {self.reason} ({self.standing})"


def look(world: World, name: str, *wrapper: str, user: int = 0) -> Look:
    """Look with the real program, as `user`, and started by `wrapper`."""
    command = [*wrapper, *world.command("check", "--json", name)]
    if user:
        command[len(wrapper)] = users_python()
    done = run_as(command, user)
    assert done.out, done
    return Look(name, done)


def run_as(command: Sequence[str], user: int = 0) -> Result:
    """Run a command as root or as another user; from /, as cron does."""
    identity = {"user": user, "group": user, "extra_groups": []} if user else {}
    done = subprocess.run(  # type: ignore[call-overload]  # noqa: PLW1510
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment(),
        cwd="/",
        timeout=180,
        **identity,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def users_python() -> str:
    """Return a Python that other users may execute, too."""
    for path in (sys.executable, shutil.which("python3", path="/usr/bin") or ""):
        real = Path(os.path.realpath(path))
        # Of a virtual environment, the way to the link counts as well.
        places = {real, *real.parents, *Path(path).absolute().parents}
        if path and all(place.stat().st_mode & 1 for place in places):
            return path
    absent("needs a Python that every user may execute: python3 in /usr/bin")
    return ""


@contextmanager
def public_world(program: Path) -> Iterator[World]:
    """Give a world that other users may look into, too: pytest's own they may not."""
    place = Path(tempfile.mkdtemp(prefix=f"viagra-test.{os.getpid()}."))
    place.chmod(0o755)
    shutil.copytree(program.parent, place / "program")
    world = World(place, place / "program" / program.name)
    try:
        yield world
    finally:
        world.end()
        shutil.rmtree(place)


def give(world: World, user: int) -> None:
    """Let the world's runs be of `user`: they need a state directory of their own."""
    world.state.mkdir(mode=0o700, exist_ok=True)
    os.chown(world.state, user, user)


def up_as(world: World, name: str, user: int, *arguments: str) -> int:
    """Start a daemon as another user; return its pid when it has its name."""
    argv = [str(world.daemon(name)), *(arguments or ("1000",))]
    child = world.spawn(argv, user=user, group=user, extra_groups=[])
    until(lambda: comm(child.pid) == name[:15])
    return child.pid


def with_mounts(script: str) -> list[str]:
    """Return what runs a command in a mount namespace of its own, after a script."""
    return ["unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh"]


def python_program(path: Path, text: str) -> Path:
    """Write an executable Python script."""
    path.write_text(f"#!{users_python()}\n{text}\n")
    path.chmod(0o755)
    return path
