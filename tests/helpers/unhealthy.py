"""Unhealthy daemons for the tests of health: unhealthy_daemon.py, watched."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from world import World, comm, until

DAEMON = str(Path(__file__).with_name("unhealthy_daemon.py"))
# Of age at once; what is started anew has no time to become well.
FACTS = 'start_timeout = "1ms"\nstop_timeout = "2s"\n'
# Sick: nobody listens there, while a free port may be another test's at any moment.
NOBODY = 'listens = ["tcp:127.0.0.1:1"]\n'


def watch_unhealthy(
    world: World, name: str, what: str, place: object, facts: str
) -> None:
    """Watch a daemon that can fall ill; its hook notes its instance."""
    world.facts(name, FACTS + facts)
    world.hook(
        name,
        f"echo $VIAGRA_REASON $VIAGRA_INSTANCE >> {world.place}/{name}.starts\n"
        f"{sys.executable} {DAEMON} {name} {what} {place} x >/dev/null 2>&1 &",
    )


def start(
    world: World, name: str, what: str, place: object, more: str = "x"
) -> subprocess.Popen[bytes]:
    """Start such a daemon by hand, and wait until it has its name."""
    child = world.spawn([sys.executable, DAEMON, name, what, str(place), more])
    until(lambda: comm(child.pid) == name)
    return child


def of_age(seconds: float = 1.0) -> str:
    """Wait until all are of age by the fact that is returned, which the next have."""
    began = time.monotonic()
    until(lambda: time.monotonic() - began > seconds)
    return f'start_timeout = "{seconds}s"\n'


def told(world: World, name: str) -> list[str]:
    """Return what the hook noted of its starts."""
    path = world.place / f"{name}.starts"
    return path.read_text().splitlines() if path.exists() else []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
