"""Aliases: processes that have a daemon's name, but call themselves otherwise.

The kernel's name of a process is that of its first thread, and a program may change
it, or leave it to be its interpreter's: Node.js calls itself MainThread, others by a
title, a script by `python3`. Looked for only when a daemon's name is missing.
"""

from __future__ import annotations

import os
import re

from viagralib.base.messages import safe
from viagralib.processes.linux import Process, Unreadable, Vanished
from viagralib.processes.matching import COUNTED, classify
from viagralib.processes.observer import SHELLS, Observer, base_names, scripts
from viagralib.settings.configuration import Daemon

# What runs a script whatever its #! line says, without the version.
_OTHERS = (
    "python pypy perl ruby node nodejs php java mono lua luajit tclsh wish guile R"
)
_INTERPRETERS = {*SHELLS, *_OTHERS.split()}


def names(process: Process, observer: Observer) -> list[str]:
    """Return the names that a process has by its arguments and by its executable."""
    try:
        arguments, executable = process.arguments(), process.executable()
        place = process.directory()
    except (Vanished, Unreadable):  # a kernel thread, too
        return []
    found = [*base_names(arguments[:1]), os.path.basename(executable)]
    for script in scripts(arguments)[:1]:
        path = os.path.join(place, script)
        stem = os.path.basename(executable).rstrip("-.0123456789")
        is_module = arguments[1:3] == ["-m", script]
        interpreted = stem in _INTERPRETERS and (is_module or os.path.isfile(path))
        if interpreted or executable == os.path.realpath(observer.interpreter(path)):
            name = os.path.basename(script)
            found += [name, os.path.splitext(name)[0]]
    return found


def why_unsure(daemon: Daemon, process: Process, observer: Observer) -> str:
    """Return why a process of another name may be the daemon, and what settles it.

    "" for one that fits nothing else, or that is another daemon. Raises Vanished.
    """
    if daemon.process not in names(process, observer):
        return ""
    try:
        if classify(daemon, process, observer)[0] != COUNTED:
            return ""
        for other in observer.daemons:
            is_another = other is not daemon and other.process == process.name
            if is_another and classify(other, process, observer)[0] == COUNTED:
                return ""
        executable = process.executable()
    except Unreadable:
        return ""
    if os.path.basename(executable) == daemon.process:
        fact = f'executable = "{safe(executable)}"'
    else:
        fact = f"command = '(^|[/\\\\ ]){re.escape(daemon.process)}([ .:]|$)'"
    name = safe(process.name)
    more = "" if daemon.facts.command or daemon.facts.executable else f" and {fact}"
    return (
        f'calls itself "{name}": if that is the daemon, set process = "{name}"{more} '
        f"in {safe(daemon.name)}.toml"
    )
