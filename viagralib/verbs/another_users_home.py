"""Another user's home: who is not its owner may look, as far as that goes."""

from __future__ import annotations

import os
import shlex
import sys

from viagralib.base.messages import Fault, safe
from viagralib.base.printer import Printer
from viagralib.base.users import user_name
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import load
from viagralib.settings.homes import owner
from viagralib.state.directory import State
from viagralib.state.run_context import Run
from viagralib.trust.programs import ProgramTrust
from viagralib.verbs.dispatch import obey

_LOOKS = ("check", "status", "explain")
_NO_STATE = os.devnull  # nothing lies below it: whatever is asked for is not there


def look_at_it(home: str, options: Options, out: Printer) -> int:
    """Do what a verb that only looks can do; return the exit code.

    Raises Fault for all others: what they did would be seen by nobody but us.
    """
    user = owner(home)
    name = user_name(user)
    sudo = "sudo" if user == 0 else f"sudo -u {name}"
    words = [sudo, "viagra.py", *map(shlex.quote, sys.argv[1:])]
    command = safe(" ".join(words))
    if options.verb not in _LOOKS or options.html:
        raise Fault(safe(home), f"these are {name}'s daemons: {command}")
    run = Run(load(home), State(_NO_STATE), options.names, ProgramTrust(user))
    run.require_hooks()
    run.notes.append(
        f"these are {name}'s daemons, seen without {name}'s rights: no health, no "
        f"pauses, no incidents. To see all: {command}"
    )
    return obey(run, options, out)
