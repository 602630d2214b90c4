"""Trust: who else could change what we run is named, with the cure; nothing is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from other_users import (
    ORDINARY,
    fresh,
    give,
    run_as,
    users_python,
    with_mounts,
)
from world import Result, World, need, until


class Faulty:
    """A daemon whose hook must not be run, and a place for what belongs to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = fresh()
        self.own = world.place / self.name
        self.own.mkdir(mode=0o755)
        self.executed = world.place / "executed"
        self.hook = world.hook(self.name, f"touch {self.executed}")


class Sound:
    """A daemon that is up, and to be served whatever is wrong with others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sound = fresh()
        world.watch(self.sound)
        self.process = world.up(self.sound)

    def assert_all_refused(self, wanted: dict[Faulty, tuple[str, ...]]) -> None:
        """For each, one line names the daemon and the cure; the sound one is served."""
        told = self.world.run("run", "--verbose")
        lines = told.err.splitlines()
        assert told.code == 2 and len(lines) == len(wanted), told
        for faulty, texts in wanted.items():
            start = f"viagra.py: {faulty.name}: refused: "
            [line] = [line for line in lines if line.startswith(start)]
            for text in texts:
                assert text in line, told
            assert not faulty.executed.exists()
        assert told.out == f"{self.sound} is up: pid {self.process.pid}\n", told

    def assert_all_fine(self, names: list[str]) -> None:
        told = self.world.run("check")
        assert told.code == 1, told
        lines = told.out.splitlines()
        assert len(lines) == len(names), told
        for name in names:
            assert any(line.startswith(f"{name} is down: ") for line in lines), told


class Case(Faulty, Sound):
    """A home with one faulty daemon and one sound one."""

    def __init__(self, world: World) -> None:
        Faulty.__init__(self, world)
        Sound.__init__(self, world)

    def assert_refused(self, *wanted: str) -> None:
        """One line names the daemon and the cure; the sound one is served."""
        self.assert_all_refused({self: wanted})

    def assert_nothing_runs(self) -> Result:
        result = self.world.run()
        assert result.code == 2 and result.err, result
        for line in result.err.splitlines():
            assert line.startswith("viagra.py: refused: "), result
        assert "Restarting" not in result.out
        assert not self.executed.exists()
        return result

    def assert_fine(self) -> None:
        self.assert_all_fine([self.name])


@pytest.fixture
def case(public: World) -> Case:
    return Case(public)


def chown(path: Path, user: int = ORDINARY) -> None:
    os.chown(path, user, 0, follow_symlinks=False)


def test_a_sound_home_in_a_sticky_directory_is_fine(case: Case) -> None:
    case.assert_fine()


# Owners and modes of everything that the rule names


def _step(case: Faulty) -> Path:
    case.hook.unlink()
    return case.world.hook(f"{case.name}/1", f"touch {case.executed}")


def _linked(case: Faulty, target: str = "") -> Path:
    """Make the hook a link to a script in a directory of its own."""
    script = case.own / "init.d" / "script"
    script.parent.mkdir(mode=0o755)
    case.hook.rename(script)
    case.hook.symlink_to(target or script)
    return script


def _chain(case: Faulty) -> Path:
    """Make the hook a link to a link to a script, by way of `..`."""
    script = _linked(case, f"../../{case.name}/links/first")
    links = case.own / "links"
    links.mkdir(mode=0o755)
    (links / "first").symlink_to("second")
    (links / "second").symlink_to(f"../init.d/./../init.d/{script.name}")
    return script


def _interpreter(case: Faulty, line: str = "#!{}") -> Path:
    shell = case.own / "shell"
    shutil.copy(need("dash"), shell)
    case.world.hook(case.name, f"{line.format(shell)}\ntouch {case.executed}")
    return shell


def _nested(case: Faulty) -> Path:
    """Make the hook's interpreter a script with an interpreter of its own."""
    shell = case.own / "shell"
    shutil.copy(need("dash"), shell)
    inner = case.own / "inner"
    case.world.write(inner, f"#!{shell}\n. $1\n", 0o755)
    case.world.hook(case.name, f"#!{inner}\ntouch {case.executed}")
    return shell


def _env(case: Faulty) -> Path:
    env = case.own / "env"
    shutil.copy(need("env"), env)
    case.world.hook(case.name, f"#!{env} -S sh -e\ntouch {case.executed}")
    return env


def _facts(case: Faulty) -> Path:
    return case.world.facts(case.name, "")


def _linked_facts(case: Faulty) -> Path:
    facts = case.world.facts(case.name, "")
    elsewhere = case.own / "elsewhere"
    facts.rename(elsewhere)
    facts.symlink_to(f"../../{case.name}/elsewhere")
    return elsewhere


