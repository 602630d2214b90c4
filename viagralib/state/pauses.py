"""Pauses: daemons that an administrator has taken out of the watch for a while."""

from __future__ import annotations

import os
import time

from viagralib.base import records
from viagralib.base.clocks import date
from viagralib.base.messages import safe
from viagralib.base.records import Record
from viagralib.state.announced import AGAIN
from viagralib.state.directory import PAUSE_OF_ALL, State


def why_paused(state: State, name: str) -> str:
    """Return until when the daemon is paused, by itself or with all, and why, or "".

    A damaged record pauses nothing: an unwatched daemon is the greater harm.
    """
    of_all = _why(state, PAUSE_OF_ALL)
    return _why(state, name) or (f"with all others, {of_all}" if of_all else "")


def _why(state: State, name: str) -> str:
    record = state.read("paused", name)
    until = records.number(record, "until")
    if not _is_sound(record) or (until is not None and until <= time.time()):
        return ""
    reason = f": {safe(str(record['reason']))}" if record.get("reason") else ""
    ends = f"until {date(until)}" if until else "until resumed"
    return f"{ends}{reason}"


def recall(state: State, name: str) -> str:
    """Return what to say of a pause without an end, once a day; else "".

    When it was said last is the time of its file: to write the record anew might
    bring back what somebody ends meanwhile.
    """
    why = _why(state, name)
    if not why or state.read("paused", name).get("until") is not None:
        return ""
    path = f"{state.path}/paused/{name}"
    try:
        if 0 <= time.time() - os.stat(path).st_mtime < AGAIN:
            return ""
        os.utime(path)
    except FileNotFoundError:  # ended by now
        return ""
    except OSError:
        pass  # a file system that takes nothing: better said too often
    who, cure = safe(name), f"viagra.py resume {safe(name)}"
    if name == PAUSE_OF_ALL:
        who, cure = "everything", "viagra.py resume --all"
    since = date(state.read("paused", name).get("since"))
    return f"{who} is paused since {since}, {why}; to end that: {cure}"


def is_damaged(state: State, name: str) -> bool:
    """Return whether the record of a pause cannot be used."""
    return not _is_sound(state.read("paused", name))


def _is_sound(record: Record) -> bool:
    numbers = ["since"] if record.get("until") is None else ["since", "until"]
    return all(records.number(record, key) is not None for key in numbers)


def pause(state: State, name: str, until: float | None, reason: str) -> None:
    """Take a daemon out of the watch until `until`, in seconds since 1970.

    None: until resume(). Raises OSError.
    """
    state.prepare()
    record = {"since": time.time(), "until": until, "reason": reason}
    state.write("paused", name, dict(record))


def resume(state: State, name: str) -> None:
    state.remove("paused", name)
