"""Times, by hyperfine: all commands in turn, in several rounds."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess

from contenders import Contender
from scene import ENVIRONMENT, Scene

_EACH = 7  # runs of a command in each round
Times = dict[str, float]  # of each contender: the median of its runs, in seconds


def measure(scene: Scene, contenders: list[Contender], runs: int) -> Times:
    """Return the medians of at least `runs` runs of each.

    What else the machine does comes and goes: so all are run in turn, a few times
    each, then again, and a busy minute is shared by all.
    """
    found: dict[str, list[float]] = {one.title: [] for one in contenders}
    for _ in range(-(-runs // _EACH)):
        for title, times in _round(scene, contenders, runs).items():
            found[title] += times
    return {title: statistics.median(times) for title, times in found.items()}


def _round(
    scene: Scene, contenders: list[Contender], runs: int
) -> dict[str, list[float]]:
    export = scene.place / "hyperfine.json"
    options = [
        "--shell=none",
        "--warmup=1",
        f"--runs={min(runs, _EACH)}",
        "--style=none",
    ]
    commands = [shlex.join(one.command) for one in contenders]
    subprocess.run(
        ["hyperfine", *options, "--ignore-failure", f"--export-json={export}"]
        + commands,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    results = json.loads(export.read_text())["results"]
    for one, result in zip(contenders, results, strict=True):
        if set(result["exit_codes"]) != {one.exits}:
            raise RuntimeError(f"{one.title}: exit {result['exit_codes']}")
    return {
        one.title: result["times"]
        for one, result in zip(contenders, results, strict=True)
    }


def try_out(scene: Scene, contenders: list[Contender]) -> None:
    """Run each once, and see that it says what it must: a time of a failure is none.

    Raises RuntimeError when one does not.
    """
    for one in contenders:
        done = _run(one.command)
        silent = one.title.startswith("viagra.py, quiet")
        text = done.stdout + done.stderr
        if done.returncode != one.exits or (silent and text):
            raise RuntimeError(f"{one.title}: exit {done.returncode}\n{text}")
        missed = any(word in text for word in ("down", "not running", "Restarting"))
        if missed != ("missing" in one.title):
            raise RuntimeError(f"{one.title} does not see what is there: {text}")


def knows_health(scene: Scene) -> bool:
    """Return whether a daemon that does not listen where it should is found sick."""
    return "sick" in _run(scene.viagra("sick", "check")).stdout


def peak_memory(scene: Scene, home: str) -> int:
    """Return the most memory that a quiet run held, in bytes."""
    command = [str(scene.place / "peak"), *scene.viagra(home)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
    return int(done.stdout.split()[-1]) * 1024  # behind what the run printed


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def interpreter(python: str) -> str:
    """Return what a Python calls itself, such as "Python 3.11.2"."""
    return _run([python, "-I", "--version"]).stdout.strip()
