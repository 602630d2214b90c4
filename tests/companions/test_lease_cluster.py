"""viagra-lease on three machines with etcd, and what breaks there.

lease_cluster.py says what a machine is here; lease_schedule.py, what must hold under
random faults.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkout import COMPANIONS
from lease_cluster import (
    Cluster,
    Life,
    Process,
    Resource,
    cluster,
    compile_command,
    need_cluster,
)
from lease_schedule import STEPS, Schedule
from world import absent, until

pytestmark = pytest.mark.xdist_group("lease")

NODES = (1, 2, 3)
SHORT = "--ttl=2s"
# So long that whatever happens within seconds did not wait for a lease to expire.
SOON = 15.0
LONG_TTL = ("--ttl=60s", "--stop=500ms")
AGAIN = "--retry-after=300ms"
Keep = Callable[..., Process]


def long(*values: object) -> object:
    """Return a case that takes long."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_cluster()
    return compile_command(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Iterator[Cluster]:
    """Give many tests one cluster, of which they break nothing but keepers."""
    with cluster(tmp_path_factory.mktemp("calm"), built) as made:
        yield made


@pytest.fixture
def broken(tmp_path: Path, built: Path) -> Iterator[Cluster]:
    """Give one test a cluster to break."""
    with cluster(tmp_path / "machines", built) as made:
        yield made


@pytest.fixture
def food(request: pytest.FixtureRequest) -> Iterator[Resource]:
    """Give a test a resource of its own, which must have been alone to the end."""
    name = "broken" if "broken" in request.fixturenames else "calm"
    machines: Cluster = request.getfixturevalue(name)
    made = machines.resource(f"r{len(list(machines.place.iterdir()))}")
    yield made
    made.check()


@pytest.fixture
def keep(request: pytest.FixtureRequest, food: Resource) -> Iterator[Keep]:
    """Start keepers of the resource, and end them after the test."""
    name = "broken" if "broken" in request.fixturenames else "calm"
    machines: Cluster = request.getfixturevalue(name)
    kept: list[Process] = []

    def start(number: int, *options: str, **more: object) -> Process:
        kept.append(machines.keep(number, food, *options, **more))  # type: ignore[arg-type]
        return kept[-1]

    yield start
    for keeper in kept:
        keeper.kill(signal.SIGCONT)
        keeper.kill(signal.SIGTERM)
    for keeper in kept:
        keeper.wait()


def standing_by(machines: Cluster, food: Resource, count: int) -> None:
    """Wait until so many nodes are known to stand by."""
    key = f"/{food.name}/standby/"
    until(
        lambda: (
            machines.etcdctl("get", "", "--prefix", "--keys-only").count(key) == count
        )
    )


def ended_before(old: Life, new: Life) -> bool:
    return old.ended is not None and old.alone and new.alone


def kill_keeper(keeper: Process) -> None:
    """Kill the keeper itself, which is its guardian's child."""
    keeper.node.kill(keeper.children()[0], signal.SIGKILL)


def number_of(life: Life) -> int:
    return int(life.node[1:])


# hastmon's cases


def test_one_of_three_runs_it(calm: Cluster, food: Resource, keep: Keep) -> None:
    for number in NODES:
        keep(number, *LONG_TTL)
    life = food.primary()
    standing_by(calm, food, 2)
    assert food.lives == [life]
    assert life.token > 0


def test_killed_it_is_restarted_on_its_node(
    calm: Cluster, food: Resource, keep: Keep, built: Path
) -> None:
    """As in the example: viagra-run in between makes the attempts."""
    runner = Path(calm_runner())
    again = [*(str(runner), "-r", "2", "-f", "core,signal,exit", "--")]
    held = [str(built), str(food.place), "n1"]
    first = calm.lease(1, *LONG_TTL, AGAIN, food.name, "--", *again, *held)
    life = food.primary()
    held[-1] = "n2"
    second = calm.lease(2, *LONG_TTL, food.name, "--", *again, *held)
    standing_by(calm, food, 1)
    for _ in range(2):
        life.send(signal.SIGKILL)
        life = food.primary(other_than=life)
        assert life.node == "n1"
    life.send(signal.SIGKILL)  # its attempts are used up
    assert food.primary(other_than=life).node == "n2"
    tokens = [words[2] for words in food.log()]
    assert len(set(tokens)) == 2
    for keeper in (first, second):
        keeper.kill(signal.SIGTERM)
        keeper.wait()
    until(food.is_free)
    # Three lives under one token are what viagra-run is for.
    (food.place / "log").unlink()


def calm_runner() -> str:
    return str(COMPANIONS / "viagra-run")


@pytest.mark.parametrize("kind", ["tail", *map(long, ["", "deaf", "slow=200"])])
def test_cut_off_it_stops_before_another_starts(
    broken: Cluster, food: Resource, keep: Keep, kind: str
) -> None:
    for number in NODES:
        keep(number, SHORT, command=[kind] if kind else [])
    first = food.primary()
    standing_by(broken, food, 2)
    broken.network.cut(number_of(first))
    second = food.primary(other_than=first)
    assert ended_before(first, second)
    assert second.node != first.node


@pytest.mark.parametrize("hangs", [False, True])
def test_a_lease_that_is_revoked_is_taken_again_unless_another_has_it(
    calm: Cluster, food: Resource, keep: Keep, hangs: bool
) -> None:
    """A leader of etcd that hung, and was replaced, may revoke (12528 and 15247).

    A primary that is as quick as others are keeps its role and its command; one that
    hangs meanwhile finds its command running where it must not.
    """
    keeper = keep(1, *LONG_TTL, AGAIN, "--priority=1")
    first = food.primary()
    for number in (2, 3):  # they go before the first
        keep(number, *LONG_TTL, AGAIN)
    standing_by(calm, food, 2)
    holder = keeper.children()[0]
    if hangs:
        keeper.node.kill(holder, signal.SIGSTOP)
    revoked = primary_of(calm, food)
    revoke_primary(calm, food, revoked["lease"])
    until(lambda: primary_of(calm, food).get("lease", 0) not in {0, revoked["lease"]})
    owner = json.loads(base64.b64decode(primary_of(calm, food)["value"]))["host"]
    assert (owner == "n1") is not hangs
    assert primary_of(calm, food)["create_revision"] > revoked["create_revision"]
    if hangs:
        keeper.node.kill(holder, signal.SIGCONT)
        second = food.primary(SOON, other_than=first)
        assert ended_before(first, second)  # which the first says: nobody waits
    else:
        assert food.current() is first


@pytest.mark.parametrize("kind", ["", long("tail"), long("deaf")])
def test_an_early_end_of_its_lease_that_it_cannot_hear_of_is_waited_out(
    broken: Cluster, food: Resource, keep: Keep, kind: str
) -> None:
    """The next one has the lease at once, and starts when the first is gone."""
    ttl = "--ttl=4s"
    for number in NODES:
        keep(number, ttl, command=[kind] if kind else [])
    first = food.primary()
    standing_by(broken, food, 2)
    others = [number for number in NODES if number != number_of(first)]
    lease = primary_of(broken, food)["lease"]
    broken.network.cut(number_of(first))
    revoke_primary(broken, food, lease, at=others)
    assert ended_before(first, food.primary(other_than=first))


def primary_of(machines: Cluster, food: Resource) -> dict[str, Any]:
    """Return the primary's key as etcd has it, or nothing."""
    found = machines.etcdctl("get", "", "--prefix", "--write-out=json")
    for entry in json.loads(found or "{}").get("kvs", []):
        if base64.b64decode(entry["key"]).endswith(f"{food.name}/primary".encode()):
            return dict(entry)
    return {}


def revoke_primary(
    machines: Cluster, food: Resource, number: int, at: Sequence[int] = ()
) -> None:
    lease = f"{number:x}"

    def is_gone() -> bool:
        machines.etcdctl("lease", "revoke", lease, at=at)
        found = machines.etcdctl("lease", "list", at=at)
        return "found" in found and lease not in found

    until(is_gone)  # the leader may be one that is cut off: until another is elected


# Keepers, guardians and commands that die or hang


@pytest.mark.long
def test_a_killed_keeper_takes_all_with_it(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    keepers = {n: keep(n, SHORT, command=["tail"]) for n in NODES}
    first = food.primary()
    keeper = keepers[number_of(first)]
    kill_keeper(keeper)
    assert keeper.wait() != 0
    assert ended_before(first, food.primary(other_than=first))


@pytest.mark.long
def test_a_killed_guardian_takes_all_with_it(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    keepers = {n: keep(n, SHORT, command=["tail"]) for n in NODES}
    first = food.primary()
    keepers[number_of(first)].kill(signal.SIGKILL)
    assert ended_before(first, food.primary(other_than=first))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["tail", "deaf"])
def test_a_stopped_keeper_loses_its_command_in_time(
    calm: Cluster, food: Resource, keep: Keep, kind: str
) -> None:
    keepers = {n: keep(n, SHORT, command=[kind]) for n in NODES}
    first = food.primary()
    node = calm.nodes[number_of(first)]
    holder = keepers[number_of(first)].children()[0]
    node.kill(holder, signal.SIGSTOP)
    second = food.primary(other_than=first)
    assert ended_before(first, second)
    node.kill(holder, signal.SIGCONT)


@pytest.mark.long
def test_a_stopped_command_is_ended_all_the_same(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    keepers = {n: keep(n, *LONG_TTL) for n in NODES}
    first = food.primary()
    standing_by(calm, food, 2)
    first.send(signal.SIGSTOP)
    keepers[number_of(first)].kill(signal.SIGTERM)
    assert ended_before(first, food.primary(SOON, other_than=first))


@pytest.mark.long
def test_a_node_that_is_switched_off_is_replaced(
    broken: Cluster, food: Resource, keep: Keep
) -> None:
    for number in NODES:
        keep(number, SHORT)
    first = food.primary()
    broken.off(number_of(first))
    second = food.primary(other_than=first)
    assert second.node != first.node
    assert second.token > first.token


# etcd


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_a_majority_nobody_runs_it(
    broken: Cluster, food: Resource, keep: Keep, number: int
) -> None:
    """The member on the primary's node lives on, and would answer a lesser read."""
    for each in NODES:
        keep(each, SHORT)
    first = food.primary()
    others = [each for each in NODES if each != number_of(first)]
    for each in others:
        broken.members[each].kill(number)
    until(lambda: first.ended)
    assert food.current() is None
    for each in others:
        if number == signal.SIGSTOP:
            broken.members[each].kill(signal.SIGCONT)
        else:
            broken.members[each].wait()
            broken.start_member(each)
    assert food.primary().token > first.token


def test_a_standby_hears_of_changes_though_its_member_hangs(
    broken: Cluster, food: Resource, keep: Keep
) -> None:
    """Else it would see only at its next look that the lease is free."""
    hung = 2
    keep(1, "--ttl=6s")
    food.primary()
    keep(hung, "--ttl=6s")
    standing_by(broken, food, 1)
    others = [number for number in NODES if number != hung]
    before = watches(broken, others)
    broken.members[hung].kill(signal.SIGSTOP)
    until(lambda: watches(broken, others) == before + 1)
    broken.members[hung].kill(signal.SIGCONT)


def watches(machines: Cluster, numbers: Sequence[int]) -> float:
    """Return how many watches these members of etcd serve."""
    name = "etcd_debugging_mvcc_watcher_total"
    return sum(machines.metrics(number)[name] for number in numbers)


def takes(cluster: Cluster, members: Sequence[int]) -> bool:
    """Return whether a value is written when it is given to one of these members."""
    return "OK" in cluster.etcdctl("put", "k", "v", at=members)


@pytest.mark.long
def test_an_etcd_that_was_emptied_is_no_sign_of_an_end(
    broken: Cluster, food: Resource, keep: Keep
) -> None:
    """Who stood by knows that a command runs, though nothing in etcd says so."""
    for number in NODES:
        keep(number, "--ttl=10s")
    first = food.primary()
    standing_by(broken, food, 2)
    broken.network.cut(number_of(first))
    for number in NODES:
        broken.members[number].kill()
        broken.members[number].wait()
        shutil.rmtree(broken.nodes[number].place / "etcd")
        broken.start_member(number)
    assert ended_before(first, food.primary(other_than=first))
    # The tokens begin anew, as docs/lease.md says: `check` would not have it.
    (food.place / "log").unlink()


@pytest.mark.long
def test_an_etcd_that_is_full_takes_the_command_until_there_is_room(
    broken: Cluster, food: Resource, keep: Keep
) -> None:
    """No sign can be put: so none may run, or another could start beside it."""
    for number in NODES:
        broken.members[number].kill()
        broken.members[number].wait()
        broken.start_member(number, f"--quota-backend-bytes={4 << 20}")
    broken.wait_for_members()
    for number in NODES:
        keep(number, "--ttl=3s", "--retry-after=1s")
    first = food.primary()
    text = "x" * 100_000
    until(lambda: not broken.etcdctl("put", "large", text))
    assert "NOSPACE" in broken.etcdctl("alarm", "list")
    until(lambda: first.ended)
    assert food.current() is None
    revision = json.loads(broken.etcdctl("get", "large", "--write-out=json"))
    assert broken.etcdctl("compact", str(revision["header"]["revision"]))
    assert broken.etcdctl("defrag")
    assert broken.etcdctl("alarm", "disarm")
    assert food.primary(other_than=first).token > first.token


@pytest.mark.long
def test_a_leader_that_dies_changes_nothing(
    broken: Cluster, food: Resource, keep: Keep
) -> None:
    for number in NODES:
        keep(number, "--ttl=6s")
    first = food.primary()
    for _ in range(2):
        leader = until(broken.leader)
        broken.members[leader].kill()
        others = [number for number in NODES if number != leader]
        until(partial(takes, broken, others))
        broken.members[leader].wait()
        broken.start_member(leader)
        until(partial(takes, broken, [leader]))
    assert food.current() is first


# What it costs


def test_idle_each_keeper_asks_two_questions_in_a_third_of_the_ttl(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    """To keep its lease alive, and how things are; a primary says so; nothing else."""
    keepers = [keep(number, "--ttl=3s") for number in (1, 2)]
    food.primary()
    standing_by(calm, food, 1)
    began, before = time.monotonic(), requests(calm)
    time.sleep(4)
    asked = requests(calm) - before
    most = time.monotonic() - began + 1
    assert 0 < asked.pop("LeaseKeepAlive") <= len(keepers) * most
    assert (
        0 < asked.pop("Range") <= most + 2
    )  # the standby; it may miss a change's time
    assert 0 < asked.pop("Txn") <= most
    assert not asked


def requests(machines: Cluster) -> Counter[str]:
    """Return how many requests of each kind the members have had."""
    found: Counter[str] = Counter()
    for number in machines.numbers:
        found.update(machines.requests(number))
    return found


def test_its_memory_is_small(calm: Cluster, food: Resource, keep: Keep) -> None:
    keeper = keep(1, *LONG_TTL)
    food.primary()
    proc = Path(f"/proc/{calm.nodes[1].pid}/root/proc")
    pids = [keeper.pid, *keeper.children()]
    texts = [(proc / str(pid) / "smaps_rollup").read_text() for pid in pids]
    sizes = [int(text.partition("\nPss:")[2].split()[0]) for text in texts]
    assert sum(sizes) < 40_000, sizes  # kB: guardian and keeper


# Switches


def test_a_planned_switch_is_quick(calm: Cluster, food: Resource, keep: Keep) -> None:
    """One of a few: this machine may be busy."""
    for number in NODES:
        keep(number, *LONG_TTL)
    life = food.primary()
    took: list[float] = []
    while not took or (min(took) > 2.0 and len(took) < 10):
        standing_by(calm, food, 2)
        order = calm.lease(1, "yield", food.name)
        new = food.primary(SOON, other_than=life)
        assert order.wait() == 0, order.text()
        assert new.node != life.node
        asked = [float(words[4]) for words in food.log() if words[0] == "stop"][-1]
        took.append(new.began - asked)
        life = new
    assert min(took) < 2.0, took


@pytest.mark.long
def test_forbidden_here_it_runs_elsewhere(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    for number in NODES:
        keep(number, *LONG_TTL)
    life = food.primary()
    standing_by(calm, food, 2)
    for _ in range(2):
        order = calm.lease(number_of(life), "forbid", food.name)
        assert order.wait() == 0, order.text()
        life = food.primary(SOON, other_than=life)
    assert len({one.node for one in food.lives}) == 3
    # The last one: nobody may have it any more.
    assert calm.lease(number_of(life), "forbid", food.name).wait() == 0
    until(lambda: life.ended)
    time.sleep(0.5)
    assert food.current() is None
    back = food.lives[0].node
    assert calm.lease(int(back[1:]), "allow", food.name).wait() == 0
    assert food.primary(SOON).node == back


@pytest.mark.long
def test_its_turn_comes_when_a_command_ends_by_itself(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    """And its own node, to which cron gives a new keeper at once, waits."""
    ends = {"command": ["quit=500:7"]}
    keeper = keep(1, *LONG_TTL, "--retry-after=10m", **ends)
    first = food.primary()
    assert keeper.wait() == 7
    keep(1, *LONG_TTL, "--retry-after=10m", **ends)
    time.sleep(1)
    assert food.lives == [first]
    keep(2, *LONG_TTL)
    second = food.primary(SOON, other_than=first)
    assert (first.node, second.node) == ("n1", "n2")


@pytest.mark.long
def test_retry_after_is_over_some_time(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    for _ in range(2):
        assert keep(1, *LONG_TTL, "--retry-after=2s", command=["quit=50:7"]).wait() == 7
    old, new = food.lives
    assert new.began - old.began >= 2.05


@pytest.mark.long
def test_the_lower_number_goes_first(calm: Cluster, food: Resource, keep: Keep) -> None:
    """Where a machine is busy, another may be quicker, but only after its wait."""
    for number, priority in ((1, 0), (2, 30), (3, 20)):
        keep(number, *LONG_TTL, f"--priority={priority}")
    wanted = {(1, 3), (3, 1)}  # who goes first after whom
    life = food.primary()
    for _ in range(50):
        standing_by(calm, food, 2)
        order_to_yield(calm, food, life)
        old, life = life, food.primary(SOON, other_than=life)
        assert old.ended is not None
        waited = life.began - old.ended
        wanted.discard((number_of(old), number_of(life)))
        if number_of(life) == 2:
            assert waited >= 0.5, food.lives
        elif number_of(life) == 3:
            assert waited >= (0.25 if number_of(old) == 1 else 0.5), food.lives
        if not wanted:
            return
    raise AssertionError(food.lives)


def order_to_yield(machines: Cluster, food: Resource, life: Life) -> None:
    """Do what the verb does, without the time that it takes to start."""
    machines.etcdctl("put", f"test/{food.name}/yield", str(life.token))


@pytest.mark.long
def test_it_stays_where_it_is(calm: Cluster, food: Resource, keep: Keep) -> None:
    keep(1, *LONG_TTL, "--priority=20")
    first = food.primary()
    keep(2, *LONG_TTL, "--priority=10")
    standing_by(calm, food, 1)
    time.sleep(1)
    assert food.current() is first


@pytest.mark.long
def test_fail_back_gives_it_to_the_lower_number(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    keep(1, *LONG_TTL, "--priority=20", "--fail-back-after=0s")
    first = food.primary()
    keep(2, *LONG_TTL, "--priority=10", "--fail-back-after=0s")
    second = food.primary(other_than=first)
    assert second.node == "n2"
    standing_by(calm, food, 1)
    time.sleep(0.5)
    assert food.current() is second


# Fences and roles


def script(place: Path, text: str) -> str:
    path = place / f"script-{len(list(place.iterdir()))}"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.long
def test_a_fence_comes_before_the_command(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    told = food.place / "fenced"
    fence = script(food.place, f'echo "$@" >>{told}')
    keepers = {n: keep(n, SHORT, "--fence", fence) for n in NODES}
    first = food.primary()
    assert not told.exists()  # nobody had it before
    kill_keeper(keepers[number_of(first)])
    second = food.primary(other_than=first)
    assert ended_before(first, second)
    words = told.read_text().split()
    assert (words[0], words[2]) == (food.name, str(first.token))
    own = calm.lease(number_of(first), "status", "--json", food.name)
    own.wait()
    assert json.loads(own.text())["leases"][food.name]["primary"]["node"] != words[1]
    assert len(words) == 3


@pytest.mark.long
def test_where_the_fence_fails_nothing_starts(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    told = food.place / "fenced"
    fails = script(food.place, f"echo no >>{told}; exit 1")
    works = script(food.place, f"echo yes >>{told}")
    keeper = keep(1, SHORT)
    first = food.primary()
    keep(2, SHORT, AGAIN, "--fence", fails)
    kill_keeper(keeper)
    until(lambda: told.exists() and "no" in told.read_text())
    assert food.current() in (None, first)
    keep(3, SHORT, AGAIN, "--fence", works)
    assert food.primary(other_than=first).node == "n3"
    assert "n2" not in {life.node for life in food.lives}


@pytest.mark.long
def test_roles_are_told(calm: Cluster, food: Resource, keep: Keep) -> None:
    told = food.place / "roles"
    hook = script(food.place, f'echo "$1 $2 $3" >>{told}')
    keeper = keep(1, *LONG_TTL, "--on-role", hook)
    food.primary()
    until(lambda: told.exists() and "primary" in told.read_text())
    keeper.kill(signal.SIGTERM)
    keeper.wait()
    changes = [line.split() for line in told.read_text().splitlines()]
    assert {words[0] for words in changes} == {food.name}
    for old, new in zip(changes, changes[1:], strict=False):
        assert old[2] == new[1]
    assert "secondary" in changes[0] or "secondary" in changes[1]


# Exit codes


@pytest.mark.long
def test_with_no_wait_held_elsewhere(calm: Cluster, food: Resource, keep: Keep) -> None:
    keep(1, *LONG_TTL)
    food.primary()
    assert keep(2, *LONG_TTL, "--no-wait").wait() == 75
    assert len(food.lives) == 1


@pytest.mark.long
def test_no_engine(calm: Cluster, food: Resource, keep: Keep) -> None:
    nobody = {"VIAGRA_LEASE": "etcd://10.77.0.77:2379/test"}
    assert keep(1, "--wait-for-engine=1s", more=nobody).wait() == 69
    assert not food.lives


@pytest.mark.long
def test_it_waits_for_an_engine(broken: Cluster, food: Resource, keep: Keep) -> None:
    for number in NODES:
        broken.members[number].kill()
        broken.members[number].wait()
    keeper = keep(1, SHORT)
    time.sleep(1)
    assert keeper.status is None
    for number in NODES:
        broken.start_member(number)
    food.primary()


# What the clock and the machine's names say


@pytest.mark.long
def test_a_clock_that_jumps_changes_nothing(
    calm: Cluster, food: Resource, keep: Keep
) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        absent("needs faketime")
    clock = food.place / "clock"
    clock.write_text("+0\n")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for number in (1, 2):
        keep(number, SHORT, more=fake)
    first = food.primary()
    for jump in ("+1d", "-400d", "+3h"):
        clock.write_text(f"{jump}\n")
        said = calm.nodes[1].run(["date", "+%s"], fake)
        said.wait()
        assert abs(int(said.text()) - time.time()) > 3600
        time.sleep(2.5)  # longer than the lease
    assert food.lives == [first]
    assert food.current() is first


@pytest.mark.long
def test_the_same_host_name_is_not_the_same_node(tmp_path: Path, built: Path) -> None:
    with cluster(tmp_path / "machines", built) as machines:
        for number in (1, 2):
            machines.nodes[number].run(["hostname", "clone"]).wait()
        food = machines.resource("food")
        machines.keep(1, food, SHORT)
        first = food.primary()
        machines.keep(2, food, SHORT)
        standing_by(machines, food, 1)
        assert food.lives == [first]
        machines.off(1)
        assert food.primary(other_than=first).node == "n2"
        food.check()


# Races


def races(
    machines: Cluster, food: Resource, keep: Keep, keepers: int, count: int
) -> None:
    """Have the primary yield, again and again: each time, all the others race."""
    for n in range(keepers):
        keep(1 + n % 3, *LONG_TTL)
    life = food.primary()
    standing_by(machines, food, keepers - 1)
    for _ in range(count):
        order_to_yield(machines, food, life)
        life = food.primary(SOON, other_than=life)
    assert len(food.lives) == count + 1
    food.check()


@pytest.mark.parametrize(
    ("keepers", "count"), [(3, 20), (9, 5), long(3, 1000), long(9, 200)]
)
def test_a_race_has_one_winner(
    calm: Cluster, food: Resource, keep: Keep, keepers: int, count: int
) -> None:
    """One has just given it up, and waits; two, or eight, are free to take it."""
    races(calm, food, keep, keepers, count)


@pytest.mark.long
@pytest.mark.parametrize("contenders", [2, 8])
def test_started_at_the_same_moment(
    calm: Cluster, food: Resource, keep: Keep, contenders: int
) -> None:
    kept = [keep(1 + n % 3, *LONG_TTL, "--no-wait") for n in range(contenders)]
    until(lambda: sum(one.status is not None for one in kept) == contenders - 1)
    assert [one.status for one in kept if one.status is not None] == [75] * (
        contenders - 1
    )
    food.primary()
    assert len(food.lives) == 1


# Random faults


def judged(place: Path, built: Path, seed: int, nodes: int, count: int) -> str:
    """Return what did not hold under a seed, "" when all did."""
    place.mkdir()
    with cluster(place / str(seed), built, nodes) as machines:
        schedule = Schedule(machines, seed, count)
        schedule.run()
        found = schedule.judge()
        return "\n".join([*found, str(schedule)]) if found else ""


FEW = 4  # faults, so that fifteen schedules fit into the quick tests


@pytest.mark.xdist_group("lease schedules")
@pytest.mark.parametrize(
    ("seeds", "nodes", "count"),
    [
        *((range(n, n + 5), 3, FEW) for n in range(0, 15, 5)),
        *(long(range(n, n + 5), 4, STEPS) for n in range(1000, 1200, 5)),
    ],
    ids=str,
)
def test_what_holds_under_random_faults(
    tmp_path: Path, built: Path, seeds: range, nodes: int, count: int
) -> None:
    def look(seed: int) -> str:
        return judged(tmp_path / str(seed), built, seed, nodes, count)

    with ThreadPoolExecutor(len(seeds)) as pool:
        found = [text for text in pool.map(look, seeds) if text]
    assert not found, "\n\n".join(found)
