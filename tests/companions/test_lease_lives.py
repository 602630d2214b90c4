"""The promise of docs/lease.md, seen from outside, whatever goes wrong at random.

A second harness beside test_lease_cluster.py, written from that page alone: its own
machines, network, faults and observer, so that the two do not share their mistakes.
VIAGRA_LIVES is how many schedules (default 5), VIAGRA_LIVES_SEED the first one's seed,
VIAGRA_LIVES_REPORT a file for the figures.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkout import HELPERS
from lives_machines import (
    NODES,
    PYTHON,
    RESOURCES,
    Machine,
    Machines,
    machines,
    send,
)
from world import absent, is_first_pid_namespace, until

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("lives")]

TTL = 4.0  # seconds
ELECTION = 1.0  # etcd's default
FAULTS_FOR = 12.0  # seconds
LATE = TTL / 10  # by which a process may be late, as docs/lease.md assumes
SCHEDULES = int(os.environ.get("VIAGRA_LIVES", "5"))
FIRST_SEED = int(os.environ.get("VIAGRA_LIVES_SEED", "1"))


@dataclass
class Life:
    """One life of a command; times of CLOCK_MONOTONIC, in seconds."""

    node: str
    resource: str
    token: int | None
    start: float
    end: float = math.inf


@dataclass
class Seen:
    """What the observer has told, and when a process that slept was late."""

    lives: dict[int, Life] = field(default_factory=dict)
    late: list[tuple[float, float]] = field(default_factory=list)  # when, how long

    def of(self, resource: str, since: float = 0) -> list[Life]:
        """Return the lives that had not ended before `since`, the oldest first."""
        lives = [one for one in self.lives.values() if one.resource == resource]
        return sorted((o for o in lives if o.end >= since), key=lambda one: one.start)

    def running(self, resource: str) -> list[Life]:
        return [one for one in self.of(resource) if one.end == math.inf]

    def lateness(self, since: float, until: float = math.inf) -> float:
        return max([late for at, late in self.late if since <= at <= until] or [0.0])


class Watch:
    """The observer at work."""

    def __init__(self, life: Path) -> None:
        argv = [PYTHON, "-I", str(HELPERS / "lives_observer.py"), str(life)]
        self._observer = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._observer.stdout
        os.set_blocking(self._observer.stdout.fileno(), False)
        self._text = b""
        self._is_ready = False
        self.seen = Seen()

    def look(self, seconds: float = 0.05) -> Seen:
        """Wait for a while, and return all that was seen so far."""
        assert self._observer.stdout
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._observer.stdout], [], [], left)
            if ready:
                self._text += self._observer.stdout.read() or b""
                *lines, self._text = self._text.split(b"\n")
                for line in lines:
                    self._note(**json.loads(line))
                assert self._observer.poll() is None
        self.seen.late.append((end, time.monotonic() - end))
        return self.seen

    def _note(self, what: str, at: int = 0, life: int = 0, **more: Any) -> None:  # noqa: ANN401
        if what == "start":
            self.seen.lives[life] = Life(start=at / 1e9, **more)
        elif what == "end":
            self.seen.lives[life].end = at / 1e9
        else:
            assert what == "ready", more
            self._is_ready = True

    def is_ready(self) -> bool:
        self.look()
        return self._is_ready

    def end(self) -> None:
        self._observer.kill()
        self._observer.communicate()


@contextlib.contextmanager
def watch(life: Path) -> Iterator[Watch]:
    """Give an observer that hears the kernel."""
    one = Watch(life)
    try:
        until(one.is_ready)
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Machines, Watch]]:
    if not is_first_pid_namespace():
        absent("needs the first pid namespace: the kernel's events are of that")
    place = tmp_path_factory.mktemp("lives") / "m"
    with watch(place / "life") as one, machines(place) as them:
        yield them, one


# What goes wrong


class Schedule:
    """Faults at random, some at the same time, from a seed."""

    def __init__(self, seed: int, them: Machines, look: Watch) -> None:
        self._random = random.Random(seed)
        self._them = them
        self._watch = look
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._touched: set[tuple[int, str]] = set()  # whose keeper had its fault
        self.told: list[str] = []
        self._began = 0.0

    def run(self) -> None:
        """Do all of it, and mend all of it."""
        self._began = time.monotonic()
        for _ in range(self._random.randint(4, 9)):
            kind = self._random.choice(KINDS)
            self._at(self._random.uniform(0, FAULTS_FOR), partial(kind, self))
        end = self._began + FAULTS_FOR
        while self._due or time.monotonic() < end:
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()
            self._them.attend()
            self._watch.look()
        for one in NODES:
            for other in NODES:
                self._them.cable(one, other)

    def _at(self, seconds: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self._began + seconds, self._count, what))

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        self._at(time.monotonic() - self._began + seconds, what)

    def _tell(self, *words: object) -> None:
        at = time.monotonic() - self._began
        self.told.append(f"{at:5.2f} {' '.join(map(str, words))}")

    def _long(self, most: float = 6.0) -> float:
        return round(self._random.uniform(0.3, most), 2)

    def _machine(self) -> Machine:
        return self._them.all[self._random.choice(NODES)]

    def _busy(self, resource: str) -> Machine:
        """Return a machine, that with the command more often than not."""
        for one in self._watch.seen.running(resource):
            if self._random.random() < 0.7:
                return self._them.all[int(one.node[-1])]
        return self._machine()

    # Keepers. Never two of these for one keeper: docs/lease.md leaves it out.

    def _keeper(self) -> tuple[Machine, str] | None:
        resource = self._random.choice(RESOURCES)
        machine = self._busy(resource)
        key = (machine.number, resource)
        if key in self._touched or not machine.keeper(resource):
            return None
        self._touched.add(key)
        return machine, resource

    def stop_one(self) -> None:
        """Stop a keeper or a guardian."""
        if found := self._keeper():
            machine, resource = found
            what = self._random.choice(("keeper", "guardian"))
            pid = getattr(machine, what)(resource)
            seconds = self._long(2 * TTL)
            self._tell("stop", what, resource, machine.number, seconds)
            send(pid, signal.SIGSTOP)
            self._in(seconds, lambda: self._continue(machine, what, resource, pid))

    def _continue(self, machine: Machine, what: str, resource: str, pid: int) -> None:
        if getattr(machine, what)(resource) == pid:
            send(pid, signal.SIGCONT)

    def kill_one(self) -> None:
        """Kill a keeper, a guardian, or both where the command forks nothing."""
        if found := self._keeper():
            machine, resource = found
            kinds = [["keeper"], ["guardian"]]
            if resource == "plain":
                kinds.append(["keeper", "guardian"])
            what = self._random.choice(kinds)
            self._tell("kill", what, resource, machine.number)
            for pid in [getattr(machine, one)(resource) for one in what]:
                send(pid, signal.SIGKILL)

    def kill_command(self) -> None:
        resource = self._random.choice(RESOURCES)
        machine = self._busy(resource)
        self._tell("kill command", resource, machine.number)
        send(machine.command(resource), signal.SIGKILL)

    def give_order(self) -> None:
        """Have the lease handed on, or forbid it for a while."""
        resource = self._random.choice(RESOURCES)
        machine = self._busy(resource)
        verb = self._random.choice(("yield", "forbid"))
        self._tell(verb, resource, machine.number)
        if machine.is_on:
            machine.order(verb, resource)
            if verb == "forbid":
                self._in(self._long(), lambda: self._allow(machine, resource))

    def _allow(self, machine: Machine, resource: str) -> None:
        if machine.is_on:
            machine.order("allow", resource)
        else:
            self._in(0.5, lambda: self._allow(machine, resource))

    # Members

    def _member(self) -> tuple[Machine, int]:
        """Return a member, the leader more often than not."""
        leaders = [one for one in self._them.all.values() if one.is_on and one.leads()]
        machine = self._machine()
        if leaders and self._random.random() < 0.6:
            machine = leaders[0]
        return machine, machine.member

    def stop_member(self) -> None:
        machine, pid = self._member()
        seconds = self._long()
        self._tell("stop member", machine.number, seconds)
        send(pid, signal.SIGSTOP)
        self._in(seconds, lambda: send(pid * (machine.member == pid), signal.SIGCONT))

    def stutter(self) -> None:
        """Stop a member for moments, again and again."""
        machine, pid = self._member()
        self._tell("stutter member", machine.number)
        for number in range(12):
            self._in(number * 0.25, lambda: send(pid, signal.SIGSTOP))
            self._in(number * 0.25 + 0.2, lambda: send(pid, signal.SIGCONT))

    def kill_member(self) -> None:
        machine, pid = self._member()
        seconds = self._long()
        self._tell("kill member", machine.number, seconds)
        machine.is_member_on = False
        send(pid, signal.SIGKILL)

        def start() -> None:
            machine.is_member_on = True

        self._in(seconds, start)

    def move_leader(self) -> None:
        machine, _ = self._member()
        if not machine.is_on:
            return
        lines = machine.etcdctl("member", "list").splitlines()
        others = [
            line.split(",")[0]
            for line in lines
            if f"m{machine.number}" not in line.split(", ")
        ]
        if others:
            self._tell("move leader from", machine.number)
            machine.etcdctl("move-leader", self._random.choice(others))

    def slow_disk(self) -> None:
        machine, pid = self._member()
        if not pid:
            return
        late, seconds = self._random.choice((0.1, 0.5, 1.2)), self._long()
        self._tell("slow disk", machine.number, late, seconds)
        tracer = machine.slow_disk(late)

        def stop() -> None:
            tracer.kill()  # its threads go on; asked, it would wait for them
            tracer.wait()

        self._in(seconds, stop)

    # The network

    def _bad(self, pairs: list[tuple[int, int]], lost: float, late: float) -> None:
        seconds = self._long()
        self._tell("cables", pairs, "lose", lost, "late", late, "for", seconds)
        for one, other in pairs:
            self._them.cable(one, other, lost, late)

        def mend() -> None:
            for one, other in pairs:
                self._them.cable(one, other)

        self._in(seconds, mend)

    def _around(self, number: int) -> list[tuple[int, int]]:
        """Return cables of a machine: out, in, or both; to one other, or to all."""
        others = [other for other in NODES if other != number]
        if self._random.random() < 0.4:
            others = [self._random.choice(others)]
        out = [(number, other) for other in others]
        back = [(other, number) for other in others]
        return self._random.choice((out, back, out + back))

    def cut(self) -> None:
        machine = self._busy(self._random.choice(RESOURCES))
        self._bad(self._around(machine.number), 1.0, 0.0)

    def bad_network(self) -> None:
        lost = self._random.choice((0.0, 0.1, 0.3))
        late = self._random.choice((0.0, 0.05, 0.3))
        self._bad(self._around(self._random.choice(NODES)), lost, late)

    def stall_leader_and_cut(self) -> None:
        """Stop the leader until there is another; the command's node says nothing."""
        leaders = [one for one in self._them.all.values() if one.is_on and one.leads()]
        if not leaders:
            return
        pid, machine = leaders[0].member, self._busy(self._random.choice(RESOURCES))
        self._tell("leader stalled", leaders[0].number, "cut off", machine.number)
        send(pid, signal.SIGSTOP)
        self._in(
            self._random.uniform(1.5, 5.0),
            lambda: send(pid * (leaders[0].member == pid), signal.SIGCONT),
        )
        out = [(machine.number, other) for other in NODES if other != machine.number]
        self._in(0.5, lambda: self._bad(out, 1.0, 0.0))

    def power_off(self) -> None:
        machine = self._busy(self._random.choice(RESOURCES))
        if not machine.is_on:
            return
        seconds = self._long()
        self._tell("power off", machine.number, seconds)
        machine.switch_off()
        self._in(seconds, lambda: self._them.switch_on(machine.number))


