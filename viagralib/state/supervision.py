"""What viagra-run recorded of a daemon: who runs it, how it died, that it finished."""

from __future__ import annotations

import signal
import time

from viagralib.base.durations import spell
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import is_running
from viagralib.state import death_records
from viagralib.state.directory import State, this_boot


def has_finished(state: State, name: str) -> bool:
    """Return whether its last instance ended, since this boot, with a plain exit 0."""
    record = death_records.read(state.path, name)
    end = record.get("end") if record else None
    if not isinstance(end, dict) or end.get("finished") is not True:
        return False
    return record is not None and record.get("boot") == this_boot()


def runner(state: State, name: str) -> Process | None:
    """Return the viagra-run that lives and would start the daemon anew, or None."""
    record = death_records.read(state.path, name)
    identity = record.get("runner") if record else None
    if not isinstance(identity, dict):
        return None
    pid, start = identity.get("pid"), identity.get("start")
    if not isinstance(pid, int) or not isinstance(start, int | float):
        return None
    process = table.find(pid)
    if process is None or process.start != start or not is_running(process):
        return None
    return process


def death_since(state: State, name: str, since: float) -> str:
    """Return how its last instance ended, if not before `since`, for people; or ""."""
    record = death_records.read(state.path, name) or {}
    death = record.get("death")
    at, ran = (death.get("at"), death.get("ran")) if isinstance(death, dict) else (0, 0)
    started = record.get("started")
    if not isinstance(at, int | float) or not isinstance(started, int | float):
        return ""
    if record.get("end") is None and at <= started:
        return _lost(record, started)  # nobody saw that instance's end
    if not isinstance(death, dict) or at < since:
        return ""
    after = f" after {spell(ran)}" if isinstance(ran, int | float) else ""
    return f"viagra-run: {_how(death)}{after}"


def _lost(record: dict[str, object], started: float) -> str:
    """Return that viagra-run was killed itself, since this boot; or ""."""
    runner = record.get("runner")
    pid = runner.get("pid") if isinstance(runner, dict) else None
    if not isinstance(pid, int) or started < time.time() - table.uptime():
        return ""
    return f"viagra-run itself was killed (pid {pid})"


def _how(death: dict[str, object]) -> str:
    number = death.get("signal")
    if not isinstance(number, int):
        return f"exit {death.get('exit')},"
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return f"signal {number}{name}, {'core, ' if death.get('core') else ''}".rstrip(" ")
