"""The first process of a node: `lease_node.py`, in namespaces of its own.

Starts and signals processes as it is told, one JSON document a line, and tells how
they ended. It is the node: once it is killed, or whoever gave it its stdin has gone,
however that went, the kernel ends all else in its process namespace.

    {"run": [ARG, ...], "env": {...}, "out": FILE}   ->  {"pid": PID}
    {"kill": PID, "signal": NUMBER}                  ->  {"killed": true | false}
    afterwards                                       ->  {"ended": PID, "status": CODE}
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import Any


def main() -> None:
    wake, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    say({"ready": os.getpid()})
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            text = os.read(0, 65536)
            if not text:
                os._exit(0)
            *lines, pending = (pending + text).split(b"\n")
            for line in lines:
                say(answer(json.loads(line)))
        reap()


def say(document: dict[str, Any]) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


def answer(order: dict[str, Any]) -> dict[str, Any]:
    if "run" in order:
        return start(order)
    try:
        os.kill(order["kill"], order["signal"])
    except ProcessLookupError:
        return {"killed": False}
    return {"killed": True}


def start(order: dict[str, Any]) -> dict[str, Any]:
    argv, out = order["run"], order["out"]
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # What Python ignores, for itself, is no business of the programs it starts.
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            order["env"],
            file_actions=files,
            setsid=True,
            setsigdef=defaults,
        )
    except OSError as error:
        return {"pid": 0, "error": str(error)}
    return {"pid": pid}


def reap() -> None:
    """Tell of all that has ended, orphans included."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