def _fragment(case: Faulty) -> Path:
    path = case.world.home / "start.d" / "service.subr"
    case.world.write(path, "true\n")
    # Beside the sound hook as well: a link takes this one elsewhere.
    script = _linked(case)
    path.rename(script.parent / path.name)
    return script.parent / path.name


def _other(kind: str) -> Callable[[Faulty], Path]:
    def make(case: Faulty) -> Path:
        return case.world.hook(case.name, f"touch {case.executed}", kind)

    make.__name__ = kind
    return make


PARTS: list[Callable[[Faulty], Path]] = [
    lambda case: case.hook,
    _step,
    lambda case: _step(case).parent,
    _linked,
    lambda case: _linked(case).parent,
    _chain,
    lambda case: _chain(case) and case.own / "links",
    _interpreter,
    lambda case: _interpreter(case, "#! {} -e"),
    _nested,
    _env,
    _facts,
    _linked_facts,
    _fragment,
    _other("stop.d"),
    _other("check.d"),
    _other("fail.d"),
]


def test_each_part_may_be_changed_by_nobody_else(public: World) -> None:
    cases = [Faulty(public) for _ in PARTS]
    paths = {case: part(case) for case, part in zip(cases, PARTS, strict=True)}
    modes = {path: path.stat().st_mode & 0o777 for path in paths.values()}
    sound = Sound(public)

    def assert_refused(wanted: str) -> None:
        sound.assert_all_refused(
            {case: (wanted.format(path),) for case, path in paths.items()}
        )

    sound.assert_all_fine([case.name for case in cases])
    for path in modes:
        chown(path)
    assert_refused(f"{{0}} belongs to {ORDINARY}: chown ")
    for path, mode in modes.items():
        chown(path, 0)
        path.chmod(mode | 0o020)
    assert_refused("{0} can be written by group root: chmod g-w {0}")
    for path, mode in modes.items():
        path.chmod(mode | 0o002)
    assert_refused("{0} can be written by everybody: chmod o-w {0}")
    for path, mode in modes.items():
        path.chmod(mode)
    sound.assert_all_fine([case.name for case in cases])


def test_a_link_of_another_user_could_be_replaced(case: Case) -> None:
    _linked(case)
    chown(case.hook)
    case.assert_refused(f"{case.hook} belongs to {ORDINARY}")


def test_a_link_in_the_middle_of_the_way(case: Case) -> None:
    real = case.world.place / "real"
    real.mkdir(mode=0o755)
    case.hook.rename(real / "script")
    way = case.world.place / "way"
    way.symlink_to("real")
    case.hook.symlink_to(way / "script")
    case.assert_fine()
    chown(way)
    case.assert_refused(
        f"by the link {case.hook}: {way} belongs to {ORDINARY}: chown -h root {way}"
    )


