"""What others wrote, with anything in it: examples for the tests of what reads it.

A few settled ones by default; in the long mode many, and fresh ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

FEW, MANY = 30, 5000
AMOUNTS = pytest.mark.parametrize(
    "amount", [FEW, pytest.param(MANY, marks=pytest.mark.long)]
)
Property = Callable[..., None]


def tried(
    amount: int, **given_as: st.SearchStrategy[object]
) -> Callable[[Property], None]:
    """Hold a property to so many examples, now."""

    def hold(property_: Property) -> None:
        few = amount <= FEW
        limits(
            max_examples=amount,
            derandomize=few,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(given(**given_as)(property_))()

    return hold


# Values as they are in records, and as they never should be

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1e11, -1e11, 2**31, 2**63, 10**400, time.time(), True])
)
texts = st.text(max_size=30) | st.sampled_from(
    ["", "..", "/", "\0", "\ud800", "9" * 20]
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)


def records(*keys: str) -> st.SearchStrategy[bytes]:
    """Return texts of records: keys that are right, values that are not; some cut."""
    keyed = st.dictionaries(st.sampled_from(keys) | texts, json_values, max_size=8)
    whole = keyed.map(lambda record: json.dumps(record).encode())
    cut = st.tuples(whole, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
    deep = st.sampled_from([b"[" * 60_000, b'{"since":' * 20_000, b"9" * 5000, b"\xff"])
    return whole | whole | cut | st.binary(max_size=40) | deep
