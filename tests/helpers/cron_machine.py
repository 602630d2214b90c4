"""A private machine with a cron of its own, for tests of what cron does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ready_machine import Machine
from world import absent, need, need_root

SETTINGS = """\
[defaults]
patience = "0.5s"
[run]
every = "1m"
boot = "0s"
packages = "0s"
"""
# Cron waits for the full minute. Its clock alone is set forward so far that this is
# soon enough to wait for, and late enough to kill the daemon before it; and it goes
# faster. Its jobs do not inherit that: cron makes their environment anew.
AHEAD = 10.0  # seconds
FASTER = 5


@pytest.fixture(name="machine")
def cron_machine(tmp_path: Path) -> Iterator[Machine]:
    need_root()
    for program in ("unshare", "nsenter"):
        need(program)
    try:
        machine = Machine(tmp_path / "machine")
    except OSError as error:
        absent(str(error))
    machine.shell("rm -rf /etc/viagra /var/lib/viagra && mkdir -p /etc/viagra/start.d")
    write(machine, "/etc/viagra/viagra.toml", SETTINGS)
    yield machine
    machine.end()


def write(machine: Machine, path: str, text: str, mode: str = "644") -> None:
    """Write a file that only the machine sees, and the directories above it."""
    script = 'mkdir -p "${1%/*}" && printf %s "$2" >"$1" && chmod "$3" "$1"'
    machine.enter("sh", "-c", script, "sh", path, text, mode)


def start_cron(machine: Machine) -> float:
    """Start cron, the real one; return in how many seconds its next minute begins."""
    left = 60 - time.time() % 60
    faketime = shutil.which("faketime")
    if faketime is None:  # then it is that of the real clock
        time.sleep(max(0.0, left - AHEAD))
        machine.start("exec /usr/sbin/cron -f")
        return 60 - time.time() % 60
    clock = f"{left - AHEAD * FASTER:+.3f}s x{FASTER}"
    machine.start(f"exec {faketime} -f '{clock}' /usr/sbin/cron -f")
    return AHEAD
