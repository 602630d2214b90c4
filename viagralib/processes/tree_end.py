"""The end of a tree of processes: a warning, time, and KILL until none is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from viagralib.processes.linux import Process
from viagralib.processes.pidfd import send
from viagralib.processes.tree import ProcessTree

AFTER_KILL = 1.0  # seconds; what lives on is in an uninterruptible sleep (state D)
_ROUNDS = 0.2  # seconds of KILL, look, KILL, for those that fork meanwhile
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
            return (yield from until_gone(tree, AFTER_KILL, may, lambda: _kill(tree)))
        some = list(tree.members() if warned is None else warned)
        _send(some, number)
        _send((one for one in some if one.state == "T"), "CONT")  # to hear of it
        rest = yield from until_gone(tree, patience, may)
    return rest


def until_gone(
    tree: ProcessTree,
    seconds: float,
    may: Callable[[_Look], bool] = always,
    living: Callable[[], list[Process]] | None = None,
) -> Generator[None, _Look, list[Process] | None]:
    """Wait up to `seconds` for a tree to be gone; return what still lives, by `living`.

    None as soon as `may` says no to a look that it is sent.
    """
    deadline = time.monotonic() + seconds
    while (rest := (living or tree.living)()) and time.monotonic() < deadline:
        if not may((yield)):
            return None
    return rest


def _kill(tree: ProcessTree) -> list[Process]:
    """Kill all members, and who is forked meanwhile; return who lives even so."""
    killed: set[tuple[int, float]] = set()
    deadline = time.monotonic() + _ROUNDS
    while True:
        rest = tree.living()
        fresh = [one for one in rest if one.identity not in killed]
        if not fresh or time.monotonic() > deadline:
            return rest
        _send(fresh, "KILL")
        killed |= {one.identity for one in fresh}


def _send(processes: Iterable[Process], name: str) -> None:
    for process in processes:
        send(process, signal.Signals[f"SIG{name}"])
