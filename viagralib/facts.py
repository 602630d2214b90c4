"""Facts: the keys of NAME.toml, what each may hold, and what holds without it."""

from __future__ import annotations

from viagralib import durations

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT", "KILL")


class Facts:
    """What a daemon looks like and how to treat it. Durations are in seconds."""

    process = ""  # "": the hook's name
    command = ""
    executable = ""
    user: tuple[str, ...] = ()
    pidfile = ""
    containers = False
    leftovers = "leave"
    count: tuple[int, int | None] = (1, None)
    patience = 3.0
    listens: tuple[str, ...] = ()
    heartbeat: tuple[str, float] | None = None  # the file, and every how many seconds
    alarm: tuple[str, str] | None = None  # the log file, and the pattern
    check_timeout = 10.0
    recovery = "restart"
    warn_signal = "TERM"
    stop_timeout = 10.0
    start_timeout = 30.0
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()
    limit: tuple[int, float] = (5, 3600.0)  # restarts, within how many seconds
    logs: tuple[str, ...] = ()
    unit = ""


def read(table: dict[str, object], base: Facts, where: str) -> tuple[Facts, list[str]]:
    """Return the facts of `table` laid over `base`, and what is wrong with it.

    Each complaint is one sentence with the key in it. A key that is wrong leaves
    the base's value; so all complaints are found at once.
    """
    facts = Facts()
    facts.__dict__.update(base.__dict__)
    complaints = []
    for key, value in table.items():
        if key not in _PARSERS:
            complaints.append(f"{where}: unknown key {key!r}{_resembling(key)}")
            continue
        try:
            facts.__dict__[key] = _PARSERS[key](value)
        except ValueError as error:
            complaints.append(f"{where}: {key}: {error}")
    return facts, complaints


def _resembling(key: str) -> str:
    import difflib

    close = difflib.get_close_matches(key, _PARSERS, 1)
    return f" (is {close[0]!r} meant?)" if close else ""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if "\0" in value:
        raise ValueError("must not hold a NUL")
    return value


def _path(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError(f"{text!r} must be an absolute path")
    return text


def _pattern(value: object) -> str:
    import re

    text = _text(value)
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def duration(value: object) -> float:
    """Return the seconds of a TOML value such as "30s"; ValueError says why not."""
    if not isinstance(value, str):
        raise ValueError('must be a duration in quotes, such as "30s"')
    return durations.parse(value)


def whole_number(value: object, lowest: int) -> int:
    """Return a TOML integer of at least `lowest`; ValueError says why not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"must be a whole number of at least {lowest}")
    return value


def positive_number(value: object) -> int:
    """Return a TOML integer of at least 1; ValueError says why not."""
    return whole_number(value, 1)


def size(value: object) -> int:
    """Return the bytes of a TOML value such as "500MB"; ValueError says why not."""
    if isinstance(value, str):
        number = value.rstrip("kMGTB")
        unit = value[len(number) :]
        if number.isascii() and number.isdecimal() and unit in _BYTES:
            return int(number) * _BYTES[unit]
    raise ValueError('must be a size in quotes, such as "500MB"')


def texts(value: object) -> tuple[str, ...]:
    """Return a TOML list of strings; ValueError says why not."""
    if not isinstance(value, list):
        raise ValueError("must be a list of texts")
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        raise ValueError("must be a list of texts, without NUL")
    return tuple(value)


def _paths(value: object) -> tuple[str, ...]:
    return tuple(_path(item) for item in texts(value))


def _one_or_more(value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else texts(value)
    if not names or not all(names):
        raise ValueError("must be a name or a list of names")
    return names


def _choice(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return parse


def _count(value: object) -> tuple[int, int | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("must be [lowest, highest], such as [1, 200]")
    low, high = whole_number(value[0], 1), whole_number(value[1], 1)
    if low > high:
        raise ValueError(f"the lowest ({low}) is above the highest ({high})")
    return low, high


def _listens(value: object) -> tuple[str, ...]:
    return tuple(_address(item) for item in texts(value))


def _address(text: str) -> str:
    kind, _, place = text.partition(":")
    if kind == "unix" and place.startswith("/"):
        return text
    host, _, port = place.rpartition(":")
    if kind == "tcp" and host and port.isdecimal() and 1 <= int(port) <= 65535:
        return text
    raise ValueError(f"{text!r} must be tcp:HOST:PORT (1 to 65535) or unix:/PATH")


def _table(value: object, keys: tuple[str, str]) -> tuple[object, object]:
    if not isinstance(value, dict) or sorted(value) != sorted(keys):
        raise ValueError(f"must be {{ {keys[0]} = ..., {keys[1]} = ... }}")
    return value[keys[0]], value[keys[1]]


def _heartbeat(value: object) -> tuple[str, float]:
    file, every = _table(value, ("file", "every"))
    return _path(file), duration(every)


def _alarm(value: object) -> tuple[str, str]:
    file, pattern = _table(value, ("file", "pattern"))
    return _path(file), _pattern(pattern)


def _limit(value: object) -> tuple[int, float]:
    restarts, within = _table(value, ("restarts", "within"))
    return whole_number(restarts, 1), duration(within)


_PARSERS: dict[str, Callable[[object], object]] = {
    "process": _text,
    "command": _pattern,
    "executable": _path,
    "user": _one_or_more,
    "pidfile": _path,
    "containers": _truth,
    "leftovers": _choice("leave", "stop"),
    "count": _count,
    "patience": duration,
    "listens": _listens,
    "heartbeat": _heartbeat,
    "alarm": _alarm,
    "check_timeout": duration,
    "recovery": _choice("restart", "quit", "report"),
    "warn_signal": _choice(*SIGNALS),
    "stop_timeout": duration,
    "start_timeout": duration,
    "arguments": texts,
    "after": texts,
    "resets": texts,
    "limit": _limit,
    "logs": _paths,
    "unit": _text,
}
