"""Core dumps: what systemd-coredump knows of one, with a short backtrace."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Container

from viagralib.base.users import user_id
from viagralib.processes.matching import cut
from viagralib.settings.configuration import Daemon

_PID = re.compile(r"^ *PID: (\d{1,10}) ", re.MULTILINE)
_SIGNAL = re.compile(r"^ *Signal: (\d+ \(\w+\))", re.MULTILINE)
_MESSAGE = re.compile(r"^ *Message: ", re.MULTILINE)
_LONGEST = 14  # lines: the first thread's frames; the rest is in the incident


def file(daemon: str) -> str:
    """Return the capture that tells of a daemon's core dump."""
    return f"core-{daemon}.txt"


def command(daemon: Daemon, since: float) -> str:
    """Return what tells of a daemon's newest one, for a shell: coredumpctl(1).

    `since` is in seconds since 1970. Anybody may write such an entry to the journal,
    but for _UID, which journald gives it. systemd-coredump writes it as a user of its
    own, or as root; of a person's process, as that person.
    """
    writers = [*map(user_id, ("systemd-coredump", *daemon.facts.user)), os.geteuid()]
    of_them = [f" _UID={number}" for number in {*writers} - {-1}]
    name = shlex.quote(f"COREDUMP_COMM={cut(daemon.process)}")
    about = name + "".join(sorted(of_them))
    return f"coredumpctl -q --no-pager -1 --since=@{int(since)} info {about}"


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
