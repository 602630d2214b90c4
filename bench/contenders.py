"""What is measured: viagra.py in each of its cases, and other ways to do the same."""

from __future__ import annotations

import shutil

from scene import BENCH, MANY, MISSING, PLAIN, READY, Scene

CHECK_PROCS = "/usr/lib/nagios/plugins/check_procs"

BARE = "the interpreter, doing nothing"
QUIET = "viagra.py, quiet"
LATE = "viagra.py, quiet, its daemons begun last"
FAR = "viagra.py, quiet, its daemons begun last, after 1,000 restarts"
FACTS = "viagra.py, quiet, shipped facts"
HEALTH = "viagra.py, quiet, 10 daemons, 8 with health facts"
CHECK = "viagra.py check, one missing"
ARTICLE = "the article's csh script"
ARTICLE_MISSING = "the article's csh script, one missing"
MONIT = "monit validate"  # exits 1 when all is up, where no monit stays resident
PLUGIN = "check_procs, a call for each"
PGREP = "pgrep -x, a call for each"
FLOOR = "C: read every /proc/PID/stat"


class Contender:
    """One row of the table: a command, and how it must end for its time to count."""

    only_first = False  # at the first number of processes, not at all of them

    def __init__(
        self, title: str, command: list[str], needs: str = "", exits: int = 0
    ) -> None:
        self.title = title
        self.command = command
        self.needs = needs or command[0]
        self.exits = exits


def contenders(scene: Scene) -> list[Contender]:
    """Return all that this machine can run."""
    article = ["tcsh", "-f", str(BENCH / "article.csh")]
    found = [
        Contender(FLOOR, [str(scene.place / "floor")]),
        Contender(BARE, [scene.python, "-I", "-c", "pass"]),
        Contender(QUIET, scene.viagra("plain")),
        Contender(LATE, scene.viagra("last")),
        Contender(FAR, scene.viagra("far")),
        Contender(FACTS, scene.viagra("ready")),
        Contender(HEALTH, scene.viagra("health")),
        Contender(CHECK, scene.viagra("missing", "check"), exits=1),
        Contender(ARTICLE, [*article, *PLAIN]),
        Contender(ARTICLE_MISSING, [*article, *PLAIN[:4], MISSING]),
        Contender(PGREP, _loop(scene, "pgrep", 'pgrep -x "$1"', PLAIN)),
        Contender(PLUGIN, _loop(scene, "plugin", _PLUGIN_CALL, PLAIN), CHECK_PROCS),
        Contender(MONIT, _monit(scene, "monit", _patterns()), exits=1),
    ]
    for name in READY:
        one = Contender(f"{FACTS} of {name} alone", scene.viagra(f"ready-{name}"))
        one.only_first = True
        found.append(one)
    for number in (2, 10, 50):
        found += _for_many(scene, number)
    return [one for one in found if shutil.which(one.needs)]


_PLUGIN_CALL = f'{CHECK_PROCS} -c 1: -C "$1"'


def _for_many(scene: Scene, number: int) -> list[Contender]:
    names = MANY[:number]
    article = ["tcsh", "-f", str(BENCH / "article.csh"), *names]
    monit = _monit(scene, f"monit{number}", {name: f"^{name}$" for name in names})
    rows = {QUIET: scene.viagra(f"many{number}"), ARTICLE: article, MONIT: monit}
    found = [
        Contender(f"{title}, {number} daemons", command)
        for title, command in rows.items()
    ]
    for one in found:
        # With more processes, what ours costs is worth to be known; the others take
        # minutes, and it is as many times longer as there are names.
        one.only_first = not one.title.startswith(QUIET)
        one.exits = int(one.command is monit)
    return found


def _loop(scene: Scene, name: str, call: str, names: tuple[str, ...]) -> list[str]:
    """Return the command of a shell script that makes a call for each name."""
    script = scene.place / f"{name}.sh"
    body = f'while [ $# -gt 0 ]; do\n{call} || echo "$1 is down"\nshift\ndone\n'
    script.write_text(f"#!/bin/sh\n{body}")
    return ["sh", str(script), *names]


def _patterns() -> dict[str, str]:
    """Return the pattern by which monit finds each of the ready daemons."""
    return {name: f"^{line.partition(' [')[0]}" for name, line in READY.items()}


def _monit(scene: Scene, name: str, patterns: dict[str, str]) -> list[str]:
    """Return the command that has monit check once for these processes."""
    control = scene.place / f"{name}rc"
    files = [f"set {one}file {scene.place}/{name}.{one}" for one in ("id", "state")]
    files.append(f"set pidfile {scene.place}/{name}.pid")
    checks = [
        f'check process {daemon} matching "{pattern}"'
        for daemon, pattern in patterns.items()
    ]
    control.write_text("\n".join([*files, *checks, ""]))
    control.chmod(0o600)
    return ["monit", "-c", str(control), "validate"]
