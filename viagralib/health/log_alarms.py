"""Alarms: a pattern that a daemon must not have written to its log since its start."""

from __future__ import annotations

import os
import time

from viagralib.base import guarded_files, records, rotated_logs
from viagralib.base.messages import reason, safe
from viagralib.base.records import Record
from viagralib.health.findings import WELL, Finding
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import SICK, UNKNOWN, UP
from viagralib.settings.configuration import Daemon
from viagralib.state.directory import State
from viagralib.state.run_context import Run

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 4_000_000  # bytes of a log that one run reads: the newest
_A_DAY = 86400.0  # seconds for which it is said that some were not
_LONGEST_LINE = 4096  # characters of a line that are searched
_AT_ONCE = 65536  # bytes that are taken apart into lines
_LONGEST_SEARCH = 1.0  # seconds: a pattern can take exponential time on a line
_SHOWN = 120  # characters of the line that was found
_KEY = "alarm"  # in the daemon's record of counts/


class CannotSearch(Exception):  # noqa: N818
    """The log cannot be searched; says why."""


def find(run: Run, daemon: Daemon, process: Process) -> Finding:
    """Return whether `process` wrote to its log what is an alarm.

    The place read up to is kept in the state; without it, only what is written from
    now on counts. Who only looks keeps nothing.
    """
    if run.is_state_unsafe:
        return Finding(UNKNOWN, "alarm: the state that tells what is new is unsafe")
    known = records.inner(run.state.read("counts", daemon.name), _KEY)
    try:
        place = _search(daemon, process, known)
    except CannotSearch as why:
        return Finding(UNKNOWN, f"alarm: {why}")
    if place != known and not run.only_looks:
        _keep(run.state, daemon.name, place)
    if place["found"]:
        return Finding(SICK, f"alarm: {safe(str(place['found']))}")
    skipped = records.integer(place, "skipped")
    if not skipped:
        return Finding(WELL)
    grown = f"it grew by more than {_MOST / 1e6:.0f} MB between two runs"
    text = f"alarm: {skipped / 1e6:.1f} MB of its log were not searched: {grown}"
    return Finding(UP, text)


def _search(daemon: Daemon, process: Process, known: Record) -> Record:
    """Search what was written since `known`; return the place read up to, and the
    alarm `found` since the daemon started. Raises CannotSearch."""
    assert daemon.facts.alarm is not None
    path, pattern = daemon.facts.alarm
    is_same_start = known.get("start") == process.start
    found = known.get("found") if is_same_start else ""
    place: Record = {"start": process.start, "found": str(found or "")}
    try:
        with guarded_files.opened(rotated_logs.newest(path)) as log:
            status = os.fstat(log)
            place["inode"] = status.st_ino
            if not is_same_start:  # what is there may be its predecessor's
                return {**place, "offset": status.st_size}
            blocks, place["offset"], skipped = _unread(log, path, known, status)
    except FileNotFoundError:
        return {**known, **place} if is_same_start else {**place, "offset": 0}
    except OSError as error:
        raise CannotSearch(f"could not read it: {reason(error)}") from None
    if skipped:
        place |= {"skipped": skipped, "skipped_at": time.time()}
    elif time.time() - (records.number(known, "skipped_at") or 0) < _A_DAY:
        place |= {key: known[key] for key in ("skipped", "skipped_at") if key in known}
    place["found"] = place["found"] or _first_match(pattern, blocks)
    return place


def position(daemon: Daemon) -> Record:
    """Return the place before which the log is not of the daemon that starts now."""
    if daemon.facts.alarm is None:
        return {}
    try:
        log_path = rotated_logs.newest(daemon.facts.alarm[0])
        with guarded_files.opened(log_path) as log:
            status = os.fstat(log)
    except OSError:
        return {"found": "", "offset": 0}
    return {"found": "", "inode": status.st_ino, "offset": status.st_size}


def keep_position(
    state: State, daemon: Daemon, place: Record, process: Process
) -> None:
    """Keep the position of before `process` was started, if there is one."""
    if place:
        _keep(state, daemon.name, {**place, "start": process.start})


def _unread(
    log: int, path: str, place: Record, status: os.stat_result
) -> tuple[list[bytes], int, int]:
    """Return what was written since `place`, in blocks of whole lines, the offset after
    the last of them, and how many bytes before them were too many to be read."""
    offset = records.integer(place, "offset")
    if offset is None or offset < 0:
        offset = status.st_size
    before, skipped = b"", 0
    if place.get("inode") != status.st_ino:
        before, skipped = _rest_of_rotated(path, place, offset)
        offset = 0
    elif offset > status.st_size:  # truncated, as by logrotate's copytruncate
        offset = 0
    text, too_many = _newest(log, offset, status.st_size)
    offset += too_many
    whole = text.rfind(b"\n") + 1  # a line that is still being written waits
    if whole == 0 and len(text) == _MOST:
        whole = _MOST
    return [before, text[:whole]], offset + whole, skipped + too_many


def _newest(log: int, offset: int, size: int) -> tuple[bytes, int]:
    """Return the newest bytes after `offset`, and how many before them are left out."""
    skipped = max(size - offset - _MOST, 0)
    return os.pread(log, _MOST, offset + skipped), skipped


def _rest_of_rotated(path: str, place: Record, offset: int) -> tuple[bytes, int]:
    try:
        with guarded_files.opened(rotated_logs.former(path, place.get("inode"))) as log:
            status = os.fstat(log)
            is_it = status.st_ino == place.get("inode")
            return _newest(log, offset, status.st_size) if is_it else (b"", 0)
    except OSError:
        return b"", 0  # moved away, or compressed: its end is lost


def _lines(blocks: list[bytes]) -> Iterator[str]:
    """Yield the beginnings of all lines; few at once, since each takes memory."""
    for block in blocks:
        begin = 0
        while begin < len(block):
            end = block.find(b"\n", begin + _AT_ONCE)
            text = block[begin : end if end >= 0 else None]
            lines = text.decode(errors="surrogateescape").split("\n")
            if len(text) > _LONGEST_LINE:
                lines = [line[:_LONGEST_LINE] for line in lines]
            yield from lines
            begin += len(text) + 1


def _first_match(pattern: str, blocks: list[bytes]) -> str:
    if not any(blocks):
        return ""
    from viagralib.base.bounded_regex import TooLong, search

    try:
        return safe(search(pattern, _lines(blocks), _LONGEST_SEARCH) or "")[:_SHOWN]
    except TooLong:
        text = f"its pattern needs more than {_LONGEST_SEARCH} s: simplify it"
        raise CannotSearch(text) from None


def _keep(state: State, name: str, place: Record) -> None:
    try:
        state.prepare()
        # Read anew: another run may have counted a restart meanwhile.
        state.write("counts", name, {**state.read("counts", name), _KEY: place})
    except OSError:
        pass  # read again by the next run
