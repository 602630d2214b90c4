"""Known pids: where a run looks first. They save time, and change no verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from other_users import fresh
from world import World, all_pids, until

from viagralib.processes.observer import Observer
from viagralib.processes.table import own_pid
from viagralib.processes.verdicts import Verdict, judge
from viagralib.settings.configuration import load
from viagralib.settings.viagra_toml import Settings
from viagralib.trust.programs import ProgramTrust

GONE = 4_194_304  # above what Linux gives: proc(5), pid_max


def known(world: World) -> list[int]:
    return [int(word) for word in (world.state / "known-pids").read_text().split()]


def test_a_run_keeps_where_the_daemons_are_and_looks_there_first(world: World) -> None:
    names = [fresh() for _ in range(3)]
    for name in names:
        world.watch(name)
    pids = [world.up(name).pid for name in names]
    assert world.run().code == 0
    assert set(known(world)) == set(pids)
    before = (world.state / "known-pids").stat()
    assert world.run().code == 0
    after = (world.state / "known-pids").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_daemon_that_is_elsewhere_now_is_found_and_kept(world: World) -> None:
    name = fresh()
    world.watch(name)
    first = world.up(name)
    assert world.run().code == 0
    second = world.up(name)
    world.kill(first.pid)
    until(lambda: first.poll() is not None)
    assert (world.run().out, known(world)) == ("", [second.pid])


@pytest.mark.parametrize(
    "text", [b"", b"x", b"\0\xff", b"-1 0 1 2", b"9" * 100_000, b"1 " * 5000]
)
def test_what_is_damaged_costs_time_alone(world: World, text: bytes) -> None:
    name = fresh()
    world.watch(name)
    daemon = world.up(name)
    assert world.run().code == 0
    (world.state / "known-pids").write_bytes(text)
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", "")
    assert known(world) == [daemon.pid]


def test_where_nothing_can_be_kept_nothing_is_said(world: World) -> None:
    name = fresh()
    world.watch(name)
    world.up(name)
    (world.state / "known-pids").mkdir(parents=True)
    world.state.chmod(0o700)
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", "")


class Table:
    """Daemons of each kind in the real process table, and what is known of them."""

    def __init__(self, world: World) -> None:
        self.pids = [own_pid(), 1, 2, GONE]
        for facts in (
            "",
            "count = [2, 9]\n",
            "count = [3, 9]\n",
            'command = "nothing"\n',
            'user = "nobody"\n',
            'executable = "/bin/false"\n',
            'pidfile = "/nonexistent"\n',
        ):
            name = fresh()
            world.watch(name, facts)
            self.pids += [world.up(name).pid, world.up(name).pid]
        zombie = fresh()
        world.watch(zombie)
        dead = world.up(zombie)
        os.kill(dead.pid, 9)
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        self.pids.append(dead.pid)
        world.watch(fresh())  # and one that runs nowhere
        self.pids += all_pids()[:5]
        self.settings: Settings = load(str(world.home))
        assert not self.settings.faults

    def verdicts(self, first: list[int]) -> dict[str, tuple[str, str]]:
        daemons = self.settings.daemons.values()
        observer = Observer(daemons, ProgramTrust(os.geteuid()), own_pid())
        found = judge(daemons, observer, first=first)
        return {name: told(verdict) for name, verdict in found.items()}


def told(verdict: Verdict) -> tuple[str, str]:
    return verdict.word, verdict.reason


@pytest.fixture
def crowd(world: World) -> Iterator[Table]:
    yield Table(world)


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_verdict_depends_on_what_is_known(crowd: Table, data: st.DataObject) -> None:
    first = data.draw(st.lists(st.sampled_from(crowd.pids), max_size=30))
    with_them, without = crowd.verdicts(first), crowd.verdicts([])
    assert with_them == without
    words = {word for word, _ in without.values()}
    assert words == {"up", "down", "sick", "unknown"}