def test_an_access_control_list_shows_in_the_group_bits(case: Case) -> None:
    setfacl = need("setfacl")
    done = subprocess.run(
        [setfacl, "-m", f"u:{ORDINARY}:rw", str(case.hook)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("needs a file system with access control lists in /tmp")
    case.assert_refused(f"{case.hook} can be written by group root: chmod g-w ")
    case.hook.chmod(case.hook.stat().st_mode & ~0o020)
    case.assert_fine()


def test_a_sticky_directory_is_fine_on_the_way_but_not_at_the_end(case: Case) -> None:
    script = _linked(case)
    script.parent.chmod(0o1777)
    case.assert_fine()
    _step_in_sticky(case)
    case.assert_refused("can be written by everybody: chmod o-w ")


def _step_in_sticky(case: Case) -> None:
    script = case.hook.resolve()
    case.hook.unlink()
    case.world.hook(f"{case.name}/1", script.read_text())
    case.hook.chmod(0o1777)


def test_a_sticky_directory_of_another_user_is_not_fine(case: Case) -> None:
    script = _linked(case)
    script.parent.chmod(0o1755)
    chown(script.parent)
    case.assert_refused(f"{script.parent} belongs to {ORDINARY}")


def test_what_does_not_exist_yet_in_a_sticky_directory(case: Case) -> None:
    tmp = case.world.place / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    facts = case.world.home / "start.d" / f"{case.name}.toml"
    facts.symlink_to(tmp / "facts")
    case.assert_refused(f"{tmp}/facts does not exist, and anybody could make it")
    facts.unlink()
    case.world.state = tmp / "state"
    told = case.world.run("check")
    assert told.code == 2 and f"anybody could make it in {tmp}" in told.out, told
    assert not case.world.state.exists()


@pytest.mark.parametrize("name", ["two words", "it's", "$(touch x)"])
def test_the_cure_is_safe_to_paste(case: Case, name: str) -> None:
    path = case.world.bin / name
    shutil.copy(need("dash"), path)
    case.hook.unlink()
    case.hook.symlink_to(path)
    path.chmod(0o775)
    told = case.world.run("check").out.splitlines()[0]
    subprocess.run(["sh", "-c", told.rpartition(": ")[2]], check=True, cwd="/")
    assert path.stat().st_mode & 0o777 == 0o755
    case.assert_fine()


# What cannot be executed at all


NOT_EXECUTABLE = [
    (b"", "has no #! line: add #!/bin/sh"),
    (b"echo hello\n", "has no #! line: add #!/bin/sh"),
    (b"#!/bin/sh\r\ntrue\r\n", "ends with CR LF: save it with Unix lines"),
    (b"#!/nowhere/sh\n", "names '/nowhere/sh', which does not exist"),
    (b"#!bin/sh\n", "names 'bin/sh', which is no absolute path"),
    (b"#!sh\n", "names 'sh', which is not installed where hooks look"),
    (b"#!\n", "names no program: make it #!/bin/sh"),
    (b"#!/etc\n", "names '/etc', which is no program"),
    (b"#!/etc/passwd\n", "names '/etc/passwd', which is no program"),
    (b"#!/usr/bin/env no-such-shell\n", "names 'no-such-shell', which is not inst"),
    (b"#!/usr/bin/env -S no-such-shell -e\n", "names 'no-such-shell', which is"),
    (b"#!/usr/bin/env bin/sh\n", "names 'bin/sh', which is no absolute path"),
    (b"#!/nowhere/env sh\n", "names '/nowhere/env', which does not exist"),
    (b"#!/bin/\xff\x1b[2J\n", "names '/bin/\\xff\\x1b[2J', which does not exist"),
]


def test_what_the_system_could_not_execute(public: World) -> None:
    sound = Sound(public)
    wanted: dict[Faulty, tuple[str, ...]] = {}
    for content, text in NOT_EXECUTABLE:
        case = Faulty(public)
        case.hook.write_bytes(content)
        wanted[case] = (str(case.hook), text)
    sound.assert_all_refused(wanted)


def test_first_lines_that_are_fine(public: World) -> None:
    sound = Sound(public)
    names = []
    for line in ("/usr/bin/env sh", "/usr/bin/env -S sh -e", " /bin/sh -e", "/bin/sh"):
        names.append(fresh())
        public.hook(names[-1], f"#!{line}\ntrue")
    sound.assert_all_fine(names)


def test_a_script_that_interprets_itself(case: Case) -> None:
    case.world.hook(case.name, f"#!{case.hook}\n")
    case.assert_refused("leads from script to script")


def test_links_that_lead_in_a_circle(case: Case) -> None:
    (case.world.home / "stop.d").mkdir()
    stop = case.world.home / "stop.d" / case.name
    stop.symlink_to(case.name)
    told = case.world.run("check")
    assert told.code == 2 and "too many symbolic links" in told.out, told


def test_a_compiled_program_needs_no_first_line(case: Case) -> None:
    case.hook.unlink()
    case.hook.symlink_to(need("true"))
    case.assert_fine()


# What concerns every daemon


@pytest.mark.parametrize(
    "part",
    ["home", "home/start.d", "home/viagra.toml"]
    + ["program/viagralib", "program"]
    + [
        "program/viagra.py",
        "program/viagralib/settings/configuration.py",
        "state",
        ".",
    ],
)
def test_what_is_everybodys_stops_all_that_would_be_run(case: Case, part: str) -> None:
    world = case.world
    world.state.mkdir(mode=0o700)
    path = world.place / part
    mode = path.stat().st_mode & 0o7777
    path.chmod(mode | 0o002)
    told = world.run("check")
    wanted = f"viagra.py: refused: {os.path.normpath(path)} can be written by everybody"
    assert told.code == 2 and told.out.splitlines()[0].startswith(wanted), told
    assert told.out.count("refused") == 1, told
    case.assert_nothing_runs()
    path.chmod(mode)
    chown(path)
    told = world.run("check")
    assert told.code == 2 and f"belongs to {ORDINARY}: chown " in told.out, told
    assert not case.executed.exists()


@pytest.mark.parametrize("occasion", ["a new hour", "a daemon is down"])
def test_parts_not_in_use_are_judged_each_hour_and_before_anything_is_started(
    public: World, occasion: str
) -> None:
    name = fresh()
    public.watch(name)
    daemon = public.up(name)
    assert public.run().code == 0
    part = public.program.parent / "viagralib" / "verbs" / "dry_run.py"
    part.chmod(0o666)
    if occasion == "a new hour":
        os.utime(public.state / "last-run", (0, 0))
    else:
        public.kill(daemon.pid)
    told = public.run()
    assert told.code == 2 and f"refused: {part} can be written" in told.err, told
    assert public.starts(name) == 0


def test_root_refuses_a_users_home_which_serves_that_users_own_runs(
    case: Case,
) -> None:
    world = case.world
    for path in (world.place, *world.place.rglob("*")):
        chown(path)
    told = world.run("check")
    assert told.code == 2 and told.out.count("refused") == 1, told
    assert f"belongs to {ORDINARY}: chown -R root {world.place}, if you " in told.out
    assert "or keep what is in it elsewhere" in told.out
    for path in (world.place, *(world.place / "program").rglob("*")):
        chown(path, 0)
    case.assert_nothing_runs()
    shutil.rmtree(world.state)
    give(world, ORDINARY)
    command = world.command("run", case.name)
    command[0] = users_python()
    case.world.hook(case.name, f"echo > {world.state}/executed; exit 75")
    chown(case.hook)
    own = run_as(command, ORDINARY)
    assert own.code == 0 and own.err == "", own
    assert (world.state / "executed").exists()
    # Another user is as little trusted by a user as by root.
    chown(case.hook, ORDINARY + 1)
    own = run_as(command, ORDINARY)
    assert own.code == 2, own
    assert f"belongs to {ORDINARY + 1}: chown {ORDINARY} {case.hook}" in own.err


# How it is said


def test_directories_that_hooks_do_without_are_named(case: Case) -> None:
    """As /usr/local is on Debian that was upgraded: of group staff, and so left out."""
    world, place = case.world, "/usr/local/sbin"
    if not os.path.isdir(place):
        pytest.skip(f"needs {place}")
    world.hook(case.name, "no-such-program")
    pidfile = world.place / "food.pid"
    world.facts(case.name, f'pidfile = "{pidfile}"\n')
    script = f"mount -t tmpfs -o mode=2775,gid={ORDINARY} tmpfs {place}"
    why = f"hooks find no programs in {place}: {place} can be written by group"
    told = run_as([*with_mounts(script), *world.command("test")])
    assert told.out.count(f"note: {why} {ORDINARY}: chmod g-w {place}") == 1, told
    assert "no pidfile" not in told.out  # one that is not there yet
    pidfile.mkdir()
    told = run_as([*with_mounts(script), *world.command("run", case.name)])
    assert "exit 127" in told.out and f"; {why}" in told.out, told
    told = world.run("test")
    wanted = f"{case.name}: no pidfile: is no regular file ({pidfile}): mend the fact"
    assert told.code == 2 and wanted in told.out, told
    world.facts(case.name, f'pidfile = "{case.hook}/pid"\n')
    assert f"{case.name}: no pidfile: Not a directory" in world.run("test").out


def test_every_sound_daemon_is_served(case: Case) -> None:
    case.world.kill(case.process.pid)
    case.hook.chmod(0o777)
    result = case.world.run()
    assert result.code == 2 and result.out.startswith(f"Restarting {case.sound}\n")
    until(lambda: case.world.starts(case.sound) == 1)
    assert not case.executed.exists()


def test_it_is_said_once_then_daily_and_verbosely_always(case: Case) -> None:
    case.hook.chmod(0o777)
    first, second = case.world.run(), case.world.run()
    assert first.code == second.code == 2
    assert first.err.count("\n") == 1 and second.err == ""
    assert case.world.run("--verbose").err == first.err
    record = case.world.state / "open" / case.name
    said = json.loads(record.read_text())
    record.write_text(json.dumps({**said, "said_at": time.time() - 86390}))
    assert case.world.run().err == ""
    record.write_text(json.dumps({**said, "said_at": time.time() - 86410}))
    assert case.world.run().err == first.err
    case.hook.chmod(0o775)
    changed = case.world.run()
    assert changed.code == 2 and "chmod g-w" in changed.err


def test_all_that_is_unsafe_is_said_at_once(case: Case) -> None:
    case.hook.chmod(0o777)
    facts = case.world.facts(case.name, "")
    facts.chmod(0o666)
    stop = case.world.hook(case.name, "true", "stop.d", 0o777)
    told = case.world.run("test").out
    for path in (case.hook, facts, stop):
        assert f"{case.name}: refused: {path} can be written" in told
    assert f"  {case.name}: watched, with a fault below\n" in told
    assert told.endswith("3 faults\n")


def test_an_unsafe_state_is_not_written_to(case: Case) -> None:
    """A link in the state could lead root anywhere: to a chmod, and to files."""
    world = case.world
    case.world.kill(case.process.pid)
    target = world.place / "target"
    target.mkdir(mode=0o755)
    world.state.mkdir(mode=0o700, exist_ok=True)
    for path in world.state.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (world.state / "open").symlink_to(target)
    chown(world.state)
    for _ in range(2):  # said every time: that it was said cannot be noted
        result = world.run()
        assert result.code == 2 and f"{world.state} belongs to" in result.err, result
    assert world.run("pause", case.name).code == 2
    assert list(target.iterdir()) == [] and target.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in world.state.iterdir()] == ["open"]
    case.assert_nothing_runs()
