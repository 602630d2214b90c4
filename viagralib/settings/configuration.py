"""Hooks and facts on the disk, read into one Daemon for each watched name."""

from __future__ import annotations

import os

from viagralib.base.messages import Fault, reason, resembling, safe, shown
from viagralib.settings import facts as facts_of
from viagralib.settings import hook_files, hook_templates, toml_file
from viagralib.settings.facts import Facts
from viagralib.settings.viagra_toml import Settings, read_general, unknown_users

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Mapping

HOOK_KINDS = ("start.d", "stop.d", "check.d", "fail.d")


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


def load(home: str) -> Settings:
    """Return what the home holds. Faults are collected, not raised."""
    settings = Settings(home)
    read_general(settings)
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


def find_circle(after: dict[str, tuple[str, ...]], name: str) -> list[str]:
    """Return the shortest path by which `after` leads from `name` back to it, or []."""
    paths, tried = [[name]], {name}
    for path in paths:
        for needed in after.get(path[-1], ()):
            if needed == name:
                return [*path[1:], name]
            if needed not in tried:
                tried.add(needed)
                paths.append([*path, needed])
    return []


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
    name, source = daemon.name, hook_templates.source(daemon.name, is_own)
    file = f"{source}.toml"
    try:
        table = source and toml_file.read(f"{settings.home}/start.d/{file}", name)
    except Fault as fault:
        return [fault]
    if not table:
        return []
    table = hook_templates.filled(table, source, name)
    daemon.facts, complaints = facts_of.read(table, settings.defaults, file)
    unknown = unknown_users(daemon.facts, file)
    if name not in settings.set_aside:
        complaints += unknown
    elif unknown:  # no fault: what is off need not be installed
        settings.set_aside[name] += f"; {safe('; '.join(unknown))}"
    return [Fault(name, safe(text)) for text in complaints]
