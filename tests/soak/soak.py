"""make soak: daemons die at random, and much else goes wrong; a run each second."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time

# Under -I, Python leaves our own directory out of its search path.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import testbed
from figures import figures, publish
from final_checks import QUIET_RUNS, Reckoning
from incident_checks import Inspection
from runs import Run, Runs
from soak_daemons import DEATHS, Fleet
from soak_faults import Moods, Plan

TICK = 0.02
SISTERS = 0.2  # the share of runs that are two, started at the same moment
KILLED = 0.15  # the share of runs that are killed, and how late that may be, in seconds
LATEST_KILL = 2.5
MOODY = 0.25  # the chance in each second that a hook turns bad
CALM_DOWN = 180.0  # seconds until all must be up, with no more trouble


def main() -> int:
    """Soak, print the figures, and return 1 when something does not hold."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + 15))  # else 1 ignores it
    options = parse()
    names = [f"food{number:02}" for number in range(1, options.daemons + 1)]
    testbed.build(names, options.bystanders)
    soak = Soak(names, options)
    soak.get_up()
    soak.rage()
    soak.get_up()
    soak.end_well()
    lines = soak.reckoning.lines()
    text = figures(soak, lines, options)
    print(text)
    for line in lines:
        for case in [] if line.holds else line.cases[:5]:
            print(f"{line.text}: {case}", file=sys.stderr)
    if options.publish:
        publish(text)
    return int(not all(line.holds for line in lines))


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="tests/soak/run", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--daemons", type=int, default=40)
    parser.add_argument("--bystanders", type=int, default=2000)
    parser.add_argument("--life", type=float, default=30.0, help="of a daemon, mean")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--publish", action="store_true", help="write docs/ as well")
    return parser.parse_args()


class Soak:
    """What goes on from second to second. We are process 1: all orphans are ours."""

    def __init__(self, names: list[str], options: argparse.Namespace) -> None:
        chance = random.Random(options.seed)
        self.seconds = options.seconds
        self.life = options.life  # seconds, in the mean
        self.fleet = Fleet(names)
        self.runs = Runs()
        self.plan = Plan(options.seconds, chance)
        self.moods = Moods()
        self.inspection = Inspection(self.runs, self.plan)
        self.reckoning = Reckoning(self.fleet, self.runs, self.inspection)
        self._chance = chance

    def rage(self) -> None:
        """Let everything go wrong for as long as it was asked for."""
        began, second = time.monotonic(), 0
        while (moment := time.monotonic() - began) < self.seconds:
            if moment >= second:
                second = int(moment) + 1
                self._one_bad_second(second)
            self.plan.go_on(moment)
            self._tick()
        self.plan.go_on(float("inf"))
        self.moods.mend()

    def get_up(self) -> None:
        """Run once a second until all daemons are up, and no run is at work.

        What is not up in time stays so: it is a death without an answer.
        """
        deadline = time.monotonic() + CALM_DOWN
        while not self.fleet.is_up() and time.monotonic() < deadline:
            self.runs.start()
            self._wait(1.0)
        while not self.runs.are_over():
            self._tick()

    def end_well(self) -> None:
        """One more death, with nothing else wrong; then runs with nothing to do."""
        self.fleet.kill(self.fleet.names[0], DEATHS[0])
        self.get_up()
        until = time.monotonic() + testbed.HANGING  # of hooks whose run was killed
        while self.reckoning.strange_processes() and time.monotonic() < until:
            self._wait(0.5)
        for _ in range(1 + QUIET_RUNS):  # the first may have something to close
            self._wait_for(self.runs.start())
        self.inspection.look(is_last=True)

    def _one_bad_second(self, second: int) -> None:
        chance = self._chance
        for name in self.fleet.names:
            dies, how = chance.random() < 1 / self.life, chance.choice(DEATHS)
            if dies:
                self.fleet.kill(name, how)
        if chance.random() < MOODY:
            mood = chance.choice(("fails", "hangs"))
            self.moods.set(chance.choice(self.fleet.names), mood)
        for _ in range(2 if chance.random() < SISTERS else 1):
            lives_for = chance.uniform(0.02, LATEST_KILL)
            self.runs.start(lives_for if chance.random() < KILLED else None)
        if second % 5 == 0:
            self.inspection.look()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tick()

    def _wait_for(self, run: Run) -> None:
        while not run.ended:
            self._tick()

    def _tick(self) -> None:
        time.sleep(TICK)
        self.fleet.read()
        self.runs.kill_due()
        self.moods.go_on()
        self._bury()

    def _bury(self) -> None:
        """Take note of every process that has ended and was left to us."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.runs.bury(pid, status)
            self.fleet.bury(pid)


if __name__ == "__main__":
    sys.exit(main())
