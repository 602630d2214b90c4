"""The machine's own business: when it boots, shuts down or installs packages."""

from __future__ import annotations

import os
import sys
import time

from viagralib.base import guarded_files
from viagralib.base.clocks import boot_clock
from viagralib.base.durations import spell
from viagralib.evidence import service_manager
from viagralib.evidence.service_manager import ask
from viagralib.processes import table
from viagralib.processes.linux import FEW_ARGUMENTS, Process
from viagralib.processes.table import told
from viagralib.trust.gate import Gate

# Files that a package manager keeps locked while it works.
_PACKAGE_LOCKS = (
    "/var/lib/dpkg/lock-frontend",  # apt, and all that use dpkg's frontend lock
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
)
_APK_LOCKS = ("/lib/apk/db/lock", "/usr/lib/apk/db/lock")
# Files that are there while a package manager works, or was killed at it.
_PACKAGE_FILES = ("/var/lib/pacman/db.lck",)
_PACKAGE_TOOLS = ("pkg", "pkg-static", "pkg_add")  # where there is no lock to see: BSD
_LEVEL_CHANGERS = ("openrc", "rc", "rcS")
_LEVEL_SCRIPTS = (["/etc/init.d/rc"], ["/etc/init.d/rcS"], ["/etc/rc.d/rc"])
_LONGEST_BOOT = 900.0  # seconds; a unit that takes longer to start hangs


def why_not_now(boot: float, packages: float, gate: Gate) -> str:
    """Return why nothing should be started on this machine now, or "".

    `boot` is for how many seconds after its boot a machine is left to itself, and
    `packages` for how many a package transaction may hold things back.
    """
    return _booting(boot) or _changing_state(boot, gate) or _installing(packages)


def _age() -> float:
    """Return for how many seconds the machine is up; a container, its process 1."""
    first = table.find(1)
    return min(boot_clock(), first.age()) if first else boot_clock()


def _booting(boot: float) -> str:
    age = _age()
    if age >= boot:
        return ""
    return (
        f"the machine booted {spell(age)} ago, and is left to itself for {spell(boot)}"
    )


def _changing_state(boot: float, gate: Gate) -> str:
    """Ask who knows: systemd, sysvinit's runlevel, or a shutdown that is at work."""
    if service_manager.is_there():
        state = ask("systemctl is-system-running", gate)
        is_starting = state in ("initializing", "starting")
        if boot and is_starting and _age() < _LONGEST_BOOT:
            return "systemd is still starting the machine's units"
        return "the machine is shutting down" if state == "stopping" else ""
    level = ask("runlevel", gate)  # such as "2 0": before, and now
    if level.split()[-1:] in (["0"], ["6"]):
        return "the machine is shutting down"
    for process in _of_root(_LEVEL_CHANGERS) if boot else ():
        if told(lambda: _changes_level(process), False):  # noqa: B023
            what = f"pid {process.pid}, {process.name}"
            return f"the machine starts and stops its services ({what})"
    files = [f"{place}/nologin" for place in ("/run", "/var/run", "/etc")]
    if any(map(os.path.exists, files)) and _of_root(("shutdown", "rc.shutdown")):
        return "the machine is shutting down"
    return ""


def _changes_level(process: Process) -> bool:
    """Return whether it goes to another runlevel of OpenRC or sysvinit, as at boot."""
    is_script = process.arguments(FEW_ARGUMENTS)[1:2] in _LEVEL_SCRIPTS
    return (is_script or process.name == "openrc") and process.age() < _LONGEST_BOOT


def _installing(longest: float) -> str:
    """Return that a package transaction is under way, and by whom, or "".

    One that is `longest` seconds old, or older, waits for somebody, and does not count.
    """
    if not longest:
        return ""
    tools = [] if sys.platform.startswith("linux") else _of_root(_PACKAGE_TOOLS)
    for process in [*_lock_holders(), *tools]:
        if process.age() < longest:
            return f"packages are being installed (pid {process.pid}, {process.name})"
    for file in _PACKAGE_FILES:
        try:
            age = time.time() - os.stat(file).st_mtime
        except OSError:
            continue
        if 0 <= age < longest:
            return f"packages are being installed ({file} is there)"
    return ""


def _lock_holders() -> list[Process]:
    """Return root's processes that hold a package manager's lock.

    Root's alone: a lock that others may read, anybody can hold, too. The kernel's list
    of locks (proc_locks(5)) is not read: of everybody's locks, it may take minutes.
    """
    pids = [pid for path in _PACKAGE_LOCKS if (pid := _lock_holder(path))]
    processes = [table.find(pid) for pid in dict.fromkeys(pids)]
    found = [one for one in processes if one is not None and _is_roots(one)]
    # apk's is a lock of flock(2), of which nobody tells who holds it.
    return found + (_of_root(("apk",)) if any(map(os.path.exists, _APK_LOCKS)) else [])


def _lock_holder(path: str) -> int:
    """Return the pid of who has locked a file by fcntl(2), as dpkg and rpm do; or 0."""
    import fcntl
    import struct

    layout = "hhqqi"  # struct flock: type, whence, start, length, pid
    asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with guarded_files.opened(path) as descriptor:
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
        kind, *_, pid = struct.unpack(layout, answer)
    except (OSError, struct.error):
        return 0
    return pid if kind != fcntl.F_UNLCK and pid > 0 else 0


def _of_root(names: tuple[str, ...]) -> list[Process]:
    """Return root's processes of these names."""
    return [process for process in table.look(names) if _is_roots(process)]


def _is_roots(process: Process) -> bool:
    """Return whether root has started it: chsh(1) becomes root's, whoever did."""
    is_set = process.runs_set_user_id
    return told(
        lambda: not process.zombie and process.users()[0] == 0 and not is_set(), False
    )
