"""Hooks and facts on the disk, read into one Daemon for each watched name."""

from __future__ import annotations

import os
import stat

from viagralib import facts as facts_of
from viagralib import listing
from viagralib.accounts import user_id
from viagralib.facts import Facts
from viagralib.messages import Fault, reason, safe

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

HOMES = ("/etc/viagra", "/usr/local/etc/viagra")
HOOK_KINDS = ("start.d", "stop.d", "check.d", "fail.d")
LARGEST_FILE = 1_000_000  # bytes: facts are a page, not a book
# What tells one daemon from another makes no sense as a default for all.
_NO_DEFAULTS = [
    "process",
    "command",
    "executable",
    "pidfile",
    "listens",
    "heartbeat",
    "alarm",
    "after",
    "resets",
    "unit",
    "logs",
]


class Daemon:
    """What is watched: its name, where its hooks are, and its facts."""

    __slots__ = ("name", "home", "facts")

    def __init__(self, name: str, home: str, facts: Facts) -> None:
        self.name = name
        self.home = home
        self.facts = facts

    @property
    def process(self) -> str:
        """The name that its process has."""
        return self.facts.process or self.name

    def hook(self, kind: str = "start.d") -> str:
        """Return the path of its hook of `kind`, there or not."""
        return f"{self.home}/{kind}/{self.name}"

    def programs(self, kind: str = "start.d") -> list[str]:
        """Return what its hook of `kind` executes, in order: the hook or its steps."""
        hook = self.hook(kind)
        if os.path.isdir(hook):
            return listing.steps(hook)
        return [hook] if listing.is_executable(hook) else []


class Settings:
    """All of a home: the daemons that are on, why others are not, and the faults."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.daemons: dict[str, Daemon] = {}
        self.set_aside: dict[str, str] = {}  # every other file of start.d, and why
        self.faults: list[Fault] = []
        self.defaults = Facts()
        self.commands: tuple[str, ...] = ("ps auxww", "w", "vmstat 1 2")
        self.evidence_timeout = 5.0  # seconds, for each
        self.keep = 200  # incidents
        self.keep_bytes = 500_000_000
        self.every = 600.0  # seconds
        self.boot = 120.0  # seconds


def find_home(given: str | None, script: str) -> str:
    """Return the home: what is `given`, or the first of the usual places.

    Raises Fault when there is none.
    """
    if given is not None:
        return _existing_home(os.path.abspath(given))
    beside = os.path.dirname(os.path.realpath(script))
    own = [os.path.expanduser("~/.config/viagra")] if os.geteuid() != 0 else []
    for place in (beside, *own, *HOMES):
        if os.path.isdir(f"{place}/start.d"):
            return place
    places = ", ".join((*own, *HOMES))
    raise Fault("", f"no start.d found in {places}: make one, or name it with --dir")


def _existing_home(place: str) -> str:
    if not os.path.isdir(place):
        raise Fault(safe(place), "no such directory (given with --dir)")
    if not os.path.isdir(f"{place}/start.d"):
        raise Fault(safe(place), "has no start.d: mkdir it and put a start hook in")
    return place


def load(home: str) -> Settings:
    """Return what the home holds. Faults are collected, not raised."""
    settings = Settings(home)
    _read_general(settings)
    _discover(settings)
    for name in settings.daemons:
        settings.faults += load_facts(settings, name)
    if any(daemon.facts.after for daemon in settings.daemons.values()):
        _check_order(settings)
    for daemon in settings.daemons.values():
        for other in (*daemon.facts.after, *daemon.facts.resets):
            if other not in settings.daemons and other not in settings.set_aside:
                text = f"start.d has no hook named {safe(other)!r} (after, resets)"
                settings.faults.append(Fault(daemon.name, text))
    return settings


def _discover(settings: Settings) -> None:
    directory = f"{settings.home}/start.d"
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        text = f"could not read the directory: {reason(error)}"
        settings.faults.append(Fault(safe(directory), text))
        return
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            if name[: -len(".toml")] not in names:
                text = f"start.d has no hook for {safe(name)}: add it, or remove these"
                settings.faults.append(Fault(safe(name[: -len(".toml")]), text))
            continue
        try:
            why_not = listing.why_off(directory, name)
        except Fault as fault:
            settings.faults.append(fault)
            why_not = fault.text
        if why_not:
            settings.set_aside[name] = why_not
        else:
            settings.daemons[name] = Daemon(name, settings.home, settings.defaults)


def load_facts(settings: Settings, name: str) -> list[Fault]:
    """Return what is wrong with a hook's facts; if it is on, they become its own."""
    file = f"{name}.toml"
    try:
        table = _read_toml(f"{settings.home}/start.d/{file}", name)
    except Fault as fault:
        return [fault]
    if not table:
        return []
    facts, complaints = facts_of.read(table, settings.defaults, file)
    complaints += [
        f"{file}: user: this machine has no user {user!r}"
        for user in facts.user
        if user_id(user) < 0
    ]
    if name in settings.daemons:
        settings.daemons[name].facts = facts
    return [Fault(name, safe(text)) for text in complaints]


