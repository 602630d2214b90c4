"""Each line of docs/lease.md's argument is missed when its code is taken out.

In a copy of the checkout a line's code is made wrong; the test that docs/lease.md names
for it has to fail there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import CHECKOUT

LEASE, CONTRACT = "companions/lease", "companions/contract"
SEARCH = ("decisions", "whatever_one_thing_goes_wrong")
# The file, what stands there, what is put in its place; the tests' file, and which.
ROWS = {
    "counted from before the request": (
        f"{LEASE}/etcd_engine.py",
        "            began = self._members.asked_at\n            last",
        "            began = boot_clock()\n            last",
        ("etcd_answers", "counts_from_before"),
    ),
    "no longer than others are told": (
        f"{LEASE}/decisions.py",
        "asked_at + min(lasts, ttl)",
        "asked_at + lasts",
        ("decisions", "no_longer_than"),
    ),
    "the keeper kills in time": (
        f"{LEASE}/decisions.py",
        "deadline - 2 * self.margin",
        "deadline",
        ("decisions", "come_in_their_order"),
    ),
    "the guardian kills in time": (
        f"{LEASE}/decisions.py",
        "deadline - self.margin",
        "deadline + 4 * self.margin",
        SEARCH,
    ),
    "a stopped keeper": (
        f"{CONTRACT}/guardian.py",
        "return left is not None and left <= 0",
        "return False",
        SEARCH,
    ),
    "a stopped guardian": (
        f"{LEASE}/events.py",
        'guardian.state in "Tt"',
        "False",
        ("viagra_lease", "guardian_that_is_stopped"),
    ),
    "a killed guardian": (
        f"{CONTRACT}/guardian.py",
        'return os.read(self._from_guardian, 1) == b""',
        "return False",
        ("viagra_lease", "killed_takes_all_with_it and guardian"),
    ),
    "both killed at once": (
        f"{LEASE}/primary.py",
        "environment, prepare=tie)",
        "environment)",
        ("viagra_lease", "killed_at_once"),
    ),
    "the sign put anew": (
        f"{LEASE}/etcd_engine.py",
        "self._note)] if self._note else []",
        "self._note)] if False else []",
        ("etcd_answers", "on_its_condition"),
    ),
    "only under its own key": (
        f"{LEASE}/etcd_engine.py",
        "[self._keys.is_held(lease.token)], last, until",
        "[self._keys.is_held(0)], last, until",
        ("etcd_answers", "on_its_condition"),
    ),
    "a whole ttl from the last sign": (
        f"{LEASE}/decisions.py",
        "may_last(other) if other else 0.0",
        "may_last(other) / 4 if other else 0.0",
        SEARCH,
    ),
    "waited for": (
        f"{LEASE}/primary.py",
        "if other and left > 0:",
        "if other and left > 999:",
        ("lease_cluster", "cannot_hear_of_is_waited_out and not tail and not deaf"),
    ),
    "an etcd that was emptied": (
        f"{LEASE}/decisions.py",
        "(None if snapshot.mark else self._other)",
        "None",
        ("decisions", "emptied"),
    ),
    "an end with something left": (
        f"{LEASE}/decisions.py",
        "return is_noted and not left",
        "return is_noted",
        ("decisions", "end_is_told"),
    ),
    "an end after another's start": (
        f"{LEASE}/etcd_engine.py",
        "self._transact([self._keys.is_noted(note)], [told])",
        "self._transact([self._keys.is_held(lease.token)], [told])",
        ("etcd_answers", "on_its_condition"),
    ),
    "taken again": (
        f"{LEASE}/etcd_engine.py",
        "self._take([is_ours], [again], until)",
        "self._take([], [again], until)",
        ("etcd_answers", "on_its_condition"),
    ),
    "noted before it starts": (
        f"{LEASE}/primary.py",
        "        self._engine.note_start(self._lease)\n",
        "",
        ("viagra_lease", "cannot_be_noted"),
    ),
    "a deposed leader": (
        f"{LEASE}/decisions.py",
        "return renewed_in == confirmed_in",
        "return True",
        ("etcd_answers", "deposed"),
    ),
    "an odd answer": (
        f"{LEASE}/etcd_messages.py",
        "if type(value) is not int or value < least:",
        "if type(value) is not int:",
        ("etcd_answers", "odd_answer and negative"),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_line_without_its_code_is_missed(
    tmp_path: Path, row: tuple[str, str, str, tuple[str, str]]
) -> None:
    path, code, other, (where, which) = row
    copy = tmp_path / "copy"
    leave = shutil.ignore_patterns(".*", "__pycache__", "bench", "man")
    shutil.copytree(CHECKOUT, copy, ignore=leave)
    wrong = copy / "viagralib" / path
    text = wrong.read_text()
    assert text.count(code) == 1
    wrong.write_text(text.replace(code, other))
    file = f"lease_{where}.py" if where == "decisions" else f"{where}.py"
    words = [f"tests/companions/test_{file}", "-k", which, "-m", ""]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *words],
        cwd=copy,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "1 failed" in done.stdout) == (1, True), done.stdout


def test_each_line_of_the_argument_names_a_test_that_is_there() -> None:
    page = (CHECKOUT / "docs/lease.md").read_text()
    table = page.partition("| line | held by |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    assert len(lines) >= 12
    files = list((CHECKOUT / "tests/companions").glob("test_*.py"))
    there = "".join([path.name + path.read_text() for path in files])
    for line in lines:
        names = re.findall(r"`([^`]+)`", line.split("|")[3])
        assert names, line
        for name in names:
            rule = re.fullmatch(r"[\w.]*\[(.+)\]", name)
            assert (rule.group(1) if rule else name) in there, name
