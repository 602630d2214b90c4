"""The watchdog and viagra-run: how a daemon died, that it finished, who restarts it."""

from __future__ import annotations

import json
import os
import signal

from world import World, alive, unique, until


def hold(world: World, name: str, options: str, command: str) -> None:
    """Put in a hook that has viagra-run hold a command, in the foreground."""
    world.hook(
        name,
        f"echo started >> {world.place}/{name}.starts\n"
        f"exec {world.program.parent}/viagralib/commands/viagra-run "
        f"-n {name} {options} -- {command}",
    )


def test_what_finished_by_itself_is_left_down(world: World) -> None:
    name = unique("calc")
    program = world.daemon(name)
    hold(world, name, "-r 3 -f core,signal", f"{program} 3")
    world.facts(name, 'start_timeout = "5s"\n')
    assert world.run().code == 0
    until(lambda: not world.pids(name))
    until(lambda: '"finished": true' in (world.state / "deaths" / name).read_text())
    for _ in range(2):
        quiet = world.run()
        assert (quiet.code, quiet.out) == (0, ""), quiet
    assert world.starts(name) == 1
    assert "finished" in world.run("status").out
    assert world.run("restart", name).code == 0
    assert world.starts(name) == 2


def test_the_cause_is_exact(world: World) -> None:
    name = unique("food")
    hold(world, name, "-f hwerr", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    until(lambda: '"signal": 9' in (world.state / "deaths" / name).read_text())
    result = world.run()
    assert "  cause     viagra-run: signal 9 (SIGKILL), after " in result.out, result


def test_a_restart_goes_through_viagra_run(world: World) -> None:
    """It would start anew what dies of a signal, and there would be two."""
    name = unique("food")
    hold(world, name, "-r 0 -f core,signal", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    first = world.pids(name)[0]
    os.kill(first, signal.SIGKILL)
    until(lambda: world.pids(name) not in ([], [first]))
    assert world.starts(name) == 1  # viagra-run was quicker than anybody
    result = world.run("restart", name)
    assert result.code == 0, result
    assert world.starts(name) == 2 and len(world.pids(name)) == 1
    assert world.run().out == ""


def test_what_viagra_run_is_about_to_start_is_left_to_it(world: World) -> None:
    name = unique("food")
    hold(world, name, "-r 0 -b 3s:3s -f signal", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    result = world.run("--verbose")
    assert result.code == 0 and "starts it anew" in result.out, result
    until(lambda: world.pids(name))
    assert world.starts(name) == 1 and len(world.pids(name)) == 1


def test_a_keeper_is_watched_and_brought_back(world: World) -> None:
    """As in start.d/shared: the keeper is what is watched, the daemon is its affair."""
    name = unique("lone")
    keeper = (
        f"{world.program.parent}/viagralib/commands/viagra-lease --ttl 2s {name} --"
    )
    world.hook(
        name,
        f"echo started >> {world.place}/{name}.starts\n"
        f"exec {keeper} {world.daemon(name)} 1000",
    )
    world.facts(name, f"process = 'viagra-lease'\ncommand = ' {name} -- '\n")
    assert world.run().code == 0
    until(lambda: world.pids(name))
    assert world.run().out == ""
    (daemon,) = world.pids(name)
    words = world.run("status", "--json").out
    keeper_pid = json.loads(words)["daemons"][name]["pids"][0]
    os.kill(keeper_pid, signal.SIGKILL)
    until(lambda: not alive(daemon))
    result = world.run()
    assert result.code == 0 and f"Restarting {name}" in result.out, result
    until(lambda: world.pids(name))
    assert world.starts(name) == 2 and len(world.pids(name)) == 1
    assert world.run("restart", name).code == 0
    until(lambda: world.pids(name))
    assert world.starts(name) == 3 and len(world.pids(name)) == 1
