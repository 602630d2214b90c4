"""Which process is a daemon, and which only looks like one."""

from __future__ import annotations

import os

from viagralib.base.answer_cache import ask
from viagralib.base.messages import safe
from viagralib.base.users import is_hidden, user_id, user_name
from viagralib.processes import table
from viagralib.processes.linux import NAME_LENGTH, Process, Unreadable
from viagralib.processes.observer import Observer, base_names, scripts
from viagralib.settings.configuration import Daemon

# What a process that has a daemon's name may be to it.
COUNTED = "counted"
LEFTOVER = "leftover"  # fits in all but the command line: workers without their master
OTHER = "not counted"
UNSURE = "unsure"  # it may be the daemon, but we cannot or must not tell

_STRANGE_LENGTH = 4096  # characters read of a command line that a stranger wrote
_LONGEST_COMMAND = 65536  # bytes searched of who has the daemon's user
_LONGEST_SEARCH = 0.5  # seconds of work: a pattern can take exponential time


def cut(name: str) -> str:
    """Return `name` as the kernel keeps it: its first NAME_LENGTH bytes."""
    return os.fsdecode(os.fsencode(name)[:NAME_LENGTH])


def classify(daemon: Daemon, process: Process, observer: Observer) -> tuple[str, str]:
    """Return what a process of the daemon's name is to it, and why.

    Raises Vanished when it is gone, Unreadable when the answer is kept from us.
    """
    if why := _why_never(daemon, process, observer):
        return (LEFTOVER if _is_left_behind(daemon, process, observer) else OTHER), why
    if process.identity in observer.left:
        return LEFTOVER, "left alone when the daemon was stopped"
    doubt = _why_doubtful(daemon, process, observer)
    is_other = _is_other_file(daemon, process, observer, bool(doubt))
    if is_other and (doubt or process.runs_set_user_id()):
        return OTHER, f"its executable is {safe(process.executable())}"
    pattern, why = daemon.facts.command, ""
    if daemon.facts.session_leader and process.session != process.pid:
        why = "it does not lead its session, as the fact `session_leader` wants"
    elif pattern and not _fits(pattern, process, is_strange=bool(doubt)):
        why = "its command line does not fit the fact `command`"
    if why:  # a stranger's is no leftover: it is not ours to end
        is_left = not doubt and not is_other and _may_be_left(daemon, process)
        return LEFTOVER if is_left else OTHER, why
    if is_other:
        from viagralib.processes.executables import judge_other

        may_be, why = judge_other(daemon, process, observer)
        return UNSURE if may_be else OTHER, why
    doubt = doubt or _why_contained(daemon, process)
    return (UNSURE, doubt) if doubt else _judge_cut_name(daemon, process, observer)


def _is_other_file(
    daemon: Daemon, process: Process, observer: Observer, in_doubt: bool
) -> bool:
    """Return whether a process runs another file than the daemon's."""
    if not (daemon.facts.executable or (in_doubt and daemon.facts.user)):
        return False
    from viagralib.processes.executables import executes, is_lent

    if daemon.facts.executable:
        return not executes(daemon, process)
    return is_lent(daemon, process, observer)


def _why_never(daemon: Daemon, process: Process, observer: Observer) -> str:
    """Return why a process cannot be the daemon, whatever it executes, or ""."""
    if process.zombie:
        return "a zombie"
    if process.pid == observer.pid:
        return "this run of viagra.py"
    # Before all that may be unreadable: of other users' processes, much is.
    if why := why_user(daemon, process, observer):
        return why
    if process.elsewhere() and not daemon.facts.containers:
        return (
            "in another pid namespace, as a container's processes are: "
            "set the fact containers = true if that is the daemon"
        )
    if why := _why_other_name(daemon.process, process):
        return why
    return observer.why_ours(process)


def why_user(daemon: Daemon, process: Process, observer: Observer) -> str:
    """Return why its users are none of the daemon's, or ""; Unreadable: are hidden."""
    real, effective, *_ = process.users()
    if observer.user not in (0, real):
        return f"of another user ({user_name(real)})"
    wanted = {user_id(name) for name in daemon.facts.user}
    # Who started a set-user-id program is its real user; root may become anybody.
    strangers = {effective} - wanted or {real} - wanted - {0} if wanted else ()
    for stranger in strangers:
        if is_hidden(stranger):
            raise Unreadable(
                "its user: run viagra.py without PrivateUsers= or the like"
            )
        names = ", ".join(map(safe, daemon.facts.user))
        by = "" if stranger == effective else f"{user_name(effective)}, started by "
        return f"of {by}user {user_name(stranger)}, not {names}"
    return ""


def _is_left_behind(daemon: Daemon, process: Process, observer: Observer) -> bool:
    """Return whether a worker, with a service's rights, is of a dead one of root's."""
    facts = daemon.facts
    if observer.user or not facts.command or {*map(user_id, facts.user)} != {0}:
        return False
    if process.zombie or process.elsewhere() or process.users()[1] == 0:
        return False
    return not (
        any(map(observer.is_ordinary, process.users()))
        or _why_other_name(daemon.process, process)
        or observer.why_ours(process)
        or _fits(facts.command, process, is_strange=True)
        or not _may_be_left(daemon, process)
    )