KINDS = [
    *(Schedule.stop_one, Schedule.kill_one, Schedule.kill_command),
    *(Schedule.stop_one, Schedule.kill_one, Schedule.give_order),
    *(Schedule.stop_member, Schedule.stutter, Schedule.kill_member),
    *(Schedule.move_leader, Schedule.slow_disk, Schedule.power_off),
    *(Schedule.cut, Schedule.cut, Schedule.bad_network),
    Schedule.stall_leader_and_cut,
]


# What must hold


def overlaps(seen: Seen, since: float) -> list[tuple[float, Life, Life]]:
    """Return the pairs of lives that were at the same time, and for how long."""
    found = []
    for resource in RESOURCES:
        lives = seen.of(resource, since)
        for number, one in enumerate(lives):
            for other in lives[number + 1 :]:
                if (both := min(one.end, other.end) - other.start) > 0:
                    found.append((both, one, other))
    return found


def wait_for_a_majority(them: Machines, look: Watch) -> float:
    """Return since when every member can reach a majority."""
    end = time.monotonic() + 60
    while not all(machine.is_healthy() for machine in them.all.values()):
        assert time.monotonic() < end
        them.attend()
        look.look()
    return time.monotonic()


def wait_for_primaries(them: Machines, look: Watch, since: float) -> list[float]:
    """Return how long after `since` each resource's command ran, 0: all along."""
    end = time.monotonic() + 60
    while not all(look.seen.running(resource) for resource in RESOURCES):
        assert time.monotonic() < end, "no primary again"
        them.attend()
        look.look()
    starts = [look.seen.running(resource)[-1].start for resource in RESOURCES]
    return [max(0.0, start - since) for start in starts]


