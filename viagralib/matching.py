"""Which process is a daemon, and which only looks like one."""

from __future__ import annotations

import os

from viagralib.accounts import user_id, user_name
from viagralib.messages import safe
from viagralib.onlooker import Onlooker, scripts
from viagralib.procfs import NAME_LENGTH, Process, Unreadable
from viagralib.settings import Daemon

# What a process that has a daemon's name may be to it.
COUNTED = "counted"
LEFTOVER = "leftover"  # fits in all but the command line: workers without their master
OTHER = "not counted"
UNSURE = "unsure"  # it may be the daemon, but we cannot or must not tell

# What is read of a command line that an ordinary user wrote, and for how long.
_STRANGE_LENGTH = 4096  # characters
_STRANGE_SECONDS = 0.5


def cut(name: str) -> str:
    """Return `name` as the kernel keeps it: its first NAME_LENGTH bytes."""
    return os.fsdecode(os.fsencode(name)[:NAME_LENGTH])


def classify(daemon: Daemon, process: Process, onlooker: Onlooker) -> tuple[str, str]:
    """Return what a process of the daemon's name is to it, and why.

    Raises Vanished when it is gone, Unreadable when the answer is kept from us.
    """
    if why := _why_never(daemon, process, onlooker):
        return OTHER, why
    wanted = daemon.facts.executable
    if wanted and process.executable() != os.path.realpath(wanted):
        return OTHER, f"its executable is {safe(process.executable())}"
    doubt = _why_doubtful(daemon, process, onlooker)
    pattern = daemon.facts.command
    if pattern and not _fits(pattern, process, is_strange=bool(doubt)):
        # A stranger's is no leftover: it is not ours to end.
        kind = OTHER if doubt else LEFTOVER
        return kind, "its command line does not fit the fact `command`"
    return (UNSURE, doubt) if doubt else (COUNTED, "fits")


def _why_never(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process cannot be the daemon, whatever it executes, or ""."""
    if process.zombie:
        return "a zombie"
    if process.pid == onlooker.pid:
        return "this run of viagra.py"
    # Before all that may be unreadable: of other users' processes, much is.
    if why := _why_user(daemon, process, onlooker):
        return why
    if process.elsewhere() and not daemon.facts.containers:
        return (
            "in another pid namespace, as a container's processes are: "
            "set the fact containers = true if that is the daemon"
        )
    if why := _why_other_name(daemon.process, process):
        return why
    return onlooker.why_ours(process)


def _why_user(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why a process of its users cannot be the daemon, or ""."""
    real, effective, *_ = process.users()
    if onlooker.user not in (0, real):
        return f"of another user ({user_name(real)})"
    wanted = {user_id(name) for name in daemon.facts.user}
    if wanted and effective not in wanted:
        names = ", ".join(map(safe, daemon.facts.user))
        return f"of user {user_name(effective)}, not {names}"
    return ""


def _why_doubtful(daemon: Daemon, process: Process, onlooker: Onlooker) -> str:
    """Return why somebody may only pretend that this is root's daemon, or "".

    An ordinary user may give a program any name, and may run the daemon's own
    program; a set-user-id program, started through a link, even runs as root under it.
    """
    if onlooker.user != 0:
        return ""
    if not daemon.facts.user:
        ordinary = [user for user in process.users() if onlooker.is_ordinary(user)]
        if ordinary:
            name = user_name(ordinary[0])
            return (
                f'of the ordinary user {name}: set the fact user = "{name}" if that is '
                'the daemon; if it is not, user = "root" or whoever the daemon runs as'
            )
    if not daemon.facts.executable and process.runs_set_user_id():
        return (
            "runs a set-user-id program, as any user can under any name: "
            f'set the fact executable = "{safe(process.executable())}" '
            "if that is the daemon"
        )
    return ""


def _why_other_name(name: str, process: Process) -> str:
    """Return why a process whose name the kernel may have cut is not `name`, or "".

    Raises Unreadable when neither its arguments nor its executable can be read.
    """
    encoded = os.fsencode(name)
    if len(encoded) < NAME_LENGTH:
        return ""
    whole = _whole_names(process)
    if name in whole:
        return ""
    for longer in whole:
        if os.fsencode(longer).startswith(encoded[:NAME_LENGTH]):
            return f"another name: {safe(longer)}"
    if len(encoded) == NAME_LENGTH:
        return ""  # a name that the process gave itself, which nothing was cut from
    return f"another name: only the first {NAME_LENGTH} bytes are the same"


def _whole_names(process: Process) -> list[str]:
    """Return the names that the kernel may have cut to the name of a process."""
    arguments = process.arguments()
    texts = [*arguments[:1], *scripts(arguments)]
    # A program that shows its state there begins with its name: "food: writing".
    texts += [text.partition(" ")[0].removesuffix(":") for text in arguments[:1]]
    try:
        texts.append(process.executable())
    except Unreadable:
        if not arguments:
            raise
    return [os.path.basename(text) for text in texts]


def _fits(pattern: str, process: Process, is_strange: bool) -> bool:
    """Return whether a pattern is in the command line; a stranger's costs us little."""
    text = " ".join(process.arguments())
    if not is_strange:
        import re

        return re.search(pattern, text) is not None
    from viagralib.patterns import TooLong, search

    try:
        return bool(search(pattern, [text[:_STRANGE_LENGTH]], _STRANGE_SECONDS))
    except TooLong:
        return True  # in doubt, it is in doubt
