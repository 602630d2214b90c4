"""Records of leases, which other machines write: told, or as if there were none."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from pathlib import Path

import pytest
from fuzzing import AMOUNTS, json_values, numbers, records, tried
from hypothesis import strategies as st
from world import remove_locks

from viagralib.companions.lease import verbs
from viagralib.companions.lease.engine import Entry, read_entry
from viagralib.companions.lease.file_engine import FileEngine
from viagralib.companions.lease.node_records import NodeRecords
from viagralib.companions.lease.options import Plan
from viagralib.state.directory import this_boot
from viagralib.state.lock_file import LockFile

NAME = "food"
KEYS = ("node", "host", "pid", "since", "priority", "ttl", "token", "released")
values = st.dictionaries(st.sampled_from(KEYS), numbers | json_values, max_size=6)
entries = values.map(
    lambda more: json.dumps({"node": "n", "host": "h", **more}).encode()
) | records(*KEYS)
rests = (numbers | json_values).map(
    lambda until: json.dumps({"boot": this_boot(), "until": until}).encode()
) | records("boot", "until", "pid")


def no_number(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@AMOUNTS
def test_any_card_is_read_or_none(amount: int) -> None:
    @tried(amount, text=entries)
    def holds(text: bytes) -> None:
        entry, more = read_entry(text.decode(errors="replace"))
        assert (entry is None and more == {}) or isinstance(entry, Entry)


@pytest.mark.parametrize("number", ["1e300", "-1e300", "Infinity", "NaN", "9" * 400])
@pytest.mark.parametrize("key", ["since", "ttl", "token", "priority", "pid"])
def test_a_number_beyond_all_clocks_is_none(key: str, number: str) -> None:
    entry, _ = read_entry(f'{{"node": "n", "host": "h", "{key}": {number}}}')
    assert entry == Entry("n", "h")


@AMOUNTS
def test_any_records_of_a_lease_are_told(tmp_path: Path, amount: int) -> None:
    place = tmp_path / "engine" / NAME
    state = tmp_path / "state"
    (state / "leases" / NAME).mkdir(parents=True)
    place.mkdir(parents=True, mode=0o700)
    locks = [LockFile(str(place / kind)) for kind in ("lock", "standby.n.1")]
    assert all(lock.take() for lock in locks)

    def told(*, as_json: bool) -> str:
        asked = Plan("status", None, NAME, json=as_json)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            verbs.obey(asked, f"file://{tmp_path}/engine", str(state))
        return out.getvalue()

    @tried(
        amount // 2,
        lease=entries,
        last=entries,
        standby=entries,
        order=numbers.map(str) | st.sampled_from(["٣", "²", "9" * 4096]),
        rest=rests,
        keeper=records("pid", "role", "start", "since"),
    )
    def holds(  # noqa: PLR0917
        lease: bytes,
        last: bytes,
        standby: bytes,
        order: str,
        rest: bytes,
        keeper: bytes,
    ) -> None:
        (place / "lease").write_bytes(lease)
        (place / "last").write_bytes(last)
        (place / "standby.n.1").write_bytes(standby)
        (place / "yield").write_text(order, errors="replace")
        for kind, text in (("rest", rest), ("keeper", keeper)):
            (state / "leases" / NAME / kind).write_bytes(text)
        shown = told(as_json=False)
        assert all(char == "\n" or char.isprintable() for char in shown), repr(shown)
        json.loads(told(as_json=True), parse_constant=no_number)
        assert NodeRecords(str(state), NAME).rest_left() >= 0

    for lock in locks:
        lock.close()


@AMOUNTS
def test_a_lease_is_taken_whatever_the_last_one_left(
    tmp_path: Path, amount: int
) -> None:
    place = tmp_path / "leases"
    engine = FileEngine(str(place), NAME, 15.0, Entry("node", "host", os.getpid()))
    engine.prepare()

    @tried(amount // 2, lease=entries, last=entries)
    def holds(lease: bytes, last: bytes) -> None:
        for kind, text in (("lease", lease), ("last", last)):
            (place / NAME / kind).write_bytes(text)
        before, _ = read_entry(lease.decode(errors="replace"))
        began = int(time.time())
        taken = engine.take()
        assert taken is not None and taken.token >= began
        assert before is None or taken.token > before.token
        engine.note_start(taken)
        renewed = engine.renew(taken, 0.0)
        assert renewed.snapshot.primary is not None
        assert renewed.snapshot.primary.token == taken.token
        engine.give_up(taken, ended=True)

    remove_locks([tmp_path])
