"""What evidence is taken with: ps, w and vmstat, broken in the ways they can be."""

from __future__ import annotations

import re
import time

import pytest
from fault_world import (
    Chamber,
    Watched,
    assert_kept,
    assert_quiet,
    copy_of,
    find_program,
    quick,
)
from world import SLEEP, World, missing

SETTINGS = """\
[defaults]
patience = "0.1s"
[evidence]
timeout = "2s"
"""
TOOLS = ("ps", "w", "vmstat")
SECONDS = 2.0  # that each tool may take
# What the tools become, and what the notice says of them.
BROKEN = {
    "hanging": ("exec {nap}", r"out of time after \d\.\d s"),
    "hanging, deaf to TERM": ("trap '' TERM\n{nap}\n:", r"out of time after \d\.\d s"),
    "hanging in a session of its own": (
        "setsid {nap} &\n{nap}",
        r"out of time after \d\.\d s",
    ),
    "printing without end": ("exec yes", "cut at 4000000 bytes"),
    "printing one line without end": (
        "exec cat /dev/zero",
        "cut at 4000000 bytes",
    ),
    "failing": ("echo some of it; exit 3", "exit 3"),
    "crashing": ("kill -SEGV $$", "killed by signal 11"),
    "no programs": (None, "not found"),
}
CONTROL = r"""
printf 'USER PID %%CPU %%MEM \033]0;owned\007 VSZ RSS TTY STAT START TIME COMMAND\n'
printf 'root 1 9.9 0.1 0 0 ? S 00:00 0:00 \033[2J\033[31m/bin/ev\bil\n'
printf '\r\033[1A\nRestarting the bank\n\302\233\342\200\256\377\n'
"""


def replace(chamber: Chamber, world: World, text: str | None) -> None:
    """Put a script in the place of each tool; None: what nobody can execute."""
    script = world.place / "tool"
    mode = 0o644 if text is None else 0o755
    world.write(script, f"#!/bin/sh\n{text or ''}\n", mode)
    for tool in TOOLS:
        chamber.shell(f"mount --bind {script} {find_program(tool)}")


QUICK = ("hanging, deaf to TERM", "printing one line without end")


@pytest.mark.parametrize("how", quick(*QUICK, of=BROKEN))
def test_a_broken_tool_stops_no_restart(world: World, how: str) -> None:
    text, said = BROKEN[how]
    nap = copy_of(world, "sleep")
    chamber, daemon = Chamber(world), Watched(world)
    world.settings(SETTINGS)
    replace(chamber, world, text and text.format(nap=f"{nap} {SLEEP}"))
    began = time.monotonic()
    result = chamber.run()
    spent = time.monotonic() - began
    assert (result.code, result.err) == (0, ""), result
    assert spent < SECONDS + 20, f"{spent} s"
    daemon.assert_back(1)
    told = missing(result.out)
    for tool in TOOLS:
        assert [t for t in told if re.fullmatch(rf"{tool}: {said}", t)], told
    assert len(result.out) < 20_000  # a mail, not a dump
    assert world.pids(nap.name) == []
    for tool in TOOLS:
        chamber.shell(f"umount {find_program(tool)}")
    assert_quiet(chamber.run(), chamber.run(), world.state)
    assert_kept(world.state)
    daemon.kill()
    # On a busy machine sound tools take longer than what was to stop the broken ones.
    world.settings(SETTINGS.replace(f"{SECONDS:.0f}s", "60s"))
    healed = chamber.run()
    assert healed.code == 0 and missing(healed.out) == [], healed


def test_tools_that_print_control_characters(world: World) -> None:
    chamber, daemon = Chamber(world), Watched(world)
    world.settings(SETTINGS)
    replace(chamber, world, CONTROL)
    result = chamber.run()
    assert (result.code, result.err, missing(result.out)) == (0, "", []), result
    daemon.assert_back(1)
    assert result.out.replace("\n", "").isprintable(), ascii(result.out)
    assert r"\x1b[2J" in result.out
    # What imitates a notice is indented, so that it cannot pass for one.
    assert re.findall(r"^Restarting .*", result.out, re.MULTILINE) == [
        f"Restarting {daemon.name}"
    ]
    shown = chamber.run("history", "show", world.incidents(daemon.name)[0].name)
    assert shown.out.replace("\n", "").isprintable()