def _may_be_left(daemon: Daemon, process: Process) -> bool:
    """Return whether what is not the daemon itself may be of it, by its command.

    One whose parent lives has a main process of its own, which is another daemon.
    """
    pattern = daemon.facts.leftover_command
    if pattern and not _fits(pattern, process, is_strange=True):
        return False
    parent = table.find(process.parent)
    return parent is None or parent.name != process.name


def _why_doubtful(daemon: Daemon, process: Process, observer: Observer) -> str:
    """Return why somebody may only pretend that this is root's daemon, or "".

    An ordinary user may give a program any name, and may run the daemon's own
    program; a set-user-id program, started through a link, even runs as root under it.
    """
    if observer.user != 0:
        return ""
    real, effective, *_ = users = process.users()
    ordinary = [] if daemon.facts.user else [*filter(observer.is_ordinary, users)]
    # One who is the same throughout has gained nothing by it: no look is needed.
    may_be_lent = not daemon.facts.executable and (not ordinary or real != effective)
    if may_be_lent and process.runs_set_user_id():
        return (
            f"started by {user_name(real)}, runs the set-user-id program "
            f"{safe(process.executable())} as {user_name(effective)}, as any user can "
            "under any name: set the facts user and executable to the daemon's own"
        )
    if ordinary:
        name = user_name(ordinary[0])
        fact = f'"{name}"' if real == effective else [user_name(effective), name]
        return (
            f"of the ordinary user {name}: set the fact user = {fact} if that is "
            'the daemon; if it is not, user = "root" or whoever the daemon runs as'
        )
    return ""


def _why_contained(daemon: Daemon, process: Process) -> str:
    """Return why it may be a container's that shares our pid namespace, or ""."""

    def find() -> bool:
        from viagralib.processes.mount_namespaces import is_contained

        return is_contained(process)

    key = ("contained", *map(str, (*process.identity, process.parent)))
    if daemon.facts.containers or not ask(key, find):
        return ""
    return (
        "has a root directory and programs of its own, as a container's processes "
        "have: set the fact containers = true if that is the daemon; if it is not, "
        "executable or user"
    )


def _why_other_name(name: str, process: Process) -> str:
    """Return why a process whose name the kernel may have cut is not `name`, or "".

    Raises Unreadable when neither its arguments nor its executable can be read.
    """
    encoded = os.fsencode(name)
    if len(encoded) < NAME_LENGTH:
        return ""
    if name in (whole := _whole_names(process)):
        return ""
    if len(encoded) == NAME_LENGTH:
        return ""  # the kernel's name, which may have been cut: see _judge_cut_name
    for longer in whole:
        if os.fsencode(longer).startswith(encoded[:NAME_LENGTH]):
            return f"another name: {safe(longer)}"
    return f"another name: only the first {NAME_LENGTH} bytes are the same"


def _judge_cut_name(
    daemon: Daemon, process: Process, observer: Observer
) -> tuple[str, str]:
    """Return what a process is that fits, if the kernel may have cut its name, and why.

    A title with blanks in it is no longer name: what sets a title sets the name, too.
    """
    name = daemon.process
    if len(os.fsencode(name)) != NAME_LENGTH:
        return COUNTED, "fits"
    whole = [one for one in _whole_names(process) if " " not in one or one == name]
    longer = next((one for one in whole if one != name and one.startswith(name)), "")
    if name in whole or not longer:
        return COUNTED, "fits"
    why = f"its whole name is {safe(longer)}"
    for other in observer.daemons:
        if other.process == longer:
            return OTHER, f"{why}, that of {safe(other.name)}"
    text = f'if that is the daemon, set the fact process = "{safe(longer)}"'
    return UNSURE, f"{why}: {text}"


def _whole_names(process: Process) -> list[str]:
    """Return the names that the kernel may have cut to the name of a process."""
    arguments = process.arguments()
    found = [*base_names(arguments[:1]), *map(os.path.basename, scripts(arguments))]
    try:
        found.append(os.path.basename(process.executable()))
    except Unreadable:
        if not arguments:
            raise
    return found


def _fits(pattern: str, process: Process, is_strange: bool) -> bool:
    """Return whether a pattern is in the command line; a stranger's costs us little.

    Raises Unreadable when that takes too long to tell.
    """
    if is_strange:  # and of no use to be kept: strangers could fill the disk with it
        text = " ".join(process.arguments())
        return _is_in(pattern, text[:_STRANGE_LENGTH], in_doubt=True)
    text = " ".join(process.arguments(_LONGEST_COMMAND))
    if len(os.fsencode(text)) >= _LONGEST_COMMAND - 1 and not _is_in(pattern, text):
        raise Unreadable(f"its command line, of over {_LONGEST_COMMAND} bytes")
    return bool(ask(("fits", pattern, text), lambda: _is_in(pattern, text)))


def _is_in(pattern: str, text: str, in_doubt: bool = False) -> bool:
    from viagralib.base.bounded_regex import TooLong, search

    try:
        return search(pattern, [text], _LONGEST_SEARCH) is not None
    except TooLong:
        if in_doubt:
            return True
        raise Unreadable("its command line in time: simplify command") from None
