"""Standing: why a daemon that is not up is left alone."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from viagralib.base import records
from viagralib.base.clocks import date
from viagralib.base.messages import NOT_WELL, WELL, safe
from viagralib.evidence import service_manager
from viagralib.processes import openrc
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import DOWN, UNKNOWN, UP
from viagralib.recovery import hooks_at_work, inhibitions
from viagralib.settings.configuration import Daemon
from viagralib.state import announced, death_records, pauses, restart_limit
from viagralib.state.directory import this_boot
from viagralib.state.incidents import OPEN, Incident
from viagralib.state.run_context import Run

PAUSED, HELD, QUIT, NOT_NOW = "paused", "held", "quit", "not now"
FINISHED, STOPPED = "finished", "stopped"
_LONGEST_JOB = 900.0  # seconds; systemd's job that is not done by then hangs


class Standing(NamedTuple):
    """Why a daemon is left alone: one of the words above, and the reason."""

    word: str
    reason: str

    @property
    def is_alarming(self) -> bool:
        """Whether fail.d must hear of it."""
        return self.word in (HELD, UNKNOWN)

    @property
    def code(self) -> int:
        """The exit code that it asks for."""
        return NOT_WELL if self.is_alarming else WELL

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def find(run: Run, daemon: Daemon, word: str, last: Incident | None) -> Standing | None:
    """Return why a daemon whose verdict is `word` is left alone, or None.

    `last` is the daemon's open incident.
    """
    by_manager = _by_systemd if service_manager.is_there() else _by_openrc
    return (
        _by_decision(run, daemon, word)
        or _by_machine(run)
        or by_manager(run, daemon, word, last)
        or _by_others(run, daemon, word, last)
        or _by_limit(run, daemon)
    )


def _by_decision(run: Run, daemon: Daemon, word: str) -> Standing | None:
    """Somebody wants it so: an administrator, the facts, or the daemon itself."""
    if paused := pauses.why_paused(run.state, daemon.name):
        return Standing(PAUSED, paused)
    at = death_records.finished_at(run.state, daemon.name)
    if at and (word == DOWN or at >= run.began):  # else it was started since
        start = f"to start it: viagra.py restart {safe(daemon.name)}"
        return Standing(FINISHED, f"it ended with exit 0 at {date(at)}; {start}")
    if is_quit(run, daemon):
        return Standing(QUIT, "stopped when it was sick (recovery = quit)")
    return None


def _by_machine(run: Run) -> Standing | None:
    """The machine has other things to do; asked once in a run."""
    if run.why_not_now is None:
        settings = run.settings
        run.why_not_now = inhibitions.why_not_now(
            settings.boot, settings.packages, run.gate
        )
    return Standing(NOT_NOW, run.why_not_now) if run.why_not_now else None


def _by_systemd(
    run: Run, daemon: Daemon, word: str, last: Incident | None
) -> Standing | None:
    """systemd is starting or stopping it already, or was told to leave it stopped."""
    state, name, facts = run.state, daemon.name, daemon.facts
    unit = service_manager.known_unit(state, name, facts.unit)
    if word == UP or not unit:
        return None
    seen = service_manager.look(unit, run.gate)
    run.stopped_at[name] = seen.stopped_at
    if seen.is_silent:  # it may be masked, or stopped by an order
        why = f"systemd does not answer: systemctl show {unit}"
        return Standing(UNKNOWN, f"{why}; viagra.py restart {safe(name)} starts it")
    if seen.is_masked:
        return Standing(STOPPED, f"{unit} is masked: systemctl unmask {unit}")
    if seen.job and not _is_overdue(run, name, seen.job):
        return Standing(NOT_NOW, f"systemd has a job for {unit}: systemctl list-jobs")
    if facts.on_purpose != "leave" or not seen.stopped_at or word != DOWN:
        return None
    record = last.record if last is not None else {}
    began = records.number(record, "began") or 0.0
    is_ours = record.get("status") == OPEN and began < seen.stopped_at
    at = time.strftime("%b %e %H:%M", time.localtime(seen.stopped_at))
    why = f"by an order to systemd, {at}: systemctl start {unit}"
    # Ours was for a start which did not come about.
    return None if is_ours else Standing(STOPPED, why)


def _by_openrc(
    run: Run, daemon: Daemon, word: str, last: Incident | None
) -> Standing | None:
    """OpenRC was told to leave it stopped."""
    if word != DOWN or (last is not None and last.record.get("status") == OPEN):
        return None  # the state may be ours, of a start which did not come about
    service = openrc.stopped(daemon, run.observer)
    run.stopped_service[daemon.name] = service
    if not service or daemon.facts.on_purpose != "leave":
        return None
    return Standing(STOPPED, f"by an order to OpenRC: rc-service {service} start")


def _is_overdue(run: Run, name: str, job: str) -> bool:
    """Return whether runs have seen a job of systemd's for longer than one may take."""
    record = run.state.read("counts", name)
    since = records.number(record, "job_since") or 0.0
    if record.get("job") == [job, this_boot()]:
        return time.time() - since > _LONGEST_JOB
    if not run.only_looks:
        record |= {"job": [job, this_boot()], "job_since": time.time()}
        with contextlib.suppress(OSError):
            run.state.write("counts", name, record)
    return False


def _by_others(
    run: Run, daemon: Daemon, word: str, last: Incident | None
) -> Standing | None:
    """Somebody else is starting it already."""
    runner = death_records.runner(run.state, daemon.name) if word == DOWN else None
    if runner is not None:
        return _by_runner(run, daemon, runner)
    process = hooks_at_work.of(daemon, run.observer, last)
    if process is None:
        return None
    blocks = hooks_at_work.why_blocked(daemon, process)
    if blocks:
        return Standing(UNKNOWN, blocks)
    return Standing(NOT_NOW, f"being started by pid {process.pid}")


def _by_runner(run: Run, daemon: Daemon, runner: Process) -> Standing:
    """A viagra-run starts it anew, unless it cannot, or has nothing to start."""
    who = f"viagra-run (pid {runner.pid})"
    if runner.state == "T":
        text = f"{who} is stopped (state T): kill -CONT {runner.pid}"
        return Standing(UNKNOWN, text)
    held = death_records.held(run.state, daemon.name, runner)
    if held is None or held.age() <= daemon.facts.start_timeout:
        return Standing(NOT_NOW, f"{who} starts it anew")
    text = f'{who} runs pid {held.pid}, named "{safe(held.name)}", and starts none'
    cure = f"if that is it, set the fact process; if not: kill {runner.pid}"
    return Standing(UNKNOWN, f"{text}: {cure}")


def _by_limit(run: Run, daemon: Daemon) -> Standing | None:
    held = restart_limit.why_held(run.state, daemon)
    return Standing(HELD, held) if held else None


def is_quit(run: Run, daemon: Daemon) -> bool:
    """Return whether it was stopped for good, since this boot, and not seen up since.

    What is open for a daemon is forgotten when it is up.
    """
    boot = announced.of(run.state, daemon.name).get("quit")
    return bool(boot) and boot == this_boot()
