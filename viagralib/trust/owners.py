"""Trust: who else could change what we run, read or write."""

from __future__ import annotations

import os
import stat

from viagralib.base.messages import Fault, reason, safe
from viagralib.base.users import group_name, user_name
from viagralib.settings.configuration import HOOK_KINDS, Daemon
from viagralib.trust.path_walk import walk

# Where hooks and evidence find programs, in this order, as far as it is safe.
DIRECTORIES = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/pkg/sbin",
    "/usr/pkg/bin",
)
FRAGMENT = "service.subr"  # what the ready hooks read in
_DEEPEST_SCRIPT = 5  # scripts that interpret each other, as Linux allows: execve(2)


class Trust:
    """Judges paths by who may write them: root and the user who runs us may."""

    def __init__(self, user: int) -> None:
        self.owners = {0, user}
        self._statuses: dict[str, os.stat_result] = {}
        self._entries: dict[str, str] = {}
        self._paths: dict[str, str] = {}

    def why_not(self, path: str) -> str:
        """Return who else could change what `path` names, with the cure, or "".

        Each directory above it and all that links lead to is looked at. A sticky
        directory such as /tmp is fine on the way, since nobody can replace another
        user's entry in it, but not at the end, since anybody can add one.
        """
        if path not in self._paths:
            try:
                self._paths[path] = self._why_not_way([*walk(path, self._lstat)])
            except OSError as error:
                self._paths[path] = f"could not look at {safe(path)}: {reason(error)}"
        return self._paths[path]

    def _why_not_way(self, way: list[str]) -> str:
        for entry in way[:-1]:
            if entry not in self._entries:
                self._entries[entry] = self._why_not_entry(entry, on_the_way=True)
            if self._entries[entry]:
                return self._entries[entry]
        return self._why_not_entry(way[-1], on_the_way=False)

    def _why_not_entry(self, path: str, on_the_way: bool) -> str:
        try:
            status = self._lstat(path)
        except FileNotFoundError:
            return self._why_not_missing(path)
        if why := self._why_not_owner(path, status):
            return why
        sticky = on_the_way and status.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(status.st_mode) or sticky:
            return ""
        if status.st_mode & stat.S_IWOTH:
            return f"{safe(path)} can be written by everybody: chmod o-w {_word(path)}"
        if status.st_mode & stat.S_IWGRP:
            group = group_name(status.st_gid)
            return (
                f"{safe(path)} can be written by group {group}: chmod g-w {_word(path)}"
            )
        return ""

    def _lstat(self, path: str) -> os.stat_result:
        """Look at an entry once: most ways have their first directories in common."""
        if path not in self._statuses:
            self._statuses[path] = os.lstat(path)
        return self._statuses[path]

    def _why_not_missing(self, path: str) -> str:
        """Return who could make what is not there: in a sticky directory, anybody."""
        place = os.path.dirname(path)
        if not os.path.isdir(place) or not self._why_not_entry(place, on_the_way=False):
            return ""
        return (
            f"{safe(path)} does not exist, and anybody could make it in {safe(place)}: "
            "make it yourself, or keep it elsewhere"
        )

    def _why_not_owner(self, path: str, status: os.stat_result) -> str:
        if status.st_uid in self.owners:
            return _why_not_link(path, status)
        owner, trusted = user_name(status.st_uid), user_name(max(self.owners))
        text = f"{safe(path)} belongs to {owner}: chown {trusted} {_word(path)}"
        if stat.S_ISDIR(status.st_mode):
            return f"{text}, or keep what is in it elsewhere"
        return f"{text}, if you trust what it holds"

    def search_path(self) -> str:
        """Return the PATH for what we run: the usual directories that are safe."""
        return ":".join(
            place
            for place in DIRECTORIES
            if os.path.isdir(place) and not self.why_not(place)
        )

    def why_not_program(self, path: str, depth: int = 0) -> str:
        """Return why `path` cannot be executed safely, with the cure, or ""."""
        if why := self.why_not(path):
            return why
        try:
            line = first_line(path)
        except OSError as error:
            return f"could not read it: {reason(error)}"
        if not line.startswith(b"#!"):
            text = f"{safe(path)} has no #! line: add #!/bin/sh"
            return "" if b"\0" in line else text
        if line.rstrip(b"\n").endswith(b"\r"):
            return (
                f"the #! line of {safe(path)} ends with CR LF: save it with Unix lines"
            )
        return self._why_not_interpreters(path, line, depth)

    def _why_not_interpreters(self, path: str, line: bytes, depth: int) -> str:
        if depth == _DEEPEST_SCRIPT:
            return f"the #! line of {safe(path)} leads from script to script"
        for interpreter in self.interpreters(line) or [""]:
            if why := _why_no_program(interpreter):
                return f"the #! line of {safe(path)} names {why}"
            if why := self.why_not_program(interpreter, depth + 1):
                return why
        return ""

    def interpreters(self, line: bytes) -> list[str]:
        """Return the programs that run a script with this first line.

        `env NAME` is looked up as the hook would find it: in search_path().
        """
        words = os.fsdecode(line[2:]).split()
        if not words or os.path.basename(words[0]) != "env":
            return words[:1]
        for word in words[1:]:
            if not word.startswith("-") and "=" not in word:
                places = self.search_path().split(":")
                found = [p for p in places if os.access(f"{p}/{word}", os.X_OK)]
                return [words[0], f"{found[0]}/{word}" if found else word]
        return words[:1]

    def interpreters_of(self, path: str) -> list[str]:
        """Return what runs a script: its interpreter; where that is a script as well,
        its interpreter in turn; [] for another program, or none."""
        found: list[str] = []
        while len(found) < _DEEPEST_SCRIPT:
            try:
                line = first_line(found[-1] if found else path)
            except OSError:
                break
            if not line.startswith(b"#!"):
                break
            found += self.interpreters(line)[-1:] or [""]
        return found

    def faults(self, daemon: Daemon) -> list[Fault]:
        """Return what makes it unsafe, or impossible, to run the daemon's hooks."""
        try:
            whys = self._whys(daemon)
        except OSError as error:
            whys = [f"could not look at its hooks: {reason(error)}"]
        return [
            Fault(daemon.name, f"refused: {why}") for why in dict.fromkeys(whys) if why
        ]

    def _whys(self, daemon: Daemon) -> list[str]:
        whys = [self.why_not(f"{daemon.home}/start.d/{daemon.name}.toml")]
        for kind in HOOK_KINDS:
            hook = daemon.hook(kind)
            if kind == "start.d" or os.path.lexists(hook):
                whys.append(self.why_not(hook))
                for program in daemon.programs(kind):
                    place = os.path.dirname(os.path.realpath(program))
                    whys.append(self.why_not_program(program))
                    if os.path.lexists(f"{place}/{FRAGMENT}"):
                        whys.append(self.why_not(f"{place}/{FRAGMENT}"))
        return whys


