"""What viagra-run recorded of a daemon: who runs it, how it died, that it finished."""

from __future__ import annotations

import signal

from viagralib.base import records
from viagralib.base.durations import spell
from viagralib.base.records import Record
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import is_running
from viagralib.state import death_records
from viagralib.state.directory import State, this_boot


def finished_at(state: State, name: str) -> float:
    """Return when its last instance ended well, since the machine was booted; or 0.0.

    In seconds since 1970.
    """
    record = death_records.read(state.path, name)
    end = records.inner(record, "end")
    if end.get("finished") is not True or record.get("boot") != this_boot():
        return 0.0
    return records.number(end, "at") or 1.0


def forget_finished(state: State, name: str) -> None:
    """Forget that it ended well: somebody has started it since, without viagra-run."""
    if finished_at(state, name):
        state.remove("deaths", name)


def runner(state: State, name: str) -> Process | None:
    """Return the viagra-run that lives and would start the daemon anew, or None."""
    identity = records.process(death_records.read(state.path, name), "runner")
    process = table.find(identity[0]) if identity else None
    if not (identity and process) or process.start != identity[1]:
        return None
    return process if is_running(process) else None


def death_since(state: State, name: str, since: float) -> str:
    """Return how its last instance ended, if not before `since`, for people; or ""."""
    record = death_records.read(state.path, name)
    death = records.inner(record, "death")
    at = records.number(death, "at") if death else 0
    started, ran = records.number(record, "started"), records.number(death, "ran")
    if at is None or started is None:
        return ""
    if record.get("end") is None and at <= started:
        return _lost(record)  # nobody saw that instance's end
    if not death or at < since:
        return ""
    after = "" if ran is None else f" after {spell(ran)}"
    return f"viagra-run: {_how(death)}{after}"


def _lost(record: Record) -> str:
    """Return that viagra-run itself was killed, since the machine was booted; or ""."""
    pid = records.integer(records.inner(record, "runner"), "pid")
    if pid is None or record.get("boot") != this_boot():
        return ""
    return f"viagra-run itself was killed (pid {pid})"


def _how(death: Record) -> str:
    number = records.integer(death, "signal")
    if number is None:
        return f"exit {death.get('exit')},"
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return f"signal {number}{name}, {'core, ' if death.get('core') else ''}".rstrip(" ")
