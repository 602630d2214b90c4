"""The users of this machine: names, numbers, and who is a person."""

from __future__ import annotations

import os

from viagralib.base import files
from viagralib.base.messages import safe

# Where people's ids begin and end, when login.defs(5) does not say.
ORDINARY_USERS = (1000, 60000)
# Not people, although above them: systemd's dynamic users (its UIDS-GIDS page), nobody.
SERVICE_USERS = range(61184, 65536)
_NOBODY = 65534  # whom the kernel names for users that are not ours: its overflowuid
_KNOWN: dict[str, int] = {}  # uids by name


def ordinary_users() -> tuple[int, int]:
    """Return the lowest and the highest uid of people: UID_MIN and UID_MAX."""
    limits = dict(zip((b"UID_MIN", b"UID_MAX"), ORDINARY_USERS, strict=True))
    try:
        text = files.read("/etc/login.defs")
    except OSError:
        text = b""
    for words in map(bytes.split, text.splitlines()):
        if len(words) > 1 and words[0] in limits and words[1].isdigit():
            limits[words[0]] = int(words[1])
    return limits[b"UID_MIN"], limits[b"UID_MAX"]


def user_id(name: str) -> int:
    """Return the uid of a user's name or number; -1 when there is no such user.

    One that was there is known for the whole run: a directory that fails between two
    looks must not have a daemon's processes seem to be somebody else's.
    """
    if name not in _KNOWN:
        import pwd

        try:
            known = int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            return -1
        _KNOWN[name] = known
    return _KNOWN[name]


def runtime_directory() -> dict[str, str]:
    """Return the variable by which programs find our user's own service manager.

    That is an ordinary user's: file-hierarchy(7). None where it does not run.
    """
    place = f"/run/user/{os.geteuid()}"
    is_there = os.geteuid() and os.path.exists(f"{place}/systemd/private")
    return {"XDG_RUNTIME_DIR": place} if is_there else {}


def user_name(number: int) -> str:
    """Return the name of a uid, or the number when it has none."""
    import pwd

    try:
        return safe(pwd.getpwuid(number).pw_name)
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """Return the name of a gid, or the number when it has none."""
    import grp

    try:
        return safe(grp.getgrgid(number).gr_name)
    except KeyError:
        return str(number)


def is_hidden(number: int) -> bool:
    """Return whether this uid stands for all users whom our user namespace lacks.

    In most, such as of a service with PrivateUsers=, that is nearly everybody; where
    a namespace has nobody itself, it is taken for that one: user_namespaces(7).
    """
    if number != _NOBODY:
        return False
    try:
        ranges = [map(int, one.split()) for one in files.lines("/proc/self/uid_map")]
    except (OSError, ValueError):
        return False
    return not any(first <= number < first + size for first, _, size in ranges)
