"""What all tests rest on: their copy of the program, and that nothing stays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from checkout import CHECKOUT, HELPERS, copy_library
from leftovers import Leftovers
from world import SETTINGS, World, need_root, unique, until

from viagralib.state.lock_file import RUN_LOCKS

SUITE = """
import pytest

@pytest.fixture(scope="session")
def broken():
    raise OSError("no such luck")

@pytest.mark.parametrize("number", range(200))
def test_with_it(broken, number):
    pass
"""


def test_a_session_fixture_that_fails_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((HELPERS.parent / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", f"--rootdir={tmp_path}", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{HELPERS}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode not in (0, 5), done
    [errors] = re.findall(r"(\d+) errors? in", done.stdout)
    assert int(errors) <= 4, done.stdout  # a worker may have been handed one more
    assert "no fixture broken: OSError: no such luck" in done.stdout, done.stdout


def test_bytecode_that_comes_and_goes_does_not_disturb_a_copy(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    library = copy_library(one)
    # As compileall writes it; gone again when copytree gets there.
    (library / "__pycache__" / "x.cpython-311.pyc.140532").symlink_to("gone")
    copied = copy_library(two, library)
    assert list((copied / "__pycache__").glob("__init__.*.pyc"))
    modes = {path.stat().st_mode & 0o7022 for path in copied.rglob("*")}
    assert modes == {0}


def test_what_came_of_a_test_is_found_however_it_hides(
    world: World, nothing_stays: Leftovers
) -> None:
    need_root()
    left = nothing_stays
    # No word of us in its arguments, its environment or its parents.
    subprocess.run(["setsid", "-f", "sleep", "1000"], env={}, check=True)
    until(lambda: [one for one in left.processes() if " sleep: " in one])
    for one in left.processes():
        world.kill(int(one.split()[0]))
    assert left.processes() == []


def test_a_world_leaves_no_lock_in_run(world: World) -> None:
    need_root()
    name = unique("food")
    world.watch(name)
    world.settings(SETTINGS)
    assert world.run().code == 0
    assert list(Path(RUN_LOCKS).glob(f"{name}.*"))
    world.end()
    assert not list(Path(RUN_LOCKS).glob(f"{name}.*"))
