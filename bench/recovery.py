"""A bad day, by strace: how long evidence takes, and from the last look to the hook."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess

from scene import ENVIRONMENT, Scene

_TRACE = "execve,openat,exit_group"
_LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$")
_LOOK = re.compile(r'openat\(.*"/proc/\d+/stat"')
_DAEMON = "reborn"


class Recovery:
    """When what happened in one run that brought a daemon back: in seconds."""

    def __init__(self, evidence: float, to_hook: float, to_end: float) -> None:
        self.evidence = (
            evidence  # from the first collector's exec to the last one's end
        )
        self.to_hook = to_hook  # from the last look's last read to the hook's exec
        self.to_end = to_end  # from the hook's exec to the end of the run


def measure(scene: Scene, runs: int) -> Recovery | None:
    """Return the medians of some runs with a dead daemon; None without strace."""
    if shutil.which("strace") is None:
        return None
    program = scene.place / "bin" / _DAEMON
    shutil.copy(scene.place / "still", program)
    # The kernel ends it with its parent, the hook, unless that becomes it.
    scene.home("dead", {_DAEMON: ""}, f"#!/bin/sh\nexec {program} >/dev/null\n")
    found = [_one(scene) for _ in range(runs)]
    return Recovery(
        statistics.median(one.evidence for one in found),
        statistics.median(one.to_hook for one in found),
        statistics.median(one.to_end for one in found),
    )


def _one(scene: Scene) -> Recovery:
    trace = scene.place / "trace"
    options = ["-f", "--seccomp-bpf", "-ttt", "-e", f"trace={_TRACE}", "-o", str(trace)]
    done = subprocess.run(
        ["strace", *options, *scene.viagra("dead")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    _reap()
    if done.returncode:
        raise RuntimeError(f"not brought back: {done.stdout}{done.stderr}")
    return _read(trace.read_text(errors="replace"), f'execve("{scene.place}/dead/')


def _read(trace: str, hook: str) -> Recovery:
    """Return the figures of one trace, whose times are in seconds since 1970."""
    events = [match.groups() for match in map(_LINE.match, trace.splitlines()) if match]
    calls = [(pid, float(at), call) for pid, at, call in events]
    run = calls[0][0]
    child, hook_at = next((pid, at) for pid, at, call in calls if call.startswith(hook))
    # The child is made ready before the last look, and is released or not after it.
    looks = [at for pid, at, call in calls if pid == run and _LOOK.match(call)]
    before = [one for one in calls if one[1] < hook_at and one[0] not in (run, child)]
    begins = [(pid, at) for pid, at, call in before if "execve(" in call]
    collectors = {pid for pid, _ in begins}
    ends = [at for pid, at, call in before if pid in collectors and "+++" in call]
    return Recovery(
        evidence=max(ends) - min(at for _, at in begins),
        to_hook=hook_at - max(at for at in looks if at < hook_at),
        to_end=max(at for pid, at, _ in calls if pid == run) - hook_at,
    )


def _reap() -> None:
    """Bury what the run left to us, process 1: a daemon that has ended with it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
