"""A member of a contract: one process, and what each system tells of it.

A member is known by pid and start time, never by pid alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from viagralib.base import files

LINUX = sys.platform.startswith("linux")


class Member:
    """One process as the kernel describes it; `start` counts in the kernel's units."""

    __slots__ = ("group", "parent", "pid", "start", "state")

    def __init__(
        self, pid: int, start: float, parent: int, group: int, state: str
    ) -> None:
        self.pid = pid
        self.start = start
        self.parent = parent
        self.group = group
        self.state = state


def look(pid: int) -> Member | None:
    """Return what the kernel says of `pid` now; None when there is no such process."""
    return _look_in_proc(pid) if LINUX else _look_with_psutil(pid)


def began_at(member: Member) -> float:
    """Return when `member` began, in seconds since the epoch, to about a second."""
    if not LINUX:
        return member.start
    lines = files.read("/proc/stat").splitlines()  # proc(5): btime, whole seconds
    boot = next(line for line in lines if line.startswith(b"btime "))
    return int(boot.split()[1]) + member.start / os.sysconf("SC_CLK_TCK")


def below(pid: int) -> list[Member]:
    """Return all that descend from `pid`: parents before children."""
    found: list[Member] = []
    children_of = _finder()
    waiting = [pid]
    for parent in waiting:
        there = children_of(parent)
        found += there
        waiting += [child.pid for child in there]
    return found


def children(pid: int) -> list[Member]:
    """Return the members whose parent is `pid`."""
    return _finder()(pid)


def send(member: Member, number: int) -> bool:
    """Send a signal to `member`, and to no later process of the same pid.

    Returns whether it was sent: the member may have ended, or belong to another user.
    """
    try:
        if hasattr(os, "pidfd_open"):
            return _send_by_descriptor(member, number)
        if _is_same(member):
            os.kill(member.pid, number)
            return True
    except OSError:
        pass
    return False


def _send_by_descriptor(member: Member, number: int) -> bool:
    descriptor = os.pidfd_open(member.pid)
    try:
        # Open first, look then: what the descriptor stands for cannot change.
        if same := _is_same(member):
            signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
    return same


def _is_same(member: Member) -> bool:
    now = look(member.pid)
    return now is not None and now.start == member.start


def _look_in_proc(pid: int) -> Member | None:
    try:
        text = files.read(f"/proc/{pid}/stat")  # proc(5)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        # The name stands in brackets and may hold brackets itself.
        rest = text[text.rindex(b")") + 2 :].split()
        state, parent, group, start = rest[0].decode(), rest[1], rest[2], rest[19]
        if state == "Z" and int(rest[17]) > 1:
            state = "S"  # only its first thread has ended, others live
        return Member(pid, int(start), int(parent), int(group), state)
    except (ValueError, IndexError):
        raise OSError(None, "not as proc(5) says", f"/proc/{pid}/stat") from None


def _look_with_psutil(pid: int) -> Member | None:
    import psutil  # needed where there is no /proc

    try:
        process = psutil.Process(pid)
        state = "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
        start, parent = process.create_time(), process.ppid()
        return Member(pid, start, parent, os.getpgid(pid), state)
    except (psutil.Error, ProcessLookupError):
        return None


def _finder() -> Callable[[int], list[Member]]:
    """Return what finds the children of a pid: cheap, or by one look at all."""
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children_in_proc
    table: dict[int, list[Member]] = {}
    for pid in _all_pids():
        if member := look(pid):
            table.setdefault(member.parent, []).append(member)
    return lambda pid: table.get(pid, [])


def _children_in_proc(pid: int) -> list[Member]:
    pids: list[bytes] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += files.read(f"/proc/{pid}/task/{thread}/children").split()
    children = (look(int(child)) for child in pids)
    return [child for child in children if child is not None and child.parent == pid]


def _all_pids() -> list[int]:
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    import psutil  # needed where there is no /proc

    return psutil.pids()
