"""The limits that the system puts on a process: getrlimit(2)."""

from __future__ import annotations

import resource

_NONE = resource.RLIM_INFINITY
_DESCRIPTORS = 4096  # what the recovery of hundreds at once may need


def make_normal() -> None:
    """Undo what a shell or a crontab set: back to what the kernel gives."""
    limits = dict.fromkeys(("CPU", "FSIZE", "DATA", "AS", "RSS"), (_NONE, _NONE))
    limits |= {"STACK": (8 * 2**20, _NONE), "CORE": (0, _NONE), "NOFILE": (1024, 4096)}
    for name, (soft, hard) in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:  # not every system has all of them
            _limit(number, soft, hard)


def widen() -> None:
    """Take what we may have: no restart is to fail for want of it."""
    wanted = dict.fromkeys(("CPU", "FSIZE", "DATA", "AS"), _NONE)
    for name, number in {**wanted, "NOFILE": _DESCRIPTORS}.items():
        limit = getattr(resource, f"RLIMIT_{name}", None)
        if limit is not None and _is_less(resource.getrlimit(limit)[0], number):
            _limit(limit, number, number)


def cap_files(size: int) -> None:
    """Limit in bytes what we may write into a file."""
    _limit(resource.RLIMIT_FSIZE, size, size)


def _limit(number: int, soft: int, hard: int) -> None:
    """Set one limit; whoever may not raise the hard one goes as far as it allows."""
    given = resource.getrlimit(number)[1]
    try:
        larger = _NONE if _NONE in (hard, given) else max(hard, given)
        resource.setrlimit(number, (soft, larger))
    except (OSError, ValueError):
        lower = given if _is_less(given, soft) else soft
        resource.setrlimit(number, (lower, given))


def _is_less(one: int, other: int) -> bool:
    return one != _NONE and (other == _NONE or one < other)
