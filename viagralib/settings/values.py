"""Values of TOML: what kinds there are, and what is said of a wrong one."""

from __future__ import annotations

from viagralib.base import answer_cache, durations
from viagralib.base.messages import shown

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}


def text(value: object) -> str:
    """Return a TOML string that is not empty; ValueError says why not."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if "\0" in value:
        raise ValueError("must not hold a NUL")
    return value


def path(value: object) -> str:
    """Return an absolute path; ValueError says why not."""
    place = text(value)
    if not place.startswith("/"):
        raise ValueError(f"{shown(place)} must be an absolute path")
    return place


def pattern(value: object) -> str:
    """Return a regular expression; ValueError says why not."""
    expression = text(value)
    answer_cache.ask(("pattern", expression), lambda: _compiles(expression))
    return expression


def _compiles(expression: str) -> bool:
    import re
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # else a warning in each run's mail
            re.compile(expression)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        complaint = f"{shown(expression)} is no regular expression: {error}"
        raise ValueError(complaint) from None
    return True


def truth(value: object) -> bool:
    """Return a TOML truth value; ValueError says why not."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def duration(value: object) -> float:
    """Return the seconds of a TOML value such as "30s"; ValueError says why not."""
    if not isinstance(value, str):
        raise ValueError('must be a duration in quotes, such as "30s"')
    return durations.parse(value)


def some_time(value: object) -> float:
    """Return the seconds of a TOML value, more than none; ValueError says why not."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("must be longer than nothing")
    return seconds


def positive_number(value: object) -> int:
    """Return a TOML integer of at least 1; ValueError says why not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be a whole number of at least 1")
    return value


def size(value: object) -> int:
    """Return the bytes of a TOML value such as "500MB"; ValueError says why not."""
    if isinstance(value, str):
        number = value.rstrip("kMGTB")
        unit = value[len(number) :]
        digits = number.isascii() and number.isdecimal() and len(number) < 18
        if digits and unit in _BYTES:
            return int(number) * _BYTES[unit]
    raise ValueError('must be a size in quotes, such as "500MB"')


def texts(value: object) -> tuple[str, ...]:
    """Return a TOML list of strings; ValueError says why not."""
    if not isinstance(value, list):
        raise ValueError("must be a list of texts")
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        raise ValueError("must be a list of texts, without NUL")
    return tuple(value)


def commands(value: object) -> tuple[str, ...]:
    """Return a TOML list of commands; ValueError says why not."""
    for command in texts(value):
        if not answer_cache.ask(("words", command), lambda: _has_words(command)):  # noqa: B023
            raise ValueError("must be a list of commands, none of them empty")
    return texts(value)


def _has_words(command: str) -> bool:
    import shlex

    try:
        return bool(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"{shown(command)}: {error}") from None


def paths(value: object) -> tuple[str, ...]:
    """Return a list of absolute paths; ValueError says why not."""
    return tuple(path(item) for item in texts(value))


def choice(*choices: str) -> Callable[[object], str]:
    """Return what takes one of these words, and no other."""

    def parse(value: object) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return parse
