"""Watches from outside who runs a command, by what the kernel tells of each process.

For test_lease_lives.py, which starts it as a program of its own. The kernel sends each
fork, exec and exit with its time (CLOCK_MONOTONIC; process connector, cn_proc.h). It
writes a line of JSON for each beginning and end of a life: a life is a command that a
keeper has executed and all that came of it, from the first exec to the last exit.

    python lives_observer.py COMMAND

COMMAND is the path that a keeper executes; its arguments are node and resource.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

_CONNECTOR, _CN_IDX_PROC, _LISTEN = 11, 1, 1
_NEXT, _FORK, _EXEC, _EXIT = 0, 0x1, 0x2, 0x80000000
_HEAD, _EVENT = 36, 52  # where the event begins, and what is told of it
_RECEIVE_BUFFER_FORCE = 33  # SO_RCVBUFFORCE, socket(7): root's right
_BUFFER = 1 << 26


class Observer:
    """Who is a guardian, a keeper, a command; what is told goes to stdout."""

    def __init__(self, command: str) -> None:
        self._command = command.encode()
        self._guardians: dict[int, list[str]] = {}  # pid: node and resource
        self._keepers: dict[int, list[str]] = {}
        self._forked: dict[int, list[str]] = {}  # of a keeper, before it executes
        self._life_of: dict[int, int] = {}
        self._members: dict[int, set[int]] = {}
        self._count = 0

    def forked(self, parent: int, child: int) -> None:
        """A child is of what its parent is."""
        if life := self._life_of.get(parent):
            self._life_of[child] = life
            self._members[life].add(child)
        elif parent in self._guardians:
            self._keepers[child] = self._guardians[parent]
        elif known := self._keepers.get(parent) or self._forked.get(parent):
            self._forked[child] = known

    def executed(self, pid: int, at: int) -> None:
        """What a keeper's child executes is the command."""
        if known := self._forked.pop(pid, None):
            self._count += 1
            self._life_of[pid] = self._count
            self._members[self._count] = {pid}
            node, resource = known
            token = _token(pid)
            tell(
                what="start",
                at=at,
                life=self._count,
                node=node,
                resource=resource,
                token=token,
            )
        elif pid not in self._life_of:
            words = _read(pid, "cmdline").split(b"\0")[:-1]
            is_keeper = b"python" in words[0] if words else False
            if is_keeper and self._command in words:
                self._guardians[pid] = [word.decode() for word in words[-2:]]

    def exited(self, pid: int, at: int) -> None:
        """The last one's end is the life's."""
        for known in (self._guardians, self._keepers, self._forked):
            known.pop(pid, None)
        if life := self._life_of.pop(pid, None):
            self._members[life].discard(pid)
            if not self._members[life]:
                tell(what="end", at=at, life=life)


def tell(**what: Any) -> None:  # noqa: ANN401
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _token(pid: int) -> int | None:
    for text in _read(pid, "environ").split(b"\0"):
        if text.startswith(b"VIAGRA_TOKEN="):
            return int(text.partition(b"=")[2])
    return None


def main(command: str) -> None:
    """Listen for ever."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR)
    events.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
    events.bind((os.getpid(), _CN_IDX_PROC))
    order = struct.pack("=IIIIHHI", _CN_IDX_PROC, 1, 1, 0, 4, 0, _LISTEN)
    head = struct.pack("=IHHII", 16 + len(order), 3, 0, 0, os.getpid())
    events.send(head + order)
    observer = Observer(command)
    tell(what="ready")
    while True:
        try:
            text = events.recv(4096)
        except OSError as error:  # ENOBUFS: what follows cannot be trusted
            tell(what="missed", why=str(error))
            return
        what, _, at = struct.unpack_from("=IIQ", text, _HEAD)
        if what == _FORK:
            _, parent, child, group = struct.unpack_from("=IIII", text, _EVENT)
            if child == group:  # no thread
                observer.forked(parent, child)
        elif what in (_EXEC, _EXIT):
            pid, group = struct.unpack_from("=II", text, _EVENT)
            if what == _EXEC:
                observer.executed(group, at)
            elif pid == group:
                observer.exited(pid, at)


if __name__ == "__main__":
    main(sys.argv[1])
