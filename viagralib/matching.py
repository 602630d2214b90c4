"""Which process is a daemon, and which only looks like one."""

from __future__ import annotations

import os
import sys

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
        self._own_script = file_identity(sys.argv[0])
        self._hook_files: dict[tuple[int, int], str] | None = None
        self._interpreters: set[tuple[int, int] | None] = set()
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
        identity = self._hook_of(process)
        if identity is None:
            return False
        if daemon and identity not in map(file_identity, _all_programs(daemon)):
            return False
        try:
            program = process.executable()
        except Unreadable:
            return True
        return (
            program == self._programs()[identity] or os.path.basename(program) in SHELLS
        )

    def _hook_of(self, process: Process) -> tuple[int, int] | None:
        """Return which hook may be the script that a process interprets.

        A script that comes before it is another program, told of the hook, unless it
        is what interprets hooks (`sh /lib/init/init-d-script /etc/init.d/food`).
        """
        for identity in _script_identities(process):
            if identity in self._programs():
                return identity
            if identity not in self._interpreters:
                return None
        return None

    def why_ours(self, process: Process) -> str:
        """Return why a process that interprets a script is no daemon, or ""."""
        if self.is_hook_at_work(process):
            return "still works as a hook's script"
        sister = self._own_script in _script_identities(process)[:1]
        return "another run of viagra.py" if sister else ""

    def _programs(self) -> dict[tuple[int, int], str]:
        """Return the interpreter of each hook's program, by device and inode."""
        if self._hook_files is None:
            self._hook_files = {}
            for daemon in self.daemons:
                for program in _all_programs(daemon):
                    interpreters = self.trust.interpreters_of(program)
                    self._interpreters.update(map(file_identity, interpreters))
                    if identity := file_identity(program):
                        last = interpreters[-1] if interpreters else ""
                        self._hook_files[identity] = os.path.realpath(last)
        return self._hook_files

    def interpreter(self, program: str) -> str:
        """Return what interprets a hook's program; "" when it is no script."""
        return next(iter(self.trust.interpreters_of(program)), "")


def cut(name: str) -> str:
    """Return `name` as the kernel keeps it: its first NAME_LENGTH bytes."""
    return os.fsdecode(os.fsencode(name)[:NAME_LENGTH])


def classify(daemon: Daemon, process: Process, onlooker: Onlooker) -> tuple[str, str]:
    """Return what a process of the daemon's name is to it, and why.

    Raises Vanished when it is gone, Unreadable when the answer is kept from us.
    """
    if why := _why_never(daemon, process, onlooker):
        return OTHER, why
    wanted = daemon.facts.executable
    if wanted and process.executable() != os.path.realpath(wanted):
        return OTHER, f"its executable is {safe(process.executable())}"
    if daemon.facts.command and not _fits(daemon.facts.command, process):
        return LEFTOVER, "its command line does not fit the fact `command`"
    why = _why_doubtful(daemon, process, onlooker)
    return (UNSURE, why) if why else (COUNTED, "fits")


def _why_never(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process cannot be the daemon, whatever it executes, or ""."""
    if process.zombie:
        return "a zombie"
    if process.pid == onlooker.pid:
        return "this run of viagra.py"
    # Before all that may be unreadable: of other users' processes, much is.
    if why := _why_user(daemon, process, onlooker):
        return why
    if process.elsewhere() and not daemon.facts.containers:
        return (
            "in another pid namespace, as a container's processes are: "
            "set the fact containers = true if that is the daemon"
        )
    if why := _why_other_name(daemon.process, process):
        return why
    return onlooker.why_ours(process)


def _why_user(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process of its users cannot be the daemon, or ""."""
    real, effective, *_ = process.users()
    if onlooker.user not in (0, real):
        return f"of another user ({user_name(real)})"
    wanted = {user_id(name) for name in daemon.facts.user}
    if wanted and effective not in wanted:
        names = ", ".join(map(safe, daemon.facts.user))
        return f"of user {user_name(effective)}, not {names}"
    return ""


def _why_doubtful(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why somebody may only pretend that this is root's daemon, or "".

    An ordinary user may give a program any name, and may run the daemon's own
    program; a set-user-id program, started through a link, even runs as root under it.
    """
    if onlooker.user != 0:
        return ""
    if not daemon.facts.user:
        ordinary = [user for user in process.users() if onlooker.is_ordinary(user)]
        if ordinary:
            name = user_name(ordinary[0])
            return (
                f'of the ordinary user {name}: set the fact user = "{name}" if that is '
                'the daemon; if it is not, user = "root" or whoever the daemon runs as'
            )
    if not daemon.facts.executable and process.runs_set_user_id():
        return (
            "runs a set-user-id program, as any user can under any name: "
            f'set the fact executable = "{safe(process.executable())}" '
            "if that is the daemon"
        )
    return ""


def _why_other_name(name: str, process: Process) -> str:
    """Return why a process whose name the kernel may have cut is not `name`, or "".

    Raises Unreadable when neither its arguments nor its executable can be read.
    """
    encoded = os.fsencode(name)
    if len(encoded) < NAME_LENGTH:
        return ""
    whole = _whole_names(process)
    if name in whole:
        return ""
    for longer in whole:
        if os.fsencode(longer).startswith(encoded[:NAME_LENGTH]):
            return f"another name: {safe(longer)}"
    if len(encoded) == NAME_LENGTH:
        return ""  # a name that the process gave itself, which nothing was cut from
    return f"another name: only the first {NAME_LENGTH} bytes are the same"


def _whole_names(process: Process) -> list[str]:
    """Return the names that the kernel may have cut to the name of a process."""
    arguments = process.arguments()
    texts = [*arguments[:1], *_scripts(arguments)]
    # A program that shows its state there begins with its name: "food: writing".
    texts += [text.partition(" ")[0].removesuffix(":") for text in arguments[:1]]
    try:
        texts.append(process.executable())
    except Unreadable:
        if not arguments:
            raise
    return [os.path.basename(text) for text in texts]


def _fits(pattern: str, process: Process) -> bool:
    import re

    return re.search(pattern, " ".join(process.arguments())) is not None


def _scripts(arguments: list[str]) -> list[str]:
    """Return what may be the script if the first argument is an interpreter.

    The second word is it in `busybox sh SCRIPT` and `bash -o errexit SCRIPT`.
    """
    return [word for word in arguments[1:6] if not word.startswith("-")][:2]


def _script_identities(process: Process) -> list[tuple[int, int]]:
    """Return device and inode of the files that may be a process's script."""
    found = [_identity(process, script) for script in _scripts(process.arguments())]
    return [identity for identity in found if identity]


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
