"""The watchdog and viagra-run: how a daemon died, that it finished, who restarts it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from world import SLEEP, World, alive, comm, environment, unique, until


def hold(world: World, name: str, options: str, command: str) -> None:
    """Put in a hook that has viagra-run hold a command, in the foreground."""
    world.hook(
        name,
        f"echo started >> {world.place}/{name}.starts\n"
        f"exec {world.program.parent}/viagralib/companions/viagra-run "
        f"-n {name} {options} -- {command}",
    )


def kill_first_life(world: World, name: str) -> None:
    """Kill the daemon, and wait until viagra-run has started it anew."""
    first = world.pids(name)[0]
    os.kill(first, signal.SIGKILL)
    until(lambda: world.pids(name) not in ([], [first]))


def assert_told_once(world: World, name: str) -> None:
    """A kill that a daemon answers by exit 0 is no calculation's end: it is said."""
    told = world.run()
    assert told.code == 0 and told.err == "", told
    assert told.out.startswith(f"{name} is finished: it ended with exit 0 at "), told
    assert told.out.endswith(f"; to start it: viagra.py restart {name}\n"), told
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, ""), quiet


def test_what_finished_too_soon_is_not_said_to_be_tried_again(world: World) -> None:
    name = unique("calc")
    hold(world, name, "-r 3 -f core,signal", f"{world.daemon(name)} 0")
    world.facts(name, 'start_timeout = "3s"\n')
    told = world.run("restart", name).out
    until(lambda: '"finished": true' in (world.state / "deaths" / name).read_text())
    assert f"  next      left so; to start it: viagra.py restart {name}\n" in told
    assert_told_once(world, name)


def test_what_finished_by_itself_is_left_down(world: World) -> None:
    name = unique("calc")
    done = calculate(world, name, "-r 3 -f core,signal")
    assert world.starts(name) == 1
    assert "finished" in world.run("status").out
    done.unlink()
    assert world.run("restart", name).code == 0
    assert world.starts(name) == 2


def test_the_cause_is_exact(world: World) -> None:
    name = unique("food")
    hold(world, name, "-f hwerr", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    until(lambda: '"signal": 9' in (world.state / "deaths" / name).read_text())
    # A minute ago; and since then somebody has looked at another one alone.
    now, death = time.time(), record(world, name)["death"]
    record(world, name, started=now - 90, death={**death, "at": now - 60})
    os.utime(world.state / "last-run", (now - 70, now - 70))
    other = unique("other")
    world.watch(other)
    assert world.run(other).code == 0
    result = world.run()
    assert "  cause     viagra-run: signal 9 (SIGKILL), after " in result.out, result


def record(world: World, name: str, **changes: object) -> dict[str, Any]:
    """Return what viagra-run recorded, after changing it."""
    path = world.state / "deaths" / name
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(found))
    return found


