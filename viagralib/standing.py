"""Standing: why a daemon that is not up is left alone."""

from __future__ import annotations

import os

from viagralib import table
from viagralib.durations import spell
from viagralib.family import lives
from viagralib.incidents import Incident, recorded_process
from viagralib.matching import SHELLS, Onlooker, cut
from viagralib.procfs import Process, Unreadable, Vanished
from viagralib.settings import Daemon

NOT_NOW = "not now"


def hook_at_work(
    daemon: Daemon, onlooker: Onlooker, last: Incident | None
) -> Process | None:
    """Return the process that already starts this daemon, outside this run.

    It interprets one of the daemon's hooks, started by hand or by another program, or
    it is the hook of a run that was killed (`last` is the daemon's open incident).
    Only root's, and our own user's: nobody else can start the daemon.
    """
    if last is not None:
        process = recorded_process(last, "hook")
        if process is not None and lives(process):
            return table.find(process.pid)
    for process in table.look(_script_names(daemon, onlooker)):
        try:
            ours = process.users()[0] in (0, onlooker.user) and not process.zombie
            if ours and onlooker.is_hook_at_work(process, daemon):
                return process
        except (Vanished, Unreadable):
            continue
    return None


def why_hook_blocks(daemon: Daemon, process: Process) -> str:
    """Return what is wrong with a hook that has been at work for too long, or "".

    A hook is at work until its daemon is up, so no longer than `start_timeout`.
    """
    age = process.age()
    if age <= daemon.facts.start_timeout:
        return ""
    return (
        f"its hook has been at work for {spell(age)} (pid {process.pid}): a hook must "
        "exec its daemon or start it and end, not be it"
    )


def _script_names(daemon: Daemon, onlooker: Onlooker) -> set[str]:
    """Return the names that a process interpreting one of the hooks may have."""
    names = set(SHELLS)
    for kind in ("start.d", "stop.d"):
        for program in daemon.programs(kind):
            interpreter = onlooker.interpreter(program)
            names |= {
                os.path.basename(path)
                for path in (
                    program,
                    os.path.realpath(program),
                    interpreter,
                    os.path.realpath(interpreter),
                )
            }
    return {cut(name) for name in names} | names
