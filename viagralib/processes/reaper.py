"""What ties processes to each other: orphans become ours, a child dies with us."""

from __future__ import annotations

import os
import signal
import sys

from viagralib.base.messages import Fault

TYPE_CHECKING = False  # typing costs too much
if TYPE_CHECKING:
    import ctypes

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PR_SET_PDEATHSIG = 1
_P_PID, _PROC_REAP_ACQUIRE = 0, 2  # FreeBSD sys/wait.h, sys/procctl.h
_PROC_PDEATHSIG_CTL = 11
_loaded: list[ctypes.CDLL] = []  # the C library


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
    is_linux = sys.platform.startswith("linux")
    if not is_linux and not sys.platform.startswith("freebsd"):
        raise Fault("", f"{sys.platform} has no process contracts or subreapers")
    import ctypes  # a megabyte that most of viagralib never needs

    # Once: not between fork(2) and exec(2), where a lock of the loader may be held.
    libc = _loaded[0] if _loaded else ctypes.CDLL(None, use_errno=True)
    _loaded[:] = [libc]
    if is_linux:
        failed = libc.prctl(*linux, 0, 0, 0)
    else:
        pid = ctypes.c_int64(os.getpid())
        data = ctypes.byref(ctypes.c_int(value)) if value else None
        failed = libc.procctl(_P_PID, pid, freebsd, data)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