def _read_toml(path: str, subject: str) -> dict[str, object]:
    """Return the parsed file, {} where there is none. Raises Fault."""
    file = safe(os.path.basename(path))
    try:
        # A pipe put there in place of a file must not hang the run.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
                raise ValueError(f"no regular file of at most {LARGEST_FILE} bytes")
            text = opened.read(LARGEST_FILE).decode()
        import tomllib  # costs as much as Python's own start: only when it is needed

        return tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Fault(subject, f"could not read {file}: {reason(error)}") from None
    except ValueError as error:  # UTF-8's errors and TOML's are of this class
        raise Fault(subject, f"{file}: {safe(str(error))}") from None
    except RecursionError:
        raise Fault(subject, f"{file}: nested too deeply") from None


def _read_general(settings: Settings) -> None:
    try:
        tables = _read_toml(f"{settings.home}/viagra.toml", "viagra.toml")
    except Fault as fault:
        settings.faults.append(fault)
        return
    for section, table in tables.items():
        if section not in _SECTIONS or not isinstance(table, dict):
            complaints = [f"[{section}] is none of [defaults], [evidence], [run]"]
        elif section == "defaults":
            complaints = _read_defaults(settings, table)
        else:
            complaints = _read_section(settings, section, table)
        settings.faults += [Fault("viagra.toml", safe(text)) for text in complaints]


def _read_defaults(settings: Settings, table: dict[str, object]) -> list[str]:
    """Take over [defaults]; return what is wrong with it."""
    sensible = {key: value for key, value in table.items() if key not in _NO_DEFAULTS}
    settings.defaults, complaints = facts_of.read(sensible, Facts(), "[defaults]")
    return complaints + [
        f"[defaults]: {key} tells one daemon from another: set it in NAME.toml"
        for key in table
        if key in _NO_DEFAULTS
    ]


def _read_section(
    settings: Settings, section: str, table: dict[str, object]
) -> list[str]:
    complaints = []
    for key, value in table.items():
        if key not in _SECTIONS[section]:
            complaints.append(f"[{section}]: unknown key {key!r}")
            continue
        attribute, parser = _SECTIONS[section][key]
        try:
            setattr(settings, attribute, parser(value))
        except ValueError as error:
            complaints.append(f"[{section}]: {key}: {error}")
    return complaints


_SECTIONS: dict[str, dict[str, tuple[str, Callable[[object], object]]]] = {
    "defaults": {},
    "evidence": {
        "commands": ("commands", facts_of.texts),
        "timeout": ("evidence_timeout", facts_of.duration),
        "keep": ("keep", facts_of.positive_number),
        "keep_bytes": ("keep_bytes", facts_of.size),
    },
    "run": {
        "every": ("every", facts_of.duration),
        "boot": ("boot", facts_of.duration),
    },
}


def _check_order(settings: Settings) -> None:
    """Add a Fault for each daemon that `after` makes wait for itself."""
    for name in settings.daemons:
        way = _way_back(settings, name, name, set())
        if way:
            cycle = " after ".join(safe(step) for step in (name, *way))
            settings.faults.append(Fault(name, f"waits for itself: {cycle}"))


def _way_back(settings: Settings, goal: str, name: str, tried: set[str]) -> list[str]:
    """Return the names by which `after` leads from `name` to `goal`, or []."""
    for needed in settings.daemons[name].facts.after:
        if needed == goal:
            return [needed]
        if needed in settings.daemons and needed not in tried:
            tried.add(needed)
            if way := _way_back(settings, goal, needed, tried):
                return [needed, *way]
    return []
