"""Random faults from a seed, on a cluster of their own, and what must hold under them.

`Schedule(cluster, seed).run()` has a keeper on each node, does what the seed says to
nodes, network, etcd, keepers and commands, ends all faults, and waits for a primary.
Then `judge` says what did not hold:

    alone     no two commands at the same time, whatever happened
    token     it only grows
    back      no time without a command is longer than ttl + 2 s, counted from when
              a majority of etcd could be reached under one leader and one node with
              a keeper, itself untouched, could reach it

That last clock starts again with each new leader: etcd gives every lease its whole
time again then. How late this machine itself was is added: lease_probe.py measures it,
and the kernel, which counts how long anything had to wait for a processor. But twice
the time is too long on any machine.
Killing or stopping a keeper and its guardian at the same time is not done: that is
said to escape.
"""

from __future__ import annotations

import heapq
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from lease_cluster import LONG, Cluster, Life, Process, Resource

TTL = 2.0
BACK = TTL + 2.0  # within this there is a primary again
RETRY = 1.0
READY = 1.0  # a verb for people has done its work by then
CRON = 0.3  # how often keepers that ended are started again
PROBED = 0.2  # how often lease_probe.py looks
LOOK = 0.05  # how often a keeper that was just started is looked at
STEPS = 7
FAULTS = {
    "cut": 4,
    "part": 1,
    "member killed": 2,
    "member stopped": 3,
    "keeper killed": 2,
    "keeper stopped": 3,
    "guardian killed": 2,
    "guardian stopped": 1,
    "command killed": 2,
    "command stopped": 2,
    "off": 2,
    "yield": 2,
    "forbid": 1,
}
# In the long ones also: a node whose words get lost but that hears all, the leader
# stopped while the primary is such a node, a member that stands still again and again.
MORE = {"one way": 3, "leader stalled": 2, "member stutters": 2}
STILL, AND_ON = 0.15, 0.05  # seconds of a member that stutters


class Step:
    """One fault: when it begins and ends, in seconds from the start, and to whom."""

    def __init__(
        self, draw: random.Random, at: float, nodes: list[int], faults: dict[str, int]
    ) -> None:
        self.at = at
        self.fault = draw.choices(list(faults), list(faults.values()))[0]
        self.length = draw.uniform(0.2, 2 * TTL)
        # The primary's node more often than another: 0, found when it is time.
        self.node = 0 if draw.random() < 0.5 else draw.choice(nodes)
        self.other = draw.choice(nodes)


def steps(seed: int, nodes: list[int], count: int = STEPS) -> list[Step]:
    """Return the faults that a seed stands for, or the first of them."""
    draw = random.Random(f"lease {seed}")
    found: list[Step] = []
    at = 0.0
    faults = {**FAULTS, **MORE} if count >= STEPS else FAULTS
    for _ in range(count):
        at += draw.uniform(0.1, 1.6)
        found.append(Step(draw, at, nodes, faults))
    return found


