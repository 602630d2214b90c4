"""Records: JSON objects of ours in files, replaced whole, and read with mistrust.

What is missing, damaged or too large reads as {}; what is not of the type that is
asked for reads as if it were not there.
"""

from __future__ import annotations

from viagralib.base import answer_cache, guarded_files

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from typing import TypeGuard

LARGEST = 1_000_000  # bytes; what is larger was not written by us
LARGEST_NUMBER = 1e11  # in a record: seconds since 1970, clock ticks, bytes, pids
Record = dict[str, object]


def read(path: str) -> Record:
    """Return the record in this file; {} when there is none."""
    return _parse(_text(path))


def recall(path: str) -> Record:
    """Return the same; what an earlier run has parsed is not parsed again."""
    text = _text(path)
    record = answer_cache.ask(("record", text), lambda: _parse(text)) if text else {}
    return record if isinstance(record, dict) else {}


def _text(path: str) -> str:
    try:
        return guarded_files.read(path, LARGEST, link=False).decode()
    except (OSError, ValueError):  # ValueError: no path, or nothing that we wrote
        return ""


def _parse(text: str) -> Record:
    import json  # dear, as it loads re

    try:
        record = json.loads(
            text, parse_constant=_number, parse_float=_number, parse_int=_integer
        )
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write(path: str, record: Record) -> None:
    """Replace the file by this record. Raises OSError."""
    import json

    guarded_files.replace(path, json.dumps(record, indent=1).encode() + b"\n")


def number(record: Record, key: str) -> float | None:
    """Return a number of the record, or None."""
    value = record.get(key)
    return value if _is_number(value) else None


def integer(record: Record, key: str) -> int | None:
    """Return a whole number of the record, or None."""
    value = number(record, key)
    return value if isinstance(value, int) else None


def numbers(record: Record, key: str) -> list[float]:
    """Return the numbers in a list of the record."""
    values = record.get(key)
    return list(filter(_is_number, values)) if isinstance(values, list) else []


def inner(record: Record, key: str) -> Record:
    """Return the record that is in the record; {} when there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def process(record: Record, key: str) -> tuple[int, float] | None:
    """Return the pid and the start time of a process that was recorded, or None."""
    identity = inner(record, key)
    pid, start = integer(identity, "pid"), number(identity, "start")
    return None if pid is None or start is None else (pid, start)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> float:
    """Return a number that can be a time; ValueError for what we never write."""
    number = float(text)
    if not -LARGEST_NUMBER < number < LARGEST_NUMBER:  # nor for NaN
        raise ValueError(text)
    return number


def _integer(text: str) -> int:
    _number(text)
    return int(text)
