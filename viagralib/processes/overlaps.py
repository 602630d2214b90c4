"""Overlaps: daemons whose facts fit the same process, so that one start is two's."""

from __future__ import annotations

from viagralib.base.messages import Fault, safe
from viagralib.base.users import user_id
from viagralib.processes.matching import cut
from viagralib.processes.observer import Observer
from viagralib.processes.verdicts import judge
from viagralib.settings.configuration import Daemon

_TELLING = ("command", "executable", "pidfile")  # "": the fact narrows nothing


def overlap(one: Daemon, other: Daemon) -> bool:
    """Return whether no fact of theirs tells the processes of two daemons apart."""
    if cut(one.process) != cut(other.process):
        return False
    for fact in _TELLING:
        given = {getattr(one.facts, fact), getattr(other.facts, fact)} - {""}
        if len(given) > 1:
            return False
    users = [{*map(user_id, daemon.facts.user)} for daemon in (one, other)]
    return not all(users) or bool(users[0] & users[1])


def find_faults(observer: Observer) -> list[Fault]:
    """Return a Fault for each pair whose facts fit one process, now or always."""
    names = [cut(daemon.process) for daemon in observer.daemons]
    some = [one for one in observer.daemons if names.count(cut(one.process)) > 1]
    verdicts = judge(some, observer, every=True)
    pids = {name: {one.pid for one in v.processes()} for name, v in verdicts.items()}
    found = []
    for number, one in enumerate(some):
        for other in some[number + 1 :]:
            common = sorted(pids[one.name] & pids[other.name])
            if common or overlap(one, other):
                it = f"fit pid {common[0]}" if common else "can fit one process"
                name = safe(other.name)
                text = (
                    f"its facts and those of {name} {it}: switch one of them off "
                    f"(chmod -x), or set command, executable, pidfile or user in "
                    f"{safe(one.name)}.toml and {name}.toml, so that each has its own"
                )
                found.append(Fault(safe(one.name), text))
    return found
