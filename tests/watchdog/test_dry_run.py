"""--dry-run: what would be executed is said, in order, and nothing is."""

from __future__ import annotations

import json
from pathlib import Path

from world import SETTINGS, World, unique


def marking(world: World) -> str:
    """Return what a hook does that must not be executed."""
    return f"touch {world.place}/executed"


def assert_untouched(world: World) -> None:
    assert not (world.place / "executed").exists()
    assert not world.state.exists()


def lines_of(out: str, name: str) -> list[str]:
    """Return what would be done for a daemon."""
    part = out.partition(f"{name} is ")[2].split("\n")[1:]
    steps = []
    for line in part:
        if not line.startswith("  would "):
            break
        steps.append(line.removeprefix("  would "))
    return steps


def test_run_says_what_it_would_execute(world: World) -> None:
    first, steps, sick, report, up = (unique(x) for x in ("z", "s", "q", "r", "u"))
    world.settings(SETTINGS.replace("commands = []", 'commands = ["ps auxww"]'))
    for name in (first, report):
        world.hook(name, marking(world))
    world.hook(f"{steps}/10-one", marking(world))
    world.hook(f"{steps}/20-two", marking(world))
    world.facts(steps, f'after = ["{first}"]\narguments = ["start it"]\n')
    world.hook(steps, marking(world), "fail.d")
    world.facts(report, 'recovery = "report"')
    for name in (sick, up):
        world.hook(name, marking(world))
        world.up(name)
    world.facts(sick, 'count = [2, 9]\nstart_timeout = "1ms"')
    world.hook(sick, marking(world), "stop.d")
    world.hook(up, marking(world), "check.d")
    world.hook("mail", marking(world), "notice.d")
    result = world.run("--dry-run")
    assert (result.code, result.err) == (1, "")
    assert lines_of(result.out, first) == [f"run start.d/{first}"]
    assert lines_of(result.out, steps) == [
        f"run start.d/{steps}/10-one 'start it'",
        f"run start.d/{steps}/20-two 'start it'",
        f"run fail.d/{steps}, if it is not back",
    ]
    assert result.out.index(f"{first} is down") < result.out.index(f"{steps} is down")
    assert lines_of(result.out, report) == ["only report it (recovery = report)"]
    assert lines_of(result.out, sick) == [f"run stop.d/{sick}", f"run start.d/{sick}"]
    assert lines_of(result.out, up) == [f"ask check.d/{up} how it is"]
    before, after = result.out.splitlines()[-2:]
    assert before.startswith("before that, as evidence: ps, df, ss")
    assert after == "for each notice: notice.d/mail"
    assert_untouched(world)
    told = json.loads(world.run("run", "--dry-run", "--json", first).out)
    assert told["would"] == {first: [f"run start.d/{first}"]} and told["exit"] == 1
    assert_untouched(world)


def test_restart_says_whom_it_would_stop_and_start(world: World) -> None:
    name, other = unique("food"), unique("other")
    for one in (name, other):
        world.hook(one, marking(world))
    world.facts(name, f'resets = ["{other}"]\nstop_timeout = "3s"')
    pids = [world.up(one).pid for one in (name, other)]
    result = world.run("restart", "--dry-run", name)
    assert result.code == 0
    stop = "send TERM to: {} (pid {}), KILL after {} s"
    assert lines_of(result.out, name) == [
        stop.format(name, pids[0], "3.0"),
        f"run start.d/{name}",
        f"then, for {other} (resets): " + stop.format(other, pids[1], "10.0"),
        f"then, for {other} (resets): run start.d/{other}",
    ]
    assert [world.pids(one) for one in (name, other)] == [[pid] for pid in pids]
    assert_untouched(world)


def test_what_is_left_alone_is_said(world: World) -> None:
    up, down = unique("up"), unique("down")
    world.watch(up)
    world.up(up)
    assert world.run("--dry-run").out == "nothing would be executed\n"
    world.watch(down)
    world.settings(f'{SETTINGS}[run]\nboot = "100w"\n')
    result = world.run("--dry-run")
    assert result.code == 0
    [step] = lines_of(result.out, down)
    assert step.startswith("leave it alone: not now: ")
    assert world.run("check", "--dry-run").code == 2
    assert not Path(world.state).exists()
