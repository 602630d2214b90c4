"""The promise of docs/lease.md, whatever goes wrong at random: a second harness.

Written from that page alone, apart from test_lease_cluster.py, so that the two do not
share their mistakes: its own machines, network, faults, command and observers.
VIAGRA_SCHEDULES is how many schedules (default 100), VIAGRA_SCHEDULES_SEED the first
one's seed, VIAGRA_SCHEDULES_JOBS how many side by side (default 6).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import copy_library
from nodes_cluster import BOOK, Lease, lives_in, send
from nodes_judge import Journal, Judge, Verdict
from nodes_schedule import compile_witness, run_all, summary
from world import absent, need, need_root, of, until

pytestmark = pytest.mark.xdist_group("lease nodes")

SCHEDULES = int(os.environ.get("VIAGRA_SCHEDULES", "100"))
FIRST_SEED = int(os.environ.get("VIAGRA_SCHEDULES_SEED", "1"))
JOBS = int(os.environ.get("VIAGRA_SCHEDULES_JOBS", "6"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc")
    place = tmp_path_factory.mktemp("programs")
    compile_witness(place)
    return place


@pytest.mark.long
def test_there_are_never_two_and_soon_one(programs: Path) -> None:
    need_root()
    copy_library(programs)
    for program in ("etcd", "setpriv", "unshare", "nsenter", "strace"):
        need(program)
    for path in ("/dev/net/tun", "/proc/self/ns/time"):
        if not os.path.exists(path):
            absent(f"needs {path}")
    seeds = range(FIRST_SEED, FIRST_SEED + SCHEDULES)
    verdicts = list(run_all(seeds, programs, JOBS))
    print(summary(verdicts))
    assert [one.seed for one in verdicts if not one.holds()] == [], summary(verdicts)


# What sees nothing would find nothing wrong.


class Witnessed:
    """Commands that no lease keeps apart, and who sees that."""

    def __init__(self, programs: Path, place: Path) -> None:
        self._programs = programs
        self._book = place / "book"
        self._book.write_bytes(bytes(BOOK))
        self._seen = place / "observed"
        with self._seen.open("wb") as file:
            argv = [str(programs / "witness"), "observe", str(self._book)]
            self._started = [subprocess.Popen(argv, stdout=file)]

    def begin(self, token: int, kind: str) -> subprocess.Popen[bytes]:
        """Start a command; return it when all its processes have been seen."""
        argv = [str(self._programs / "life"), "life", str(self._book), "0", "1", kind]
        child = subprocess.Popen(argv, env={"VIAGRA_TOKEN": str(token)})
        self._started.append(child)
        count = 3 if kind == "forks" else 1
        until(lambda: self._seen.read_text().count(f" 1 {token} ") >= count)
        until(lambda: self._noted(token) == count)
        return child

    def _noted(self, token: int) -> int:
        noted = lives_in(self._book.read_bytes())
        return sum(one["token"] == token for one in noted)

    def finish(self, child: subprocess.Popen[bytes]) -> None:
        """Kill what was started, not what that has forked, and have it seen."""
        child.kill()
        child.wait()
        until(lambda: f" {child.pid}\n" in self._seen.read_text().partition("gone")[2])

    def verdict(self) -> Verdict:
        noted = lives_in(self._book.read_bytes())
        start = min(one["start"] for one in noted)
        journal: Journal = [(start, "on", {}), (start + 9, "over", {})]
        leases = [Lease("one", "plain", 3)]
        return Judge(Verdict(1), leases, noted, self._seen, journal).run()

    def end(self) -> None:
        for child in self._started:
            child.kill()
            child.wait()
        for pid in of(os.fsencode(self._book)):
            send(pid, signal.SIGKILL)


@pytest.fixture
def witnessed(programs: Path, tmp_path: Path) -> Iterator[Witnessed]:
    one = Witnessed(programs, tmp_path)
    yield one
    one.end()


def test_one_after_the_other_is_in_order_as_long_as_tokens_grow(
    witnessed: Witnessed,
) -> None:
    for token in (7, 9, 8):
        witnessed.finish(witnessed.begin(token, "plain"))
    verdict = witnessed.verdict()
    assert (verdict.overlaps, len(verdict.tokens), verdict.lives) == ([], 1, 3)


@pytest.mark.parametrize("kind", ["plain", "forks"])
def test_two_at_once_are_seen_by_all_three(witnessed: Witnessed, kind: str) -> None:
    """What the first has forked lives on when it is gone itself."""
    first = witnessed.begin(7, kind)
    if kind == "forks":
        witnessed.finish(first)
    witnessed.begin(8, "plain")
    until(lambda: len({one.split()[0] for one in witnessed.verdict().overlaps}) == 3)


FAULT = {"fault": "keeper_stopped", "node": 2, "lease": 0, "broken": [2], "of": 0}


@pytest.mark.parametrize(
    ("back", "more", "found"),
    [
        (14.9, [], (0, 1)),  # nothing had happened to the primary that ended
        (15.1, [], (1, 1)),
        (15.1, [(9.0, "begin", FAULT), (11.0, "end", FAULT)], (1, 0)),
        (15.1, [(12.0, "probe", {"term": None, "since": 0})], (0, 1)),
        (15.9, [(10.0, "probe", {"term": 3, "since": 10})], (0, 1)),  # another leader
    ],
)
def test_a_wait_too_long_and_a_loss_without_need_are_found(
    tmp_path: Path, back: float, more: Journal, found: tuple[int, int]
) -> None:
    """Of a command on node 2 until second 10, and again from `back` on; ttl 3 s."""
    seen = tmp_path / "observed"
    times = (("seen", 1.0, 5), ("gone", 10.0, 5), ("seen", back, 6))
    lines = [
        f"{what} {int(at * 1e9)} 0 2 {token} {token}\n" for what, at, token in times
    ]
    seen.write_text("".join(lines))
    journal: Journal = [(0.0, "on", {})]
    journal += [(0.0, "keeper", {"node": node, "lease": 0}) for node in (1, 2, 3)]
    taken = {at for at, *_ in more}
    probes = [at / 2 for at in range(60) if at / 2 not in taken]
    journal += [(at, "probe", {"term": 2, "since": at}) for at in probes]
    keys = ("start", "token", "lease", "node", "first", "met", "main", "last")
    noted = [
        dict(zip(keys, (start, token, 0, 2, token, 0, True, start), strict=True))
        for start, token in ((1.0, 5), (back, 6))
    ]
    leases = [Lease("one", "plain", 3)]
    verdict = Judge(Verdict(1), leases, noted, seen, [*journal, *more]).run()
    assert (len(verdict.waits), len(verdict.losses)) == found
