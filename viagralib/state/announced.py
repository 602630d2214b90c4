"""What was already said of a daemon: the records of open/, one for each name.

A daemon that could not be brought back, cannot be judged, waits or is unsafe is said
when that is new or has changed, and then once a day. Numbers are no change: they grow
by themselves, and whoever starts processes chooses their pids.
"""

from __future__ import annotations

import contextlib
import re
import time

from viagralib.base import records
from viagralib.base.clocks import date
from viagralib.base.messages import safe
from viagralib.base.records import Record
from viagralib.processes.verdicts import UP
from viagralib.state.directory import State

AGAIN = 86400.0  # seconds until the same is said again
_MOST = 5  # texts said of one name and word in that time: others have a hand in them
_OVER = " (over)"  # behind what was said of what has ended: it may be said again
_NUMBERS = re.compile(r"(?:\d[\d.:]*(?: ?(?:ms|[smhdw])\b)? ?)+")  # and durations
GENERAL = "viagra.toml"  # what is no daemon's: no daemon can have that name
FAULT = "faulty"  # the word for what is refused
_NO_END = (UP, FAULT)  # words whose end nobody is told of


def of(state: State, name: str) -> Record:
    """Return what is open for this name; {} when nothing is."""
    return state.read("open", name)


def incident_of(state: State, name: str) -> str:
    """Return the id of the incident that is open for this name, or ""."""
    return str(of(state, name).get("incident") or "")


def announce(
    state: State, name: str, word: str, text: str, *, daily: bool = True
) -> bool:
    """Note that `name` is `word`, which `text` tells; return whether to say it now.

    What was said already is said again after AGAIN, unless it is not to be said daily.
    What is `up` or faulty meanwhile does not end what is open: its end is told later.
    """
    key = f"{word}: {_NUMBERS.sub('0 ', text)}"
    said, said_at = _said(state, name, daily=daily)
    if key in said or _is_enough(said, word):
        return False
    record = of(state, name)
    if word in _NO_END and record.get("told") and record.get("word") not in _NO_END:
        word = str(record.get("word"))
    note(state, name, word, said=[*said, key], said_at=said_at, told=True)
    return True


def is_enough(state: State, name: str, word: str) -> bool:
    """Return whether as much was said of this word as is in a day."""
    return _is_enough(_said(state, name)[0], word)


def _is_enough(said: list[str], word: str) -> bool:
    return sum(one.startswith(f"{word}: ") for one in said) >= _MOST


def _said(state: State, name: str, *, daily: bool = True) -> tuple[list[str], float]:
    """Return what was said of a name, in the last day if `daily`, and since when."""
    record = of(state, name)
    if "said" not in record:  # nothing of what is open, if anything is
        record, daily = state.read("counts", name), True
    now = time.time()
    said, said_at = record.get("said"), records.number(record, "said_at")
    is_old = daily and said_at is not None and not 0 <= now - said_at < AGAIN
    if said_at is None or not isinstance(said, list) or is_old:
        return [], now
    return [*map(str, said)], said_at


def close(state: State, name: str) -> None:
    """Let nothing be open for a name any more.

    What was said counts for the rest of the day: others may have it end and begin anew.
    """
    record = of(state, name)
    if "said" in record:
        said, said_at = _said(state, name)
        over = [one.removesuffix(_OVER) + _OVER for one in said]
        more = {"said": over, "said_at": said_at}
        with contextlib.suppress(OSError):
            state.write("counts", name, {**state.read("counts", name), **more})
    state.remove("open", name)


def note(state: State, name: str, word: str, **more: object) -> None:
    """Keep that `name` is open as `word`, since it is not well; and more of it.

    On a full disk it is forgotten, and so said again: better twice than never.
    """
    record = of(state, name)
    if record.get("word", UP) in _NO_END:
        record["since"] = time.time()
    record.update(word=word, **more)
    with contextlib.suppress(OSError):
        state.prepare()
        state.write("open", name, record)


def put_back(state: State, name: str, record: Record) -> None:
    """Let what was open stay as it was, if anything was: nothing was done."""
    if not record:
        state.remove("open", name)
        return
    with contextlib.suppress(OSError):
        state.write("open", name, record)


def up_again(name: str, record: Record) -> str:
    """Return the line that closes what was open for a daemon; "": it was not told."""
    word = safe(str(record.get("word") or ""))
    if not record.get("told") or word in ("", *_NO_END):
        return ""
    return f"{safe(name)} is up again, {word} since {date(record.get('since'))}"
