"""Unhealthy daemons for the tests of health: unhealthy_daemon.py, watched."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from world import World, comm, until

DAEMON = str(Path(__file__).with_name("unhealthy_daemon.py"))
YOUTH = 1.0  # seconds: start_timeout of the daemons here
FACTS = f'start_timeout = "{YOUTH}s"\nstop_timeout = "2s"\n'


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
    """Start such a daemon by hand, and wait until it is of age."""
    child = world.spawn([sys.executable, DAEMON, name, what, str(place), more])
    until(lambda: comm(child.pid) == name)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > YOUTH)
    return child


def told(world: World, name: str) -> list[str]:
    """Return what the hook noted of its starts."""
    path = world.place / f"{name}.starts"
    return path.read_text().splitlines() if path.exists() else []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
