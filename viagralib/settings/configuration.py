"""Hooks and facts on the disk, read into one Daemon for each watched name."""

from __future__ import annotations

import os

from viagralib.base.messages import Fault, reason, resembling, safe, shown
from viagralib.base.users import user_id
from viagralib.settings import facts as facts_of
from viagralib.settings import hook_files, instances, toml_file, values
from viagralib.settings.facts import Facts
from viagralib.settings.start_order import find_circle

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOOK_KINDS = ("start.d", "stop.d", "check.d", "fail.d")
# What tells one daemon from another makes no sense as a default for all.
_OWN = "process command executable pidfile listens answers heartbeat alarm"
_NO_DEFAULTS = f"{_OWN} after resets unit logs leftover_command".split()


class Daemon:
    """What is watched: its name, where its hooks are, and its facts."""

    def __init__(
        self,
        name: str,
        home: str,
        facts: Facts,
        listed: Mapping[str, set[str] | None] | None = None,
    ) -> None:
        self.name = name
        self.home = home
        self.facts = facts
        self._listed = listed or {}

    @property
    def process(self) -> str:
        """The name that its process has."""
        return self.facts.process or self.name

    @property
    def has_health(self) -> bool:
        """Whether there is anything to check beyond its being there."""
        facts = self.facts
        given = facts.listens or facts.answers or facts.heartbeat or facts.alarm
        return bool(given) or self.has("check.d")

    def has(self, kind: str, ending: str = "") -> bool:
        """Return whether its hook of `kind`, or this file of it, was there then."""
        names = self._listed.get(kind)
        if names is None:
            return hook_files.is_there(self.hook(kind) + ending)
        return self.name + ending in names

    def hook(self, kind: str = "start.d") -> str:
        """Return the path of its hook of `kind`, there or not."""
        return f"{self.home}/{kind}/{self.name}"

    def programs(self, kind: str = "start.d") -> list[str]:
        """Return what its hook of `kind` executes, in order: the hook or its steps.

        Raises OSError when it cannot be looked at.
        """
        return hook_files.programs(self.hook(kind))


class Settings:
    """All of a home: the daemons that are on, why others are not, and the faults."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.listed: dict[str, set[str] | None] = {}  # by kind; None: in doubt
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
        self.packages = 3600.0  # seconds
        self.metrics = ""  # a path; "": none are written
        self.notice_timeout = 20.0  # seconds, for each program of notice.d


def load(home: str) -> Settings:
    """Return what the home holds. Faults are collected, not raised."""
    settings = Settings(home)
    _read_general(settings)
    _discover(settings)
    for daemon in settings.daemons.values():
        settings.faults += load_facts(settings, daemon)
    for daemon in settings.daemons.values():
        settings.faults += _check_names(settings, daemon)
    for fact in ("after", "resets"):
        settings.faults += _check_order(settings, fact)
    return settings


def _check_order(settings: Settings, fact: str) -> list[Fault]:
    """Return a Fault for each daemon that `fact` leads back to, naming the circle."""
    links = {name: getattr(one.facts, fact) for name, one in settings.daemons.items()}
    circles = {name: find_circle(links, name) for name in links if links[name]}
    return [
        Fault(name, f"{fact} goes in a circle: {f' {fact} '.join((name, *circle))}")
        for name, circle in circles.items()
        if circle
    ]


def _check_names(settings: Settings, daemon: Daemon) -> list[Fault]:
    """Return a Fault for each hook that its facts name and that is not there."""
    faulty = [fault.subject for fault in settings.faults]
    known = [*settings.daemons, *settings.set_aside, *faulty]
    return [
        Fault(
            daemon.name,
            f"{safe(daemon.name)}.toml: {key}: start.d has no hook named "
            f"{shown(other)}{resembling(other, known)}",
        )
        for key in ("after", "resets")
        for other in getattr(daemon.facts, key)
        if other not in known
    ]


def _discover(settings: Settings) -> None:
    directory = f"{settings.home}/start.d"
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        text = f"could not read the directory: {reason(error)}"
        settings.faults.append(Fault(safe(directory), text))
        return
    others = {
        kind: hook_files.names(f"{settings.home}/{kind}") for kind in HOOK_KINDS[1:]
    }
    settings.listed = {"start.d": {*names}, **others}
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            if name[: -len(".toml")] not in names:
                text = f"start.d has no hook for {safe(name)}: add one, or remove that"
                settings.faults.append(Fault(safe(name[: -len(".toml")]), text))
            continue
        try:
            why_not = hook_files.why_off(directory, name)
        except Fault as fault:
            settings.faults.append(fault)
            continue
        if why_not:
            settings.set_aside[name] = why_not
        else:
            defaults, listed = settings.defaults, settings.listed
            settings.daemons[name] = Daemon(name, settings.home, defaults, listed)


def load_facts(settings: Settings, daemon: Daemon) -> list[Fault]:
    """Return what is wrong with a daemon's facts; they become its own."""
    is_own = daemon.has("start.d", ".toml")
    name, source = daemon.name, instances.source(daemon.name, is_own)
    file = f"{source}.toml"
    try:
        table = source and toml_file.read(f"{settings.home}/start.d/{file}", name)
    except Fault as fault:
        return [fault]
    if not table:
        return []
    table = instances.filled(table, source, name)
    daemon.facts, complaints = facts_of.read(table, settings.defaults, file)
    unknown = _unknown_users(daemon.facts, file)
    if name not in settings.set_aside:
        complaints += unknown
    elif unknown:  # no fault: what is off need not be installed
        settings.set_aside[name] += f"; {safe('; '.join(unknown))}"
    return [Fault(name, safe(text)) for text in complaints]


