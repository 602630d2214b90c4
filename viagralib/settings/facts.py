"""Facts: the keys of NAME.toml, what each may hold, and what holds without it."""

from __future__ import annotations

import os

from viagralib.base import answer_cache
from viagralib.base.messages import resembling, shown
from viagralib.settings import values

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_SOCKET = 107  # bytes of a path: unix(7); fewer on the BSDs
SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT", "KILL")


class Facts:
    """What a daemon looks like and how to treat it. Durations are in seconds."""

    process = ""  # "": the hook's name
    command = ""
    executable = ""
    user: tuple[str, ...] = ()
    pidfile = ""
    session_leader = False
    containers = False
    leftovers = "leave"
    leftover_command = ""  # "": whatever does not fit `command`
    count: tuple[int, int | None] = (1, None)
    count_hook = "all"  # or "each": the hook starts one of so many processes
    patience = 3.0
    listens: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    heartbeat: tuple[str, float] | None = None  # the file, and every how many seconds
    alarm: tuple[str, str] | None = None  # the log file, and the pattern
    check_timeout = 10.0
    check_arguments: tuple[str, ...] = ()
    recovery = "restart"
    on_purpose = "start"
    warn_signal = "TERM"
    stop_timeout = 10.0
    start_timeout = 30.0
    stays = 0.3
    sick_after = 1  # runs in a row
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()
    limit: tuple[int, float] = (5, 3600.0)  # restarts, within how many seconds
    logs: tuple[str, ...] = ()
    unit = ""


MOST_COMPLAINTS = 20  # of one file: what somebody else wrote must not fill a mail


def read(table: dict[str, object], base: Facts, where: str) -> tuple[Facts, list[str]]:
    """Return the facts of `table` laid over `base`, and what is wrong with it.

    Each complaint is one sentence with the key in it. A key that is wrong leaves
    the base's value; so all complaints are found at once.
    """
    facts = Facts()
    facts.__dict__.update(base.__dict__)
    complaints: list[str] = []
    for key, value in table.items():
        if len(complaints) == MOST_COMPLAINTS:
            complaints.append(f"{where}: and more; these first")
            break
        if key not in _PARSERS:
            near = resembling(key, _PARSERS)
            complaints.append(f"{where}: unknown key {shown(key)}{near}")
            continue
        try:
            facts.__dict__[key] = _PARSERS[key](value)
        except ValueError as error:
            complaints.append(f"{where}: {key}: {error}")
    if "stays" in facts.__dict__ and facts.stays >= facts.start_timeout:
        complaints.append(f"{where}: stays: must be shorter than start_timeout")
    return facts, complaints


def _users(value: object) -> tuple[str, ...]:
    users = value if isinstance(value, list) and value else [value]
    return tuple(_user(user) for user in users)


def _user(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a user's name or number, or a list of such")
    return value


def _count(value: object) -> tuple[int, int | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("must be [lowest, highest], such as [1, 200]")
    low, high = map(values.positive_number, value)
    if low > high:
        raise ValueError(f"the lowest ({low}) is above the highest ({high})")
    return low, high


def _listens(value: object) -> tuple[str, ...]:
    return tuple(_address(item) for item in values.texts(value))


def _address(text: str) -> str:
    kind, _, place = text.partition(":")
    if kind == "unix" and place.startswith("/"):
        if len(os.fsencode(place)) > _LONGEST_SOCKET:
            raise ValueError(f"{shown(text)}: no socket has a path as long as that")
        return text
    host, _, port = place.rpartition(":")
    good_port = (
        port.isascii()
        and port.isdecimal()
        and len(port) <= 5
        and 1 <= int(port) <= 65535
    )
    if kind == "tcp" and good_port and _is_ip_address(host):
        return text
    raise ValueError(
        f"{shown(text)} must be tcp:ADDRESS:PORT (an IP address or localhost, 1 to "
        "65535) or unix:/PATH"
    )


def _is_ip_address(host: str) -> bool:
    """Return whether `host` needs no name server, which could keep a run waiting."""
    import _socket as socket  # what socket.py adds is dear: see health/

    if host == "localhost":
        return True
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        family = socket.AF_INET6 if bracketed else socket.AF_INET
        socket.inet_pton(family, host.strip("[]"))
    except (OSError, ValueError):  # ValueError: a NUL, or no text for the system
        return False
    return True


def _answers(value: object) -> tuple[str, ...]:
    urls = values.texts(value)
    for url in urls:
        answer_cache.ask(("url", url), lambda: _is_url(url))  # noqa: B023
    return urls


def _is_url(text: str) -> bool:
    from viagralib.base import http_answer

    http_answer.parse(text)
    return True


def _table(value: object, keys: tuple[str, str]) -> tuple[object, object]:
    if not isinstance(value, dict) or sorted(value) != sorted(keys):
        raise ValueError(f"must be {{ {keys[0]} = ..., {keys[1]} = ... }}")
    return value[keys[0]], value[keys[1]]


def _heartbeat(value: object) -> tuple[str, float]:
    file, every = _table(value, ("file", "every"))
    return values.path(file), values.some_time(every)


def _alarm(value: object) -> tuple[str, str]:
    file, pattern = _table(value, ("file", "pattern"))
    return values.path(file), values.pattern(pattern)


def _limit(value: object) -> tuple[int, float]:
    restarts, within = _table(value, ("restarts", "within"))
    try:
        number = values.positive_number(restarts)
    except ValueError as error:
        raise ValueError(f"restarts {error}") from None
    return number, values.some_time(within)


_PARSERS: dict[str, Callable[[object], object]] = {
    "process": values.text,
    "command": values.pattern,
    "executable": values.path,
    "user": _users,
    "pidfile": values.path,
    "session_leader": values.truth,
    "containers": values.truth,
    "leftovers": values.choice("leave", "leave-all", "stop"),
    "leftover_command": values.pattern,
    "count": _count,
    "count_hook": values.choice("all", "each"),
    "patience": values.duration,
    "listens": _listens,
    "answers": _answers,
    "heartbeat": _heartbeat,
    "alarm": _alarm,
    "check_timeout": values.some_time,
    "check_arguments": values.texts,
    "recovery": values.choice("restart", "quit", "report"),
    "on_purpose": values.choice("start", "leave"),
    "warn_signal": values.choice(*SIGNALS),
    "stop_timeout": values.duration,
    "start_timeout": values.some_time,
    "stays": values.duration,
    "sick_after": values.positive_number,
    "arguments": values.texts,
    "after": values.texts,
    "resets": values.texts,
    "limit": _limit,
    "logs": values.paths,
    "unit": values.text,
}
