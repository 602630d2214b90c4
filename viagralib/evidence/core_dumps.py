"""Core dumps: what systemd-coredump knows of one, with a short backtrace."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container

from viagralib.processes.matching import cut

_PID = re.compile(r"^ *PID: (\d{1,10}) ", re.MULTILINE)
_SIGNAL = re.compile(r"^ *Signal: (\d+ \(\w+\))", re.MULTILINE)
_MESSAGE = re.compile(r"^ *Message: ", re.MULTILINE)
_LONGEST = 14  # lines: the first thread's frames; the rest is in the incident


def file(daemon: str) -> str:
    """Return the capture that tells of a daemon's core dump."""
    return f"core-{daemon}.txt"


def command(process: str, since: float) -> str:
    """Return what tells of the newest one of this name, for a shell: coredumpctl(1).

    `since` is in seconds since 1970.
    """
    match = shlex.quote(f"COREDUMP_COMM={cut(process)}")
    return f"coredumpctl -q --no-pager -1 --since=@{int(since)} info {match}"


def cause(text: str, known: Container[int]) -> str:
    """Return how that process died, for people; "" where none dumped its core.

    `known` are the pids where runs saw daemons.
    """
    pid, signal = _PID.search(text), _SIGNAL.search(text)
    if not pid or not signal:
        return ""
    # Anybody can give a process this name, and crash it.
    doubt = "" if int(pid[1]) in known else ", which no run has seen as the daemon"
    return f"systemd-coredump: signal {signal[1]}, pid {pid[1]}{doubt}"


def backtrace(text: str) -> list[str]:
    """Return the first lines of its message, which has the frames."""
    if not (found := _MESSAGE.search(text)):
        return []
    lines = map(str.strip, text[found.end() :].split("\n"))
    return [line for line in lines if line][:_LONGEST]
