"""A bad day, by strace: how long evidence takes, until the hook, and until the end."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess

from report import Target
from scene import ENVIRONMENT, Scene
from timing import peak_memory

_FEW_CALLS = "execve,exit_group"
_LOOKS_TOO = f"{_FEW_CALLS},openat"  # dear: every process of every look is one of them
_LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$")
_LOOK = re.compile(r'openat\(.*"/proc/\d+/stat"')
_DAEMON = "reborn"
_HOME = "dead"


class Recovery:
    """Medians of runs that brought a daemon back: in seconds, and bytes."""

    def __init__(self, scene: Scene, runs: int) -> None:
        traces = [_Trace(scene, _FEW_CALLS) for _ in range(runs)]
        looks = [_Trace(scene, _LOOKS_TOO) for _ in range(runs)]
        self.evidence = statistics.median(one.evidence() for one in traces)
        self.until_hook = statistics.median(one.until_hook() for one in traces)
        self.until_end = statistics.median(one.until_end() for one in traces)
        self.last_look = statistics.median(one.last_look() for one in looks)
        self.memory = max(peak_memory(scene, _HOME) for _ in range(runs))
        _reap()


class _Trace:
    """What strace saw of one run that brought the daemon back."""

    def __init__(self, scene: Scene, calls: str) -> None:
        file = scene.place / "trace"
        options = ["-f", "--seccomp-bpf", "-ttt", "-e", f"trace={calls}"]
        done = subprocess.run(
            ["strace", *options, "-o", str(file), *scene.viagra(_HOME)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        _reap()
        if done.returncode:
            raise RuntimeError(f"not brought back: {done.stdout}{done.stderr}")
        found = map(_LINE.match, file.read_text(errors="replace").splitlines())
        self._calls = [(m[1], float(m[2]), m[3]) for m in found if m]
        self._run = self._calls[0][0]
        hook = f'execve("{scene.place}/{_HOME}/'
        # Made ready before the last look, the hook's process waits for its end.
        self._hook = next(one for one in self._calls if one[2].startswith(hook))

    def evidence(self) -> float:
        """Return the seconds from the first collector's execve to the last's end."""
        known = (self._run, self._hook[0])
        before = [one for one in self._calls if one[1] < self._hook[1]]
        begins = {pid: at for pid, at, call in before if "execve(" in call}
        collectors = begins.keys() - set(known)
        ends = [at for pid, at, call in before if pid in collectors and "+++" in call]
        return max(ends) - min(begins[pid] for pid in collectors)

    def until_hook(self) -> float:
        """Return the seconds from the beginning of the run to the hook's execve."""
        return self._hook[1] - self._calls[0][1]

    def until_end(self) -> float:
        """Return the seconds from the hook's execve to the end of the run."""
        ours = [at for pid, at, _ in self._calls if pid == self._run]
        return max(ours) - self._hook[1]

    def last_look(self) -> float:
        """Return the seconds from the last look's last read to the hook's execve."""
        looks = (
            at
            for pid, at, call in self._calls
            if pid == self._run and at < self._hook[1] and _LOOK.match(call)
        )
        return self._hook[1] - max(looks)


def prepare(scene: Scene) -> bool:
    """Make the home of a daemon that is down; return whether it can be measured."""
    program = scene.place / "bin" / _DAEMON
    shutil.copy(scene.place / "still", program)
    # The kernel ends it with its parent, the hook, unless that becomes it.
    facts = 'limit = { restarts = 1000, within = "1h" }'  # it dies more often than most
    scene.home(_HOME, {_DAEMON: facts}, f"#!/bin/sh\nexec {program} >/dev/null\n")
    return shutil.which("strace") is not None


def table(recoveries: dict[int, Recovery]) -> str:
    """Return the figures by the number of processes."""
    every = recoveries.values()
    rows = {
        "evidence, all of it": [f"{one.evidence:.2f} s" for one in every],
        "begin of the run to the hook's exec": [f"{x.until_hook:.2f} s" for x in every],
        "last look to the hook's exec": [f"{x.last_look * 1000:.1f} ms" for x in every],
        "hook's exec to the end: up, and told": [f"{x.until_end:.2f} s" for x in every],
        "memory, that of ps and others included": [
            f"{one.memory / 1e6:.1f} MB" for one in every
        ],
    }
    heads = "".join(f" {size:,} processes |" for size in recoveries)
    lines = [f"| one daemon down |{heads}", "|---|" + "--:|" * len(recoveries)]
    lines += [
        f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()
    ]
    return "\n".join(lines)


def targets(recoveries: dict[int, Recovery]) -> list[Target]:
    """Return what has to hold at the lowest number of processes."""
    size, one = min(recoveries.items())
    at = f", {size:,} processes"
    last_look = one.last_look * 1000
    return [
        Target(f"evidence, all of it{at}", one.evidence, 1.3, " s"),
        Target(f"from the last look to the hook's exec{at}", last_look, 20, " ms"),
    ]


def _reap() -> None:
    """Bury what the run left to us, process 1: a daemon that has ended with it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
