"""What a hook is called with: its arguments, and all of its environment."""

from __future__ import annotations

import os
import pwd

from viagralib.base.users import runtime_directory
from viagralib.settings.configuration import Daemon

_COMPANIONS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "companions"
)


def environment_of(
    daemon: str, search_path: str, variables: dict[str, str]
) -> dict[str, str]:
    """Return all that a hook of this daemon finds in its environment.

    `variables` are the VIAGRA_ ones, without that prefix; the rest is the user's who
    runs us, whatever the crontab or the shell had set.
    """
    try:
        user = pwd.getpwuid(os.geteuid())
        name, home = user.pw_name, user.pw_dir
    except KeyError:
        name, home = str(os.geteuid()), "/"
    return {
        "PATH": f"{search_path}:{_COMPANIONS}",
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        **runtime_directory(),
        "VIAGRA_DAEMON": daemon,
        **{f"VIAGRA_{key}": value for key, value in variables.items()},
    }


def arguments(daemon: Daemon, kind: str) -> tuple[str, ...]:
    """Return what a hook of `kind` is called with: start and check have a fact each."""
    facts = {
        "start.d": daemon.facts.arguments,
        "check.d": daemon.facts.check_arguments,
    }
    return facts.get(kind, ())
