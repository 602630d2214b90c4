"""A random tree of processes, from a seed: forks, double forks, setsid, kills.

    python3 random_tree.py SEED

A node draws what it does from a generator of its own, seeded by the node's place in
the tree. Nodes live for a short while, then exit, kill themselves, or kill another
process of the tree (whose pids they know from a pipe's worth of hearsay: their own
ancestors and children). Nothing here waits for anything but its children.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

DEEPEST = 4
FATAL = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1)


def node(place: str, depth: int, known: list[int]) -> None:
    """Be one process of the tree; never returns."""
    draw = random.Random(place)
    known = [*known, os.getpid()]
    if draw.random() < 0.3 and depth:
        os.setsid()
    if draw.random() < 0.15:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in range(draw.randint(0, 3) if depth < DEEPEST else 0):
        here = f"{place}.{number}"
        known.append(fork(here, depth, known, twice=draw.random() < 0.4))
        time.sleep(draw.random() * 0.01)
    time.sleep(draw.random() * 0.15)
    fate(draw, known)


def fork(place: str, depth: int, known: list[int], twice: bool) -> int:
    pid = os.fork()
    if pid:
        if twice:
            os.waitpid(pid, 0)
        return pid
    if twice and os.fork():
        os._exit(0)
    node(place, depth + 1, known)
    return 0


def fate(draw: random.Random, known: list[int]) -> None:
    chance = draw.random()
    if chance < 0.12:
        os.kill(os.getpid(), draw.choice(FATAL))
    elif chance < 0.24:
        # Never a pid whose owner may be somebody else's by now.
        victim = draw.choice([os.getpid(), os.getppid()])
        if victim in known:
            os.kill(victim, draw.choice(FATAL))
    if draw.random() < 0.5:
        time.sleep(60)  # stays until it is ended
    os._exit(draw.choice((0, 0, 0, 3)))


if __name__ == "__main__":
    # The forks below must not write what this process had buffered.
    sys.stdout.flush()
    node(f"tree {sys.argv[1]}", 0, [])
