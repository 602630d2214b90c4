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
from viagralib.processes.matching import COUNTED, classify, why_user
from viagralib.processes.observer import (
    SHELLS,
    Observer,
    base_names,
    file_identity,
    scripts,
)
from viagralib.settings.configuration import Daemon

# What runs a script whatever its #! line says, without the version.
_OTHERS = (
    "python pypy perl ruby node nodejs php java mono lua luajit tclsh wish guile R"
)
_NO_SCRIPTS = ("/proc/", "/sys/", "/dev/")
_DEEPEST = 100  # directories that a script lies in
_INTERPRETERS = {*SHELLS, *_OTHERS.split()}


def is_named(process: Process, name: str, observer: Observer) -> bool:
    """Return whether a process has this name by its arguments or its executable."""
    try:
        arguments, executable = process.arguments(), process.executable()
        place = process.directory()
    except (Vanished, Unreadable):  # a kernel thread, too
        return False
    if name in (*base_names(arguments[:1]), os.path.basename(executable)):
        return True
    script = next(iter(scripts(arguments)), "")
    base = os.path.basename(script)
    if name not in (base, os.path.splitext(base)[0]):
        return False  # and nothing is read that a stranger's arguments lead to
    path = os.path.normpath(os.path.join(place, script))
    if path.count("/") > _DEEPEST or path.startswith(_NO_SCRIPTS):
        return False  # a stranger's maze, or what is changed by being read
    stem = os.path.basename(executable).rstrip("-.0123456789")
    is_module = arguments[1:3] == ["-m", script]
    if stem in _INTERPRETERS and (is_module or os.path.isfile(path)):
        return True
    interpreter = file_identity(observer.strange_interpreter(path))
    return interpreter is not None and interpreter == file_identity(executable)


def why_unsure(daemon: Daemon, process: Process, observer: Observer) -> str:
    """Return why a process of another name may be the daemon, and what settles it.

    "" for one that fits nothing else, or that is another daemon. Raises Vanished.
    """
    try:
        if why_user(daemon, process, observer):
            return ""  # before anything is read of it
        if not is_named(process, daemon.process, observer):
            return ""
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
