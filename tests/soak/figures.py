"""What a soak prints: what happened, what had to hold, and where."""

from __future__ import annotations

import argparse
import os
import statistics
from typing import TYPE_CHECKING

from final_checks import Line
from testbed import CHECKOUT

if TYPE_CHECKING:
    from soak import Soak

BEGIN, END = "<!-- soak: begin -->\n", "<!-- soak: end -->\n"


def figures(soak: Soak, lines: list[Line], options: argparse.Namespace) -> str:
    """Return the two tables of a soak: what happened, and what had to hold."""
    happened = [f"| {what} | {number} |" for what, number in _happened(soak).items()]
    return "\n".join(
        [
            f"{options.seconds} seconds, {options.daemons} daemons, "
            f"{options.bystanders:,} bystanders, on {len(os.sched_getaffinity(0))} "
            f"cores; seed {options.seed}:",
            "",
            "| what happened | |",
            "|---|--:|",
            *happened,
            "",
            "| what had to hold | at most | is | |",
            "|---|--:|--:|---|",
            *[line.row() for line in lines],
        ]
    )


def _happened(soak: Soak) -> dict[str, str]:
    lives = soak.fleet.all()
    runs = [run for run in soak.runs.all if run.ended]
    longest = max(run.ended - run.began for run in runs)
    killed = [run for run in runs if run.was_killed]
    waits = soak.fleet.waits()
    return {
        "deaths": f"{sum(life.killed is not None for life in lives):,}",
        "starts, the first of each included": f"{len(lives):,}",
        "runs": f"{len(runs):,}",
        "the longest run": f"{longest:.1f} s",
        "runs killed half-way": f"{len(killed):,}",
        "hooks made to fail, or to hang": _moody(soak),
        **{
            one.title: f"{sum(b - a for a, b in one.times):.0f} s in all"
            for one in soak.plan.troubles
        },
        "incidents": f"{len(soak.inspection.seen):,}",
        "incomplete: run killed or disk full": f"{len(soak.inspection.excused):,}",
        "from a death to the next start: median": f"{statistics.median(waits):.1f} s",
        "and 95 %, and the worst": f"{waits[int(len(waits) * 0.95)]:.1f} s, "
        f"{waits[-1]:.1f} s",
    }


def _moody(soak: Soak) -> str:
    return " and ".join(f"{number} times" for number in soak.moods.number.values())


def publish(text: str) -> None:
    """Put the tables into docs/resilience.md."""
    file = CHECKOUT / "docs" / "resilience.md"
    before, _, rest = file.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}{text}\n{END}{after}")
