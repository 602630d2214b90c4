"""The end of a tree of processes: a warning, time, and KILL until none is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from viagralib.processes.linux import Process
from viagralib.processes.pidfd import DYING, is_past_killing, send
from viagralib.processes.tree import ProcessTree

_ROUNDS = 0.2  # seconds of KILL, look, KILL at once, for those that fork meanwhile
_Look = TypeVar("_Look")  # what whoever drives a generator sends it


def always(_: object) -> bool:
    """Return that what is asked for may be done, whatever a look says."""
    return True


def end(
    tree: ProcessTree,
    warning: str,
    patience: float,
    may: Callable[[_Look], bool] = always,
    warned: Iterable[Process] | None = None,
) -> Generator[None, _Look, list[Process] | None]:
    """End a tree: `warning` to `warned` (all), `patience` seconds, then KILL to all.

    Yields while it waits; returns what lives even so, of which we may not end some. As
    soon as `may` says no to a look that it is sent, it returns None.
    """
    rest: list[Process] | None = tree.living()
    for number in dict.fromkeys((warning, "KILL")):
        if not rest:
            break
        if not may((yield)):  # a look that is newer than who is sent a signal
            return None
        if number == "KILL":
            return (yield from _kill(tree, may))
        some = list(tree.members() if warned is None else warned)
        _send(some, number)
        _send((one for one in some if one.state == "T"), "CONT")  # to hear of it
        rest = yield from until_gone(tree, patience, may)
    return rest


def until_gone(
    tree: ProcessTree, seconds: float, may: Callable[[_Look], bool] = always
) -> Generator[None, _Look, list[Process] | None]:
    """Wait up to `seconds` for a tree to be gone; return what still lives.

    None as soon as `may` says no to a look that it is sent.
    """
    deadline = time.monotonic() + seconds
    while (rest := tree.living()) and time.monotonic() < deadline:
        if not may((yield)):
            return None
    return rest


def _kill(
    tree: ProcessTree, may: Callable[[_Look], bool]
) -> Generator[None, _Look, list[Process] | None]:
    """Kill all members, and who is forked meanwhile; return who lives even so.

    It goes on as long as fewer and fewer are left: on a busy machine our own looks take
    seconds, and dying takes the processor, too.
    """
    taken: dict[tuple[int, float], bool] = {}  # whether it got the signal
    began = moved = time.monotonic()
    number = 0
    while rest := tree.living():
        fresh = [one for one in rest if one.identity not in taken]
        if time.monotonic() - began < DYING:  # no longer after who never stops forking
            taken |= {one.identity: send(one, signal.SIGKILL) for one in fresh}
        dying = [one for one in rest if taken.get(one.identity)]
        now = time.monotonic()
        if len(dying) != number:
            number, moved = len(dying), now
        if fresh and now - began < _ROUNDS:
            continue
        if not dying or is_past_killing(dying, now - moved):
            break
        if not may((yield)):
            return None
    return rest


def _send(processes: Iterable[Process], name: str) -> None:
    for process in processes:
        send(process, signal.Signals[f"SIG{name}"])
