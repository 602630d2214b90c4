"""The shape of the program: who imports whom, how long things are, what is loaded."""

from __future__ import annotations

import ast
import functools
import socket
import subprocess
import sys
from pathlib import Path

from checkout import CHECKOUT, LIBRARY
from other_users import fresh, run_as
from system_calls import recorded, since
from world import World, environment

# A package imports only itself and what stands before it here.
_PACKAGES = """
    base settings trust processes state hooks evidence health recovery report verbs
    companions.contract companions.run companions.wait companions.lease
"""
PACKAGES = _PACKAGES.split()
LONGEST_MODULE = 260  # lines
LONGEST_FUNCTION = 50
LONGEST_MAIN = 40
# Of a quiet run with five daemons: its modules, the system calls by which Python finds
# and loads one and we judge it, and all others.
MOST_PARTS = 36
MOST_CALLS_FOR_A_PART = 9
MOST_CALLS = 205
# What a run needs none of, as long as there are no facts and all is up.
_DEAR = """
    json re typing collections subprocess psutil tomllib argparse dataclasses contextlib
    difflib shlex socket pwd
    viagralib.verbs.run viagralib.recovery.recovery viagralib.evidence.collector
    viagralib.report.notice
    viagralib.verbs.dispatch viagralib.state.incidents viagralib.processes.portable
"""
DEAR = _DEAR.split()
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
FILES = [CHECKOUT / "viagra.py", *MODULES]


