"""The service manager: what systemd says of a unit, of its job, and of its end."""

from __future__ import annotations

import os
import shlex
import time

from viagralib.base.clocks import awake_clock
from viagralib.base.users import runtime_directory
from viagralib.state.directory import State
from viagralib.trust.gate import Gate

_SYSTEMD = "/run/systemd/system"  # there when systemd is process 1: sd_booted(3)
# What tells how a unit ended, whether it can be started, and what is to come.
_SHOW = (
    "systemctl show -p LoadState,ActiveState,Job,NRestarts,Result,ExecMainCode,"
    "ExecMainStatus,ExecMainExitTimestampMonotonic,MemoryMax --"
)
# What systemd's journal knows of a unit: systemd.journal-fields(7), sd-messages.h.
_STARTS = ("7d4958e842da4a758f6c1cdc7b36dcc5", "39f53479d3a045ac8e11786248231fbf")
_STOPS = ("de5b426a63be47a7b6ac3eaac82e2f6f", "9d1aaa27d60140bd96365438aad20286")
_JOURNAL = "journalctl -q --no-pager -n 100 -u"
_LAST = "journalctl -q -b -n 1 -o json --output-fields=MESSAGE_ID"
_LONGEST_ANSWER = 10.0  # seconds that a command may take: process 1 may be busy


class Unit:
    """What systemd says of a unit; `values` are its properties, {} when unknown."""

    def __init__(self, name: str, values: dict[str, str]) -> None:
        self.name = name
        self.values = values
        self.stopped_at = 0.0  # by an order to systemd, in seconds since 1970
        self.is_silent = False  # systemd did not answer in time

    @property
    def is_missing(self) -> bool:
        return self.values.get("LoadState") == "not-found"

    @property
    def is_masked(self) -> bool:
        return self.values.get("LoadState") == "masked"

    @property
    def job(self) -> str:
        """The number of a job that systemd has for it, such as to start it; or ""."""
        return self.values.get("Job", "").removeprefix("0")


def is_there() -> bool:
    """Return whether systemd is this machine's service manager."""
    return os.path.isdir(_SYSTEMD)


def _of_user(command: str) -> str:
    """Return a command as one to the user's own manager, where that runs."""
    program, _, rest = command.partition(" ")
    return f"{program} --user {rest}" if runtime_directory() else command


def show_command(unit: str) -> str:
    """Return the command that tells how a unit is, for a shell."""
    return f"{_of_user(_SHOW)} {shlex.quote(unit)}"


def journal_command(unit: str) -> str:
    """Return the command that shows the end of a unit's journal, for a shell."""
    return f"{_of_user(_JOURNAL)} {shlex.quote(unit)}"


def known_unit(state: State, name: str, fact: str) -> str:
    """Return the unit of a daemon: that of the fact, or of the last start; or ""."""
    return fact or str(state.read("counts", name).get("unit") or "")


def look(unit: str, gate: Gate) -> Unit:
    """Ask for a unit's properties and, if it is not active, who stopped it."""
    found = Unit(unit, {})
    try:
        found.values = properties(_answer(_of_user(_SHOW), gate, unit))
        if found.is_missing and runtime_directory():  # then it is the system's
            found.values = properties(_answer(_SHOW, gate, unit))
        if found.values.get("ActiveState") in ("inactive", "failed"):
            found.stopped_at = _stopped_at(unit, gate)
    except TimeoutError:
        found.is_silent = True
    return found


def tell_owners(units: dict[str, str], gate: Gate) -> dict[str, str]:
    """Return each of these units, by daemon, with systemd's own restarts of it."""
    names = list(dict.fromkeys(units.values()))
    text = (
        ask(_of_user("systemctl show -p NRestarts --"), gate, *names) if names else ""
    )
    numbers = [properties(one).get("NRestarts", "0") for one in text.split("\n\n")]
    restarts = dict(zip(names, numbers, strict=False))  # none where it does not answer
    told = {}
    for name, unit in units.items():
        number = restarts.get(unit, "0")
        many = f", {number} restart{'' if number == '1' else 's'} by systemd"
        told[name] = unit + (many if number.strip("0") else "")
    return told


def stop(unit: str, gate: Gate) -> None:
    """Order a unit to be stopped, and do not wait for it."""
    ask(_of_user("systemctl --no-block stop --"), gate, unit)


def properties(text: str) -> dict[str, str]:
    """Return what `systemctl show` prints as a table."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def ended_at(values: dict[str, str]) -> float:
    """Return when a unit's last main process ended, in seconds since 1970; or 0.0."""
    micro = values.get("ExecMainExitTimestampMonotonic", "")
    if not micro.isdecimal() or int(micro) == 0:
        return 0.0
    return time.time() - awake_clock() + int(micro) / 1e6


def _stopped_at(unit: str, gate: Gate) -> float:
    """Return when systemd was last told to stop it, if not to start it since; or 0.0.

    Its properties do not tell that from an end of its own, and systemd forgets them.
    Any process of the unit can say the same in its journal: the system's own manager
    alone is believed.
    """
    import json

    ids = [f"MESSAGE_ID={one}" for one in (*_STARTS, *_STOPS)]
    ids += [] if runtime_directory() else ["_PID=1"]
    try:
        last = json.loads(_answer(_of_user(_LAST), gate, "-u", unit, *ids))
        is_stop = last["MESSAGE_ID"] in _STOPS
        return int(last["__REALTIME_TIMESTAMP"]) / 1e6 if is_stop else 0.0
    except (ValueError, KeyError, TypeError):
        return 0.0


def ask(command: str, gate: Gate, *more: str) -> str:
    """Return what a command prints; "" when it is not there, or does not answer."""
    try:
        return _answer(command, gate, *more)
    except TimeoutError:
        return ""


def _answer(command: str, gate: Gate, *more: str) -> str:
    """Return what a command prints; "": it is not there. Raises TimeoutError."""
    from viagralib.hooks import child_process  # few systems get here
    from viagralib.state.hook_log import memory

    name, *arguments = [*command.split(), *more]
    output = memory(name)
    try:
        environment = {"PATH": gate.search_path, "LC_ALL": "C", **runtime_directory()}
        program = gate.find(name)
        child = child_process.start(gate, program, arguments, output, environment)
        child.release()
        while not child.poll():
            if child.seconds() > _LONGEST_ANSWER:
                child.kill()
                raise TimeoutError
            time.sleep(0.001)
        return os.pread(output, 65536, 0).decode(errors="replace").strip()
    except TimeoutError:
        raise
    except OSError:
        return ""
    finally:
        os.close(output)
