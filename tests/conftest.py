"""What every test starts from: a home of its own, and the real program."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import CHECKOUT
from world import World, comm, of, until

# What nohup(1), or a shell's "&", has us ignore, all that we execute would ignore as
# well, and some tests send just that. Caught, it is still without effect here.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests end all that they start, whatever came of it."""
    yield
    mark = os.fsencode(tmp_path_factory.getbasetemp()) + b"/"
    with contextlib.suppress(AssertionError):
        until(lambda: not of(mark), 5)  # some may just be ending
    assert not [(pid, comm(pid)) for pid in of(mark)]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of viagra.py that root trusts, whoever owns the checkout."""
    place = tmp_path_factory.mktemp("program")
    # Compiled once, for all workers and all copies of it.
    compileall.compile_dir(CHECKOUT / "viagralib", quiet=2)
    shutil.copy(CHECKOUT / "viagra.py", place)
    shutil.copytree(CHECKOUT / "viagralib", place / "viagralib")
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return place / "viagra.py"


@pytest.fixture
def world(tmp_path: Path, program: Path) -> Iterator[World]:
    """Give a test an empty home, and end all that it started."""
    world = World(tmp_path, program)
    yield world
    world.end()
