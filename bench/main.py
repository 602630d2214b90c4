"""make bench: what a run of viagra.py costs, beside other ways to do the same."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# Under -I, Python leaves our own directory out of its search path.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import contenders
import plot
import recovery
import report
import timing
from scene import BENCH, CHECKOUT, Scene, build

BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"


def main() -> None:
    """Measure, print the table, and publish it where that is asked for."""
    options = parse()
    python = os.path.realpath(sys.executable)
    with tempfile.TemporaryDirectory(prefix="viagra-bench-") as place:
        scene = build(Path(place), python)
        results = measure(scene, options.sizes, options.runs)
    text = "\n\n".join(
        [
            f"On {report.machine(timing.interpreter(python))}; medians of at least "
            f"{options.runs} runs:",
            report.table(results),
            report.demands(results),
        ]
    )
    print(text)
    if options.publish:
        publish(text, plot.draw(results.cost))


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--sizes", type=numbers, default=[100, 2000, 20000])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--publish", action="store_true", help="write README.md, too")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Return the numbers of processes to measure at, lowest first."""
    return sorted(int(word) for word in text.split(","))


def measure(scene: Scene, sizes: list[int], runs: int) -> report.Results:
    """Return all that is measured, at each number of processes."""
    cost: report.Cost = {}
    scene.crowd(sizes[0])
    bad_day = recovery.measure(scene, max(1, runs // 4))
    memory = max(timing.peak_memory(scene, "plain") for _ in range(3))
    for size in sizes:
        print(f"measuring at {size:,} processes", file=sys.stderr)
        scene.crowd(size)
        chosen = choose(scene, is_first=size == sizes[0])
        timing.try_out(scene, chosen)
        cost[size] = timing.measure(scene, chosen, runs)
    return report.Results(cost, memory, bad_day)


def choose(scene: Scene, is_first: bool) -> list[contenders.Contender]:
    """Return what is measured at one number of processes."""
    found = contenders.contenders(scene)
    if not timing.knows_health(scene):
        found = [one for one in found if one.title != contenders.HEALTH]
    return [one for one in found if is_first or not one.only_first]


def publish(text: str, drawing: str) -> None:
    """Put the table into README.md, and the plot beside this program."""
    readme = CHECKOUT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    image = "![What one run costs, by the number of processes](bench/cost.svg)"
    readme.write_text(f"{before}{BEGIN}{text}\n\n{image}\n{END}{after}")
    (BENCH / "cost.svg").write_text(drawing)


if __name__ == "__main__":
    main()
