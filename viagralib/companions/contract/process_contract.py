"""A process contract: a command and everything it forks, held together.

The holder becomes the reaper of its descendants (Linux: prctl(2), child subreaper;
FreeBSD: procctl(2)). From then on a member whose parent dies becomes the holder's
child, also after a double fork and setsid(2). So "no child left" means "no member
left", and that needs no look at the process table. What it cannot see: the death of
a member whose own parent is alive and reaps it; only Solaris's kernel tells of those.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from viagralib.base.messages import Fault
from viagralib.companions.contract.member import (
    LINUX,
    Member,
    below,
    children,
    look,
    send,
)

# Those of `member` as well, so that a holder needs one name only.
TYPE_CHECKING = False  # typing costs too much
if TYPE_CHECKING:
    import ctypes

__all__ = [
    "Death",
    "Member",
    "adopted",
    "end",
    "hold",
    "die_with",
    "is_empty",
    "look",
    "members",
    "reap",
    "send",
    "survivors",
]

STUCK_AFTER = 1.0  # seconds after KILL: what is still in state D will not go soon
PATIENCE = 10.0  # seconds after KILL for all others, on a machine with much load
_LOOK_AGAIN = 0.05  # seconds: a grandchild's death sends the holder no signal
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PR_SET_PDEATHSIG = 1
_P_PID, _PROC_REAP_ACQUIRE = 0, 2  # FreeBSD sys/wait.h, sys/procctl.h
_PROC_PDEATHSIG_CTL = 11
_loaded: list[ctypes.CDLL] = []  # the C library


class Death:
    """How a process ended: with `code` or by `signal`, one of them None.

    `core` is whether core was dumped, `group` the process group it was in.
    """

    __slots__ = ("code", "core", "group", "pid", "signal")

    def __init__(
        self, pid: int, code: int | None, signal: int | None, core: bool, group: int
    ) -> None:
        self.pid = pid
        self.code = code
        self.signal = signal
        self.core = core
        self.group = group

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit {self.code}"
        return f"signal {self.signal}" + (", core" if self.core else "")


def hold() -> None:
    """Make this process the reaper of all its descendants, present and future.

    Raises Fault where the system has no such thing, OSError where it fails.
    """
    _control((_PR_SET_CHILD_SUBREAPER, 1), _PROC_REAP_ACQUIRE, 0)


def die_with(parent: int) -> None:
    """Have this process killed when `parent`, which forked it, dies. Raises as `hold`.

    What it executes keeps that (unless set-user-id), what it forks does not.
    """
    kill = int(signal.SIGKILL)
    _control((_PR_SET_PDEATHSIG, kill), _PROC_PDEATHSIG_CTL, kill)
    if os.getppid() != parent:  # it has died before
        os.kill(os.getpid(), signal.SIGKILL)


def _control(linux: tuple[int, int], freebsd: int, value: int) -> None:
    """Call prctl(2) or procctl(2) for this process."""
    if not LINUX and not sys.platform.startswith("freebsd"):
        raise Fault("", f"{sys.platform} has no process contracts or subreapers")
    import ctypes  # a megabyte that most of viagralib never needs

    # Once: not between fork(2) and exec(2), where a lock of the loader may be held.
    libc = _loaded[0] if _loaded else ctypes.CDLL(None, use_errno=True)
    _loaded[:] = [libc]
    if LINUX:
        failed = libc.prctl(*linux, 0, 0, 0)
    else:
        pid = ctypes.c_int64(os.getpid())
        data = ctypes.byref(ctypes.c_int(value)) if value else None
        failed = libc.procctl(_P_PID, pid, freebsd, data)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def reap() -> list[Death]:
    """Return the children that have ended since the last call."""
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
            group = os.getpgid(found.si_pid)
        except ProcessLookupError:
            group = 0  # a system that forgets it at once; no group has this number
        os.waitpid(found.si_pid, 0)
        plain = found.si_code == os.CLD_EXITED
        deaths.append(
            Death(
                found.si_pid,
                found.si_status if plain else None,
                None if plain else found.si_status,
                found.si_code == os.CLD_DUMPED,
                group,
            )
        )


def is_empty() -> bool:
    """Return whether this process has no child, and so the contract no member."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def end(group: int | None = None, patience: float = PATIENCE) -> list[Death]:
    """Kill every member (of `group` only, where given); return who was reaped.

    Repeats until none is left, for a member may fork while it is being killed, and
    its child then is the holder's. Gives up on what KILL does not end in `patience`
    seconds: `survivors` tells. SIGCHLD must be blocked.
    """
    began = time.monotonic()
    deaths = reap()
    while not is_empty():
        alive = survivors(group)
        if group is not None and not alive:
            break
        waited = time.monotonic() - began
        stuck = bool(alive) and all(member.state == "D" for member in alive)
        if waited > patience or (stuck and waited > STUCK_AFTER):
            break
        for member in alive:
            send(member, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_AGAIN)
        deaths += reap()
    return deaths


def survivors(group: int | None = None) -> list[Member]:
    """Return the members (of `group`, where given) that have not ended yet."""
    return [
        member
        for member in members()
        if member.state not in "ZX" and group in (None, member.group)
    ]


def members(holder: int | None = None) -> list[Member]:
    """Return all descendants of `holder` (this process): parents before children."""
    return below(holder or os.getpid())


def adopted() -> list[Member]:
    """Return the members whose parent is this process."""
    return children(os.getpid())
