"""Resets: what is restarted after another one was brought back."""

from __future__ import annotations

import signal

from world import SLEEP, World, unique

# What depends on what


def test_resets_go_over_several_levels_and_skip_who_is_not_up(world: World) -> None:
    base, network, inetd, off, gone = (unique(f"r{i}") for i in range(5))
    world.watch(base, f'resets = ["{network}", "{off}", "{gone}"]\n')
    world.watch(network, f'resets = ["{inetd}"]\n')
    world.watch(inetd)
    world.watch(gone, 'recovery = "report"\n')
    world.hook(off, "exit 1", mode=0o644)
    before = world.up(network).pid, world.up(inetd).pid
    result = world.run()
    assert world.starts(base) == world.starts(network) == world.starts(inetd) == 1
    assert result.out.count("Restarting ") == 3
    assert (
        f"resets    {network}, {off} skipped (off), {gone} skipped (down)" in result.out
    )
    assert f"why       {base} was restarted" in result.out
    assert world.pids(network) != [before[0]] and len(world.pids(network)) == 1
    assert world.pids(inetd) != [before[1]] and len(world.pids(inetd)) == 1
    assert world.run().out == ""


def test_a_reset_reaches_beyond_the_names(world: World) -> None:
    base, other, third = (unique(f"b{i}") for i in range(3))
    world.watch(base, f'resets = ["{other}"]\n')
    world.watch(other)
    world.watch(third)
    world.up(other)
    assert world.run(base).code == 0
    assert (world.starts(base), world.starts(other), world.starts(third)) == (1, 1, 0)


def test_a_reset_that_is_put_off_after_the_stop_is_told(world: World) -> None:
    base, other = unique("base"), unique("other")
    world.watch(base, f'resets = ["{other}"]\n')
    world.hook(other, "exit 75")
    child = world.up(other)
    result = world.run()
    assert child.wait(10) == -signal.SIGTERM
    assert result.code == 1 and result.out.count("Restarting ") == 2, result
    assert "now       down, not brought back\n" in result.out
    [incident] = world.incidents(other)
    assert world.record(incident)["status"] == "open"


def test_a_restart_that_somebody_else_begins_after_the_stop_is_told(
    world: World,
) -> None:
    name, begun = unique("food"), world.place / "begun"
    hook = world.hook(name, f"echo >{begun}; {world.daemon(unique('nap'))} {SLEEP}")
    pid = world.up(name).pid
    wait = "do sleep 0.02; done"
    world.hook(name, f"kill {pid}; while ! [ -e {begun} ]; {wait}", "stop.d")
    alive = f"kill -0 {pid} && ! grep -q 'State:.Z' /proc/{pid}/status"
    world.spawn(["/bin/sh", "-c", f"while {alive}; {wait}; exec {hook}"])
    result = world.run("restart", name)
    assert result.code == 1 and f"{name} is down, not restarted\n" in result.out
    assert "now       down, not brought back: being started by pid " in result.out


def test_circles_are_faults_that_name_them(world: World) -> None:
    a, b = unique("circle"), unique("circle")
    world.watch(a, f'resets = ["{b}"]\n')
    world.watch(b, f'resets = ["{a}"]\n')
    result = world.run()
    assert result.code == 2
    assert f"resets goes in a circle: {a} resets {b} resets {a}" in result.err