def _unknown_users(facts: Facts, where: str) -> list[str]:
    """Return that none of its users is here: of a list, one will do.

    Systems call the same service's user differently.
    """
    if any(user_id(user) >= 0 for user in facts.user):
        return []
    names = " or ".join(map(shown, facts.user))
    return [f"{where}: user: this machine has no user {names}"] if names else []


def _read_general(settings: Settings) -> None:
    try:
        tables = toml_file.read(f"{settings.home}/viagra.toml", "viagra.toml")
    except Fault as fault:
        settings.faults.append(fault)
        return
    for section, table in [*tables.items()][: facts_of.MOST_COMPLAINTS]:
        if section not in _SECTIONS:
            near = resembling(section, _SECTIONS)
            complaints = [f"unknown section or key {shown(section)}{near}"]
        elif not isinstance(table, dict):
            complaints = [f"{section}: must be a section, [{section}]"]
        elif section == "defaults":
            complaints = _read_defaults(settings, table)
        else:
            complaints = _read_section(settings, section, table)
        settings.faults += [Fault("viagra.toml", safe(text)) for text in complaints]


def _read_defaults(settings: Settings, table: dict[str, object]) -> list[str]:
    """Take over [defaults]; return what is wrong with it."""
    sensible = {key: value for key, value in table.items() if key not in _NO_DEFAULTS}
    settings.defaults, complaints = facts_of.read(sensible, Facts(), "[defaults]")
    if unknown := _unknown_users(settings.defaults, "[defaults]"):
        complaints += unknown
        # Nobody's process would count, and every daemon would seem to be down.
        settings.defaults.user = ()
    return complaints + [
        f"[defaults]: {key} tells one daemon from another: set it in NAME.toml"
        for key in table
        if key in _NO_DEFAULTS
    ]


def _read_section(
    settings: Settings, section: str, table: dict[str, object]
) -> list[str]:
    complaints = []
    for key, value in [*table.items()][: facts_of.MOST_COMPLAINTS]:
        if key not in _SECTIONS[section]:
            near = resembling(key, _SECTIONS[section])
            complaints.append(f"[{section}]: unknown key {shown(key)}{near}")
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
        "commands": ("commands", values.commands),
        "timeout": ("evidence_timeout", values.some_time),
        "keep": ("keep", values.positive_number),
        "keep_bytes": ("keep_bytes", values.size),
    },
    "run": {
        "every": ("every", values.some_time),
        "boot": ("boot", values.duration),
        "packages": ("packages", values.duration),
        "metrics": ("metrics", values.path),
        "notice_timeout": ("notice_timeout", values.some_time),
    },
}
