"""Who observes the table, and which processes are hooks at work or our own runs."""

from __future__ import annotations

import os
import sys
import time

from viagralib.base import guarded_files
from viagralib.base.files import real_path
from viagralib.base.users import SERVICE_USERS, ordinary_users
from viagralib.processes import table
from viagralib.processes.linux import NAME_LENGTH, Process, Unreadable
from viagralib.settings.configuration import HOOK_KINDS, Daemon

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable

    from viagralib.trust.programs import ProgramTrust

# Where scripts lie that start and stop services.
SERVICE_PLACES = (
    *("/etc/init.d", "/etc/rc.d", "/usr/local/etc/rc.d", "/etc/rc.d/init.d"),
)
_NAMES = "VIAGRA_DAEMON="  # the variable of a hook that says whom it serves
# Runs a script whatever the script's #! line says: `bash /etc/viagra/start.d/food`.
SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "csh", "tcsh", "busybox")


class Observer:
    """Who looks, and at whose hooks: all that matching needs beside the facts."""

    def __init__(
        self, daemons: Iterable[Daemon], trust: ProgramTrust, pid: int
    ) -> None:
        self.daemons = list(daemons)
        self.user = trust.user
        self.pid = pid
        self.trust = trust
        # Found by whoever looks only once, at all daemons; None: to be looked for.
        self.hooks_at_work: list[Process] | None = None
        # What such a look is to find beside the daemons, and what it found of these
        # names; None: it did not go through all of the table.
        self.script_names: set[str] = set()
        self.scripts_seen: list[Process] | None = None
        # Whom this run left alone when it stopped their daemon.
        self.left: set[tuple[int, float]] = set()
        self._bearers: list[int] = []
        self._bearers_of: set[str] = set()
        self._bearers_until = 0.0
        self._own_script = file_identity(sys.argv[0])
        self._hook_files: dict[tuple[int, int], str] | None = None
        self._interpreters: set[tuple[int, int] | None] = set()
        self._ordinary: tuple[int, int] | None = None

    def bearers(self, names: Iterable[str]) -> list[int]:
        """Return the pids that may bear one of these names by what they execute.

        Where many looks follow each other, few of them look for these anew.
        """
        began = time.monotonic()
        if began >= self._bearers_until or not self._bearers_of.issuperset(names):
            self._bearers_of = {*names}
            self._bearers = list(table.bearers(names))
            self._bearers_until = table.next_look(began)
        return self._bearers

    def forget_bearers(self) -> None:
        """Have the next look for a missing name look for all that may bear it."""
        self._bearers_until = 0.0

    def is_ordinary(self, user: int) -> bool:
        """Return whether this uid is a person's, not the system's."""
        if user == 0:
            return False
        if self._ordinary is None:
            self._ordinary = ordinary_users()
        lowest, highest = self._ordinary
        # Above it are a directory's people and subordinate ids, but nobody as well,
        # and the users that systemd lends to services.
        above = user > highest and user not in SERVICE_USERS
        return lowest <= user <= highest or above

    def is_hook_at_work(self, process: Process, daemon: Daemon | None = None) -> bool:
        """Return whether a process interprets a script that is a hook.

        Of any daemon, or one that starts or stops `daemon`. An editor or a pager that
        shows the hook does not: what runs must be a shell, or what the script's first
        line names.
        """
        if not process.arguments():
            return self._becomes_a_hook(process, daemon)
        identity = self._hook_of(process)
        if identity is None:
            return False
        if daemon and identity not in map(file_identity, _starters(daemon)):
            return False
        if daemon and self._is_at_work_for_another(process, daemon):
            return False
        try:
            program = process.executable()
        except Unreadable:
            return True
        return (
            program == self._programs()[identity] or os.path.basename(program) in SHELLS
        )

    def _is_at_work_for_another(self, process: Process, daemon: Daemon) -> bool:
        """Return whether a hook that daemons share by links serves another one."""
        none: list[str] = []
        given = table.told(process.environment, none)
        names = [text.partition("=")[2] for text in given if text.startswith(_NAMES)]
        shared = {*map(file_identity, _starters(daemon))}
        return any(
            not shared.isdisjoint(map(file_identity, _starters(one)))
            for one in self.daemons
            if one.name in names and one.name != daemon.name
        )

    def _becomes_a_hook(self, process: Process, daemon: Daemon | None) -> bool:
        """Return whether a process without a command line is about to interpret a hook.

        execve(2) gives it the script's name first, then the arguments. One that ends
        loses these before its name: that raises Vanished.
        """
        try:
            program = process.executable()
        except Unreadable:  # a kernel thread's
            return False
        everyone = [path for one in self.daemons for path in _all_programs(one)]
        paths = map(os.path.realpath, _starters(daemon) if daemon else everyone)
        names = [os.fsencode(os.path.basename(path)) for path in paths]
        if os.fsencode(process.name) not in [name[:NAME_LENGTH] for name in names]:
            return False
        self._programs()
        return file_identity(program) in self._interpreters

    def _hook_of(self, process: Process) -> tuple[int, int] | None:
        """Return which hook may be the script that a process interprets.

        A script that comes before it is another program, told of the hook, unless it
        is what interprets hooks (`sh /lib/init/init-d-script /etc/init.d/food`).
        """
        for identity in scripts_of(process):
            if identity in self._programs():
                return identity
            if identity not in self._interpreters:
                return None
        return None

    def why_ours(self, process: Process) -> str:
        """Return why a process that interprets a script is no daemon, or ""."""
        if self.is_hook_at_work(process):
            return "still works as a hook's script"
        words = scripts(process.arguments())
        if any(os.path.dirname(word) in SERVICE_PLACES for word in words):
            return "still works as a service's script"
        sister = self._own_script in scripts_of(process)[:1]
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
                        self._hook_files[identity] = real_path(last)
        return self._hook_files

    def whose(self, executable: str, daemon: Daemon) -> str:
        """Return which other daemon's fact names this executable, or ""."""
        for other in self.daemons:
            named = other.facts.executable
            if other is not daemon and named and real_path(named) == executable:
                return other.name
        return ""

    def strange_interpreter(self, script: str) -> str:
        """Return the same of what may be anybody's: no way to it is walked or kept."""
        try:
            line = guarded_files.read(script, 256).partition(b"\n")[0]
        except OSError:
            return ""
        found = self.trust.interpreters(line) if line.startswith(b"#!") else []
        return next(iter(found), "")

    def interpreter(self, program: str) -> str:
        """Return what interprets a program; "" when it is no script."""
        return next(iter(self.trust.interpreters_of(program)), "")


def scripts_of(process: Process) -> list[tuple[int, int]]:
    """Return device and inode of the files that may be a process's script."""
    found = [_identity(process, script) for script in scripts(process.arguments())]
    return [identity for identity in found if identity]


def scripts(arguments: list[str]) -> list[str]:
    """Return what may be the script if the first argument is an interpreter.

    The second word is it in `busybox sh SCRIPT` and `bash -o errexit SCRIPT`.
    """
    return [word for word in arguments[1:6] if not word.startswith("-")][:2]


def base_names(first: list[str]) -> list[str]:
    """Return the names that a process may have by its first argument, if there is one.

    A title may hold slashes; one that shows a state begins with the name, as in
    "food: writing"; Wine leaves the path of another system.
    """
    words = [text.partition(" ")[0].removesuffix(":") for text in first]
    parts = [text.rpartition("\\")[2] for text in first]
    return [*first, *map(os.path.basename, (*first, *words)), *parts]


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


def _starters(daemon: Daemon) -> list[str]:
    return [*daemon.programs("start.d"), *daemon.programs("stop.d")]