def report(line: dict[str, Any]) -> None:
    """Add a line to the file for figures, if one is wanted."""
    if path := os.environ.get("VIAGRA_LIVES_REPORT"):
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SCHEDULES))
def test_there_are_never_two_and_soon_one(
    cluster: tuple[Machines, Watch], seed: int
) -> None:
    them, look = cluster
    wait_for_primaries(them, look, wait_for_a_majority(them, look))
    began = time.monotonic()
    schedule = Schedule(seed, them, look)
    schedule.run()
    since = wait_for_a_majority(them, look)
    back = wait_for_primaries(them, look, since)
    seen = look.look()
    late = seen.lateness(began - TTL)
    two = overlaps(seen, began)
    gaps = [
        later.start - one.end
        for resource in RESOURCES
        for lives in [seen.of(resource, began)]
        for one, later in zip(lives, lives[1:], strict=False)
    ]
    report(
        {
            "seed": seed,
            "overlaps": [round(both, 4) for both, _, _ in two],
            "back": [round(one, 2) for one in back],
            "gaps": [round(one, 2) for one in gaps],
            "late": round(late, 3),
            "took": round(time.monotonic() - began, 1),
            "lives": sum(len(seen.of(resource, began)) for resource in RESOURCES),
            "faults": schedule.told,
        }
    )
    if late > LATE:
        # The machine did not give what docs/lease.md assumes: nothing was shown.
        pytest.skip(f"a process was late by {late:.2f} s")
    assert not two, (two, schedule.told)
    for resource in RESOURCES:
        # A life that was over at once has shown none.
        tokens = [one.token for one in seen.of(resource) if one.token]
        assert tokens == sorted(set(tokens)), (tokens, schedule.told)
    assert max(back) <= TTL + 2 + ELECTION, (back, schedule.told)


def test_the_observer_sees_two_at_once_and_a_short_life(tmp_path: Path) -> None:
    """What sees nothing would find no overlap: a keeper of ours starts two."""
    if not is_first_pid_namespace():
        absent("needs the first pid namespace: the kernel's events are of that")
    life = tmp_path / "life"
    life.write_text("#!/bin/sh\nsetsid sleep $3 &\nsleep 0.1\n")
    life.chmod(0o755)
    forks = (
        "import os, subprocess, sys\n"
        "if os.fork(): os.wait(); sys.exit()\n"
        "words = sys.argv[1:]\n"
        "for token, seconds in ((7, '0.6'), (8, '0.3')):\n"
        "    os.environ['VIAGRA_TOKEN'] = str(token)\n"
        "    subprocess.run([*words, seconds], start_new_session=True)\n"
    )
    with watch(life) as look:
        subprocess.run([PYTHON, "-c", forks, str(life), "node1", "plain"], check=True)
        until(lambda: [o for o in look.look().lives.values() if o.end < math.inf][1:])
        [(both, one, other)] = overlaps(look.seen, 0)
        assert (one.token, other.token) == (7, 8)
        assert 0 < both < one.end - one.start
