"""Service scripts: those of init.d and rc.d that a ready hook calls by service.subr."""

from __future__ import annotations

import os

from viagralib.base import guarded_files
from viagralib.base.files import real_path
from viagralib.processes.linux import Process, Unreadable
from viagralib.processes.observer import (
    SERVICE_PLACES,
    SHELLS,
    Observer,
    file_identity,
    scripts_of,
)
from viagralib.settings.configuration import Daemon

_CALLS = ("service_start", "service_stop")  # functions of service.subr
_LARGEST_HOOK = 65536  # bytes


def of(daemon: Daemon) -> list[str]:
    """Return the scripts that this daemon's start hook may call here."""
    names: list[str] = []
    for program in daemon.programs():
        try:
            text = guarded_files.read(program, _LARGEST_HOOK)
        except OSError:
            continue
        for words in map(str.split, os.fsdecode(text).split("\n")):
            given = words[1:] if words[:1] and words[0] in _CALLS else []
            # Named by the hook's own name: "${0##*/}", as in postgresql@.
            names += [daemon.name if "${" in word else word for word in given]
    paths = [
        f"{place}/{name}" for place in SERVICE_PLACES for name in dict.fromkeys(names)
    ]
    return [path for path in paths if os.path.isfile(path)]


def is_at_work(process: Process, scripts: list[str], observer: Observer) -> bool:
    """Return whether a process interprets one of the scripts. Raises Vanished."""
    wanted = set(map(file_identity, scripts))
    if not scripts or not wanted & set(scripts_of(process)):
        return False
    interpreters = {real_path(observer.interpreter(one)) for one in scripts}
    try:
        program = process.executable()
    except Unreadable:
        return False
    return program in interpreters or os.path.basename(program) in SHELLS
