"""Executables: whether a process runs the file that a daemon's facts name."""

from __future__ import annotations

import os
import stat
import time

from viagralib.base.files import real_path
from viagralib.base.messages import safe
from viagralib.processes.linux import Process, Vanished
from viagralib.processes.mount_namespaces import runs_file
from viagralib.processes.observer import Observer
from viagralib.settings.configuration import Daemon
from viagralib.trust.owners import walk

# How much a file's time, and a process's start, may be off: in seconds.
_COARSE = 0.1


def is_lent(daemon: Daemon, process: Process, observer: Observer) -> bool:
    """Return whether a set-user-id program is another one, under the daemon's name.

    Whoever starts it chooses the name, but not the program's: chsh stays chsh.
    """
    program = process.executable()
    is_its_own = os.path.basename(program) == daemon.process
    return not is_its_own or bool(observer.trust.why_not(program))


def executes(daemon: Daemon, process: Process) -> bool:
    """Return whether a process runs the fact `executable`: that path, and that file.

    A container has files of its own.
    """
    wanted = daemon.facts.executable
    if process.executable() != real_path(wanted):
        return False
    return runs_file(process, wanted) or (
        daemon.facts.containers and process.elsewhere()
    )


def _is_deleted(process: Process) -> bool:
    try:
        program = process.ask("exe", os.stat)
    except OSError:
        raise Vanished from None
    return program.st_nlink == 0


def judge_other(
    daemon: Daemon, process: Process, observer: Observer
) -> tuple[bool, str]:
    """Return whether what fits in all but its executable may be the daemon, and why.

    It may be the daemon of before an upgrade: when the fact leads over a link that
    was made to lead elsewhere, or to a file put there, since it was started.
    """
    why = f"its executable is {safe(process.executable())}"
    if process.executable() == real_path(daemon.facts.executable):
        why += ", but another file of that name, in a mount namespace of its own"
        if not _is_deleted(process):
            return False, why
    if name := observer.whose(process.executable(), daemon):
        return False, f"{why}, that of {safe(name)}"
    entry = _changed_since(daemon.facts.executable, time.time() - process.age())
    if not entry:
        return False, why
    return True, (
        f"{why}, but {safe(entry)} was changed since it was started: if that is the "
        "daemon, restart it by hand; if it is not, set the fact command or user"
    )


def _changed_since(path: str, moment: float) -> str:
    """Return a link on the way to `path`, or its file, that is newer, or ""."""
    try:
        way = list(walk(path))
    except OSError:
        return path  # it leads nowhere now; once it led somewhere
    for entry in way:
        try:
            status = os.lstat(entry)
        except OSError:  # nothing is there: was something taken away?
            there = os.path.dirname(entry)
            return entry if _modified(there) > moment - _COARSE else ""
        is_file_or_link = entry == way[-1] or stat.S_ISLNK(status.st_mode)
        if is_file_or_link and status.st_ctime > moment - _COARSE:
            return entry
    return ""


def _modified(directory: str) -> float:
    try:
        return os.stat(directory).st_mtime
    except OSError:
        return 0.0