@functools.cache
def syntax(path: Path) -> list[ast.AST]:
    """Return all nodes of a file's syntax."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> set[str]:
    """Return the packages of ours that a file imports from, wherever in it."""
    found = set()
    for node in syntax(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: no relative imports"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {
            package
            for package in PACKAGES
            if any(f"{name}.".startswith(f"viagralib.{package}.") for name in names)
        }
    return found


def package_of(path: Path) -> str:
    return ".".join(path.parent.relative_to(LIBRARY).parts)


def test_the_list_names_every_package() -> None:
    assert {package_of(path) for path in MODULES} == set(PACKAGES)


def test_a_package_imports_only_what_stands_before_it() -> None:
    for path in MODULES:
        before = PACKAGES[: PACKAGES.index(package_of(path)) + 1]
        assert imports(path) <= set(before), path


def test_no_companion_imports_another() -> None:
    for path in MODULES:
        own = package_of(path)
        if own.startswith("companions."):
            allowed = {own, "companions.contract"}
            companions = {one for one in imports(path) if one.startswith("companions.")}
            assert companions <= allowed, path


def test_files_are_opened_in_one_place() -> None:
    # base.guarded_files for what others could have put there, base.files for the rest.
    elsewhere = [one for one in FILES if one.parent != LIBRARY / "base"]
    for path, node in ((one, node) for one in elsewhere for node in syntax(one)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            named = called.rpartition(".")[2]
            assert called not in {"open", "os.open", "io.open", "os.fdopen"}, path
            assert named not in {"read_text", "read_bytes", "write_text"}, path
            assert named not in {"write_bytes", "FileIO", "mkstemp"}, path


def test_nothing_outgrows_a_reader() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= LONGEST_MODULE, path
    for path, node in ((one, node) for one in FILES for node in syntax(one)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            longest = LONGEST_MAIN if node.name in {"main", "act"} else LONGEST_FUNCTION
            assert lines <= longest, f"{path.name}: {node.name} has {lines} lines"


def test_what_goes_on_by_being_asked_is_asked_each_time() -> None:
    asked, lazy = 0, []
    for path in FILES:
        for node in syntax(path):
            if isinstance(node, ast.ListComp | ast.GeneratorExp):
                if "is_over(" not in ast.unparse(node.elt):
                    continue
                asked += isinstance(node, ast.ListComp)
                # all() of a generator asks no further than the first that is not.
                lazy += [path] if isinstance(node, ast.GeneratorExp) else []
    assert (asked >= 3, lazy) == (True, [])


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
    assert "viagralib.processes.matching" in quiet
    assert not quiet & set(DEAR), sorted(quiet & set(DEAR))
    # What it loads beyond Python itself: its own parts and a few of Python's.
    more = quiet - loaded("-c", "pass")
    more = {name for name in more if not name.startswith("viagralib")}
    assert more <= {"__future__", "errno", "fcntl", "gc", "select", "zlib"}, more


def test_a_quiet_run_keeps_to_its_budget_of_parts_and_system_calls(
    world: World,
) -> None:
    for _ in range(5):
        name = fresh()
        world.watch(name)
        world.up(name)
    assert world.run().code == 0
    parts = {name for name in loaded(*world.command()[2:]) if "viagralib" in name}
    # Of two: in the first run of an hour, all parts are judged.
    calls = min((recorded(world) for _ in range(2)), key=len)
    ours = [call for call in calls if "/viagralib" in call.text]
    work = [call for call in since(calls, world.home) if call not in ours]
    assert 20 < len(parts) <= MOST_PARTS, sorted(parts)
    assert 5 < len(ours) / len(parts) <= MOST_CALLS_FOR_A_PART
    assert 100 < len(work) <= MOST_CALLS, [call.kind() for call in work]


def test_who_only_looks_goes_through_the_process_table_twice(world: World) -> None:
    # For the names of all processes; for one that is missing, for their arguments.
    world.watch(fresh())
    looks = [one for one in recorded(world, "check") if '"/proc", ' in one.text]
    assert len(looks) == 2, looks


def test_what_did_not_change_is_neither_parsed_nor_matched_again(world: World) -> None:
    log, beat = world.place / "log", world.place / "beat"
    log.write_text("all is well\n")
    beat.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        well = (
            'command = "100[0]$"\nstart_timeout = "1ms"\n'
            f'listens = ["tcp:127.0.0.1:{server.getsockname()[1]}"]\n'
            f'heartbeat = {{ file = "{beat}", every = "1h" }}\n'
            f'alarm = {{ file = "{log}", pattern = "pan[i]c" }}\n'
        )
        for facts in ('command = "100[0]$"\n', well):
            name = fresh()
            world.watch(name, facts)
            world.up(name)
        assert [world.run().code for _ in range(2)] == [0, 0]
        before = (world.state / "answers").stat()
        quiet = loaded(*world.command()[2:]) - loaded("-c", "pass")
    assert "viagralib.health.socket_owners" in quiet
    dear = {"re", "tomllib", "json", "collections", "enum", "viagralib.verbs.run"}
    assert not quiet & dear
    assert (world.state / "answers").stat().st_ino == before.st_ino


def test_psutil_is_loaded_on_no_linux(world: World) -> None:
    name = fresh()
    world.watch(name, 'command = "1000"')
    world.up(name)
    names = loaded(*world.command("check")[2:])
    assert "psutil" not in names
    # Nor anything that would start the daemon.
    assert not names & {
        "viagralib.verbs.run",
        "viagralib.recovery.recovery",
        "viagralib.verbs.restart",
    }


def test_the_version_has_one_place(world: World) -> None:
    done = run_as([*world.command()[:3], "--version"])
    assert done.out.split()[-1] in (LIBRARY / "__init__.py").read_text()
    places = [path for path in FILES if done.out.split()[-1] in path.read_text()]
    assert places == []


EXECUTES = ("exec", "spawn", "posix_spawn", "system", "popen", "startfile")
EXECUTING = {"subprocess", "pty", "runpy", "multiprocessing", "asyncio"}


def executions(path: Path) -> set[str]:
    """Return the names by which a file could execute a program, or text as code."""
    found = set()
    for node in syntax(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & EXECUTING
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & EXECUTING
            if node.module == "os":
                names = [alias.name for alias in node.names]
                found |= {name for name in names if name.startswith(EXECUTES)}
        elif isinstance(node, ast.Attribute):
            of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
            if of_os and node.attr.startswith(EXECUTES):
                found.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in {"exec", "eval", "__import__"}:
            found.add(node.id)
    return found


def test_the_gate_alone_executes() -> None:
    gate = LIBRARY / "trust" / "gate.py"
    found = {path: names for path in FILES if (names := executions(path))}
    assert found == {gate: {"execve", "posix_spawn", "subprocess"}}
