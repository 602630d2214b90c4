"""Programs: whether one can be executed safely, by its `#!` line and all it reads."""

from __future__ import annotations

import os
import stat
import sys

from viagralib.base import files, guarded_files
from viagralib.base.messages import Fault, reason, safe
from viagralib.settings.configuration import HOOK_KINDS, Daemon
from viagralib.settings.homes import PROGRAM
from viagralib.trust.owners import Trust

# Where hooks and evidence find programs, in this order, as far as it is safe.
DIRECTORIES = (
    *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
    *("/usr/pkg/sbin", "/usr/pkg/bin"),
)
FRAGMENT = "service.subr"  # what the ready hooks read in
_FIRST = 256  # bytes of a script that Linux reads for its first line
_DEEPEST_SCRIPT = 5  # scripts that interpret each other, as Linux allows: execve(2)


class ProgramTrust(Trust):
    """Judges programs, and the hooks of a daemon, by all that they are made of."""

    def __init__(self, user: int) -> None:
        super().__init__(user)
        self._first_lines: dict[str, bytes] = {}
        self._no_programs: dict[str, str] = {}  # most hooks have one interpreter
        self._fragments: dict[str, str] = {}  # what is wrong with those of a directory

    def search_path(self) -> str:
        """Return the PATH for what we run: the usual directories that are safe."""
        there = filter(os.path.isdir, DIRECTORIES)
        return ":".join(place for place in there if not self.why_not(place))

    def left_out(self) -> list[str]:
        """Return which directories search_path() leaves out, and why, in words."""
        whys = [(one, self.why_not(one)) for one in DIRECTORIES if os.path.isdir(one)]
        return [f"hooks find no programs in {one}: {why}" for one, why in whys if why]

    def why_not_program(self, path: str, depth: int = 0) -> str:
        """Return why `path` cannot be executed safely, with the cure, or ""."""
        if why := self.why_not(path):
            return why
        try:
            line = self._first_line(path)
        except OSError as error:
            return f"could not read {safe(path)}: {reason(error)}"
        if not line.startswith(b"#!"):
            text = f"{safe(path)} has no #! line: add #!/bin/sh"
            return "" if b"\0" in line else text
        if line.rstrip(b"\n").endswith(b"\r"):
            return (
                f"the #! line of {safe(path)} ends with CR LF: save it with Unix lines"
            )
        return self._why_not_interpreters(path, line, depth)

    def _first_line(self, path: str) -> bytes:
        """Return the first line of a file, as Linux reads it. Raises OSError."""
        if path not in self._first_lines:
            # What nobody else can change, or exchange, needs no guard.
            status = None if self.why_not(path) else self._status(self.end(path))
            is_ours = status is not None and stat.S_ISREG(status.st_mode)
            read = files.read_once if is_ours else guarded_files.read
            start, newline, _ = read(path, _FIRST).partition(b"\n")
            self._first_lines[path] = start + newline
        return self._first_lines[path]

    def _why_not_interpreters(self, path: str, line: bytes, depth: int) -> str:
        if depth == _DEEPEST_SCRIPT:
            return f"the #! line of {safe(path)} leads from script to script"
        for interpreter in self.interpreters(line) or [""]:
            if why := self._why_no_program(interpreter):
                return f"the #! line of {safe(path)} names {why}"
            if why := self.why_not_program(interpreter, depth + 1):
                return why
        return ""

    def _why_no_program(self, path: str) -> str:
        if path not in self._no_programs:
            self._no_programs[path] = _why_no_program(path)
        return self._no_programs[path]

    def interpreters(self, line: bytes) -> list[str]:
        """Return the programs that run a script with this first line.

        `env NAME` is looked up as the hook would find it: in search_path().
        """
        words = os.fsdecode(line[2:]).split()
        if not words or os.path.basename(words[0]) != "env":
            return words[:1]
        for word in words[1:]:
            if not word.startswith("-") and "=" not in word:
                return [words[0], find(word, self.search_path()) or word]
        return words[:1]

    def why_not_hook(self, path: str) -> str:
        """Return why a program of a hook, or what it reads in, is unsafe, or ""."""
        if why := self.why_not_program(path):
            return why
        place = os.path.dirname(self.end(path))
        if place not in self._fragments:
            above = os.path.dirname(place)
            files = [f"{p}/{FRAGMENT}" for p in (place, above, f"{above}/start.d")]
            whys = (self.why_not(file) for file in files if os.path.lexists(file))
            self._fragments[place] = next(filter(None, whys), "")
        return self._fragments[place]

    def why_unsafe(self, path: str) -> str:
        """Return who else could change a program, or what interprets it, or ""."""
        whys = map(self.why_not, (path, *self.interpreters_of(path)))
        return next(filter(None, whys), "")

    def interpreters_of(self, path: str) -> list[str]:
        """Return what runs a script: its interpreter; where that is a script as well,
        its interpreter in turn; [] for another program, or none."""
        found: list[str] = []
        while len(found) < _DEEPEST_SCRIPT:
            try:
                line = self._first_line(found[-1] if found else path)
            except OSError:
                break
            if not line.startswith(b"#!"):
                break
            found += self.interpreters(line)[-1:] or [""]
        return found

    def faults(self, daemon: Daemon) -> list[Fault]:
        """Return what makes it unsafe, or impossible, to run the daemon's hooks."""
        try:
            whys = self._whys_hooks(daemon)
        except OSError as error:
            whys = [f"could not look at its hooks: {reason(error)}"]
        return [
            Fault(daemon.name, f"refused: {why}") for why in dict.fromkeys(whys) if why
        ]

    def _whys_hooks(self, daemon: Daemon) -> list[str]:
        whys = []
        if daemon.has("start.d", ".toml"):
            whys += self.whys(f"{daemon.hook()}.toml")
        for kind in HOOK_KINDS:
            if kind == "start.d" or daemon.has(kind):
                whys += self.whys(daemon.hook(kind))
                whys += map(self.why_not_hook, daemon.programs(kind))
        return whys


def find(name: str, search_path: str) -> str:
    """Return the program that a name stands for in this PATH; "": there is none."""
    paths = [f"{place}/{name}" for place in search_path.split(":") if place]
    for path in [name] if os.path.isabs(name) else paths:
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


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


def own_environment() -> list[str]:
    """Return what can have our own Python load code at its start; [] for another's.

    A .pth file is executed: site(3), that is Python's module of that name.
    """
    prefix = sys.prefix
    if not prefix.startswith(f"{PROGRAM}/"):
        return []
    places = [place for place in sys.path if place.startswith(f"{prefix}/")]
    names = [f"{p}/{name}" for p in places for name in os.listdir(p)]
    paths = [name for name in names if name.endswith(".pth")]
    return [sys.executable, f"{prefix}/pyvenv.cfg", *places, *paths]