def test_the_cause_tells_signal_core_and_how_long_it_had_lived(world: World) -> None:
    name = unique("food")
    hold(world, name, "-f core", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    until(lambda: '"signal": 9' in (world.state / "deaths" / name).read_text())
    death = {"at": time.time(), "signal": 11, "exit": None, "core": True}
    record(world, name, death={**death, "ran": (3 * 24 + 4) * 3600 + 100})
    result = world.run()
    wanted = "cause     viagra-run: signal 11 (SIGSEGV), core, after 3 d 4 h\n"
    assert wanted in result.out, result


def test_an_earlier_death_is_not_the_cause(world: World) -> None:
    """The life that followed was lost with viagra-run: nobody saw how it ended."""
    name = unique("food")
    hold(world, name, "-o noorphan -r 0 -f signal", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    kill_first_life(world, name)
    until(lambda: '"instance": 1' in (world.state / "deaths" / name).read_text())
    runner = dict(record(world, name)["runner"])
    world.kill(runner["pid"])
    until(lambda: not world.pids(name))
    result = world.run()
    wanted = f"cause     viagra-run itself was killed (pid {runner['pid']})\n"
    assert wanted in result.out, result


def calculate(
    world: World, name: str, options: str = "-r 3", told: bool = True
) -> Path:
    """Have a daemon start, and finish. Return what, once removed, makes its next life
    longer."""
    hold(world, name, options, world.calculation(name))
    assert world.run().code == 0
    done = world.place / "done"
    done.touch()
    until(lambda: '"finished": true' in (world.state / "deaths" / name).read_text())
    if told:
        assert_told_once(world, name)
    return done


def test_what_finished_in_an_earlier_life_of_the_machine_is_started(
    world: World,
) -> None:
    name = unique("calc")
    calculate(world, name).unlink()
    record(world, name, boot="an earlier one")
    assert world.run().code == 0
    assert world.starts(name) == 2


def test_what_finished_and_was_started_by_hand_is_brought_back(world: World) -> None:
    name = unique("calc")
    calculate(world, name).unlink()
    environment = {
        "PATH": f"{world.program.parent}/viagralib/companions:{os.environ['PATH']}",
        "VIAGRA_STATE": str(world.state),
    }
    world.spawn([str(world.home / "start.d" / name)], env=environment)
    until(lambda: world.pids(name))
    assert world.run().out.startswith(f"{name} is up again, finished since ")
    world.kill(world.pids(name)[0])
    until(lambda: '"finished": false' in (world.state / "deaths" / name).read_text())
    assert world.run().code == 0
    assert world.starts(name) == 3


@pytest.mark.parametrize("told", [True, False])
def test_what_finished_and_was_started_without_viagra_run_is_watched_again(
    world: World, told: bool
) -> None:
    """Whether or not a run had told that it finished."""
    name = unique("calc")
    calculate(world, name, told=told).unlink()
    child = world.spawn(["/bin/sh", "-c", f"exec {world.calculation(name)}"])
    until(lambda: comm(child.pid) == name)
    if not told:  # what runs has not finished, well or not
        facts = world.facts(name, 'start_timeout = "10ms"\n')
        child.send_signal(signal.SIGSTOP)
        until(lambda: " is sick: " in (look := world.run("check")).out and look.code)
        child.send_signal(signal.SIGCONT)
        facts.unlink()
        until(lambda: world.run("check").code == 0)
    again = f"{name} is up again, finished since "
    assert world.run().out.startswith(again if told else "")
    world.kill(child.pid)
    assert world.run().code == 0 and world.starts(name) == 2


def test_a_hook_waits_for_a_daemon_of_its_own_home(world: World) -> None:
    """Its facts are found though the home is one that only --dir tells of."""
    other, name = unique("base"), unique("food")
    world.daemon(other)
    world.watch(other, f'command = " {world.place}/it$"\n')
    world.hook(other, f"{world.daemon(other)} 1000 {world.place}/it &")
    wait = f"{world.program.parent}/viagralib/companions/viagra-wait"
    world.hook(
        name,
        f"{wait} --timeout 100ms process:{other} || exit 1\n"
        f"{world.daemon(name)} 1000 &",
    )
    world.up(other)  # of that name, but not the daemon by its facts
    result = world.run(name)
    assert result.code == 1
    assert f"process:{other}: no process named" in result.out, result


def test_a_check_hook_that_waits(world: World) -> None:
    """The example of viagra-wait's manual page."""
    name = unique("food")
    beat = world.place / "beat"
    wait = f"{world.program.parent}/viagralib/companions/viagra-wait"
    world.hook(name, f"{wait} --timeout 0s path:{beat} || exit 2", kind="check.d")
    world.watch(name, 'start_timeout = "0.1s"\n')
    beat.touch()
    world.up(name)
    time.sleep(0.2)  # a younger one is never sick
    assert world.run("check").code == 0
    beat.unlink()
    result = world.run("check")
    assert result.code == 1
    wanted = rf"{name} is sick: .*viagra-wait: path:{beat}: No such"
    assert re.search(wanted, result.out), result


@pytest.mark.parametrize("held", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_hook_that_is_its_daemon_is_stopped_when_it_stays_sick(
    world: World, held: bool
) -> None:
    name = unique("sick")
    starts = world.place / f"{name}.starts"
    world.hook(name, f"echo started >>{starts}\nexec {world.daemon(name)} {SLEEP}")
    if held:
        hold(world, name, "", f"{world.daemon(name)} {SLEEP}")
    world.facts(name, 'start_timeout = "0.5s"\n')
    world.hook(name, f"[ $(wc -l <{starts}) -gt 1 ] || exit 2", kind="check.d")
    assert world.run().code == 1
    told = until(lambda: one if (one := world.run()).out else None)  # once it is of age
    assert told.out.startswith(f"Restarting {name}\n"), told


def test_a_restart_goes_through_viagra_run(world: World) -> None:
    """It would start anew what dies of a signal, and there would be two."""
    name = unique("food")
    hold(world, name, "-r 0 -f core,signal", f"{world.daemon(name)} 1000")
    assert world.run().code == 0
    kill_first_life(world, name)
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


def test_a_viagra_run_that_starts_nothing_anew_is_told(world: World) -> None:
    """Its command has another name than the daemon, or it is stopped."""
    name, other = unique("food"), unique("other")
    world.hook(name, "exit 1")
    world.facts(name, 'start_timeout = "10ms"\n')
    world.state.mkdir(mode=0o700)
    path = f"{world.program.parent}/viagralib/companions/viagra-run"
    command = [path, "-n", name, "--", str(world.daemon(other)), "1000"]
    runner = world.spawn(
        command, env=environment() | {"VIAGRA_STATE": str(world.state)}
    )
    [pid] = until(lambda: world.pids(other))
    until(lambda: world.run("check").code)  # it is old enough for that
    told = world.run()
    runs = f'viagra-run (pid {runner.pid}) runs pid {pid}, named "{other}", and starts '
    assert told.code == 1 and f"{name} is unknown: {runs}none: " in told.out, told
    quiet = world.run()
    assert (quiet.code, quiet.out) == (1, ""), quiet
    assert world.run(name).out == told.out  # by hand, each time
    runner.send_signal(signal.SIGSTOP)
    world.kill(pid)
    told = world.run()
    assert told.code == 1 and f": kill -CONT {runner.pid}\n" in told.out, told
    runner.send_signal(signal.SIGCONT)
    until(lambda: not alive(runner.pid))


def test_a_keeper_is_watched_and_brought_back(world: World) -> None:
    """As in start.d/shared: the keeper is what is watched, the daemon is its affair."""
    name = unique("lone")
    keeper = (
        f"{world.program.parent}/viagralib/companions/viagra-lease --ttl 2s {name} --"
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
    words = world.run("status", "--json").out
    keeper_pid = json.loads(words)["daemons"][name]["pids"][0]
    os.kill(keeper_pid, signal.SIGKILL)
    until(lambda: world.run("check").code == 1)  # its other half ends by itself
    result = world.run()
    assert result.code == 0 and f"Restarting {name}" in result.out, result
    until(lambda: world.pids(name))
    assert world.starts(name) == 2 and len(world.pids(name)) == 1
    assert world.run("restart", name).code == 0
    until(lambda: world.pids(name))
    assert world.starts(name) == 3 and len(world.pids(name)) == 1
