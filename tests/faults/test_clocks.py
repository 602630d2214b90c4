"""Clocks that are set: the wall clock by a day, the boot clock by a leap.

The real wall clock is all the machine's, so a library, loaded before the C library,
tells our process another time of day. By how much, it reads at each question from a
file, which a test changes between runs and within one. Not faked: the monotonic clock,
which in the real world is not set either, and what the kernel writes itself, such as
the times of files: a file that a run left "tomorrow" is given that time by the test.
(Debian's libfaketime will not do: with a monotonic clock left alone, it breaks sleep.)
The boot clock is really another one: that of a time namespace.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from fault_world import Watched, assert_kept, assert_quiet, quick
from other_users import run_as
from world import Result, World, absent, environment, need, need_root, unique, until

from viagralib.processes import table

DAY = 86400
QUICK = '[defaults]\npatience = "0.1s"\n[evidence]\ncommands = []\n'


LIBRARY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    char text[32] = "";
    int file, failed = syscall(SYS_clock_gettime, clock, now);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    if ((file = open(getenv("CLOCK_IS_SET_BY"), O_RDONLY | O_CLOEXEC)) >= 0) {
        if (read(file, text, sizeof text - 1) > 0)
            now->tv_sec += atol(text);
        close(file);
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now)
        *now = time.tv_sec;
    return time.tv_sec;
}
"""


