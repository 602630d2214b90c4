"""The process table of Linux; boot, who is hidden, children, open files."""

from __future__ import annotations

import errno
import os

from viagralib.base import files
from viagralib.base.files import noting
from viagralib.processes.linux import (
    FEW_ARGUMENTS,
    LONGEST_FILE,
    SMALL,
    Process,
    Unreadable,
)

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator

    Finder = Callable[[int], list[Process]]

_CAP_SYS_PTRACE = 19  # linux/capability.h


def look(
    names: Collection[str] | None = None,
    hidden: list[int] | None = None,
    first: Iterable[int] = (),
) -> Iterator[Process]:
    """Yield the processes whose name is one of `names` (None: all of them).

    Those of the pids `first` come first. Each is read when it is asked for, so whoever
    has seen enough may stop. What is `silent` comes too. `hidden` gets the pids of
    those that we may not read. Raises OSError when there is no /proc, or when the
    system is out of what it takes to read it: that is no process's end.
    """
    denied = [] if hidden is None else hidden
    if names is None:
        from viagralib.processes.bounded_reads import everybody

        yield from everybody(denied)
        return
    begun = [one for pid in dict.fromkeys(first) if (one := _begin(pid, denied))]
    if others := [one for one in begun if any(one.users())]:
        from viagralib.processes.bounded_reads import read_ahead

        read_ahead(others)
    known = [process for one in begun if (process := _read(one, names, denied))]
    yield from known
    seen = {process.pid for process in known}
    # Of a name, /proc/PID/comm tells at half the cost of stat, and at once.
    wanted = {os.fsencode(name) + b"\n" for name in names}
    for pid, line in files.read_each("/proc", "comm", SMALL, noting(denied)):
        is_new = line in wanted and pid not in seen
        if is_new and (process := read(pid, names, denied)):
            yield process


def find(pid: int) -> Process | None:
    """Return the process that has this pid now, or None."""
    try:
        return read(pid, None, [])
    except OSError:
        return None


def read(pid: int, names: Container[str] | None, hidden: list[int]) -> Process | None:
    """Return one process, as look() does; None when it is gone, hidden, not so named.

    Raises OSError as look() does.
    """
    begun = _begin(pid, hidden)
    return begun and _read(begun, names, hidden)


def _begin(pid: int, hidden: list[int]) -> Process | None:
    """Return what is told at once of a process: whose it is; None: gone, or hidden."""
    process = Process(pid, 0.0)
    try:
        process.status_file = files.read_proc(f"/proc/{pid}/status", LONGEST_FILE)
    except OSError as why:
        noting(hidden)(pid, why)
        return None
    return process


def _read(
    begun: Process, names: Container[str] | None, hidden: list[int]
) -> Process | None:
    try:
        line = begun.ask("stat", files.read_once, SMALL)
    except OSError as why:
        noting(hidden)(begun.pid, why)
        return None
    except Unreadable:
        from viagralib.processes.bounded_reads import told_at_once

        return told_at_once(begun, names)
    process = parse(begun.pid, line, names) if line else None
    if process:
        process.status_file = begun.status_file
        process.ahead = {} if process.headless else begun.ahead
    return process


def parse(pid: int, line: bytes, names: Container[str] | None = None) -> Process | None:
    """Return what a line of /proc/PID/stat, which may be cut after the start time, says
    of a process named one of `names`. Raises OSError for what is no such line."""
    try:
        # The name may hold blanks and brackets itself: it ends at the last bracket.
        end = line.rindex(b")")
        name = os.fsdecode(line[line.index(b"(") + 1 : end])
        if names is not None and name not in names:
            return None
        fields = line[end + 2 :].split(b" ", 20)
        # A dead first thread whose other threads live on is called a zombie as well.
        headless = fields[0] == b"Z" and int(fields[17]) > 1
        parent, group, session, start = (int(fields[n]) for n in (1, 2, 3, 19))
    except (ValueError, IndexError):
        raise OSError(None, "not as proc(5) says", f"/proc/{pid}/stat") from None
    state = "S" if headless else fields[0].decode(errors="replace")
    process = Process(pid, start, name, parent, group, session, state)
    process.headless = headless
    return process


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
    from viagralib.processes.bounded_reads import answers, each

    wanted = [os.fsencode(name) for name in names]
    others = []
    for pid, line in each("cmdline", [], FEW_ARGUMENTS):
        is_whole = 0 < len(line) < FEW_ARGUMENTS
        if not is_whole or any([name in line for name in wanted]):
            yield pid
        else:
            others.append(str(pid))

    def find(pid: str) -> int:
        try:
            program = os.readlink(f"/proc/{pid}/exe".encode())
        except OSError:  # kept from us, or gone
            return 0
        base = os.path.basename(program.removesuffix(b" (deleted)"))
        return int(pid) if base in wanted else 0

    yield from filter(None, answers(find, others))


def sees_all() -> bool:
    """Return whether no process is hidden from us (hidepid, ProtectProc).

    That process 1 is seen proves little: without CAP_SYS_PTRACE, root sees root's.
    """
    this, group = find(own_pid()), _hidden_but_to()
    if this is None or find(1) is None:
        return False
    groups = map(str, (os.getegid(), *os.getgroups()))
    return not group or _may_trace(this) or group in groups


def _may_trace(process: Process) -> bool:
    """Return whether it may look into every process: has CAP_SYS_PTRACE."""
    capabilities = process.status(b"CapEff:")
    return bool(capabilities and int(capabilities[0], 16) >> _CAP_SYS_PTRACE & 1)


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
    first = find(1)
    boot = os.fsdecode(files.read("/proc/sys/kernel/random/boot_id")).strip()
    return f"{boot}.{first.start}" if first else boot


def children_finder() -> Finder:
    """Return what finds the children of a pid: cheap, or by one look at all.

    It raises OSError where it cannot be told whether there are any.
    """
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children
    return finder_among(look())


def finder_among(processes: Iterable[Process]) -> Finder:
    """Return what finds the children of a pid among these."""
    children: dict[int, list[Process]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one)
    return lambda pid: children.get(pid, [])


def _children(pid: int) -> list[Process]:
    pids: list[bytes] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += files.read(f"/proc/{pid}/task/{thread}/children").split()
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended meanwhile
    hidden: list[int] = []
    found = [read(int(child), None, hidden) for child in pids]
    if hidden:
        raise PermissionError(errno.EACCES, "hidden from us", f"/proc/{hidden[0]}")
    return [one for one in found if one is not None and one.parent == pid]


def outputs(process: Process) -> list[str]:
    """Return where its standard output and errors go, as far as we may know."""
    try:
        return [process.ask(f"fd/{number}", os.readlink) for number in (1, 2)]
    except OSError:
        return []
