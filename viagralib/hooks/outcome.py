"""How a program of a hook went, in words for people and as an exit code."""

from __future__ import annotations

import os
import shlex

from viagralib.base import durations
from viagralib.base.messages import safe
from viagralib.hooks.child_process import Child
from viagralib.hooks.environment import arguments
from viagralib.settings.configuration import Daemon

NOT_NOW = 75  # a hook's exit code: no alarm, try again in the next run (EX_TEMPFAIL)
MAY_FAIL = ".mayfail"


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


def outcome_of(child: Child, program: str) -> Outcome:
    """Return how an ended child went."""
    after = f"after {durations.spell(child.seconds())}"
    if child.failure:
        return Outcome(program, safe(child.failure), 127)
    status = child.status or 0
    if status < 0:
        return Outcome(program, f"killed by signal {-status} {after}", status)
    return Outcome(program, f"exit {status} {after}", status)


def describe(daemon: Daemon, program: str, kind: str = "start.d") -> str:
    """Return how people know this program of a hook: start.d/apache start."""
    hook = daemon.hook(kind)
    step = f"/{os.path.basename(program)}" if program != hook else ""
    words = [f"{kind}/{daemon.name}{step}", *map(shlex.quote, arguments(daemon, kind))]
    return safe(" ".join(words))
