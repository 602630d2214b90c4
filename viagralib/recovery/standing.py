"""Standing: why a daemon that is not up is left alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from viagralib.base import records
from viagralib.base.durations import spell
from viagralib.base.messages import NOT_WELL, WELL, safe
from viagralib.evidence import service_manager
from viagralib.processes import service_scripts, table
from viagralib.processes.linux import Process
from viagralib.processes.matching import cut
from viagralib.processes.observer import SHELLS, Observer
from viagralib.processes.pidfd import is_running
from viagralib.processes.table import told
from viagralib.processes.tree import ProcessTree
from viagralib.processes.verdicts import DOWN, UNKNOWN, UP
from viagralib.recovery import inhibitions
from viagralib.settings.configuration import Daemon
from viagralib.state import announced, pauses, restart_limit, supervision
from viagralib.state.directory import this_boot
from viagralib.state.incidents import OPEN, Incident, recorded_process
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
    return (
        _by_decision(run, daemon)
        or _by_machine(run)
        or _by_manager(run, daemon, word, last)
        or _by_others(run, daemon, word, last)
        or _by_limit(run, daemon)
    )


def _by_decision(run: Run, daemon: Daemon) -> Standing | None:
    """Somebody wants it so: an administrator, the facts, or the daemon itself."""
    if paused := pauses.why_paused(run.state, daemon.name):
        return Standing(PAUSED, paused)
    if at := supervision.finished_at(run.state, daemon.name):
        start = f"to start it: viagra.py restart {safe(daemon.name)}"
        return Standing(
            FINISHED, f"it ended with exit 0 at {announced.date(at)}; {start}"
        )
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


def _by_manager(
    run: Run, daemon: Daemon, word: str, last: Incident | None
) -> Standing | None:
    """systemd is starting or stopping it already, or was told to leave it stopped."""
    state, name, facts = run.state, daemon.name, daemon.facts
    unit = service_manager.known_unit(state, name, facts.unit)
    if word == UP or not unit or not service_manager.is_there():
        return None
    seen = service_manager.look(unit, run.gate)
    run.stopped_at[name] = seen.stopped_at
    if seen.is_masked:
        return Standing(STOPPED, f"{unit} is masked: systemctl unmask {unit}")
    if seen.job and not _is_overdue(run, name, seen.job):
        return Standing(NOT_NOW, f"systemd has a job for {unit}: systemctl list-jobs")
    if facts.on_purpose != "leave" or not seen.stopped_at or word != DOWN:
        return None
    record = last.record if last is not None else {}
    began = records.number(record, "began") or 0.0
    if record.get("status") == OPEN and began < seen.stopped_at:
        return None  # that was us, for a start which did not come about
    at = time.strftime("%b %e %H:%M", time.localtime(seen.stopped_at))
    return Standing(STOPPED, f"by an order to systemd, {at}: systemctl start {unit}")


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
    runner = supervision.runner(run.state, daemon.name) if word == DOWN else None
    if runner is not None:
        return Standing(NOT_NOW, f"viagra-run (pid {runner.pid}) starts it anew")
    process = hook_at_work(daemon, run.observer, last)
    if process is None:
        return None
    blocks = why_hook_blocks(daemon, process)
    if blocks:
        return Standing(UNKNOWN, blocks)
    return Standing(NOT_NOW, f"being started by pid {process.pid}")


def _by_limit(run: Run, daemon: Daemon) -> Standing | None:
    held = restart_limit.why_held(run.state, daemon)
    return Standing(HELD, held) if held else None


def is_quit(run: Run, daemon: Daemon) -> bool:
    """Return whether it was stopped for good, since this boot, and not seen up since.

    What is open for a daemon is forgotten when it is up.
    """
    boot = announced.of(run.state, daemon.name).get("quit")
    return bool(boot) and boot == this_boot()


def hook_at_work(
    daemon: Daemon, observer: Observer, last: Incident | None
) -> Process | None:
    """Return the process that already starts this daemon, outside this run.

    It interprets one of the daemon's hooks, started by hand or by another program, or
    the script of init.d or rc.d that a ready hook would call, or it is the hook of a
    run that was killed (`last` is the daemon's open incident).
    Only root's, and our own user's: nobody else can start the daemon.
    """
    if last is not None:
        process = recorded_process(last, "hook")
        if process is not None and is_running(process):
            return table.find(process.pid)
        if process is not None and _is_fresh(last, daemon):
            mark = f"VIAGRA_MARK={last.mark}"
            left = ProcessTree([process], mark=mark).living()
            if left:  # of a hook whose run was killed: what may become the daemon
                return left[0]
    seen: Iterable[Process] | None = observer.hooks_at_work
    if seen is None:
        seen = table.look(_script_names(daemon, observer))
    scripts = service_scripts.of(daemon)
    for process in seen:
        if told(lambda: _starts(daemon, process, scripts, observer), False):  # noqa: B023
            return process
    return None


def _starts(
    daemon: Daemon, process: Process, scripts: list[str], observer: Observer
) -> bool:
    """Return whether a process of root's, or ours, starts the daemon as a hook does.

    A child of this run's starts another one, whose hook may be a link to the same.
    """
    if process.zombie or process.parent == observer.pid:
        return False
    if process.users()[0] not in (0, observer.user):
        return False
    if observer.is_hook_at_work(process, daemon):
        return True
    # One that is at work for longer watches over its daemon.
    is_new = process.age() < daemon.facts.start_timeout
    return is_new and service_scripts.is_at_work(process, scripts, observer)


def prepare_one_look(observer: Observer) -> None:
    """Have a look at the daemons find who may be a hook at work as well."""
    names = [_script_names(daemon, observer) for daemon in observer.daemons]
    observer.script_names = set().union(*names)


def find_hooks_at_work(observer: Observer) -> list[Process]:
    """Return the processes that interpret anybody's hook, by that look or a new one."""
    names, seen = observer.script_names, observer.scripts_seen
    scripts = [one for daemon in observer.daemons for one in service_scripts.of(daemon)]

    def is_one(process: Process) -> bool:
        is_hook = observer.is_hook_at_work(process)
        return is_hook or service_scripts.is_at_work(process, scripts, observer)

    return [
        process
        for process in (table.look(names) if seen is None else seen)
        if told(lambda: is_one(process), False)  # noqa: B023
    ]


def _is_fresh(last: Incident, daemon: Daemon) -> bool:
    """Return whether an incident's run was killed when its daemon may yet come up."""
    began = records.number(last.record, "began")
    if "result" in last.record or began is None:
        return False
    return 0 <= time.time() - began < daemon.facts.start_timeout


def why_hook_blocks(daemon: Daemon, process: Process) -> str:
    """Return what is wrong with a hook that has been at work for too long, or "".

    A hook is at work until its daemon is up, so no longer than `start_timeout`.
    """
    limit = daemon.facts.start_timeout
    if process.age() <= limit:
        return ""
    return (
        f"its hook is at work for over {spell(limit)} (pid {process.pid}): a hook must "
        "exec its daemon or start it and end, not be it"
    )


def _script_names(daemon: Daemon, observer: Observer) -> set[str]:
    """Return the names that a process interpreting one of the hooks may have."""
    names = {*SHELLS, "openrc-run.sh"}  # which openrc-run executes in its own place
    hooks = [*daemon.programs("start.d"), *daemon.programs("stop.d")]
    for program in (*hooks, *service_scripts.of(daemon)):
        paths = [program, observer.interpreter(program)]
        paths += [*map(os.path.realpath, paths)]
        names |= {os.path.basename(path) for path in paths}
    return {cut(name) for name in names} | names
