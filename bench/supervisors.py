"""viagra-run beside runit's runsv and supervisord: how fast, and what idling costs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from report import Target
from scene import ENVIRONMENT, Scene, compile_c, parents_of_all

RUN = "viagra-run"
# Seconds. After shorter lives than a second, runsv and supervisord wait on purpose.
LIFE = (1.1, 1.6)
SHORT_LIFE = (0.02, 0.02)
LIMIT = 30.0  # seconds for a life to begin
# What Debian's packages do by default, but for logs.
_SUPERVISORD = """\
[supervisord]
nodaemon = true
user = root
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {place}/supervisord.pid
[program:born]
command = {program}
stdout_logfile = NONE
stderr_logfile = NONE
"""


class Keeper:
    """A program that starts `born` anew when that dies; how, and what it needs."""

    def __init__(self, title: str, command: list[str], needs: str) -> None:
        self.title = title
        self.command = command
        self.needs = needs


class Usage:
    """What processes have used so far: in bytes, times woken, and seconds of CPU."""

    def __init__(self, pids: list[int]) -> None:
        self.processes = len(pids)
        self.memory = sum(_number(pid, "VmRSS:") for pid in pids) * 1024
        self.wakeups = sum(_number(pid, "voluntary_ctxt_switches:") for pid in pids)
        self.cpu = sum(_cpu(pid) for pid in pids)


class Idle:
    """What a keeper holds, and what it does in a minute, while nothing happens."""

    def __init__(self, before: Usage, after: Usage, seconds: float) -> None:
        self.processes = after.processes
        self.memory = after.memory
        self.wakeups = (after.wakeups - before.wakeups) * 60 / seconds
        self.cpu = (after.cpu - before.cpu) * 60 / seconds


class Cost:
    """What was measured of one keeper."""

    def __init__(self, delays: list[float], idle: Idle) -> None:
        self.delays = delays  # seconds, sorted
        self.idle = idle


class Results:
    """What was measured of all keepers, and of ours when lives are short."""

    def __init__(self, costs: dict[str, Cost], quick: list[float]) -> None:
        self.costs = costs
        self.quick = quick  # seconds, sorted


class Watched:
    """A keeper at work, with its `born`."""

    def __init__(self, scene: Scene, keeper: Keeper) -> None:
        fifo = Path(tempfile.mkdtemp(dir=scene.place)) / "fifo"
        os.mkfifo(fifo)
        # Open for both, so that there is no end of file between two lives.
        self._births = os.fdopen(os.open(fifo, os.O_RDWR), buffering=1)
        self._process = subprocess.Popen(
            keeper.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**ENVIRONMENT, "BORN": str(fifo)},
        )
        self._born, _ = self._birth()

    def restarts(self, number: int, life: tuple[float, float]) -> list[float]:
        """Kill `born` so many times; return the delays until its next start."""
        delays = []
        for _ in range(number):
            time.sleep(random.uniform(*life))
            killed = time.monotonic()
            os.kill(self._born, signal.SIGKILL)
            self._born, at = self._birth()
            delays.append(at - killed)
        return sorted(delays)

    def idle(self, seconds: float) -> Idle:
        """Return what it costs while its `born` sits still."""
        time.sleep(2.0)  # for what it has still to do after a start
        before = Usage(self._pids())
        time.sleep(seconds)
        return Idle(before, Usage(self._pids()), seconds)

    def end(self) -> None:
        """End it; what it leaves running ends with the namespace."""
        self._process.terminate()
        self._process.wait(LIMIT)
        self._births.close()

    def _birth(self) -> tuple[int, float]:
        pid, at = self._births.readline().split()
        return int(pid), float(at)

    def _pids(self) -> list[int]:
        """Return the keeper's own processes: all below it, but `born`."""
        found, parents = [self._process.pid], parents_of_all()
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return [pid for pid in found if pid != self._born]


