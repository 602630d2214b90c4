"""viagra.toml: what it may set, and what holds without it."""

from __future__ import annotations

from viagralib.base.messages import Fault, resembling, safe, shown
from viagralib.base.users import user_id
from viagralib.settings import facts as facts_of
from viagralib.settings import toml_file, values
from viagralib.settings.facts import Facts

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

    from viagralib.settings.configuration import Daemon

# What tells one daemon from another makes no sense as a default for all.
_OWN = "process command executable pidfile listens answers heartbeat alarm"
_NO_DEFAULTS = f"{_OWN} after resets unit logs leftover_command session_leader".split()


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


def read_general(settings: Settings) -> None:
    """Take over what viagra.toml says; what is wrong with it becomes faults."""
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
    if unknown := unknown_users(settings.defaults, "[defaults]"):
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


def unknown_users(facts: Facts, where: str) -> list[str]:
    """Return that none of its users is here: of a list, one will do.

    Systems call the same service's user differently.
    """
    if any(user_id(user) >= 0 for user in facts.user):
        return []
    names = " or ".join(map(shown, facts.user))
    return [f"{where}: user: this machine has no user {names}"] if names else []


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
