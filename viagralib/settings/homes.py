"""Where the home is: the directory with start.d in it."""

from __future__ import annotations

import os

from viagralib.base.messages import Fault, safe

HOMES = ("/etc/viagra", "/usr/local/etc/viagra")


def find_home(given: str | None, script: str) -> str:
    """Return the home: what is `given`, or the first of the usual places.

    Raises Fault when there is none.
    """
    if given is not None:
        return _existing_home(absolute(given))
    beside = os.path.dirname(os.path.realpath(script))
    own = [os.path.expanduser("~/.config/viagra")] if os.geteuid() != 0 else []
    # Without a home directory, "~" stays, and would be looked for where we are.
    places = [place for place in (*own, *HOMES) if os.path.isabs(place)]
    for place in (beside, *places):
        if os.path.isdir(f"{place}/start.d"):
            return place
    raise Fault(
        "",
        f"no start.d found in {safe(', '.join((beside, *places)))}: "
        "make one, or name its directory with --dir",
    )


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
