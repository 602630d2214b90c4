"""Where home and state are, for all four programs: the home has start.d in it."""

from __future__ import annotations

import os
import sys

from viagralib.base.messages import Fault, safe

HOMES = ("/etc/viagra", "/usr/local/etc/viagra")
# `make install` writes here what SYSCONFDIR and STATEDIR said; "" in a checkout.
INSTALLED_HOME = ""
INSTALLED_STATE = ""
# What holds viagra.py and viagralib.
PROGRAM = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def find_home(given: str | None) -> str:
    """Return the home: what is `given`, or the first of the usual places.

    Raises Fault when there is none.
    """
    if given is not None:
        return _existing_home(absolute(given))
    own = [os.path.expanduser("~/.config/viagra")] if os.geteuid() != 0 else []
    # Without a home directory, "~" stays, and would be looked for where we are.
    own = [place for place in own if os.path.isabs(place)]
    usual = [INSTALLED_HOME] if INSTALLED_HOME else [*HOMES]
    places = [PROGRAM, *own, *usual]
    for place in places:
        if os.path.isdir(f"{place}/start.d"):
            return place
    raise Fault(
        "",
        f"no start.d found in {safe(', '.join(places))}: "
        "make one, or name the directory that holds it with --dir",
    )


def find_state(given: str | None) -> str:
    """Return the path of the state directory, which need not exist yet.

    Raises Fault when something else is there. The installed one is its installer's:
    other users have one of their own.
    """
    if given is not None:
        place = absolute(given)
        if os.path.exists(place) and not os.path.isdir(place):
            raise Fault(safe(place), "is no directory (given with --state)")
        return place
    user = os.geteuid()
    if INSTALLED_STATE and os.stat(__file__).st_uid == user:
        return INSTALLED_STATE
    if user == 0:
        return "/var/db/viagra" if "bsd" in sys.platform else "/var/lib/viagra"
    base = os.environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # the XDG specification says to ignore relative ones
        base = os.path.expanduser("~/.local/state")
    return f"{base}/viagra"


def owner(home: str) -> int:
    """Return the uid of whose home it is. Raises Fault when it has gone."""
    try:
        return os.stat(f"{home}/start.d").st_uid
    except OSError as error:
        raise Fault(safe(home), f"could not look at it: {error.strerror}") from None


def absolute(path: str) -> str:
    """Return a path from the root on. Raises Fault where there is no way to tell."""
    try:
        return os.path.abspath(path)
    except OSError:
        raise Fault(safe(path), "the directory that we are in is gone") from None


def _existing_home(place: str) -> str:
    try:
        os.stat(place)
        os.listdir(f"{place}/start.d")
    except OSError as error:
        lacks_it = isinstance(error, FileNotFoundError | NotADirectoryError)
        if lacks_it and os.path.isdir(place):
            text = "has no directory start.d: mkdir it and put a start hook in"
        else:
            text = f"could not look at it (given with --dir): {error.strerror}"
        raise Fault(safe(place), text) from None
    return place
