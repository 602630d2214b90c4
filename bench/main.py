"""make bench: what a run of viagra.py costs, beside other ways to do the same."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

# Under -I, Python leaves our own directory out of its search path.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import contenders
import counts
import plot
import recovery
import report
import supervisors
import timing
from scene import CHECKOUT, Scene, build

PARTS = ("runs", "recovery", "supervisors")


def main() -> None:
    """Measure, print the tables, and publish them where that is asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + 15))  # else 1 ignores it
    options = parse()
    python = os.path.realpath(sys.executable)
    with tempfile.TemporaryDirectory(prefix="viagra-bench-") as place:
        bench = Bench(build(Path(place), python), options)
        bench.measure()
    machine = report.machine(timing.interpreter(python))
    for part, text in bench.texts().items():
        page = f"On {machine}{text}"
        print(f"{page}\n")
        if options.publish:
            publish(part, page)
    if options.publish and bench.cost:
        (CHECKOUT / "docs" / "cost.svg").write_text(plot.draw(bench.cost))


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part; else all of them")
    parser.add_argument("--sizes", type=numbers, default=[100, 2000, 20000])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--kills", type=int, default=50, help="of each supervisor's")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of them")
    parser.add_argument("--publish", action="store_true", help="write docs/ as well")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Return the numbers of processes to measure at, lowest first."""
    return sorted(int(word) for word in text.split(","))


class Bench:
    """All that is measured of one scene, in as many parts as are asked for."""

    def __init__(self, scene: Scene, options: argparse.Namespace) -> None:
        self.scene = scene
        self.options = options
        self.cost: report.Cost = {}
        self.memory = 0  # bytes
        self.counts: counts.Counts = {}
        self.recoveries: dict[int, recovery.Recovery] = {}
        self.supervisors: supervisors.Results | None = None

    def wants(self, part: str) -> bool:
        """Return whether a part is asked for."""
        return self.options.only in (None, part)

    def measure(self) -> None:
        """Measure the parts, at each number of processes where that matters."""
        if self.wants("supervisors"):
            print("measuring supervisors", file=sys.stderr)
            kills, idle = self.options.kills, self.options.idle
            self.supervisors = supervisors.measure(self.scene, kills, idle)
        can_recover = self.wants("recovery") and recovery.prepare(self.scene)
        for size in self.options.sizes if self.options.only != "supervisors" else []:
            print(f"measuring at {size:,} processes", file=sys.stderr)
            self.scene.crowd(size)
            if can_recover:
                few = max(1, self.options.runs // 4)
                self.recoveries[size] = recovery.Recovery(self.scene, few)
            if self.wants("runs"):
                self._runs(size)

    def _runs(self, size: int) -> None:
        chosen = choose(self.scene, is_first=not self.cost)
        timing.try_out(self.scene, chosen)
        if not self.memory:
            self.counts = counts.count(self.scene, chosen)
            self.memory = max(timing.peak_memory(self.scene, "plain") for _ in range(3))
        self.cost[size] = timing.measure(self.scene, chosen, self.options.runs)

    def texts(self) -> dict[str, str]:
        """Return the tables of each part that was measured."""
        texts, runs = {}, self.options.runs
        if self.cost:
            results = report.Results(self.cost, self.memory)
            targets = report.target_table(report.targets(results))
            told = f"; medians of at least {runs} runs:"
            image = "![What one run costs, by the number of processes](cost.svg)"
            tables = [report.table(results), counts.table(self.counts), targets]
            texts["bench"] = report.page(told, *tables, image)
        if self.recoveries:
            targets = report.target_table(recovery.targets(self.recoveries))
            told = f"; medians of {max(1, runs // 4)} runs:"
            table = recovery.table(self.recoveries)
            texts["recovery"] = report.page(told, table, targets)
        if self.supervisors:
            targets = report.target_table(supervisors.targets(self.supervisors))
            table = supervisors.table(self.supervisors)
            texts["supervisors"] = report.page(":", table, targets)
        return texts


def choose(scene: Scene, is_first: bool) -> list[contenders.Contender]:
    """Return what is measured at one number of processes."""
    found = contenders.contenders(scene)
    if not timing.knows_health(scene):
        found = [one for one in found if one.title != contenders.HEALTH]
    return [one for one in found if is_first or not one.only_first]


def publish(part: str, page: str) -> None:
    """Put a part's tables into docs/performance.md, between its marks."""
    file = CHECKOUT / "docs" / "performance.md"
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
    before, _, rest = file.read_text().partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise RuntimeError(f"{file} has no {begin.strip()} and {end.strip()}")
    file.write_text(f"{before}{begin}{page}\n{end}{after}")


if __name__ == "__main__":
    main()
