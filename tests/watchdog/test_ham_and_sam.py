"""What the originals' manuals and test programs say must happen, case by case.

HAM: the compound restarts of QNX's High Availability Manager. SAM: the health checks
of corosync's Simple Availability Manager. Times are scaled down. The article's own
cases are in test_run.py, those of ctrun(1) in test_viagra_run.py.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from unhealthy import FACTS, NOBODY, of_age, start, told, watch_unhealthy
from world import SLEEP, World, alive, unique, until

WAIT = 0.3  # seconds; HAM's example waits two


def compound(world: World, name: str, facts: str = "", **steps: str) -> None:
    """Write a hook of steps, s10, s20, ...; each notes its name and the time."""
    world.facts(name, f'start_timeout = "20s"\n{facts}')
    for number, (step, text) in enumerate(steps.items(), 1):
        file = f"{number}0-{step.replace('__', '.')}"
        note = f'echo "$VIAGRA_STEP $(date +%s.%N)" >>{world.place}/{name}.steps\n'
        world.hook(f"{name}/{file}", note + text)


def begin(world: World, name: str) -> str:
    """Return the step that starts the daemon and leaves it."""
    return f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &"


def steps(world: World, name: str) -> list[tuple[str, float]]:
    """Return which steps have run, each with its time in seconds."""
    lines = (world.place / f"{name}.steps").read_text().splitlines()
    return [(line.split()[0], float(line.split()[1])) for line in lines]


def names(world: World, name: str) -> list[str]:
    return [step for step, _ in steps(world, name)]


# HAM


def test_nfs_start_wait_mount_wait_mount_and_all_of_it_again(world: World) -> None:
    name, pause = unique("nfs"), f"sleep {WAIT}"
    mount = f"echo $VIAGRA_STEP >>{world.place}/mounted"
    start_it = begin(world, name)
    compound(
        world, name, start=start_it, wait=pause, mount_a=mount, wait2=pause, b=mount
    )
    for life in (1, 2):
        result = world.run()
        assert result.code == 0 and result.out.startswith(f"Restarting {name}\n")
        told_of = steps(world, name)
        assert [step for step, _ in told_of] == [
            "10-start",
            "20-wait",
            "30-mount_a",
            "40-wait2",
            "50-b",
        ] * life
        times = [moment for _, moment in told_of[-5:]]
        assert times[2] - times[1] >= WAIT and times[4] - times[3] >= WAIT
        world.kill(world.pids(name)[0])
    assert (world.place / "mounted").read_text().split() == ["30-mount_a", "50-b"] * 2


def test_a_wait_goes_on_when_its_path_appears(world: World) -> None:
    name, path = unique("wait"), world.place / "path"
    later = f"(sleep {WAIT}; touch {path}) >/dev/null 2>&1 &"
    wait = f"exec viagra-wait --timeout 20s path:{path}"
    compound(world, name, later=later, wait=wait, start=begin(world, name))
    assert world.run().code == 0
    (_, began), _, (_, went_on) = steps(world, name)
    assert WAIT <= went_on - began < 20


def test_a_wait_for_what_never_appears_fails_when_its_time_is_over(
    world: World,
) -> None:
    name = unique("wait")
    wait = f"exec viagra-wait --timeout {WAIT}s path:{world.place}/never"
    compound(world, name, wait=wait, start=begin(world, name))
    began = time.monotonic()
    result = world.run()
    assert time.monotonic() - began >= WAIT
    assert result.code == 1 and "10-wait: exit 1 after 0." in result.out, result
    assert names(world, name) == ["10-wait"] and world.pids(name) == []


@pytest.mark.parametrize(
    ("second", "ran"),
    [
        ("two", ["10-one", "20-two"]),
        ("two__mayfail", ["10-one", "20-two.mayfail", "30-three"]),
    ],
)
def test_step_2_of_3_fails(world: World, second: str, ran: list[str]) -> None:
    name = unique("three")
    texts = {"one": ":", second: "exit 1", "three": begin(world, name)}
    compound(world, name, **texts)
    assert world.run().code == (0 if len(ran) == 3 else 1)
    assert names(world, name) == ran


def test_clean_up_is_a_step_and_runs_first(world: World) -> None:
    name, lock = unique("clean"), world.place / "lock"
    lock.touch()  # what its last life left: with it, it does not start
    compound(
        world,
        name,
        clean__mayfail=f"rm {lock}",
        start=f"[ ! -e {lock} ] && {begin(world, name)}",
    )
    assert world.run().code == 0
    assert names(world, name) == ["10-clean.mayfail", "20-start"]


def test_death_of_io_pkt_resets_inetd_once_the_network_is_set_up(
    world: World,
) -> None:
    io_pkt, inetd = unique("io-pkt"), unique("inetd")
    compound(
        world,
        io_pkt,
        f'resets = ["{inetd}"]',
        start=begin(world, io_pkt),
        network=f"touch {world.place}/network",
    )
    note = f"echo $VIAGRA_REASON $(ls {world.place}) >>{world.place}/{inetd}.reset\n"
    world.hook(inetd, note + begin(world, inetd))
    old = world.up(inetd)
    result = world.run()
    assert result.code == 0 and f"  resets    {inetd}\n" in result.out
    assert old.wait(10) == -signal.SIGTERM  # its connections died with io-pkt
    assert names(world, io_pkt) == ["10-start", "20-network"]
    [noted] = (world.place / f"{inetd}.reset").read_text().splitlines()
    assert noted.startswith("reset ") and "network" in noted.split()
    assert len(world.pids(inetd)) == len(world.pids(io_pkt)) == 1
    assert world.run().out == ""


# SAM


def heartbeat(beat: object, every: float) -> str:
    return f'heartbeat = {{ file = "{beat}", every = "{every}s" }}\n'


def test_ten_beats_then_silence(world: World) -> None:
    """Warned by TERM, started anew, and VIAGRA_INSTANCE is one higher."""
    name, beat = unique("beat"), world.place / "beat"
    watch_unhealthy(world, name, "ten", beat, "")
    world.facts(name, f'start_timeout = "8s"\n{heartbeat(beat, 2)}')
    assert world.run().code == 0
    [pid] = pids_of(world, name)
    until(lambda: Path(f"{beat}.count").read_text() == "10")
    time.sleep(8)
    until(lambda: "silent for" in world.run("check").out)
    assert alive(pid)  # whoever only looks touches nothing
    result = world.run()
    assert result.code == 0 and result.out.startswith(f"Restarting {name}\n"), result
    assert f"heartbeat {beat}: silent for " in result.out
    assert f"(pid {pid})" in result.out and not alive(pid)
    assert told(world, name) == ["down 1", "sick 2"]
    assert Path(f"{beat}.terms").read_text() == "TERM\n"


def pids_of(world: World, name: str) -> list[int]:
    """Return the processes that the watchdog counts."""
    words = world.run("status", name).out.splitlines()[1].split()
    return [int(pid) for pid in words[3].split(",")]


def test_paused_silence_is_no_failure_and_resumed_it_is_again(world: World) -> None:
    name, beat = unique("pause"), world.place / "beat"
    watch_unhealthy(world, name, "deaf", world.place / "log", heartbeat(beat, 0.001))
    child = start(world, name, "deaf", world.place / "log")
    assert world.run("pause", name).code == 0
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, "") and child.poll() is None
    assert world.run("resume", name).code == 0
    assert "is sick: heartbeat" in world.run("check").out


def test_one_that_swallows_term_gets_it_once_then_kill(world: World) -> None:
    name, terms, interval = unique("deaf"), world.place / "terms", 0.7
    facts = f'stop_timeout = "{interval}s"\n{NOBODY}'
    watch_unhealthy(world, name, "deaf", terms, "")
    child = start(world, name, "deaf", terms)
    world.facts(name, of_age() + facts)
    run = world.spawn(world.command())
    until(terms.exists)
    warned = terms.stat().st_mtime
    assert child.wait(20) == -signal.SIGKILL
    assert time.time() - warned >= interval
    assert terms.read_text() == "TERM\n"
    # What was started anew does not listen either: it is up, but not back.
    assert run.wait(30) == 1 and told(world, name) == ["sick 1"]
    notice = world.incidents(name)[0].joinpath("notice.txt").read_text()
    assert "not brought back" in notice, notice


def test_warn_signal_kill_means_no_warning(world: World) -> None:
    name, terms = unique("kill"), world.place / "terms"
    watch_unhealthy(world, name, "deaf", terms, f'warn_signal = "KILL"\n{NOBODY}')
    child = start(world, name, "deaf", terms)
    world.run()
    assert child.wait(5) == -signal.SIGKILL
    assert not terms.exists()


def test_recovery_quit_stops_it_when_sick_and_does_not_start_it(world: World) -> None:
    name, beat = unique("quit"), world.place / "beat"
    watch_unhealthy(world, name, "beat", beat, f'recovery = "quit"\n{NOBODY}')
    child = start(world, name, "beat", beat)
    result = world.run()
    assert child.wait(5) == -signal.SIGTERM
    assert result.code == 0 and "stopped, and left so" in result.out, result
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, "") and told(world, name) == []
    assert "quit" in world.run("status", name).out
    # Started by hand it is watched again, as whoever did that is told.
    world.facts(name, "")
    again = start(world, name, "beat", beat)
    assert world.run().out.startswith(f"{name} is up again, quit since ")
    world.kill(again.pid)
    assert world.run().code == 0
    assert told(world, name) == ["down 1"]


@pytest.mark.parametrize(("periods", "word"), [(1.4, "up"), (1.6, "sick")])
def test_a_heartbeat_aged_14_and_16_tenths_of_its_period(
    world: World, periods: float, word: str
) -> None:
    name, beat, every = unique("late"), world.place / "beat", 2.0
    watch_unhealthy(world, name, "aged", beat, heartbeat(beat, every))
    began = time.monotonic()
    start(world, name, "aged", beat, str(periods * every))  # which it stays
    until(lambda: time.monotonic() - began > 1.8 * every)
    until(lambda: f"{name} is {word}" in world.run("check", "--verbose").out)


def test_silence_is_none_before_the_process_has_lived_as_long(world: World) -> None:
    name, beat = unique("young"), world.place / "beat"
    watch_unhealthy(world, name, "deaf", world.place / "log", heartbeat(beat, 1000))
    start(world, name, "deaf", world.place / "log")
    assert world.run("check").code == 0  # although there is no beat at all
    world.facts(name, FACTS + heartbeat(beat, 0.001))
    assert f"heartbeat {beat}: there is none" in world.run("check").out
