"""What a schedule has shown: who lived when, and whether that keeps the promise."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodes_cluster import Lease

Span = tuple[float, float]
Journal = list[tuple[float, str, dict[str, Any]]]
ELECTION = 1.0  # more after a change of etcd's leader: its election timeout, seconds
MORE = 2.0  # what a takeover may take beyond the ttl, seconds
AT_ONCE = 0.2  # until what a kill leads to has been seen, seconds
# Who has asked several members in turn for longer may have come through an election;
# and a keeper of our shortest ttl has this time for an answer, when little is left.
SLOW, SHORT = 0.4, 0.2  # seconds
SOON = 1.0  # by then a keeper that was started asks etcd, seconds


@dataclass
class Verdict:
    """Of one schedule. Times in seconds."""

    seed: int
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lives: int = 0
    overlaps: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # that did not grow
    waits: list[str] = field(default_factory=list)  # for a primary, beyond what is due
    losses: list[str] = field(default_factory=list)  # of the role, without need
    broken: list[str] = field(default_factory=list)  # the harness itself
    # From a life's end to the next one's start, by the fault that was at work.
    takeovers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    judged: int = 0  # ends of lives, and times without a primary
    unjudged: int = 0  # the same, while this machine was too busy to judge times

    def holds(self) -> bool:
        """Return whether docs/lease.md was kept; of needless losses it says nothing."""
        return not (self.overlaps or self.tokens or self.waits or self.broken)


@dataclass
class Life:
    """All processes of one start of a lease's command."""

    lease: int
    node: int
    token: int
    start: float
    end: float


def observed(path: Path) -> tuple[dict[tuple[int, int], Life], list[str], list[Span]]:
    """Return what the observer saw: lives by lease and token, overlaps, and its delays.

    A delay is when it was late, and by how much.
    """
    lives: dict[tuple[int, int], Life] = {}
    overlaps: list[str] = []
    late: list[Span] = []
    here: dict[tuple[int, int], set[int]] = defaultdict(set)
    last = 0.0
    for line in path.read_text().splitlines():
        what, *words = line.split()
        numbers = [int(word) for word in words]
        last = at = numbers[0] / 1e9
        if what == "both":
            overlaps.append(f"/proc at {at:.3f}: lease {numbers[1]}, {numbers[2:]}")
        elif what == "late":
            late.append((at, numbers[1] / 1e9))
        else:
            _, lease, node, token, pid = numbers
            key = (lease, token)
            one = lives.setdefault(key, Life(lease, node, token, at, at))
            one.end = at
            (here[key].add if what == "seen" else here[key].discard)(pid)
    for key, pids in here.items():
        if pids:  # it lives still
            lives[key].end = max(last, lives[key].end) + 1e6
    return lives, overlaps, late


def within(spans: list[Span], others: list[Span]) -> list[Span]:
    """Return what both have in common."""
    both = [(max(a, c), min(b, d)) for a, b in spans for c, d in others]
    return sorted((a, b) for a, b in both if a < b)


def without(spans: list[Span], others: list[Span]) -> list[Span]:
    """Return the spans less the others."""
    for start, end in others:
        spans = [
            (a, b)
            for low, high in spans
            for a, b in ((low, min(high, start)), (max(low, end), high))
            if a < b
        ]
    return spans


