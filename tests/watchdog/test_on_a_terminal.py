"""By hand is not cron: what a person is told on a terminal, or of a name."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from checkout import COMPANIONS, LIBRARY
from other_users import ORDINARY, public_world, run_as, users_python
from world import Result, World, environment, need_root, unique

from viagralib.settings.command_line import FLAGS, VALUES, VERBS

COLUMNS = 40


def on_terminal(command: list[str], columns: int = 200) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what it says."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 25, columns, 0, 0))
    with subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, env=environment()
    ) as process:
        os.close(other)
        said = b""
        try:
            while part := os.read(terminal, 4096):
                said += part
        except OSError:  # what a terminal says when nobody has its other end any more
            pass
    os.close(terminal)
    return process.returncode, said.decode().replace("\r\n", "\n")


def test_a_person_is_told_why_nothing_is_done_and_cron_is_not(world: World) -> None:
    up, paused, off = unique("up"), unique("paused"), unique("off")
    world.watch(up)
    world.watch(paused)
    world.hook(off, "true", mode=0o644)
    pid = world.up(up).pid
    world.run("pause", paused, "--reason", "new disk")
    down = f'{paused} is down: no process named "{paused}" (paused: until resumed: new '
    quiet = world.run()
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    code, said = on_terminal(world.command())
    assert code == 0 and down in said and f"{up} is up: pid {pid}\n" in said
    for _ in range(2):  # by name, each time
        told = world.run(up, paused, off)
        assert told.code == 0 and down in told.out, told
        assert f"{up} is up: pid {pid}\n" in told.out
        path = world.home / "start.d" / off
        assert f"{off} is off: not executable: chmod +x {path}\n" in told.out
    assert world.starts(paused) == 0
    done = world.run(up, paused, off, parent="bcron-exec")  # the same in a crontab
    assert (done.code, done.out, done.err) == (0, "", "")


def test_what_was_brought_back_is_not_told_as_down(world: World) -> None:
    name = unique("back")
    world.watch(name)
    told = world.run(name)
    assert told.code == 0 and told.out.startswith(f"Restarting {name}\n")
    assert f"{name} is " not in told.out


def test_check_ends_with_one_line(world: World) -> None:
    first, second = unique("first"), unique("second")
    for name in (first, second):
        world.watch(name)
        world.up(name)
    assert world.run("check").out == ""
    assert on_terminal(world.command("check")) == (0, "2 daemons are up\n")
    assert world.run("check", first).out == "1 daemon is up\n"
    for pid in world.pids(second):
        world.kill(pid)
    world.run("pause", second)
    # Whatever its standing, what is not up is named.
    code, said = on_terminal(world.command("check"))
    assert (code, said.splitlines()[-1]) == (0, "up: 1 of 2")
    assert said.startswith(f"{second} is down: ") and "(paused: " in said
    assert world.run("check").out == said.partition("up: 1")[0]


@pytest.mark.parametrize("verb", ["check", "status", "history", "test", "run"])
def test_a_watch_over_nothing_says_so(world: World, verb: str) -> None:
    world.hook("off", "true", mode=0o644)
    told = on_terminal(world.command(verb))
    place = world.home / "start.d"
    assert told[0] == 0
    assert f"nothing is watched: chmod +x a hook in {place}, or" in told[1]
    assert world.run().out == ""  # cron's mail would come each time


def test_a_pause_is_judged_and_recalled(world: World) -> None:
    up, down = unique("up"), unique("down")
    for name in (up, down):
        world.watch(name)
    world.up(up)
    said = json.loads(world.run("pause", up, down, "--json").out)
    assert said["version"] == 1 and set(said["paused"]) == {up, down}
    assert said["paused"][up]["until"] is None
    told = json.loads(world.run("--json").out)
    assert {n: d["verdict"] for n, d in told["daemons"].items()} == {
        up: "up",
        down: "down",
    }
    rows = {line.split()[0]: line.split() for line in status(world)[1:3]}
    assert rows[up][1:3] == ["up", "paused"] and rows[down][1:3] == ["down", "paused"]
    assert rows[up][3] == str(world.pids(up)[0])
    resumed = world.run("resume", up, down).out.splitlines()
    assert resumed[0] == f"{up} is watched again"
    assert resumed[1].startswith(f"{down} is watched again; {down} is down: no ")
    assert json.loads(world.run("resume", up, "--json").out)["paused"] == {up: None}


def status(world: World) -> list[str]:
    return world.run("status").out.splitlines()


def test_names_are_whole_in_a_pipe_and_all_fits_a_narrow_terminal(world: World) -> None:
    names = [f"my-company-web-frontend-worker-{number}" for number in (1, 2)]
    for name in names:
        world.hook(name, "true")
        world.facts(name, f'process = "{unique("none")}"\nrecovery = "report"\n')
    rows = status(world)[:3]
    assert [row.split()[0] for row in rows[1:]] == names
    assert {row.split()[1] for row in rows[1:]} == {"down"}
    _, said = on_terminal(world.command("status"), COLUMNS)
    assert [len(row) <= COLUMNS for row in said.splitlines()[:3]] == [True] * 3
    assert said.splitlines()[0].split() == ["DAEMON", "VERDICT", "STANDING"]
    assert said.splitlines()[1].split()[1:] == ["down", "-"]


def test_who_forgot_sudo_acts_on_nothing_and_is_told_with_whose_eyes_to_look(
    program: Path,
) -> None:
    need_root()
    with public_world(program) as world:
        name = unique("roots")
        world.watch(name)
        world.up(name)

        def ask(*words: str) -> Result:
            command = world.command(*words)
            command[0] = users_python()
            del command[5:7]  # --state: whoever brings one of their own means it
            return run_as(command, ORDINARY)

        given = f"--dir {world.home}"
        for words in (
            *([], ["restart", name], ["pause", name, "--for", "2h"]),
            *(["resume", name], ["history"], ["test"]),
        ):
            told = ask(*words)
            command = " ".join(["sudo viagra.py", given, *words])
            line = f"viagra.py: {world.home}: these are root's daemons: {command}\n"
            assert (told.code, told.out, told.err) == (2, "", line)
        assert world.starts(name) == 0
        for verb in ("check", "status"):
            told = ask(verb, name)
            assert told.out.startswith("note: these are root's daemons, seen without")
            assert f"sudo viagra.py {given} {verb} {name}\n" in told.out
            assert not told.err and " down" not in told.out, told
        assert json.loads(ask("check", "--json").out)["notes"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stauts"], "(is 'status' meant?)"),
        (["check", "my-deamon"], "(is 'my-daemon' meant?)"),
        (["start"], "(is 'restart NAME' meant?)"),
        (["help"], "(is --help meant?)"),
        (["check", "--verbos"], "(is '--verbose' meant?)"),
        (["history", "my-deamon"], "(is 'my-daemon' meant?)"),
    ],
)
def test_what_was_meant_is_asked(world: World, words: list[str], meant: str) -> None:
    world.hook("my-daemon", "true", mode=0o644)
    told = world.run(*words)
    assert told.code == 2 and meant in told.err and told.err.count("\n") == 1, told


def test_history_has_those_whose_hook_has_gone(world: World) -> None:
    assert world.run("history").out.startswith("no incidents\n")
    name = unique("gone")
    hook = world.watch(name)
    world.run()
    hook.unlink()
    assert f"-{name}  down, brought back" in world.run("history", name).out


@pytest.mark.parametrize(
    "words", [["stauts"], ["pause"], ["--no-such"], ["pause", "x"]]
)
def test_with_json_a_usage_error_is_a_document(world: World, words: list[str]) -> None:
    told = world.run(*words, "--json")
    document = json.loads(told.out)
    assert (told.code, told.err) == (2, "")
    assert (document["version"], document["exit"]) == (1, 2) and document["faults"]


def test_each_verb_has_its_own_help(world: World) -> None:
    for verb in VERBS:
        told = world.run(verb, "--help")
        options = set(re.findall(r"^  (--[a-z-]+)", told.out, re.MULTILINE))
        every = {name: verbs for name, (_, verbs) in VALUES.items()} | FLAGS
        assert told.code == 0 and options == {n for n in every if verb in every[n]}
        assert len(re.findall(r"^  viagra\.py ", told.out, re.MULTILINE)) == 1
        assert max(map(len, told.out.splitlines())) <= 88
    assert world.run("-h").out == world.run("--help").out != world.run("run", "-h").out
    assert world.run("-V").out == world.run("--version").out


@pytest.mark.parametrize("name", ["viagra.py", "viagra-run", "viagra-wait"])
def test_an_old_python_is_told_in_one_line(program: Path, name: str) -> None:
    script = program if name == "viagra.py" else COMPANIONS / name
    old = "import runpy, sys; sys.hexversion = 0x03090000; del sys.argv[0]; "
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{old}runpy.run_path(sys.argv[0])", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: needs Python 3.11 or later, not ")
    assert done.stderr.count("\n") == 1
    for part in (script, LIBRARY / "__init__.py"):  # what comes before that line
        ast.parse(part.read_text(), feature_version=(3, 7))


def test_all_are_paused_and_resumed_at_once(world: World) -> None:
    name, other, late = unique("food"), unique("other"), unique("late")
    world.watch(name)
    world.watch(other)
    world.run("pause", other, "--reason", "mine")
    done = world.run("pause", "--all", "--for", "2h", "--reason", "move")
    assert done.code == 0 and done.out.startswith("all daemons are paused until ")
    world.watch(late)
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", "")
    assert [world.starts(one) for one in (name, other, late)] == [0, 0, 0]
    out = world.run("status").out
    assert out.count("with all others, until ") == 2 and "until resumed: mine" in out
    held = world.run("resume", name)
    assert f"{name} is paused with all others: viagra.py resume --all" in held.out
    resumed = world.run("resume", "--all")
    assert f"{late} is watched again" in resumed.out and resumed.code == 0
    world.run()
    assert [world.starts(one) for one in (name, other, late)] == [1, 1, 1]
    assert world.run("pause", "--all", name).code == 2
