"""Which process is a daemon, and which only looks like one."""

from __future__ import annotations

import os

from viagralib.accounts import ordinary_users, user_id, user_name
from viagralib.messages import safe
from viagralib.procfs import NAME_LENGTH, Process, Unreadable
from viagralib.settings import HOOK_KINDS, Daemon
from viagralib.trust import Trust

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable

# What a process that has a daemon's name may be to it.
COUNTED = "counted"
LEFTOVER = "leftover"  # fits in all but the command line: workers without their master
OTHER = "not counted"
UNSURE = "unsure"  # it may be the daemon, but we cannot or must not tell

# Runs a script whatever the script's #! line says: `bash /etc/viagra/start.d/food`.
SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "csh", "tcsh", "busybox")


class Onlooker:
    """Who looks, and at whose hooks: all that matching needs beside the facts."""

    def __init__(self, daemons: Iterable[Daemon], user: int, pid: int) -> None:
        self.daemons = list(daemons)
        self.user = user
        self.pid = pid
        self.trust = Trust(user)
        self._hook_files: dict[tuple[int, int], str] | None = None
        self._ordinary: tuple[int, int] | None = None

    def is_ordinary(self, user: int) -> bool:
        """Return whether this uid is a person's, not the system's."""
        if self._ordinary is None:
            self._ordinary = ordinary_users()
        return self._ordinary[0] <= user <= self._ordinary[1]

    def is_hook_at_work(self, process: Process, daemon: Daemon | None = None) -> bool:
        """Return whether a process interprets a script that is a hook.

        Of any daemon, or of `daemon` alone. An editor or a pager that shows the hook
        does not: what runs must be a shell or what the script's first line names.
        """
        script = _script(process.arguments())
        identity = _identity(process, script) if script else None
        if identity is None or identity not in self._programs():
            return False
        if daemon and identity not in map(file_identity, _all_programs(daemon)):
            return False
        try:
            program = process.executable()
        except Unreadable:
            return True
        interpreter = self._programs()[identity]
        return program == interpreter or os.path.basename(program) in SHELLS

    def _programs(self) -> dict[tuple[int, int], str]:
        """Return the interpreter of each hook's program, by device and inode."""
        if self._hook_files is None:
            self._hook_files = {}
            for daemon in self.daemons:
                for program in _all_programs(daemon):
                    if identity := file_identity(program):
                        interpreter = os.path.realpath(self.interpreter(program))
                        self._hook_files[identity] = interpreter
        return self._hook_files

    def interpreter(self, program: str) -> str:
        """Return what interprets a hook's program; "" when it is no script."""
        return self.trust.interpreter_of(program)


def cut(name: str) -> str:
    """Return `name` as the kernel keeps it: its first NAME_LENGTH bytes."""
    return os.fsdecode(os.fsencode(name)[:NAME_LENGTH])


def classify(daemon: Daemon, process: Process, onlooker: Onlooker) -> tuple[str, str]:
    """Return what a process of the daemon's name is to it, and why.

    Raises Vanished when it is gone, Unreadable when the answer is kept from us.
    """
    facts = daemon.facts
    why = _why_never(daemon, process, onlooker) or _why_user(daemon, process, onlooker)
    if why:
        return OTHER, why
    if facts.executable and process.executable() != os.path.realpath(facts.executable):
        return OTHER, f"its executable is {safe(process.executable())}"
    if facts.command and not _fits(facts.command, process):
        return LEFTOVER, "its command line does not fit the fact `command`"
    why = "" if facts.executable else _why_doubtful(daemon, process, onlooker)
    return (UNSURE, why) if why else (COUNTED, "fits")


def _why_never(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process can be nobody's daemon, whatever the facts, or ""."""
    if process.zombie:
        return "a zombie"
    if process.pid == onlooker.pid:
        return "this run of viagra.py"
    if process.elsewhere() and not daemon.facts.containers:
        return "in another pid namespace (a container's)"
    long = len(os.fsencode(daemon.process)) >= NAME_LENGTH
    if long and not _has_long_name(process, daemon.process):
        return f"another name: only the first {NAME_LENGTH} bytes are the same"
    if onlooker.is_hook_at_work(process):
        return "still works as a hook's script"
    return ""


def _why_user(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process of its users cannot be the daemon, or ""."""
    real, effective, *_ = process.users()
    if onlooker.user not in (0, real):
        return f"of another user ({user_name(real)})"
    wanted = {user_id(name) for name in daemon.facts.user}
    if wanted and effective not in wanted:
        return f"of user {user_name(effective)}, not {', '.join(daemon.facts.user)}"
    return ""


def _why_doubtful(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why somebody may only pretend that this is root's daemon, or "".

    An ordinary user may give a program any name; a set-user-id program, started
    through a link of that name, even runs as root under it.
    """
    if onlooker.user != 0:
        return ""
    if not daemon.facts.user:
        ordinary = [user for user in process.users() if onlooker.is_ordinary(user)]
        if ordinary:
            name = user_name(ordinary[0])
            return (
                f'of the ordinary user {name}: set the fact user = "{name}" '
                'if that is the daemon, or user = "root" if it is not'
            )
    if process.runs_set_user_id():
        return (
            "runs a set-user-id program, as any user can under any name: "
            "set the fact `executable`"
        )
    return ""


def _has_long_name(process: Process, name: str) -> bool:
    """Return whether the uncut name of a process equals `name`.

    Raises Unreadable when neither its arguments nor its executable can be read.
    """
    arguments = process.arguments()
    texts = [*arguments[:1], _script(arguments)]
    if name in map(os.path.basename, texts):
        return True
    try:
        return os.path.basename(process.executable()) == name
    except Unreadable:
        if arguments:
            return False
        raise


def _fits(pattern: str, process: Process) -> bool:
    import re

    return re.search(pattern, " ".join(process.arguments())) is not None


def _script(arguments: list[str]) -> str:
    """Return what would be the script if the first argument were an interpreter."""
    for argument in arguments[1:]:
        if not argument.startswith("-"):
            return argument
    return ""


def _identity(process: Process, script: str) -> tuple[int, int] | None:
    """Return device and inode of a process's script, wherever it was started."""
    try:
        return file_identity(os.path.join(process.directory(), script))
    except Unreadable:
        return file_identity(script) if script.startswith("/") else None


def file_identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of what `path` names, links followed; None: nothing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL, which no path holds
        return None
    return status.st_dev, status.st_ino


def _all_programs(daemon: Daemon) -> list[str]:
    return [path for kind in HOOK_KINDS for path in daemon.programs(kind)]