class Judge:
    """Looks at a schedule that is over."""

    def __init__(
        self,
        verdict: Verdict,
        leases: list[Lease],
        noted: list[dict[str, Any]],
        seen: Path,
        journal: Journal,
    ) -> None:
        self.verdict = verdict
        self.leases = leases
        self.noted = noted
        self.journal = sorted(journal, key=lambda one: one[0])
        self.begin = self.journal[0][0]
        self.end = self.journal[-1][0]
        self.seen, overlaps, self.late = observed(seen)
        verdict.overlaps += overlaps
        self.lives = self._lives()
        self.reached, self.elections = self._probes(SLOW)
        self.prompt, _ = self._probes(SHORT)
        self.faults = self._faults()

    def run(self) -> Verdict:
        self._overlaps()
        self._tokens()
        for index, lease in enumerate(self.leases):
            self._availability(index, lease)
            self._needless(index, lease)
            self._takeovers(index, lease)
        return self.verdict

    def _lives(self) -> list[Life]:
        lives = dict(self.seen)
        for one in self.noted:
            key = (one["lease"], one["token"])
            start, last = one["start"], one["last"]
            if key not in lives:  # too short for the observer
                lives[key] = Life(*key[:1], one["node"], one["token"], start, last)
            lives[key].start = min(lives[key].start, start)
            lives[key].end = max(lives[key].end, last)
        known = {(one["lease"], one["token"]) for one in self.noted}
        self.verdict.broken += [
            f"not noted by itself: {one}"
            for key, one in self.seen.items()
            if key not in known and one.end - one.start > SOON  # it did begin
        ]
        self.verdict.lives = len(lives)
        return sorted(lives.values(), key=lambda life: life.start)

    def _probes(self, slow: float) -> tuple[list[Span], list[float]]:
        """Return when a majority took changes, and when the leader changed.

        A change that took longer than `slow` begins a span anew.
        """
        reached: list[Span] = []
        changes, before, good = [], 0, False
        for at, what, more in self.journal:
            if what != "probe":
                continue
            term = int(more["term"] or 0)
            if term and good and at - more["since"] < slow:
                reached[-1] = (reached[-1][0], at)
            elif term:
                reached.append((at, at))
            good = bool(term)
            if term and term != before:
                changes.append(at)
                before = term
        return reached, changes[1:]

    def _faults(self) -> list[tuple[Span, dict[str, Any]]]:
        """Return from when to when each fault was at work."""
        found, opened = [], []
        for at, what, more in self.journal:
            if what == "begin":
                opened.append((at, more))
                self.verdict.faults[more["fault"]] += 1
            elif what == "end":
                first = next(one for one in opened if one[1] == more)
                opened.remove(first)
                found.append(((first[0], at), more))
        found += [((at, self.end), more) for at, more in opened]
        return found

    def _quick(self, start: float, end: float, ttl: int) -> bool:
        """Return whether the machine was quick enough to judge a time, and count it.

        The observer is one process; for an answer of etcd several have to run in turn.
        """
        late = [by for at, by in self.late if start < at < end + 0.1]
        quick = max(late, default=0) < ttl / 20 and sum(late) < (end - start) / 10
        self.verdict.judged += quick
        self.verdict.unjudged += not quick
        return quick

    def _overlaps(self) -> None:
        """Of the lock that the kernel keeps, and of what the commands noted."""
        for one in self.noted:
            if one["met"]:
                self.verdict.overlaps.append(f"lock: {one}")
        for one in self.noted:
            for other in self.noted:
                if (
                    one["lease"] == other["lease"]
                    and one["first"] < other["first"]
                    and one["start"] <= other["last"]
                    and other["start"] <= one["last"]
                ):
                    both = min(one["last"], other["last"]) - other["start"]
                    self.verdict.overlaps.append(f"{both:.3f} s: {one} {other}")

    def _tokens(self) -> None:
        eras = [at for at, what, _ in self.journal if what == "era"]
        largest: dict[tuple[int, int], int] = {}
        for one in sorted(self.noted, key=lambda one: float(one["start"])):
            if one["main"]:
                key = (one["lease"], sum(at < one["start"] for at in eras))
                if one["token"] <= largest.get(key, 0):
                    self.verdict.tokens.append(f"{one}")
                largest[key] = one["token"]

    def sound(self, index: int) -> list[Span]:
        """Return when at least one node could do its work for a lease."""
        found = []
        for node in (1, 2, 3):
            running: list[Span] = []
            since = 0.0
            for at, what, more in self.journal:
                if more.get("node") != node or more.get("lease", index) != index:
                    continue
                if what in {"off", "keeper gone"}:
                    running += [(since, at)] if since else []
                    since = 0.0
                elif what == "keeper":
                    since = at + SOON
            running += [(since, self.end)] if since else []
            found += without(running, self._broken(index, node))
        return sorted(found)

    def _broken(self, index: int, node: int | None = None) -> list[Span]:
        """Return when faults took a lease's work from a node, or from all."""
        return [
            (start, end + AT_ONCE)
            for (start, end), more in self.faults
            if (node in more.get("broken", ()) and more.get("of", index) == index)
        ]

    def _availability(self, index: int, lease: Lease) -> None:
        """There must be a primary within the ttl and 2 s, whenever there can be one."""
        lives = [(one.start, one.end) for one in self.lives if one.lease == index]
        # Another fault, or another leader, who gives a lease its whole time again.
        cuts = sorted([start for (start, _), _ in self.faults] + self.elections)
        edges = [self.begin, *cuts, self.end]
        calm = list(zip(edges, edges[1:], strict=False))
        for node in self._spans_of_sound_nodes(index):
            could = within(within([node], self.reached), calm)
            for start, end in without(could, lives):
                due = lease.ttl + MORE
                if any(start - lease.ttl <= at < end for at in self.elections):
                    due += ELECTION
                if self._quick(start - lease.ttl, end, lease.ttl) and end - start > due:
                    self.verdict.waits.append(
                        f"lease {index} (ttl {lease.ttl}), {start - self.begin:.1f} to "
                        f"{end - self.begin:.1f}: {self.at_work(start - 10, end)}"
                    )

    def _spans_of_sound_nodes(self, index: int) -> list[Span]:
        """As `sound`, each span as long as it can be: they may follow one another."""
        merged: list[Span] = []
        for start, end in self.sound(index):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def at_work(self, start: float, end: float) -> str:
        """Return which faults were at work at a time."""
        zero = self.begin
        return ", ".join(
            f"{more['fault']} on {more['node']} {a - zero:.1f}-{b - zero:.1f}"
            for (a, b), more in self.faults
            if a <= end and b >= start
        )

    def _needless(self, index: int, lease: Lease) -> None:
        """A primary whose node was sound, and that could reach etcd, keeps its role."""
        for life in self.lives:
            if life.lease != index or life.end > self.end - 0.1:
                continue
            since = (life.end - lease.ttl - 0.5, life.end)
            reached = any(a <= since[0] and life.end <= b for a, b in self.prompt)
            broken = within([since], self._broken(index, life.node))
            asked = [
                more
                for (a, b), more in self.faults
                if more.get("asked") == index or more["fault"] == "fence"
                if a <= life.end and b >= since[0] - 2
            ]
            if not self._quick(*since, lease.ttl):
                continue
            if reached and not broken and not asked:
                at_work = self.at_work(life.end - 10, life.end)
                self.verdict.losses.append(
                    f"lease {index} (ttl {lease.ttl}) on {life.node}, "
                    f"{life.end - self.begin:.1f}: {at_work}"
                )

    def _takeovers(self, index: int, lease: Lease) -> None:
        """Of lives in a row: the time between, by the faults that were at work."""
        lives = [one for one in self.lives if one.lease == index]
        for one, after in zip(lives, lives[1:], strict=False):
            kinds = {
                more["fault"]
                for (a, b), more in self.faults
                if a <= one.end and b >= one.end - lease.ttl
            }
            kind = next(iter(kinds)) if len(kinds) == 1 else "several"
            if self._quick(one.end, after.start, lease.ttl):
                self.verdict.takeovers[kind].append(after.start - one.end)


def figures(values: list[float]) -> str:
    """Return the number, the median and the worst of some times."""
    if not values:
        return "none"
    return f"{len(values)}, {statistics.median(values):.1f} s, {max(values):.1f} s"