class Stretch:
    """A time, on the monotonic clock, in which something held."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end

    def within(self, other: Stretch) -> Stretch:
        return Stretch(max(self.begin, other.begin), min(self.end, other.end))

    @property
    def length(self) -> float:
        return max(0.0, self.end - self.begin)


def overlaps(*lists: list[Stretch]) -> list[Stretch]:
    """Return the stretches in which one of each list held, all at the same time."""
    first, *others = lists
    for other in others:
        both = [one.within(two) for one in first for two in other]
        first = [stretch for stretch in both if stretch.length]
    return first


class Sample(NamedTuple):
    """What lease_probe.py saw at one moment; all in seconds, but for the term."""

    at: float
    late: float
    stalled: float
    term: float


class Troubles:
    """What is wrong with one node, and when nothing was."""

    def __init__(self) -> None:
        self._now: set[str] = {"no keeper yet"}
        self._since = 0.0
        self._well: list[Stretch] = []

    def add(self, what: str) -> None:
        if not self._now:
            self._well.append(Stretch(self._since, time.monotonic()))
        self._now.add(what)

    def end(self, what: str) -> None:
        if self._now == {what}:
            self._since = time.monotonic()
        self._now.discard(what)

    def __contains__(self, what: str) -> bool:
        return any(what in one for one in self._now)

    def well(self) -> list[Stretch]:
        """Return when there was none."""
        last = [] if self._now else [Stretch(self._since, time.monotonic())]
        return [*self._well, *last]


class Schedule:
    """A seed at work on a cluster, and what came of it."""

    def __init__(self, cluster: Cluster, seed: int, count: int = STEPS) -> None:
        """`count` is the number of faults."""
        self.cluster = cluster
        self.seed = seed
        self._steps = steps(seed, list(cluster.nodes), count)
        self.resource: Resource = cluster.resource("food")
        self.troubles = {number: Troubles() for number in cluster.nodes}
        self.keepers: dict[int, Process] = {}
        self.story: list[str] = []
        self.began = time.monotonic()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._draw = random.Random(f"lease {seed} at work")
        # An untouched network, for all nodes at once.
        self._whole = Troubles()
        self._whole.end("no keeper yet")

    # What happens

    def run(self) -> None:
        self._start_probe()
        for number in self.cluster.nodes:
            self._start_keeper(number)
        self._serve(until_primary=True)
        start = time.monotonic()
        for step in self._steps:
            self._at(start + step.at, lambda step=step: self._begin(step))  # type: ignore[misc]
        self._serve()
        self._tell("all faults have ended")
        self._serve(until_primary=True)
        # It must not only come, but also stay: a renewal or two.
        self._at(time.monotonic() + TTL, lambda: None)
        self._serve(until_primary=True)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, act))

    def _serve(self, until_primary: bool = False) -> None:
        """Do what is due, and what cron does, until nothing is left to do."""
        end = time.monotonic() + 4 * LONG
        cron = 0.0
        while self._due or (until_primary and not self.resource.current()):
            now = time.monotonic()
            assert now < end, f"no primary any more\n{self}"
            if now >= cron:
                self._start_keepers()
                cron = now + CRON
            if self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            time.sleep(0.01)

    def _start_probe(self) -> None:
        members = [self.cluster.member(number) for number in self.cluster.numbers]
        self.probe = self.cluster.place / "probe"
        self.cluster.probe(str(self.probe), *members)

    def _start_keepers(self) -> None:
        for number, keeper in self.keepers.items():
            if self.cluster.nodes[number].is_on and keeper.status is not None:
                self._start_keeper(number)

    def _start_keeper(self, number: int) -> None:
        options = [f"--ttl={TTL:g}s", f"--retry-after={RETRY:g}s"]
        kind = ("", "tail", "deaf", "slow=150")[(self.seed + number) % 4]
        self.keepers[number] = self.cluster.keep(
            number, self.resource, *options, command=[kind] if kind else []
        )
        self._tell(f"n{number}: keeper started")
        self._await_keeper(number)

    def _await_keeper(self, number: int) -> None:
        """Count on a keeper once it says that it stands by, or has even more."""
        keeper, troubles = self.keepers[number], self.troubles[number]
        troubles.add("keeper just started")
        for what in ("no keeper yet", "keeper killed", "guardian killed"):
            troubles.end(what)

        def look() -> None:
            if keeper is not self.keepers[number]:
                return  # it has ended meanwhile
            if f"{self.resource.name}: " in keeper.text():
                troubles.end("keeper just started")
            else:
                self._at(time.monotonic() + LOOK, look)

        look()

    # Faults

    def _begin(self, step: Step) -> None:
        number = step.node or self._primary() or step.other
        node = self.cluster.nodes[number]
        what = step.fault
        if what == "part":
            self._part(number, step)
        elif what in MORE and not node.is_on:
            self._tell(f"n{number}: {what}: left out")
        elif what == "one way":
            self._deafen(number, step)
        elif what == "leader stalled":
            self._stall_leader(number, step)
        elif what == "member stutters":
            self._stutter(number, step)
        elif not node.is_on or self._is_too_much(number, what):
            self._tell(f"n{number}: {what}: left out")
        elif what == "off":
            self._tell(f"n{number}: off for {step.length:.2f} s")
            self._trouble(number, what, step.length, lambda: self._on(number))
            self.cluster.off(number)
        elif what == "cut":
            self._tell(f"n{number}: cut off for {step.length:.2f} s")
            self.cluster.network.cut(number)
            self._trouble(number, what, step.length, lambda: self._mend(number))
        elif what in ("yield", "forbid"):
            self._order(number, what, step)
        else:
            self._harm(number, what, step)

    def _is_too_much(self, number: int, what: str) -> bool:
        """Return whether it would hit a keeper and its guardian at the same time."""
        pair = {"keeper": "guardian", "guardian": "keeper"}
        other = pair.get(what.partition(" ")[0])
        return other is not None and other in self.troubles[number]

    def _primary(self) -> int:
        life = self.resource.current()
        return int(life.node[1:]) if life else 0

    def _part(self, number: int, step: Step) -> None:
        pair = {number, step.other}
        if len(pair) == 1 or not all(self.cluster.nodes[n].is_on for n in pair):
            return
        self._tell(f"n{number}, n{step.other}: parted for {step.length:.2f} s")
        self.cluster.network.part(*pair)
        what = f"parted {self._count}"
        self._whole.add(what)

        def end() -> None:
            for one in pair:
                if self.cluster.nodes[one].is_on:
                    self.cluster.network.part(one, parted=False)
            self._whole.end(what)
            self._tell(f"n{number}, n{step.other}: no longer parted")

        self._at(time.monotonic() + step.length, end)

    def _deafen(self, number: int, step: Step) -> None:
        """Let what a node says to all members get lost."""
        node = self.cluster.nodes[number]
        life, others = node.life, [n for n in self.cluster.numbers if n != number]
        self._tell(f"n{number}: not heard for {step.length:.2f} s")
        self.cluster.network.deafen(node, others)
        what = f"not heard {self._count}"
        self._whole.add(what)

        def end() -> None:
            if node.life == life:
                self.cluster.network.deafen(node, others, cut=False)
            self._whole.end(what)
            self._tell(f"n{number}: heard again")

        self._at(time.monotonic() + step.length, end)

    def _stall_leader(self, number: int, step: Step) -> None:
        leader = self.cluster.leader()
        if leader and self.cluster.nodes[leader].is_on:
            self._harm(leader, "member stopped", step)
            if number != leader and self.cluster.nodes[number].is_on:
                self._deafen(number, step)

    def _stutter(self, number: int, step: Step) -> None:
        send = self._victim(number, "member")
        if send is None:
            return
        self._tell(f"n{number}: member stutters for {step.length:.2f} s")
        began, count = time.monotonic(), int(step.length / (STILL + AND_ON)) + 1
        for turn in range(count):
            at = began + turn * (STILL + AND_ON)
            self._at(at, lambda: send(signal.SIGSTOP))
            self._at(at + STILL, lambda: send(signal.SIGCONT))
        self._trouble(number, "member stutters", count * (STILL + AND_ON))

    def _order(self, number: int, what: str, step: Step) -> None:
        self._tell(f"n{number}: {what}")
        self.cluster.lease(number, what, self.resource.name)
        if what == "forbid":

            def allow() -> None:
                if self.cluster.nodes[number].is_on:
                    self.cluster.lease(number, "allow", self.resource.name)
                self._tell(f"n{number}: allow")

            self._trouble(number, what, step.length, allow, more=READY)
        else:
            self._trouble(number, what, READY)

    def _harm(self, number: int, what: str, step: Step) -> None:
        """Kill, or stop for a while, a process of a node."""
        send = self._victim(number, what.partition(" ")[0])
        if send is None:
            self._tell(f"n{number}: {what}: there is none")
            return
        if what.endswith("stopped"):
            self._tell(f"n{number}: {what} for {step.length:.2f} s")
            send(signal.SIGSTOP)
            end = self._quietly(number, what, lambda: send(signal.SIGCONT))
            self._trouble(number, what, step.length, end)
            return
        self._tell(f"n{number}: {what}")
        send(signal.SIGKILL)
        if what.startswith("member"):
            restart = self._quietly(number, what, lambda: self._restart(number))
            self._at(time.monotonic() + step.length, restart)
        elif what.startswith("command"):
            self._trouble(number, what, RETRY + READY)
        else:  # until cron has started it again
            self.troubles[number].add(what)

    def _victim(self, number: int, who: str) -> Callable[[int], None] | None:
        """Return what sends a signal to one of a node's processes; None: not there."""
        node, keeper = self.cluster.nodes[number], self.keepers[number]
        if who == "member":
            member = self.cluster.members.get(number)
            return member.kill if member and member.status is None else None
        if who == "command":
            life = self.resource.current()
            return life.send if life and life.node == node.name else None
        if keeper.status is not None:
            return None
        if who == "guardian":
            return keeper.kill
        holders = keeper.children()
        life_of_node = node.life

        def send(signal_number: int) -> None:
            if node.life == life_of_node:
                node.kill(holders[0], signal_number)

        return send if holders else None

    def _quietly(
        self, number: int, what: str, act: Callable[[], None]
    ) -> Callable[[], None]:
        def end() -> None:
            act()
            self._tell(f"n{number}: {what}: over")

        return end

    def _restart(self, number: int) -> None:
        member = self.cluster.members[number]
        if self.cluster.nodes[number].is_on and member.status is not None:
            self.cluster.start_member(number)

    def _on(self, number: int) -> None:
        self.cluster.on(number)
        self._tell(f"n{number}: on")

    def _mend(self, number: int) -> None:
        if self.cluster.nodes[number].is_on:
            self.cluster.network.mend(number)
        self._tell(f"n{number}: no longer cut off")

    def _trouble(
        self,
        number: int,
        what: str,
        length: float,
        end: Callable[[], None] = lambda: None,
        more: float = 0.0,
    ) -> None:
        """Count a node as troubled; call `end` after `length`, `more` until well."""
        what = f"{what} {self._count}"
        troubles = self.troubles[number]
        troubles.add(what)

        def over() -> None:
            end()
            self._at(time.monotonic() + more, lambda: troubles.end(what))

        self._at(time.monotonic() + length, over)

    def _tell(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self.began:7.3f} {text}")

    # What came of it

    def judge(self) -> list[str]:
        """Return what did not hold."""
        found = []
        try:
            self.resource.check()
        except AssertionError as error:
            found.append(str(error))
        for number, troubles in self.troubles.items():
            quiet = overlaps(self._terms(), self._whole.well(), troubles.well())
            for rest in overlaps(self._gaps(), quiet):
                if rest.length > BACK + self._late(rest):
                    found.append(self._complaint(rest, number))
        return found

    def _gaps(self) -> list[Stretch]:
        """Return the times without a living command."""
        lives = sorted(self.resource.lives, key=lambda life: life.began)
        found, end = [], self.began
        for life in lives:
            if life.began > end:
                found.append(Stretch(end, life.began))
            end = max(end, life.ended or time.monotonic())
        return [*found, Stretch(end, time.monotonic())]

    def _complaint(self, rest: Stretch, number: int) -> str:
        begin = rest.begin - self.began
        return (
            f"no primary for {rest.length:.3f} s from {begin:.3f} on,"
            f" though n{number} could have been"
        )

    def _probes(self) -> list[Sample]:
        words = [line.split() for line in self.probe.read_text().splitlines()]
        return [Sample(*map(float, four)) for four in words if len(four) == 4]

    def _terms(self) -> list[Stretch]:
        """Return the times in which one leader had a majority."""
        found: list[Stretch] = []
        last = 0.0
        for sample in self._probes():
            at, term = sample.at, sample.term
            if term and term == last:
                found[-1].end = at
            elif term:
                found.append(Stretch(at, at))
            last = term
        return found

    def _late(self, stretch: Stretch) -> float:
        """Return by how much this machine was late in a stretch; at most BACK."""
        begin, end = stretch.begin - PROBED, stretch.end + PROBED
        within = [probe for probe in self._probes() if begin <= probe.at <= end]
        if not within:
            return 0.0
        late = sum(sample.late for sample in within if sample.late > 0.02)
        return min(BACK, max(late, within[-1].stalled - within[0].stalled))

    def __str__(self) -> str:
        lives = [f"{self._shifted(life)}" for life in self.resource.lives]
        outs = [
            f"--- {path.parent.name}/{path.name}\n{path.read_text(errors='replace')}"
            for path in sorted(self.cluster.place.glob("n*/lease-*"))
        ]
        return "\n".join([f"seed {self.seed}", *self.story, *lives, *outs])

    def _shifted(self, life: Life) -> str:
        end = f"{life.ended - self.began:.3f}" if life.ended else "now"
        lock = "" if life.alone else " OVERLAP"
        return f"{life.node} {life.token}: {life.began - self.began:.3f} to {end}{lock}"