class Clock:
    """The time of day as our runs are told it."""

    def __init__(self, world: World) -> None:
        source, library = world.place / "clock.c", world.place / "clock.so"
        source.write_text(LIBRARY)
        build = [need("cc"), "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(build, check=True)
        self.world = world
        self.prefix: list[str] = []  # what runs it
        self.file = world.place / "clock"
        self.environment = {
            **environment(),
            "LD_PRELOAD": str(library),
            "CLOCK_IS_SET_BY": str(self.file),
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set the clock forward, or back below 0, against the real one."""
        self.file.write_text(self.text(seconds))

    @staticmethod
    def text(seconds: int) -> str:
        """Return what the file of a clock set by so many seconds holds."""
        return f"{seconds}\n"

    def run(self, *arguments: str) -> Result:
        """Run the program by this clock."""
        done = subprocess.run(
            [*self.prefix, *self.world.command(*arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=180,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def clock(world: World) -> Clock:
    """Give a clock that can be set, and see that it can be."""
    world.settings(QUICK)
    clock = Clock(world)
    command = [world.command()[0], "-I", "-c"]
    tell = "import time; print(time.time(), time.monotonic(), time.clock_gettime(7))"
    for seconds in (DAY, 0, -DAY):
        clock.set(seconds)
        done = subprocess.run(
            [*command, tell], env=clock.environment, capture_output=True, check=True
        )
        wall, monotonic, boot = map(float, done.stdout.split())
        assert abs(wall - time.time() - seconds) < 20
        assert abs(monotonic - time.monotonic()) < 20
        assert abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME)) < 20
    clock.set(0)
    return clock


BOTH_WAYS = pytest.mark.parametrize("seconds", quick(-DAY, of=[DAY, -DAY]))


@BOTH_WAYS
def test_a_clock_set_between_runs(world: World, clock: Clock, seconds: int) -> None:
    daemon = Watched(world)
    for lives, by in ((1, 0), (2, seconds), (3, seconds), (4, 0)):
        clock.set(by)
        first = clock.run()  # it finds the clock set, and the daemon as it was left
        assert (first.code, first.err) == (0, ""), first
        if lives > 1:
            assert first.out == "" and daemon.lives() == lives - 1, first
            daemon.kill()
            result = clock.run()
            assert (result.code, result.err) == (0, ""), result
            assert result.out.startswith(f"Restarting {daemon.name}\n")
            took = re.findall(r"up, pid \d+, after ([\d.]+) s$", result.out, re.M)
            assert 0 <= float(took[0]) < 30
        daemon.assert_back(lives)
        # A file that is written by a clock that was set has that clock's time.
        stamp = time.time() + by
        os.utime(world.state / "last-run", (stamp, stamp))
    assert len(assert_kept(world.state)) == 4
    assert len(clock.run("history").out.splitlines()) == 4
    assert_quiet(world.run(), world.run(), world.state)


@BOTH_WAYS
@pytest.mark.parametrize(
    "when", quick("in the hook", of=["in the evidence", "in the hook"])
)
def test_a_clock_set_within_a_run(
    world: World, clock: Clock, seconds: int, when: str
) -> None:
    set_it = f"printf '{Clock.text(seconds)}' >{clock.file}"
    daemon = Watched(world, before=set_it if when == "in the hook" else "")
    if when == "in the evidence":
        tool = world.bin / "tool"
        world.write(tool, f"#!/bin/sh\n{set_it}\nsleep 0.2\n", 0o755)
        world.settings(QUICK.replace("[]", f'["{tool}"]'))
    began = time.monotonic()
    result = clock.run()
    assert time.monotonic() - began < 30
    assert (result.code, result.err) == (0, ""), result
    assert " missing " not in result.out
    daemon.assert_back(1)
    [incident] = assert_kept(world.state)
    assert 0 <= float(str(world.record(incident)["seconds"])) < 30
    assert_quiet(clock.run(), clock.run(), world.state)
    assert_quiet(world.run(), world.run(), world.state)
    daemon.assert_back(1)


@BOTH_WAYS
def test_what_finished_stays_so(world: World, clock: Clock, seconds: int) -> None:
    name = unique("calc")
    runner = world.program.parent / "viagralib" / "companions" / "viagra-run"
    world.hook(
        name,
        f"echo life >>{world.place}/lives\n"
        f"exec {runner} -n {name} -- {world.calculation(name)}",
    )
    assert clock.run().code == 0
    (world.place / "done").touch()
    record = world.state / "deaths" / name
    until(lambda: '"finished": true' in record.read_text())
    for by in (0, seconds, 0):
        clock.set(by)
        result = clock.run()
        assert result.code == 0 and result.out == "" or by == 0, result
    assert (world.place / "lives").read_text() == "life\n"


@pytest.mark.long
def test_a_clock_set_back_costs_no_new_incident(world: World, clock: Clock) -> None:
    world.settings(QUICK + "keep = 1\n")
    daemon = Watched(world)
    clock.set(DAY)
    assert clock.run().code == 0
    daemon.kill()
    clock.set(0)  # the incident of before is of tomorrow now
    result = clock.run()
    assert result.code == 0
    [told] = re.findall(r"^  evidence  (.*)$", result.out, re.MULTILINE)
    assert Path(told).is_dir()
    assert_kept(world.state)


@pytest.mark.long
@BOTH_WAYS
def test_what_was_said_is_said_once_more_at_most(
    world: World, clock: Clock, seconds: int
) -> None:
    daemon = Watched(world, 'recovery = "report"')
    said = []
    for by in (0, 0, seconds, seconds, 0, 0):
        clock.set(by)
        result = clock.run()
        assert result.code == 1
        said.append(result.out.count(f"{daemon.name} is down: "))
    assert said[0] == 1 and said[1] == said[3] == said[5] == 0
    assert sum(said) <= 3


@pytest.mark.long
@pytest.mark.parametrize("asleep", [False, True])
def test_a_clock_set_forward_or_a_sleep_makes_no_daemon_sick(
    world: World, clock: Clock, leaps: None, asleep: bool
) -> None:
    """Its last heartbeat is of before: by a clock that is no more, or of long ago."""
    beat = world.place / "beat"
    beat.touch()
    facts = f'start_timeout = "2s"\nheartbeat = {{ file = "{beat}", every = "2s" }}\n'
    daemon = Watched(world, facts)
    daemon.start()
    assert clock.run().out == ""
    time.sleep(3.2)  # from now on a heartbeat is wanted: 1.5 x every
    beat.touch()
    assert clock.run().out == ""
    clock.set(DAY)
    clock.prefix = leap(DAY) if asleep else []
    for _ in range(2):
        result = clock.run()
        assert (result.code, result.out) == (0, ""), result
    daemon.assert_back(1)
    time.sleep(3.2)  # it has had its time by the new clock, and is silent
    result = clock.run()
    assert result.out.startswith(f"Restarting {daemon.name}\n"), result
    assert "silent for" in result.out
    daemon.assert_back(2)


# The boot clock


def leap(seconds: int) -> list[str]:
    """Return what runs a command by a boot clock set by so many seconds."""
    # Offsets count from the machine's clock; a container's may have one already.
    file = Path("/proc/self/timens_offsets")
    own = re.search(r"boottime +(-?\d+)", file.read_text()) if file.exists() else None
    offset = seconds + int(own[1] if own else 0)
    return ["unshare", "--time", f"--boottime={offset}", "--fork", "--"]


@pytest.fixture
def leaps() -> None:
    """Skip the test where there are no time namespaces."""
    need_root()
    need("unshare")
    if run_as([*leap(DAY), "true"]).code != 0:
        absent("needs time namespaces")


@pytest.mark.long
def test_a_leap_of_the_boot_clock(world: World, leaps: None) -> None:
    world.settings(QUICK)
    daemon = Watched(world)
    for lives, by in ((1, 0), (2, DAY), (3, 0), (4, 7 * DAY)):
        result = run_as([*leap(by), *world.command()])
        assert (result.code, result.err) == (0, ""), result
        assert result.out.startswith(f"Restarting {daemon.name}\n"), result
        daemon.assert_back(lives)
        for other in (by, 0, DAY):
            quiet = run_as([*leap(other), *world.command()])
            assert (quiet.code, quiet.out, quiet.err) == (0, "", ""), quiet
        daemon.kill()
    assert world.run("check").code == 1
    assert len(assert_kept(world.state)) == 4


def test_a_boot_clock_set_back_to_the_boot(world: World, leaps: None) -> None:
    """As after a boot, nothing is started; nothing is lost either."""
    world.settings(f'{QUICK}[run]\nboot = "2m"\n')
    daemon = Watched(world)
    back = 30 - int(time.clock_gettime(time.CLOCK_BOOTTIME))
    first = table.find(1)
    if back > -120 or (first and first.age() < 180):
        absent("needs a machine that has been up for three minutes")
    result = run_as([*leap(back), *world.command("--verbose")])
    assert (result.code, result.err) == (0, ""), result
    assert "not now: the machine booted " in result.out
    assert daemon.lives() == 0
    assert world.run().code == 0
    daemon.assert_back(1)
    assert_quiet(world.run(), world.run(), world.state)
    assert_kept(world.state)
