"""Death records: what viagra-run knows of a command's instances and deaths, for others.

`deaths/NAME` in the state directory is one JSON object, replaced by rename:

    version   1
    name      NAME
    boot      the boot of the machine in which it was written
    instance  restarts so far; the first instance is 0
    runner    {"pid", "start"}: the process to signal; gone without an `end`: killed
    command   {"pid", "start"} of this instance
    started   when this instance began (seconds since the epoch)
    death     how the last instance ended that has ended, or null:
              {"at" (epoch), "instance", "pid", "exit" or null, "signal" or null,
               "core" (was core dumped), "ran" (seconds, time asleep included)}
    end       null while viagra-run is at work; else {"at", "finished"}: `finished` is
              true when the last instance ended as a plain exit 0

`start` counts in the kernel's units (Linux: clock ticks since boot, proc(5) stat,
field 22; else seconds since the epoch). A record may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import time

from viagralib.base import guarded_files, records
from viagralib.base.durations import spell
from viagralib.base.messages import Fault, reason, signal_name
from viagralib.base.records import Record
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.pidfd import is_running
from viagralib.state.directory import State, check_ours, this_boot

VERSION = 1


class Recorder:
    """Writes the record of one name. A failure costs the record, never the command."""

    def __init__(self, name: str) -> None:
        """Make the `deaths` directory; raises Fault when it cannot be used."""
        import json  # noqa: F401  now, not when a restart is in a hurry

        self._every = {"version": VERSION, "name": name, "boot": this_boot()}
        place = f"{os.path.abspath(state_directory())}/deaths"
        self._path = f"{place}/{name}"
        try:
            check_ours(os.path.dirname(place))
            with contextlib.suppress(FileExistsError):
                os.mkdir(place, 0o700)
            if os.path.islink(place):
                raise Fault(place, "is a link: make it a directory")
            check_ours(place)
        except OSError as error:
            raise Fault("", f"no directory for it: {reason(error)}") from None

    def write(self, record: dict[str, object]) -> None:
        """Replace the record. Raises OSError.

        It is not forced to the disk: that can take longer than a restart may, and
        after a crash of the machine no death before it matters.
        """
        records.write(self._path, {**self._every, **record})


def read(state: str, name: str) -> records.Record:
    """Return the record of `name`; {} if there is none, or none that can be used.

    What another user owns or could have changed is not used.
    """
    path = f"{state}/deaths/{name}"
    try:
        record = records.read(path) if guarded_files.is_ours(path) else {}
    except OSError:
        return {}
    return record if record.get("version") == VERSION else {}


def state_directory() -> str:
    """Return where the state is: $VIAGRA_STATE (set in hooks), else the default."""
    given = os.environ.get("VIAGRA_STATE")
    if given:
        return given
    from viagralib.settings.homes import find_state  # only with -n

    return find_state(None)


def now() -> float:
    """Return the time of day, in seconds since the epoch, to the millisecond."""
    return round(time.time(), 3)


def finished_at(state: State, name: str) -> float:
    """Return when its last instance ended well, since the machine was booted; or 0.0.

    In seconds since 1970.
    """
    record = read(state.path, name)
    end = records.inner(record, "end")
    if end.get("finished") is not True or record.get("boot") != this_boot():
        return 0.0
    return records.number(end, "at") or 1.0


def forget_finished(state: State, name: str, seen: float) -> None:
    """Forget that it ended well, before it was `seen` to run (seconds since 1970).

    Somebody has started it since, without viagra-run.
    """
    if 0.0 < finished_at(state, name) < seen:
        state.remove("deaths", name)


def runner(state: State, name: str) -> Process | None:
    """Return the viagra-run that lives and would start the daemon anew, or None."""
    identity = records.process(read(state.path, name), "runner")
    process = table.find(identity[0]) if identity else None
    if not (identity and process) or process.start != identity[1]:
        return None
    return process if is_running(process) else None


def held(state: State, name: str, runner: Process) -> Process | None:
    """Return the oldest process whose end a viagra-run awaits; None: it awaits none, as
    between two instances."""
    record = read(state.path, name)
    death_at = records.number(records.inner(record, "death"), "at") or 0.0
    if death_at > (records.number(record, "started") or 0.0):
        return None
    from viagralib.processes.tree import ProcessTree

    command = records.process(record, "command")
    found = [
        one
        for one in ProcessTree([runner]).living()
        if one.identity == command or one.name != runner.name  # it may be two itself
    ]
    return min(found, key=lambda one: one.start, default=None)


def death_since(state: State, name: str, since: float) -> str:
    """Return how its last instance ended, if not before `since`, for people; or ""."""
    record = read(state.path, name)
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
    return f"signal {signal_name(number)},{' core,' if death.get('core') else ''}"