def keepers(scene: Scene) -> list[Keeper]:
    """Return the keepers that this machine has, each with its command."""
    born = scene.place / "born"
    compile_c(Path(__file__).with_name("born.c"), born)
    service = scene.place / "service"
    service.mkdir()
    shutil.copy(born, service / "run")
    settings = scene.place / "supervisord.conf"
    settings.write_text(_SUPERVISORD.format(place=scene.place, program=born))
    run = str(scene.place / "viagralib" / "companions" / "viagra-run")
    ours = [scene.python, "-I", run, "-r", "0", "-f", "core,signal,exit"]
    noorphan = [*ours, "-o", "noorphan"]
    supervisord = ["supervisord", "-n", "-c", str(settings)]
    found = [
        Keeper(RUN, [*ours, str(born)], scene.python),
        Keeper(f"{RUN} -o noorphan", [*noorphan, str(born)], scene.python),
        Keeper("runsv (runit)", ["runsv", str(service)], "runsv"),
        Keeper("supervisord", supervisord, "supervisord"),
    ]
    return [keeper for keeper in found if shutil.which(keeper.needs)]


def measure(scene: Scene, kills: int, idle: float) -> Results:
    """Return what each keeper costs, all of them measured at the same time."""
    found = keepers(scene)
    with ThreadPoolExecutor(len(found)) as pool:
        costs = pool.map(lambda keeper: _measure(scene, keeper, kills, idle), found)
        by_title = dict(zip((one.title for one in found), costs, strict=True))
    quick = Watched(scene, found[0])
    try:
        return Results(by_title, quick.restarts(4 * kills, SHORT_LIFE))
    finally:
        quick.end()


def _measure(scene: Scene, keeper: Keeper, kills: int, idle: float) -> Cost:
    watched = Watched(scene, keeper)
    try:
        return Cost(watched.restarts(kills, LIFE), watched.idle(idle))
    finally:
        watched.end()


def table(results: Results) -> str:
    """Return what was measured, a row for each keeper."""
    number = len(next(iter(results.costs.values())).delays)
    lines = [
        f"| {number} kills each | restart: median | worst | memory | processes "
        "| woken in a minute of idleness | CPU in it |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for title, cost in results.costs.items():
        delays, idle = cost.delays, cost.idle
        lines.append(
            f"| {title} | {_ms(statistics.median(delays))} | {_ms(delays[-1])} "
            f"| {idle.memory / 1e6:.1f} MB | {idle.processes} "
            f"| {idle.wakeups:.0f} times | {_ms(idle.cpu)} |"
        )
    return "\n".join(lines)


def targets(results: Results) -> list[Target]:
    """Return what has to hold of ours."""
    ours, quick = results.costs[RUN], results.quick
    largest = max(
        cost.idle.memory / cost.idle.processes
        for title, cost in results.costs.items()
        if title.startswith(RUN)
    )
    restart = f"{RUN}: from a death to the next start"
    return [
        Target(
            f"{restart}, killed at once {len(quick)} times, median",
            _median(quick),
            20,
            " ms",
        ),
        Target(
            f"{restart}, killed after a second, median", _median(ours.delays), 20, " ms"
        ),
        Target(f"{RUN}: memory of a process", largest / 1e6, 15, " MB"),
        Target(f"{RUN}: woken in a minute of idleness", ours.idle.wakeups, 0, " times"),
    ]


def _median(delays: list[float]) -> float:
    return statistics.median(delays) * 1000


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def _number(pid: int, field: str) -> int:
    """Return the sum of a field of status over a process's threads."""
    if field == "VmRSS:":
        return _field(Path(f"/proc/{pid}/status"), field)
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_field(task / "status", field) for task in tasks)


def _field(status: Path, field: str) -> int:
    for line in status.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def _cpu(pid: int) -> float:
    """Return the seconds for which a process has run: proc_pid_schedstat(5)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks) / 1e9
