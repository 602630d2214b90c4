"""The machines and the checker that the tests of viagra-lease stand on.

A checker that sees nothing would pass every test: here it must see what is wrong.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lease_cluster import (
    Cluster,
    Resource,
    cluster,
    compile_command,
    need_cluster,
)
from lease_schedule import (
    FAULTS,
    MORE,
    Schedule,
    Stretch,
    Troubles,
    overlaps,
    steps,
)
from world import until

pytestmark = pytest.mark.xdist_group("lease harness")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_cluster()
    place = tmp_path_factory.mktemp("machines")
    with cluster(place, compile_command(place), nodes=4) as made:
        yield made


@pytest.fixture
def food(machines: Cluster, request: pytest.FixtureRequest) -> Resource:
    return machines.resource(request.node.name.partition("[")[0][-20:])


def begin(
    machines: Cluster, food: Resource, token: int, *kinds: str
) -> subprocess.Popen[bytes]:
    """Run the command without any lease."""
    argv = [str(machines.command), str(food.place), f"n{token}", *kinds]
    command = subprocess.Popen(argv, env={"VIAGRA_TOKEN": str(token)})
    until(lambda: len(food.lives) >= token)
    return command


def finish(*commands: subprocess.Popen[bytes]) -> None:
    for command in commands:
        command.kill()
        command.wait()


def test_two_at_a_time_are_seen(machines: Cluster, food: Resource) -> None:
    first, second = begin(machines, food, 1), begin(machines, food, 2)
    with pytest.raises(AssertionError, match="two at a time"):
        food.check()
    finish(first, second)


def test_a_stopped_command_still_lives(machines: Cluster, food: Resource) -> None:
    first = begin(machines, food, 1)
    first.send_signal(signal.SIGSTOP)
    second = begin(machines, food, 2)
    assert [life.alone for life in food.lives] == [True, False]
    finish(first, second)


def test_what_a_command_left_running_still_lives(
    machines: Cluster, food: Resource
) -> None:
    first = begin(machines, food, 1, "tail")
    finish(first)
    assert food.lives[0].ended is None
    assert not food.is_free()
    second = begin(machines, food, 2)
    assert not food.lives[1].alone
    finish(second)
    # The descendant's pid is in /proc alone: it is nobody's child.
    tails = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdecimal() and str(food.place).encode() in _command_line(name)
    ]
    assert len(tails) == 1
    os.kill(tails[0], signal.SIGKILL)
    until(food.is_free)
    until(lambda: food.lives[0].ended)


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_one_after_the_other_is_well(machines: Cluster, food: Resource) -> None:
    for token in (1, 2, 3):
        finish(begin(machines, food, token))
        until(food.is_free)
    food.check()
    assert [life.token for life in food.lives] == [1, 2, 3]


def test_a_token_that_does_not_grow_is_seen(machines: Cluster, food: Resource) -> None:
    finish(begin(machines, food, 1))
    until(food.is_free)
    argv = [str(machines.command), str(food.place), "n1", "quit=0:0"]
    subprocess.run(argv, env={"VIAGRA_TOKEN": "1"}, check=True)
    with pytest.raises(AssertionError, match="did not grow"):
        food.check()


def test_each_node_is_a_machine_of_its_own(machines: Cluster) -> None:
    def identity(number: int) -> list[str]:
        paths = ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"]
        return said(machines, number, "cat", *paths)

    before = [identity(number) for number in (1, 4)]
    assert len({word for words in before for word in words}) == 4
    assert said(machines, 4, "hostname") == ["n4"]
    sleeper = machines.nodes[4].run(["sleep", "1000"])
    machines.off(4)
    assert sleeper.status == -signal.SIGKILL
    machines.on(4)
    after = identity(4)
    assert after[0] == before[1][0]
    assert after[1] != before[1][1]


def said(machines: Cluster, number: int, *argv: str) -> list[str]:
    process = machines.nodes[number].run(argv)
    assert process.wait() == 0, process.text()
    return process.text().split()


def test_a_cut_node_reaches_nobody(machines: Cluster) -> None:
    def reaches(at: int) -> bool:
        return "is healthy" in said_by_etcdctl(machines, 4, at)

    assert reaches(1)
    machines.network.cut(4)
    assert not reaches(1)
    machines.network.mend(4)
    until(lambda: reaches(1))


def test_parted_nodes_reach_the_others_only(machines: Cluster) -> None:
    machines.network.part(2, 4)
    assert "is healthy" in said_by_etcdctl(machines, 4, 1)
    assert "is healthy" not in said_by_etcdctl(machines, 4, 2)
    machines.network.part(2, 4, parted=False)
    until(lambda: "is healthy" in said_by_etcdctl(machines, 4, 2))


def said_by_etcdctl(machines: Cluster, number: int, at: int) -> str:
    argv = ["etcdctl", f"--endpoints={machines.member(at)}", "--command-timeout=1s"]
    process = machines.nodes[number].run(
        [*argv, "--dial-timeout=1s", "endpoint", "health"], {"ETCDCTL_API": "3"}
    )
    process.wait()
    return process.text()


def test_a_member_that_dies_is_replaced_as_leader(machines: Cluster) -> None:
    leader = until(machines.leader)
    machines.members[leader].kill()
    others = [number for number in machines.numbers if number != leader]
    until(lambda: "OK" in machines.etcdctl("put", "key", "value", at=others))
    machines.members[leader].wait()
    machines.start_member(leader)
    until(
        lambda: machines.etcdctl("get", "key", at=[leader]).split() == ["key", "value"]
    )


# What judges the schedules


def test_a_seed_is_always_the_same_schedule() -> None:
    one, two = (
        [(step.at, step.fault, step.node) for step in steps(7, [1, 2, 3])]
        for _ in range(2)
    )
    assert one == two
    drawn = {step.fault for seed in range(200) for step in steps(seed, [1, 2, 3])}
    assert drawn == {*FAULTS, *MORE}


def test_times_without_trouble() -> None:
    troubles = Troubles()
    assert troubles.well() == []
    troubles.end("no keeper yet")
    troubles.add("cut")
    troubles.add("off 3")
    assert "off" in troubles
    troubles.end("cut")
    assert len(troubles.well()) == 1
    troubles.end("off 3")
    assert len(troubles.well()) == 2


def test_what_happened_is_judged(machines: Cluster) -> None:
    """A schedule without any fault: well as it was, and not without its command."""
    schedule = Schedule(machines, 0, count=0)
    schedule.run()
    assert schedule.judge() == []
    schedule.resource.lives.clear()
    until(lambda: len(schedule.judge()) == len(machines.nodes))
    assert all(text.startswith("no primary for ") for text in schedule.judge())
    for keeper in schedule.keepers.values():
        keeper.kill(signal.SIGTERM)


def test_a_time_without_a_command_is_measured() -> None:
    """From 0 to 12 there was none; in 6 the leader changed, n1 was well from 3 on."""
    gaps, terms = [Stretch(0, 12)], [Stretch(0, 6), Stretch(6, 20)]
    found = overlaps(gaps, terms, [Stretch(0, 1), Stretch(3, 20)])
    assert [(one.begin, one.end) for one in found] == [(0, 1), (3, 6), (6, 12)]
    assert overlaps(gaps, [Stretch(12, 20)]) == []
