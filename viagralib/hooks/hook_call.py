"""Hooks: what they are called with, and how one of them went."""

from __future__ import annotations

import os
import pwd
import shlex

from viagralib.base import durations
from viagralib.base.messages import safe
from viagralib.base.users import runtime_directory
from viagralib.hooks.child_process import Child
from viagralib.settings.configuration import Daemon

NOT_NOW = 75  # a hook's exit code: no alarm, try again in the next run (EX_TEMPFAIL)
MAY_FAIL = ".mayfail"
_COMPANIONS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "companions"
)


class Outcome:
    """How one program of a hook went: `what` it was and `words` on it, for people."""

    def __init__(self, program: str, words: str, code: int | None) -> None:
        self.program = program
        self.words = words
        self.code = code  # None: it never ran, or had to be ended
        self.what = ""  # such as "start.d/apache start"

    @property
    def failed(self) -> bool:
        """Whether nothing may follow it."""
        return self.code != 0 and not self.program.endswith(MAY_FAIL)


def environment(
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


def describe(daemon: Daemon, program: str, kind: str) -> str:
    """Return how people know this program of a hook: start.d/apache start."""
    hook = daemon.hook(kind)
    step = f"/{os.path.basename(program)}" if program != hook else ""
    words = [f"{kind}/{daemon.name}{step}", *map(shlex.quote, arguments(daemon, kind))]
    return safe(" ".join(words))


def arguments(daemon: Daemon, kind: str) -> tuple[str, ...]:
    """Return what a hook of `kind` is called with: start and check have a fact each."""
    facts = {
        "start.d": daemon.facts.arguments,
        "check.d": daemon.facts.check_arguments,
    }
    return facts.get(kind, ())


def outcome_of(child: Child, program: str) -> Outcome:
    """Return how an ended child went."""
    after = f"after {durations.spell(child.seconds())}"
    if child.failure:
        return Outcome(program, f"could not be executed: {safe(child.failure)}", 127)
    status = child.status or 0
    if status < 0:
        return Outcome(program, f"killed by signal {-status} {after}", status)
    return Outcome(program, f"exit {status} {after}", status)
