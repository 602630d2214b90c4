"""What every test starts from: a home of its own, and the real program."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from checkout import PSUTIL_TABLE, copy_program, not_portable
from hypothesis import settings
from leftovers import Leftovers
from other_users import public_world
from world import World, need_root, until

# What nohup(1), or a shell's "&", has us ignore, all that we execute would ignore as
# well, and some tests send just that. Caught, it is still without effect here.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# What tests write for other users' programs, these must be able to read.
os.umask(0o022)

# Seconds since 1970 after which no test is begun, where somebody waits for them.
UNTIL = float(os.environ.get("VIAGRA_TESTS_UNTIL", "inf"))

# The same examples in each run, nothing kept, and no limit that a busy machine passes.
settings.register_profile("settled", deadline=None, derandomize=True, database=None)
settings.load_profile("settled")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What all tests need, and did not get, ends the run: one error, not hundreds."""
    try:
        return (yield)
    except Exception as error:
        if fixturedef.scope == "session":
            why = f"no fixture {fixturedef.argname}: {type(error).__name__}: {error}"
            request.session.shouldfail = why
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Skip, by name, what was not reached in time."""
    if time.time() > UNTIL:
        pytest.skip("not reached before VIAGRA_TESTS_UNTIL")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name, what does not hold where the process table is psutil's."""
    reasons = not_portable() if PSUTIL_TABLE else {}
    for item in items:
        test = item.nodeid.partition("[")[0].rpartition("/")[2]
        if why := reasons.get(test):
            item.add_marker(pytest.mark.skip(reason=f"portable.md: {why}"))


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leftovers]:
    """Tests end all that they start, and leave nothing outside their directories."""
    left = Leftovers(tmp_path_factory.getbasetemp())
    yield left
    with contextlib.suppress(AssertionError):
        until(lambda: not left.processes(), 5)  # some may just be ending
    left.remove_locks()
    assert (left.processes(), left.files()) == ([], [])


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of viagra.py that root trusts, whoever owns the checkout."""
    return copy_program(tmp_path_factory.mktemp("program"))


@pytest.fixture
def world(tmp_path: Path, program: Path) -> Iterator[World]:
    """Give a test an empty home, and end all that it started."""
    world = World(tmp_path, program)
    yield world
    world.end()


@pytest.fixture
def public(program: Path) -> Iterator[World]:
    """A world in /tmp itself, a sticky directory, that other users may look into."""
    need_root()
    with public_world(program) as world:
        yield world
