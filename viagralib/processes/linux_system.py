"""What Linux tells beside the table: which boot this is, who is hidden, open files."""

from __future__ import annotations

import os

from viagralib.base import files
from viagralib.processes import linux


def sees_all() -> bool:
    """Return whether no process is hidden from us (hidepid, ProtectProc).

    That process 1 is seen proves little: without CAP_SYS_PTRACE, root sees root's.
    """
    this, group = linux.find(linux.own_pid()), _hidden_but_to()
    if this is None or linux.find(1) is None:
        return False
    groups = map(str, (os.getegid(), *os.getgroups()))
    return not group or this.may_trace() or group in groups


def _hidden_but_to() -> str:
    """Return the group that /proc hides nothing from; "" when it hides nothing."""
    options: list[str] = []
    # Users choose names as well: one may hold all blanks but those that are escaped.
    for line in files.read("/proc/self/mountinfo").split(b"\n"):
        words = line.split(b" ")
        if words[4:5] == [b"/proc"]:  # the last one lies on top
            options = os.fsdecode(words[-1]).split(",")
    named = dict(option.partition("=")[::2] for option in options)
    if named.get("hidepid", "0") in {"0", "off"}:
        return ""
    # Under hidepid=ptraceable there is no such group.
    return "-1" if named["hidepid"] in {"4", "ptraceable"} else named.get("gid", "0")


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return os.fsdecode(files.read("/proc/sys/kernel/random/boot_id")).strip()


def outputs(process: linux.Process) -> list[str]:
    """Return where its standard output and errors go, as far as we may know."""
    try:
        return [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (1, 2)]
    except OSError:
        return []
