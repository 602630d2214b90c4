"""Hooks at work: processes that start or stop a daemon already, outside this run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from viagralib.base import records
from viagralib.base.durations import spell
from viagralib.base.files import real_path
from viagralib.processes import service_scripts, table
from viagralib.processes.linux import Process
from viagralib.processes.matching import cut
from viagralib.processes.observer import SHELLS, Observer
from viagralib.processes.pidfd import is_running
from viagralib.processes.table import told
from viagralib.processes.tree import ProcessTree
from viagralib.processes.verdicts import UP, Verdict, judge
from viagralib.settings.configuration import Daemon
from viagralib.state import death_records
from viagralib.state.incidents import Incident, recorded_hook


def of(daemon: Daemon, observer: Observer, last: Incident | None) -> Process | None:
    """Return the process that already starts this daemon, outside this run.

    It interprets one of the daemon's hooks, started by hand or by another program, or
    the script of init.d or rc.d that a ready hook would call, or it is the hook of a
    run that was killed (`last` is the daemon's open incident), and not its daemon yet.
    Only root's, and our own user's: nobody else can start the daemon.
    """
    if last is not None:
        process = recorded_hook(last)
        if process is not None and is_running(process):
            now = table.find(process.pid)
            if now is not None and not _has_become_it(daemon, now, last, observer):
                return now
        elif process is not None and _is_fresh(last, daemon):
            mark = f"VIAGRA_MARK={last.mark}"
            left = ProcessTree([process], mark=mark).living()
            # Of a hook whose run was killed: what may become the daemon.
            if left and _judge(daemon, observer).word != UP:
                return left[0]
    seen: Iterable[Process] | None = observer.hooks_at_work
    if seen is None:
        seen = table.look(_script_names(daemon, observer))
    scripts = service_scripts.of(daemon)
    for process in seen:
        if told(lambda: _starts(daemon, process, scripts, observer), False):  # noqa: B023
            return process
    return None


def _has_become_it(
    daemon: Daemon, hook: Process, last: Incident, observer: Observer
) -> bool:
    """Return whether a hook has become the daemon, or the viagra-run that holds it.

    It has done what it was to do; who stops the daemon ends either with it. Any other
    parent might start the daemon once more.
    """
    counted = [one.identity for one in _judge(daemon, observer).processes()]
    state = os.path.dirname(os.path.dirname(last.directory))
    runner = records.process(death_records.read(state, daemon.name), "runner")
    return bool(counted) and hook.identity in (*counted, runner)


def _judge(daemon: Daemon, observer: Observer) -> Verdict:
    return judge([daemon], observer, every=True)[daemon.name]


def _starts(
    daemon: Daemon, process: Process, scripts: list[str], observer: Observer
) -> bool:
    """Return whether a process of root's, or ours, starts the daemon as a hook does.

    A child of this run's starts another one, whose hook may be a link to the same.
    """
    if process.parent == observer.pid or not _may_start(process, observer):
        return False
    if observer.is_hook_at_work(process, daemon):
        return True
    # One that is at work for longer watches over its daemon.
    is_new = process.age() < daemon.facts.start_timeout
    return is_new and service_scripts.is_at_work(process, scripts, observer)


def _may_start(process: Process, observer: Observer) -> bool:
    """Return whether it is root's, or ours: a stranger's paths lead through mazes."""
    return not process.zombie and process.users()[0] in (0, observer.user)


def prepare_one_look(observer: Observer) -> None:
    """Have a look at the daemons find who may be a hook at work as well."""
    names = [_script_names(daemon, observer) for daemon in observer.daemons]
    observer.script_names = set().union(*names)


def find_all(observer: Observer) -> list[Process]:
    """Return the processes that interpret anybody's hook, by that look or a new one."""
    names, seen = observer.script_names, observer.scripts_seen
    scripts = [one for daemon in observer.daemons for one in service_scripts.of(daemon)]

    def is_one(process: Process) -> bool:
        if not _may_start(process, observer):
            return False
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


def why_blocked(daemon: Daemon, process: Process) -> str:
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
        paths += [*map(real_path, paths)]
        names |= {os.path.basename(path) for path in paths}
    return {cut(name) for name in names} | names
