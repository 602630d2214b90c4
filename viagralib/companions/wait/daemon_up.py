"""Whether a daemon runs, by the watchdog's own matching, for viagra-wait."""

from __future__ import annotations

import os

from viagralib.base import records
from viagralib.base.messages import CannotTell, Fault
from viagralib.processes.observer import Observer
from viagralib.processes.table import own_pid
from viagralib.processes.verdicts import UNKNOWN, UP, judge
from viagralib.settings.configuration import Daemon, load
from viagralib.settings.facts import Facts
from viagralib.settings.homes import find_home
from viagralib.settings.viagra_toml import Settings
from viagralib.trust.programs import ProgramTrust


class Watched:
    """One daemon as viagra.py sees it: with its facts, if it has a hook that is on.

    Any other name is a process's name, matched as that of a daemon without facts.
    """

    def __init__(self, name: str) -> None:
        settings = _settings()
        self._daemon = settings.daemons.get(name) or Daemon(name, "", Facts())
        trust = ProgramTrust(os.geteuid())
        self._observer = Observer(settings.daemons.values(), trust, own_pid())
        faults = [fault for fault in settings.faults if fault.subject == name]
        if name in settings.daemons:
            faults += self._observer.trust.faults(self._daemon)
        self._faults = faults

    def missing(self) -> str | None:
        """Return None when it is up, else why not. Raises CannotTell."""
        if self._faults:
            raise CannotTell(self._faults[0].text)
        verdict = judge([self._daemon], self._observer)[self._daemon.name]
        if verdict.word == UNKNOWN:
            raise CannotTell(verdict.reason)
        return None if verdict.word == UP else verdict.reason or verdict.word


def _settings() -> Settings:
    try:
        return load(find_home(_home_of_our_hook()))
    except Fault:
        return Settings("")  # no home: names without facts


def _home_of_our_hook() -> str | None:
    """Return the home whose hook we work in; None outside of start, stop and fail.d.

    The run that executes the hook may have been told of another home with --dir.
    """
    incident = os.environ.get("VIAGRA_INCIDENT")
    home = records.read(f"{incident}/incident.json").get("home") if incident else None
    return home if isinstance(home, str) else None