def _why_no_program(path: str) -> str:
    """Return what `path` is, if it cannot interpret a script, or ""."""
    if not path:
        return "no program: make it #!/bin/sh"
    why = ""
    if "/" not in path:
        why = "is not installed where hooks look for programs"
    elif not os.path.isabs(path):
        why = "is no absolute path"
    elif not os.path.exists(path):
        why = "does not exist"
    elif not os.path.isfile(path) or not os.access(path, os.X_OK):
        why = "is no program"
    return f"'{safe(path)}', which {why}" if why else ""


def _word(path: str) -> str:
    """Return a path as one word for the shell."""
    import shlex

    return safe(shlex.quote(path))


def first_line(path: str) -> bytes:
    """Return the first line of a file, at most 256 bytes of it, as Linux reads it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        start = os.read(descriptor, 256)
    finally:
        os.close(descriptor)
    return start if b"\n" not in start else start[: start.index(b"\n") + 1]


def _why_not_link(path: str, status: os.stat_result) -> str:
    """Return that others may have given root's file this name, to swap it later.

    They can where protected_hardlinks is 0: proc_sys_fs(5).
    """
    others = stat.S_IWOTH | stat.S_IWGRP
    place = os.path.dirname(path)
    if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
        return ""
    if not os.lstat(place).st_mode & others:
        return ""
    text = f"{safe(path)} is a hard link that others could have made"
    return f"{text} in {safe(place)}: keep it elsewhere"
