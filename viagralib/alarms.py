"""Alarms: a pattern that a daemon must not have written to its log since its start."""

from __future__ import annotations

import os
import stat

from viagralib.messages import reason, safe
from viagralib.patterns import TooLong
from viagralib.patterns import search as search_in
from viagralib.procfs import Process
from viagralib.settings import Daemon
from viagralib.state import Record, State

_MOST = 4_000_000  # bytes of a log that one run reads; the rest is the next run's
_LONGEST_LINE = 4096  # bytes of a line that are searched
_LONGEST_SEARCH = 1.0  # seconds: a pattern can take exponential time on a line
_SHOWN = 120  # characters of the line that was found
_KEY = "alarm"  # in the daemon's record of counts/


class CannotSearch(Exception):  # noqa: N818
    """The log cannot be searched; says why."""


def search(state: State, daemon: Daemon, process: Process) -> str:
    """Return the line that `process` wrote to its log and that is an alarm, or "".

    The place read up to is kept in the state; without it, only what is written from
    now on counts. Raises CannotSearch.
    """
    assert daemon.facts.alarm is not None
    path, pattern = daemon.facts.alarm
    record = state.read("counts", daemon.name)
    place = record.get(_KEY)
    place = place if isinstance(place, dict) else {}
    try:
        file = _open(path)
    except FileNotFoundError:
        return str(place.get("found") or "")
    except OSError as error:
        raise CannotSearch(f"could not read {reason(error)}") from None
    with open(file, "rb") as log:
        status = os.fstat(log.fileno())
        fresh = {"start": process.start, "inode": status.st_ino, "found": ""}
        if place.get("start") != process.start:
            fresh["offset"] = status.st_size  # what is there may be its predecessor's
        else:
            try:
                lines, offset = _unread(log.fileno(), path, place, status)
            except OSError as error:
                raise CannotSearch(f"could not read it: {reason(error)}") from None
            fresh["offset"] = offset
            fresh["found"] = place.get("found") or _first_match(pattern, lines)
    if fresh != place:
        _keep(state, daemon.name, record, fresh)
    return str(fresh["found"])


def _open(path: str) -> int:
    """Open a log that another user may own: a link or a pipe there is refused."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "no regular file", path)
    return descriptor


def _unread(
    log: int, path: str, place: Record, status: os.stat_result
) -> tuple[list[bytes], int]:
    """Return the lines written since `place`, and the offset after the last of them."""
    offset = place.get("offset")
    if not isinstance(offset, int) or offset < 0:
        offset = status.st_size
    before: list[bytes] = []
    if place.get("inode") != status.st_ino:
        before = _rest_of_rotated(f"{path}.1", place, offset)
        offset = 0
    elif offset > status.st_size:  # truncated, as by logrotate's copytruncate
        offset = 0
    text = os.pread(log, _MOST, offset)
    whole = text.rfind(b"\n") + 1  # a line that is still being written waits
    if whole == 0 and len(text) == _MOST:
        whole = _MOST
    return before + text[:whole].split(b"\n"), offset + whole


def _rest_of_rotated(path: str, place: Record, offset: int) -> list[bytes]:
    try:
        file = _open(path)
    except OSError:
        return []  # rotated to another name, or compressed: its end is lost
    with open(file, "rb") as log:
        if os.fstat(log.fileno()).st_ino != place.get("inode"):
            return []
        return os.pread(log.fileno(), _MOST, offset).split(b"\n")


def _first_match(pattern: str, lines: list[bytes]) -> str:
    texts = [line[:_LONGEST_LINE].decode(errors="surrogateescape") for line in lines]
    try:
        return safe(search_in(pattern, texts, _LONGEST_SEARCH))[:_SHOWN]
    except TooLong:
        text = f"its pattern needs more than {_LONGEST_SEARCH} s: simplify it"
        raise CannotSearch(text) from None


def _keep(state: State, name: str, record: Record, place: Record) -> None:
    try:
        state.prepare()
        state.write("counts", name, {**record, _KEY: place})
    except OSError:
        pass  # read again by the next run
