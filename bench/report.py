"""What a bench says: one table, what had to hold, and the machine in general terms."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from contenders import (
    ARTICLE,
    ARTICLE_MISSING,
    BARE,
    CHECK,
    FACTS,
    FAR,
    FLOOR,
    HEALTH,
    LATE,
    MONIT,
    QUIET,
)
from timing import Times

FEW, MANY = 100, 20_000  # processes: where there is a target
Cost = dict[int, Times]  # by the number of processes


class Results:
    """What one bench has measured."""

    def __init__(self, cost: Cost, memory: int) -> None:
        self.cost = cost
        self.memory = memory  # bytes
        self.sizes = sorted(cost)


class Target:
    """Something that has to hold: a figure, and the highest that it may be."""

    def __init__(self, text: str, figure: float, highest: float, unit: str) -> None:
        self.text = text
        self.figure = figure
        self.highest = highest
        self.unit = unit

    def row(self) -> str:
        """Return its line of the table."""
        word = "holds" if self.figure <= self.highest else "**DOES NOT HOLD**"
        limit = f"{self.highest:.3g}{self.unit}"
        return f"| {self.text} | {limit} | {self.figure:.2g}{self.unit} | {word} |"


def table(results: Results) -> str:
    """Return the times, in milliseconds, and beside each how many bare interpreters."""
    sizes = results.sizes
    titles = list(dict.fromkeys(t for size in sizes for t in results.cost[size]))
    heads = "".join(f" {size:,} processes |" for size in sizes)
    lines = [
        f"| 5 daemons, if not said otherwise |{heads}",
        "|---|" + "--:|" * len(sizes),
    ]
    for title in titles:
        cells = (_cell(results.cost[size], title) for size in sizes)
        lines.append(f"| {title} |" + "".join(f" {cell} |" for cell in cells))
    return "\n".join(lines)


def _cell(times: Times, title: str) -> str:
    if title not in times:
        return ""
    ratio = times[title] / times[BARE]
    return f"{times[title] * 1000:,.1f} ms ({ratio:.{1 if ratio < 10 else 0}f} x)"


def target_table(targets: list[Target]) -> str:
    """Return the table of what had to hold, and whether it does."""
    lines = ["| | at most | is | |", "|---|--:|--:|---|"]
    return "\n".join([*lines, *(target.row() for target in targets)])


def targets(results: Results) -> list[Target]:
    """Return what has to hold of a run that has nothing to bring back."""
    ratios = [
        (FEW, QUIET, BARE, 1.7),
        (MANY, QUIET, BARE, 1.7),
        (MANY, LATE, BARE, 1.7),
        (MANY, FAR, BARE, 1.7),
        (FEW, FACTS, BARE, 2.2),
        (FEW, HEALTH, BARE, 2.8),
        (FEW, FACTS, MONIT, 1),
        (FEW, QUIET, ARTICLE, 0.6),
        (MANY, QUIET, ARTICLE, 1 / 20),
        (MANY, CHECK, ARTICLE_MISSING, 1 / 4),
        (MANY, QUIET, MONIT, 1 / 50),
    ]
    found = [_ratio(results, *ratio) for ratio in ratios]
    times = results.cost.get(MANY, {})
    if CHECK in times:
        least = times[FLOOR] + times[BARE]
        text = f"{CHECK} / the C program and the interpreter, {MANY:,} processes"
        found.append(Target(text, times[CHECK] / least, 1.3, " x"))
    found.append(Target(f"{QUIET}: memory", results.memory / 1e6, 20, " MB"))
    return [target for target in found if target]


def _ratio(
    results: Results, size: int, ours: str, other: str, highest: float
) -> Target | None:
    """Return what must hold of ours beside another; None when one was not measured."""
    times = results.cost.get(size, {})
    if ours not in times or other not in times:
        return None
    text = f"{ours} / {other}, {size:,} processes"
    return Target(text, times[ours] / times[other], highest, " x")


def machine(python: str) -> str:
    """Return the machine in general terms."""
    cores = len(os.sched_getaffinity(0))
    kernel = ".".join(platform.release().split(".")[:2])
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    cpu = Path("/proc/cpuinfo").read_text(errors="replace")
    kind = "virtual " if "hypervisor" in cpu else ""
    return (
        f"{cores} cores of a {kind}{platform.machine()} machine, Linux {kernel}, "
        f"{system}, {python}"
    )


def page(*parts: str) -> str:
    """Return parts of a page, with an empty line between them."""
    return "\n\n".join(parts)
