"""Trust: who else could change what we run, read or write."""

from __future__ import annotations

import os
import stat

from viagralib.accounts import group_name, user_name
from viagralib.messages import Fault, reason, safe
from viagralib.settings import HOOK_KINDS, Daemon

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterator

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
_LONGEST_CHAIN = 40  # links followed, as Linux does: path_resolution(7)


class Trust:
    """Judges paths by who may write them: root and the user who runs us may."""

    def __init__(self, user: int) -> None:
        self.owners = {0, user}
        self._entries: dict[str, str] = {}

    def why_not(self, path: str) -> str:
        """Return who else could change what `path` names, with the cure, or "".

        Each directory above it and all that links lead to is looked at. A sticky
        directory such as /tmp is fine on the way, since nobody can replace another
        user's entry in it, but not at the end, since anybody can add one.
        """
        try:
            way = list(_walk(path))
        except OSError as error:
            return f"could not look at it: {reason(error)}"
        for entry in way[:-1]:
            if entry not in self._entries:
                self._entries[entry] = self._why_not_entry(entry, on_the_way=True)
            if self._entries[entry]:
                return self._entries[entry]
        return self._why_not_entry(way[-1], on_the_way=False)

    def _why_not_entry(self, path: str, on_the_way: bool) -> str:
        try:
            status = os.lstat(path)
        except OSError:
            return ""  # gone, or never there: nobody can change it
        if status.st_uid not in self.owners:
            owner = user_name(status.st_uid)
            return f"{safe(path)} belongs to {owner}: {self._chown(path)}"
        sticky = on_the_way and status.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(status.st_mode) or sticky:
            return ""
        if status.st_mode & stat.S_IWOTH:
            return f"{safe(path)} can be written by everybody: chmod o-w {safe(path)}"
        if status.st_mode & stat.S_IWGRP:
            group = group_name(status.st_gid)
            return (
                f"{safe(path)} can be written by group {group}: chmod g-w {safe(path)}"
            )
        return ""

    def _chown(self, path: str) -> str:
        owner = user_name(max(self.owners))
        return f"chown {owner} {safe(path)}, if you trust what it holds"

    def search_path(self) -> str:
        """Return the PATH for what we run: the usual directories that are safe."""
        return ":".join(
            place
            for place in DIRECTORIES
            if os.path.isdir(place) and not self.why_not(place)
        )

    def why_not_program(self, path: str) -> str:
        """Return why `path` cannot be executed safely, with the cure, or ""."""
        if why := self.why_not(path):
            return why
        try:
            line = first_line(path)
        except OSError as error:
            return f"could not read it: {reason(error)}"
        if not line.startswith(b"#!"):
            return (
                "" if b"\0" in line else f"{safe(path)} has no #! line: add #!/bin/sh"
            )
        if line.rstrip(b"\n").endswith(b"\r"):
            return (
                f"the #! line of {safe(path)} ends with CR LF: save it with Unix lines"
            )
        interpreter = self.interpreter(line)
        if not os.path.isabs(interpreter) or not os.path.exists(interpreter):
            wanted = safe(os.fsdecode(line[2:]).strip())
            return f"{safe(path)}: its #! line names {wanted!r}, which does not exist"
        return self.why_not(interpreter)

    def interpreter(self, line: bytes) -> str:
        """Return the program that runs a script with this first line; "" if none.

        `env NAME` is looked up as the hook would find it: in search_path().
        """
        words = os.fsdecode(line[2:]).split()
        if not words or os.path.basename(words[0]) != "env":
            return words[0] if words else ""
        for word in words[1:]:
            if not word.startswith("-") and "=" not in word:
                places = self.search_path().split(":")
                found = [p for p in places if os.access(f"{p}/{word}", os.X_OK)]
                return f"{found[0]}/{word}" if found else word
        return ""

    def interpreter_of(self, path: str) -> str:
        """Return the interpreter of a script; "" for another program, or none."""
        try:
            line = first_line(path)
        except OSError:
            return ""
        return self.interpreter(line) if line.startswith(b"#!") else ""

    def faults(self, daemon: Daemon) -> list[Fault]:
        """Return what makes it unsafe, or impossible, to run the daemon's hooks."""
        whys = [self.why_not(f"{daemon.home}/start.d/{daemon.name}.toml")]
        for kind in HOOK_KINDS:
            hook = daemon.hook(kind)
            if kind == "start.d" or os.path.lexists(hook):
                whys.append(self.why_not(hook))
                whys += map(self.why_not_program, daemon.programs(kind))
        return [
            Fault(daemon.name, f"refused: {why}") for why in dict.fromkeys(whys) if why
        ]


def first_line(path: str) -> bytes:
    """Return the first line of a file, at most 256 bytes of it, as Linux reads it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        start = os.read(descriptor, 256)
    finally:
        os.close(descriptor)
    return start if b"\n" not in start else start[: start.index(b"\n") + 1]


def _walk(path: str) -> Iterator[str]:
    """Yield each entry that the system passes on the way to what `path` names."""
    rest = [part for part in reversed(path.split("/")) if part]
    here, links = "/", 0
    yield here
    while rest:
        part = rest.pop()
        if part in (".", ".."):
            here = os.path.dirname(here) if part == ".." else here
            continue
        entry = f"{here.rstrip('/')}/{part}"
        yield entry
        if not os.path.islink(entry):
            here = entry
            continue
        links += 1
        if links > _LONGEST_CHAIN:
            raise OSError(None, "too many symbolic links", path)
        target = os.readlink(entry)
        rest += [part for part in reversed(target.split("/")) if part]
        here = "/" if target.startswith("/") else here
