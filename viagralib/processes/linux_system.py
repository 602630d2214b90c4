"""What Linux tells beside the table: boot, who is hidden, children, open files."""

from __future__ import annotations

import os

from viagralib.base import files
from viagralib.processes import linux

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Finder = Callable[[int], list[linux.Process]]


def own_pid() -> int:
    """Return our pid as /proc numbers it: it may be another namespace's /proc."""
    try:
        return int(os.readlink("/proc/self"))
    except OSError:
        return os.getpid()


def bearers(names: Iterable[str]) -> Iterator[int]:
    """Yield the pids of all that may have one of these names by what they execute.

    That is by their arguments, or by their executable. Raises OSError as look() does.
    """
    wanted = [os.fsencode(name) for name in names]
    for pid, line in linux.each("cmdline", [], linux.FEW_ARGUMENTS):
        is_whole = 0 < len(line) < linux.FEW_ARGUMENTS
        if not is_whole or any([name in line for name in wanted]):
            yield pid
            continue
        try:
            program = os.readlink(f"/proc/{pid}/exe".encode())
        except OSError:  # kept from us, or gone
            continue
        if os.path.basename(program.removesuffix(b" (deleted)")) in wanted:
            yield pid


def sees_all() -> bool:
    """Return whether no process is hidden from us (hidepid, ProtectProc).

    That process 1 is seen proves little: without CAP_SYS_PTRACE, root sees root's.
    """
    this, group = linux.find(own_pid()), _hidden_but_to()
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
    """Return what names this boot of the machine, or of the container, which has the
    kernel's boot, and a process 1 of its own."""
    first = linux.find(1)
    boot = os.fsdecode(files.read("/proc/sys/kernel/random/boot_id")).strip()
    return f"{boot}.{first.start}" if first else boot


def children_finder() -> Finder:
    """Return what finds the children of a pid: cheap, or by one look at all.

    It raises OSError where it cannot be told whether there are any.
    """
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children
    return finder_among(linux.look())


def finder_among(processes: Iterable[linux.Process]) -> Finder:
    """Return what finds the children of a pid among these."""
    children: dict[int, list[linux.Process]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one)
    return lambda pid: children.get(pid, [])


def _children(pid: int) -> list[linux.Process]:
    pids: list[bytes] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += files.read(f"/proc/{pid}/task/{thread}/children").split()
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended meanwhile
    found = [linux.read(int(child)) for child in pids]
    return [one for one in found if one is not None and one.parent == pid]


def outputs(process: linux.Process) -> list[str]:
    """Return where its standard output and errors go, as far as we may know."""
    try:
        return [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (1, 2)]
    except OSError:
        return []
