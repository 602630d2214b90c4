"""A process contract: a command and everything it forks, held together.

The holder becomes the reaper of its descendants (Linux: prctl(2), child subreaper;
FreeBSD: procctl(2)). From then on a member whose parent dies becomes the holder's
child, also after a double fork and setsid(2). So "no child left" means "no member
left", and that needs no look at the process table. What it cannot see: the death of
a member whose own parent is alive and reaps it; only Solaris's kernel tells of those.

A shell that becomes the holder (`exec`) may have children already, such as a process
substitution that waits for what the command writes. They are strangers, no members.
"""

from __future__ import annotations

import os
import signal
import time

from viagralib.processes import reaper, table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import is_past_killing, send

_LOOK_AGAIN = 0.05  # seconds: a grandchild's death sends the holder no signal
strangers: set[int] = set()  # pids of our children from before; until they are reaped


class Death:
    """How a process ended: with `code` or by `signal`, one of them None.

    `core` is whether core was dumped, `group` and `session` what it was in.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        pid: int,
        code: int | None,
        signal: int | None,
        core: bool,
        group: int,
        session: int,
    ) -> None:
        self.pid = pid
        self.session = session
        self.code = code
        self.signal = signal
        self.core = core
        self.group = group

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit {self.code}"
        return f"signal {self.signal}" + (", core" if self.core else "")


def hold() -> None:
    """Make this process the holder of a contract. Raises as `reaper.hold`."""
    strangers.clear()  # of who forked us
    if _has_children():
        strangers.update(child.pid for child in table.children_finder()(os.getpid()))
    reaper.hold()


def reap() -> list[Death]:
    """Return the members that have ended since the last call; in which order they
    did is not told."""
    deaths: list[Death] = []
    while True:
        try:
            # Looked at before it is reaped: the group is gone afterwards.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return deaths
        if found is None:
            return deaths
        try:
            group, session = os.getpgid(found.si_pid), os.getsid(found.si_pid)
        except ProcessLookupError:
            group = session = 0  # a system that forgets it at once; no group is 0
        os.waitpid(found.si_pid, 0)
        if found.si_pid in strangers:
            strangers.remove(found.si_pid)
            continue
        plain = found.si_code == os.CLD_EXITED
        deaths.append(
            Death(
                found.si_pid,
                found.si_status if plain else None,
                None if plain else found.si_status,
                found.si_code == os.CLD_DUMPED,
                group,
                session,
            )
        )


def is_empty() -> bool:
    """Return whether there is no member: this process has no child, or strangers."""
    return not (adopted() if strangers else _has_children())


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end(group: int | None = None) -> list[Death]:
    """Kill every member (of `group` only, where given); return who was reaped.

    Repeats until none is left, for a member may fork while it is being killed, and
    its child then is the holder's. Gives up on what KILL does not end: `survivors`
    tells. SIGCHLD must be blocked.
    """
    began = time.monotonic()
    deaths = reap()
    while not is_empty():
        alive = survivors(group)
        if group is not None and not alive:
            break
        if is_past_killing(alive, time.monotonic() - began):
            break
        for member in alive:
            send(member, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_AGAIN)
        deaths += reap()
    return deaths


def survivors(group: int | None = None) -> list[Process]:
    """Return the members (of `group`, where given) that have not ended yet."""
    return [
        member
        for member in below(os.getpid())
        if not member.zombie and group in (None, member.group)
    ]


def below(pid: int) -> list[Process]:
    """Return all that descend from `pid`, but for strangers: parents before children.

    Raises OSError.
    """
    found: list[Process] = []
    children_of = table.children_finder()
    waiting = [pid]
    for parent in waiting:
        there = [one for one in children_of(parent) if one.pid not in strangers]
        found += there
        waiting += [child.pid for child in there]
    return found


def adopted() -> list[Process]:
    """Return the members whose parent is this process."""
    children = table.children_finder()(os.getpid())
    return [child for child in children if child.pid not in strangers]
