"""What keepers and guardians decide never leads to two commands at once.

lease_explorer.py tries all that may happen around them; docs/lease.md is the argument.
"""

from __future__ import annotations

from typing import Any

import pytest
from lease_explorer import TTL, Found, Rules, explore

from viagralib.companions.lease.decisions import (
    LastSign,
    Limits,
    deadline_of,
    may_tell_end,
)
from viagralib.companions.lease.engine import Entry, Snapshot

RATES = [(1.0, 1.0), (1.01, 0.99), (0.99, 1.01)]


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_there_are_no_two_whatever_one_thing_goes_wrong(
    rates: tuple[float, float],
) -> None:
    """All states that there are."""
    assert 5_000 < explore(Rules(), faults=1, most=100_000, rates=rates) < 100_000


@pytest.mark.long
@pytest.mark.parametrize("rates", RATES, ids=str)
def test_there_are_no_two_whatever_two_things_go_wrong(
    rates: tuple[float, float],
) -> None:
    """All states that there are, with equal clocks: 344,434."""
    most = 1_000_000
    assert explore(Rules(), faults=2, most=most, rates=rates) > 300_000


@pytest.mark.long
@pytest.mark.parametrize("rates", RATES, ids=str)
def test_there_are_no_two_in_a_million_states(rates: tuple[float, float]) -> None:
    assert explore(Rules(), faults=4, most=1_000_000, rates=rates) == 1_000_000


def first_seen(sign: LastSign, snapshot: Any, now: float) -> None:  # noqa: ANN401
    if not sign.mark:
        LastSign.see(sign, snapshot, now)


def from_answer(asked: float, lasts: float, ttl: float) -> float:
    return lasts


TOO_LATE = {
    "term_at": lambda deadline: deadline + 2,
    "kill_at": lambda deadline: deadline + 4,
    "guardian_at": lambda deadline: deadline + 6,
}
# What is wrong, and how many things have to go wrong until it is seen.
FAULTS: dict[str, tuple[int, dict[str, Any]]] = {
    "early end not waited out": (1, {"clear_at": lambda sign, *_: sign.seen}),
    "end taken for told": (1, {"clear_at": lambda sign, *_: 0.0}),
    "only the first sign": (1, {"see": first_seen}),
    "keeper kills too late": (1, TOO_LATE),
    "guardian kills too late": (1, {"guardian_at": lambda deadline: deadline + 4}),
    "guardian does not kill": (1, {"is_over": lambda left: False}),
    "waited out by half": (2, {"clear_at": lambda sign, *_: sign.seen + TTL / 2}),
    "counted from the answer": (2, {"deadline_of": from_answer}),
}


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        pytest.param(*one, id=name, marks=[pytest.mark.long] * (one[0] > 1))
        for name, one in FAULTS.items()
    ],
)
def test_a_rule_that_is_taken_out_is_missed(number: int, fault: dict[str, Any]) -> None:
    """Each is a row of the argument in docs/lease.md."""
    with pytest.raises(Found):
        explore(Rules()._replace(**fault), faults=number, most=1_000_000)


def test_a_deadline_is_no_longer_than_others_are_told() -> None:
    """A leader that is new, or wrong, may give a lease more than its time."""
    assert deadline_of(100.0, 60.0, 15.0) == 115.0
    assert deadline_of(100.0, 9.0, 15.0) == 109.0


def test_an_end_is_told_only_of_what_began_and_is_over() -> None:
    assert may_tell_end(True, [])
    assert not may_tell_end(True, ["stuck"])
    assert not may_tell_end(False, [])


def test_an_engine_that_was_emptied_tells_no_end() -> None:
    sign, other = LastSign(), Entry("other", ttl=TTL, token=7)
    sign.see(Snapshot(mark=5, uncertain=other), 100.0)
    sign.see(Snapshot(), 101.0)
    assert sign.clear_at(Snapshot(), lambda entry: entry.ttl) == 100.0 + TTL
    sign.see(Snapshot(mark=6), 102.0)  # its end was told
    assert sign.clear_at(Snapshot(mark=6), lambda entry: entry.ttl) == 102.0


def test_the_limits_come_in_their_order() -> None:
    for ttl, stop in ((2.0, 0.4), (15.0, 5.0), (86400.0, 0.0)):
        limits = Limits(ttl, stop)
        term, kill = limits.term_at(ttl), limits.kill_at(ttl)
        assert limits.renew_at(0) < term <= kill < limits.guardian_at(ttl) < ttl
