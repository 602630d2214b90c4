"""The shape of the program: who imports whom, how long things are, what is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from looking import fresh, run_as
from world import World, environment

CHECKOUT = Path(__file__).resolve().parent.parent
LIBRARY = CHECKOUT / "viagralib"
# A module imports only what stands before it here.
_ORDER = """
    wholefile
    messages durations values facts order tomlfile homes accounts listing settings
    commandline printing ways trust
    patterns procfs portable table onlooker matching processes units
    rlimits family state clock deaths outputs children incidents announcements pauses
    runners run hooks findings alarms sockets checks health limits machine
    kernellog evidence logtails
    performing stopping standing report telling recovery needs course rounds
    cause notice syslogging endings closing response
    looking status history orders selftest control
    signals member contract launch companion guardian
    plan lives ledger outfile demands runner
    web running conditions
    leaseplan engine etcdwire etcd lockfile flocked engines
    nodes marks herald ear tenure keeper leases
"""
ORDER = _ORDER.split()
LONGEST_MODULE = 260  # lines
LONGEST_FUNCTION = 50
LONGEST_MAIN = 40
# What a run needs none of, as long as there are no facts and all is up.
_DEAR = """
    json re typing collections subprocess psutil tomllib argparse dataclasses contextlib
    difflib shlex socket pwd
    viagralib.response viagralib.recovery viagralib.evidence viagralib.notice
    viagralib.control viagralib.incidents viagralib.portable
"""
DEAR = _DEAR.split()
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
FILES = [CHECKOUT / "viagra.py", *MODULES]


def imports(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: no relative imports"
            names = [node.module or ""]
            if node.module == "viagralib":
                names = [f"viagralib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("viagralib.")}
    return found & {path.stem for path in MODULES}


def test_the_list_names_every_module_once() -> None:
    there = sorted(
        path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__"
    )
    assert sorted(ORDER) == there


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_before_it(name: str) -> None:
    assert imports(LIBRARY / f"{name}.py") <= set(ORDER[: ORDER.index(name)])


def test_companions_are_imported_by_nothing() -> None:
    for path in FILES:
        if path.parent.name != "commands":
            assert "viagralib.commands" not in path.read_text(), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_outgrows_a_reader(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            longest = LONGEST_MAIN if node.name in {"main", "act"} else LONGEST_FUNCTION
            assert lines <= longest, f"{path.name}: {node.name} has {lines} lines"


def loaded(*command: str) -> set[str]:
    """Return the modules that a Python program loads, by Python's own account."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", *command],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert done.stdout == ""
    lines = [
        line for line in done.stderr.splitlines() if line.startswith("import time:")
    ]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_a_quiet_run_loads_nothing_that_it_does_not_need(world: World) -> None:
    names = [fresh() for _ in range(5)]
    for name in names:
        world.watch(name)
        world.up(name)
    (world.home / "viagra.toml").unlink()
    assert world.run().code == 0  # the state directory is there from now on
    quiet = loaded(*world.command()[2:])
    assert "viagralib.matching" in quiet
    assert not quiet & set(DEAR), sorted(quiet & set(DEAR))
    # What it loads beyond Python itself: its own parts and a few of Python's.
    more = quiet - loaded("-c", "pass") - {f"viagralib.{name}" for name in ORDER}
    assert more <= {"viagralib", "__future__", "errno", "fcntl", "select"}, more


def test_psutil_is_loaded_on_no_linux(world: World) -> None:
    name = fresh()
    world.watch(name, 'command = "1000"')
    world.up(name)
    names = loaded(*world.command("check")[2:])
    assert "psutil" not in names
    # Nor anything that would start the daemon.
    assert not names & {"viagralib.response", "viagralib.recovery", "viagralib.orders"}


def test_the_version_has_one_place(world: World) -> None:
    done = run_as([*world.command()[:3], "--version"])
    assert done.out.split()[-1] in (LIBRARY / "__init__.py").read_text()
    places = [path for path in FILES if done.out.split()[-1] in path.read_text()]
    assert places == []
