"""What a run costs by numbers that no busy minute changes: system calls, instructions.

By strace and valgrind, where they can be had.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from contenders import BARE, FACTS, FAR, HEALTH, LATE, QUIET, Contender
from scene import ENVIRONMENT, Scene

_CALL = re.compile(r"^(\d+ +)?\w+\(", re.MULTILINE)
_COUNTED = (BARE, QUIET, LATE, FAR, FACTS, HEALTH)
Counts = dict[str, tuple[int, int]]  # system calls and instructions, by title; 0: none


def count(scene: Scene, contenders: list[Contender]) -> Counts:
    """Return what each of the quiet runs makes, and the bare interpreter."""
    return {
        one.title: (_calls(scene, one.command), _instructions(one.command))
        for one in contenders
        if one.title in _COUNTED
    }


def _calls(scene: Scene, command: list[str]) -> int:
    file = scene.place / "calls"
    if not shutil.which("strace"):
        return 0
    _run(["strace", "-f", "-qq", "-o", str(file), *command])
    return len(_CALL.findall(file.read_text(errors="replace")))


def _instructions(command: list[str]) -> int:
    if not shutil.which("valgrind"):
        return 0
    options = ["--tool=callgrind", "--callgrind-out-file=/dev/null"]
    found = re.search(r"Collected : (\d+)", _run(["valgrind", *options, *command]))
    return int(found[1]) if found else 0


def _run(command: list[str]) -> str:
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stderr


def table(counts: Counts) -> str:
    """Return the table of them, beside the interpreter's own."""
    bare_calls, bare_instructions = counts[BARE]
    lines = ["| | system calls | beyond the interpreter's | instructions |"]
    lines.append("|---|--:|--:|--:|")
    for title, (calls, instructions) in counts.items():
        beyond = f"{calls - bare_calls:,}" if calls else ""
        ratio = instructions / (bare_instructions or 1)
        million = f"{instructions / 1e6:,.0f} million ({ratio:.1f} x)"
        cells = [f"{calls:,}" if calls else "", beyond, million if instructions else ""]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
