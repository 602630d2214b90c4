"""Attacks: what another account has tried, each with real processes of that account."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import CHECKOUT, COMPANIONS
from other_users import ORDINARY, SYSTEM, run_as, up_as, users_python, with_mounts
from system_calls import Call, injected, recorded
from unhealthy import free_port
from world import (
    World,
    absent,
    all_pids,
    comm,
    environment,
    need,
    need_root,
    unique,
    until,
)

from viagralib.base import files
from viagralib.base.messages import Fault
from viagralib.base.printer import Printer
from viagralib.health import socket_owners
from viagralib.hooks import child_process
from viagralib.processes import table
from viagralib.processes.observer import Observer
from viagralib.processes.verdicts import DOWN, SICK, UNKNOWN, UP, Verdict
from viagralib.recovery import hooks_at_work
from viagralib.recovery.scheduler import pause_after
from viagralib.recovery.standing import (
    FINISHED,
    HELD,
    NOT_NOW,
    PAUSED,
    QUIT,
    STOPPED,
    Standing,
)
from viagralib.report.announcer import Announcer
from viagralib.report.up_again import close
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import load
from viagralib.state import announced
from viagralib.state.directory import State
from viagralib.state.hook_log import HookLog, memory
from viagralib.state.run_context import Run
from viagralib.trust.gate import Gate, Refused
from viagralib.trust.owners import Trust, walk
from viagralib.trust.programs import ProgramTrust


class Victim:
    """A daemon of root's that is up, and old enough to be checked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = unique("victim")
        self.executed = world.place / "executed"
        world.watch(self.name, 'start_timeout = "1ms"\n')
        self.daemon = world.up(self.name)

    def script(self, path: Path, user: int = ORDINARY) -> Path:
        """Write a program that would show that it was executed."""
        path.parent.mkdir(mode=0o755, exist_ok=True)
        self.world.write(path, f"#!/bin/sh\nid -u >> {self.executed}\n", 0o755)
        os.chown(path, user, user)
        return path

    def verdict(self) -> str:
        told = json.loads(self.world.run("check", "--json").out)
        return str(told["daemons"][self.name]["verdict"])

    def assert_executed_by_no_verb(self, wanted: str) -> None:
        for verb in ("run", "check", "status", "explain", "restart"):
            words = [verb, self.name] if verb in ("explain", "restart") else [verb]
            told = self.world.run(*words)
            assert not self.executed.exists(), (verb, told)
            assert told.code == 2 and wanted in told.out + told.err, (verb, told)
        assert self.verdict() == "unknown"
        assert not (self.world.place / "metrics").exists()


@pytest.fixture
def victim(public: World) -> Victim:
    return Victim(public)


# Nothing is executed that another account could change


def _others_may_write_the_home(victim: Victim) -> Path:
    victim.script(victim.world.home / "check.d" / victim.name)
    metrics = victim.world.place / "metrics"  # no file is written for others, either
    victim.world.settings(f'[run]\nmetrics = "{metrics}"\n')
    for kind in ("start.d", "check.d"):
        os.chown(victim.world.home / kind, 0, ORDINARY)
        (victim.world.home / kind).chmod(0o2775)
    return victim.world.home / "check.d"


def _others_may_write_the_state(victim: Victim) -> Path:
    victim.script(victim.world.home / "check.d" / victim.name, user=0)
    counts = victim.world.state / "counts"
    counts.mkdir(parents=True)
    os.chown(counts, 0, ORDINARY)
    counts.chmod(0o770)
    return counts


def _others_own_bytecode(victim: Victim) -> Path:
    """As a user leaves it who has run the program once, before it became root's."""
    victim.script(victim.world.home / "check.d" / victim.name, user=0)
    place = victim.world.program.parent / "viagralib" / "trust" / "__pycache__"
    place.mkdir(exist_ok=True)
    code = place / "owners.cpython-399.pyc"
    code.write_bytes(b"")
    os.chown(code, ORDINARY, ORDINARY)
    return place


UNSAFE = [_others_may_write_the_home, _others_may_write_the_state, _others_own_bytecode]


@pytest.mark.parametrize("spoil", UNSAFE, ids=lambda spoil: spoil.__name__[1:])
def test_where_anything_is_unsafe_no_verb_executes_a_check(
    victim: Victim, spoil: Callable[[Victim], Path]
) -> None:
    victim.assert_executed_by_no_verb(str(spoil(victim)))


def test_an_empty_directory_of_hooks_that_others_may_write_is_named(
    victim: Victim,
) -> None:
    places = [victim.world.home / kind for kind in ("stop.d", "check.d", "fail.d")]
    for place in places:
        place.mkdir()
        os.chown(place, 0, ORDINARY)
        place.chmod(0o2775)
    told = victim.world.run("test")
    for place in places:
        assert told.code == 2 and f"refused: {place} can be written by" in told.out


def test_an_unsafe_directory_of_checks_holds_only_who_has_one(victim: Victim) -> None:
    world, other = victim.world, unique("other")
    place = victim.script(world.home / "check.d" / victim.name, user=0).parent
    world.watch(other)
    os.chown(place, 0, ORDINARY)
    place.chmod(0o2775)
    world.kill(victim.daemon.pid)
    told = world.run()
    assert told.code == 2 and told.err.count(f"{place} can be written by") == 1, told
    assert f"{victim.name}: refused: {place}" in told.err
    assert (world.starts(other), world.starts(victim.name)) == (1, 0), told
    victim.script(place / other)  # dropped in: its daemon is up
    told = world.run("check")
    assert told.code == 2 and f"{other}: refused: {place}" in told.out, told
    assert not victim.executed.exists()


def test_a_hook_is_judged_at_the_moment_of_its_execution(victim: Victim) -> None:
    hook = victim.script(victim.world.place / "hook", user=0)
    gate, output = Gate(0, "/usr/bin:/bin"), memory("output")
    told = []
    for mode in (0o775, 0o755):
        child = child_process.start(gate, gate.hook(str(hook)), (), output, {})
        hook.chmod(mode)
        child.release()
        while not child.poll():
            pass
        told.append((child.status, "chmod g-w" in child.failure))
    os.close(output)
    assert told == [(127, True), (0, False)]
    assert victim.executed.read_text() == "0\n"
    closed = Gate(0, gate.search_path, "refused: the home belongs to")
    for ask, name in ((closed.find, "sh"), (closed.hook, str(hook))):
        with pytest.raises(Refused, match=r"^.Errno 1. refused: the home"):
            ask(name)


def test_a_hook_that_comes_during_a_recovery_is_not_executed(victim: Victim) -> None:
    """Into a directory that was empty when the run judged it."""
    world, dead = victim.world, unique("dead")
    theirs = victim.script(world.place / "theirs")
    place = world.home / "fail.d"
    place.mkdir()
    world.hook(dead, f"cp -p {theirs} {place}/{dead}; exit 1")
    told = world.run(dead)
    assert told.code == 1 and f"refused: {place}/{dead} belongs to" in told.out, told
    assert (place / dead).stat().st_uid == ORDINARY and not victim.executed.exists()


def test_no_device_is_advised_to_be_changed() -> None:
    why = Trust(0).why_not("/dev/null")
    assert "is a device" in why and "chmod" not in why


def test_evidence_is_taken_by_no_program_of_another_account(victim: Victim) -> None:
    world, vmstat = victim.world, victim.script(victim.world.place / "own" / "vmstat")
    own = victim.script(victim.world.place / "own" / "ours", user=0)
    own.write_text("#!/bin/sh\necho evidence\n")
    world.settings(
        f'[defaults]\npatience = "0s"\n[evidence]\ncommands = ["{vmstat}", "{own}"]\n'
    )
    world.facts(victim.name, 'user = "root"\n')  # and time enough to start
    told = world.run("test")
    assert told.code == 2 and f"refused: {vmstat} belongs to {ORDINARY}" in told.out
    assert "not found" not in told.out.replace("note:", ""), told
    world.kill(victim.daemon.pid)
    told = world.run()
    assert told.code == 0 and f"{vmstat}: refused: {vmstat} belongs to" in told.out, (
        told
    )
    assert not victim.executed.exists()
    [incident] = world.incidents(victim.name)
    assert (incident / "ours.txt").read_text() == "evidence\n"
    (world.bin / "w").symlink_to(vmstat)  # as in /usr/local/bin
    with pytest.raises(Refused, match="/vmstat belongs to"):
        Gate(0, f"{world.bin}:/usr/bin").find("w")


def test_what_hooks_and_steps_read_in_is_judged_with_them(public: World) -> None:
    step, stop = unique("step"), unique("stop")
    fragment = public.home / "start.d" / "service.subr"
    World.write(fragment, f"touch {public.place}/executed\n")
    public.hook(f"{step}/10", '. "${0%/*/*}/service.subr"\nexit 75')
    script = public.place / "init" / stop  # what start.d links to lies elsewhere
    script.parent.mkdir(mode=0o755)
    World.write(script, "#!/bin/sh\nexit 75\n", 0o755)
    (public.home / "start.d" / stop).symlink_to(script)
    public.hook(stop, f". {fragment}", "stop.d")
    assert public.run("test").code == 0
    fragment.chmod(0o664)
    told = public.run()
    for name in (step, stop):
        assert f"{name}: refused: {fragment} can be written by" in told.err, told
    assert told.code == 2 and not (public.place / "executed").exists()


def test_what_our_own_python_loads_is_judged(victim: Victim) -> None:
    world = victim.world
    venv = world.program.parent / "venv"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (venv / "bin").mkdir()
    python = Path(need("python3")).resolve() if not sys.prefix else sys.executable
    (venv / "bin" / "python").symlink_to(os.path.realpath(python))
    World.write(
        venv / "pyvenv.cfg", f"home = {os.path.dirname(os.path.realpath(python))}\n"
    )
    World.write(packages / "ours.pth", "\n")
    World.write(packages / "module.py", "\n")

    def told(verb: str) -> tuple[int, str]:
        command = world.command(verb)
        command[0] = str(venv / "bin" / "python")
        done = run_as(command)
        return done.code, done.out + done.err

    assert told("run") == (0, "")
    for path, verb in ((packages / "ours.pth", "run"), (packages, "run")):
        path.chmod(path.stat().st_mode | 0o002)
        code, text = told(verb)
        assert code == 2 and f"refused: {path} can be written by everybody" in text
        path.chmod(path.stat().st_mode & ~0o002)
    os.chown(packages / "module.py", ORDINARY, 0)
    assert told("run") == (0, "")  # a quiet run loads none of it
    code, text = told("test")
    assert code == 2 and f"{packages}/module.py belongs to {ORDINARY}" in text


def test_a_companion_of_root_executes_nobody_elses_program(victim: Victim) -> None:
    script = victim.script(victim.world.place / "own" / "command")
    state = {"VIAGRA_STATE": str(victim.world.state)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(COMPANIONS / words[0]), *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=environment() | state,
        )

    for words in (
        ["viagra-run", "-n", victim.name, "--", str(script)],
        ["viagra-run", "--user", "root", "-n", victim.name, "--", str(script)],
        ["viagra-wait", "path:/", "--", str(script)],
    ):
        done = run(*words)
        assert done.returncode == 126, done
        assert f"refused: {script} belongs to {ORDINARY}" in done.stderr, done
    assert not victim.executed.exists()
    shutil.chown(script, "root")
    assert run("viagra-wait", "path:/", "--", str(script)).returncode == 0
    assert victim.executed.read_text() == "0\n"


def test_what_another_account_wrote_fills_no_mail(public: World) -> None:
    name = unique("keys")
    public.watch(name, "".join(f"key{number} = 1\n" for number in range(20_000)))
    facts = public.home / "start.d" / f"{name}.toml"
    os.chown(facts, ORDINARY, ORDINARY)
    told = public.run()
    assert told.code == 2 and f"{facts} belongs to {ORDINARY}" in told.err, told
    assert len(told.err) < 10_000


def test_a_stranger_with_ever_new_pids_fills_no_mail(public: World) -> None:
    name = unique("pids")
    public.watch(name)
    told = []
    for _ in range(2):
        pid = up_as(public, name, ORDINARY)
        told.append(public.run().out)
        public.kill(pid)
    assert f"of the ordinary user {ORDINARY}" in told[0] and told[1] == "", told


def test_of_ever_new_words_few_are_told_in_a_day(tmp_path: Path) -> None:
    """Numbers are nothing new at all."""
    state = State(str(tmp_path / "state"))

    def told(word: str, *texts: str) -> int:
        return sum(announced.announce(state, "food", word, text) for text in texts)

    assert told("sick", "silent for 5 m 3 s", "silent for 1.5 s", "silent for 2 h") == 1
    assert told("sick", "deaf", "silent for 1 d 2 h") == 1
    record = announced.of(state, "food")
    state.write("open", "food", {**record, "said_at": time.time() - announced.AGAIN})
    assert told("sick", "silent for 2 d", "silent for 2 d 1 h") == 1


@pytest.mark.parametrize("by_turns", [False, True])
def test_of_each_word_few_lines_are_told_in_a_day(
    public: World, by_turns: bool
) -> None:
    """Whatever text others have a hand in: a path, an error, a name, a whole fault."""
    public.watch("food")
    state, trust = State(str(public.state)), ProgramTrust(0)
    out = Printer(os.open(public.place / "out", os.O_WRONLY | os.O_CREAT))
    words = (UP, DOWN, SICK, UNKNOWN, PAUSED, HELD, QUIT, NOT_NOW, FINISHED, STOPPED)
    for number in range(15):
        run = Run(load(str(public.home)), state, [], trust)
        announcer = Announcer(run, Options(), out, out)
        text = "x" * number
        for word in words:
            announcer.announce("food", word, text)
            announcer.leave_alone("food", Standing(word, text))
        announcer.faults([Fault(name, text) for name in ("food", "viagra.toml")])
        if by_turns:  # all of it is over, and begins anew
            announcer.codes.clear()
            close(announcer, {"food": Verdict(UP, "", [])})
    out.finish()
    told = (public.place / "out").read_text().splitlines()
    counts = {w: sum(f"food is {w}: " in line for line in told) for w in words}
    for name in ("food", "viagra.toml"):
        counts[name] = sum(f"viagra.py: {name}: " in line for line in told)
    assert set(counts.values()) == {5}, counts
    assert sum("today" in line for line in told) == len(counts)


# Who may be the daemon


@pytest.mark.parametrize(
    ("facts", "real"),
    [('user = "root"\n', ORDINARY), ("", ORDINARY), ("user = 0\n", 0)],
)
def test_a_set_user_id_program_keeps_nothing_dead(
    public: World, facts: str, real: int
) -> None:
    """`su` under the daemon's name, which runs as root until it has its answer.

    chsh has become root throughout, then, while it waits for a lock.
    """
    name = unique("setuid")
    public.watch(name, facts)
    child = lent(public, name, real)
    program = public.bin / "prompt"
    told = public.run("explain", name).out
    assert not real or f"    user root, started by {real}, for " in told
    result = public.run()
    if facts:
        why = f"of root, started by user {real}, not root" if real else "its executable"
        assert f"not counted: {why}" in told
        assert result.code == 0 and public.starts(name) == 1, result
        return
    assert result.code == 1 and public.starts(name) == 0, result
    why = f"started by {ORDINARY}, runs the set-user-id program {program} as root"
    assert f"pid {child.pid}: {why}" in result.out, result


def test_a_set_user_id_program_is_no_change_of_the_runlevel(public: World) -> None:
    """chsh under the name of OpenRC's own program, where there is no systemd."""
    name = unique("dead")
    public.watch(name)
    public.settings('[run]\nboot = "1ms"\n[defaults]\npatience = "0s"\n')
    lent(public, "openrc", 0)
    hide = "[ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd"
    result = run_as([*with_mounts(hide), *public.command("--verbose", name)])
    assert result.code == 0 and public.starts(name) == 1, result


def lent(public: World, name: str, real: int) -> subprocess.Popen[bytes]:
    """Start, as another user, a set-user-id program under a name; `real`: its uid."""
    program = public.bin / "prompt"
    shutil.copy(need("dash"), program)
    program.chmod(0o4755)
    fake = public.place / name
    fake.symlink_to(program)
    # -p: a shell would give back what it was lent.
    words = [str(fake), "-p", "-c", "kill -STOP $$"]
    if not real:
        become = public.bin / "become"
        shutil.copy(need("setpriv"), become)
        become.chmod(0o4755)
        words = [str(become), "--reuid=0", *words]
    child = public.spawn(words, user=ORDINARY, group=ORDINARY, extra_groups=[])
    status = Path(f"/proc/{child.pid}/status")
    until(lambda: f"Uid:\t{real}\t0\t" in status.read_text())
    until(lambda: comm(child.pid) == name)
    return child


def test_a_look_that_was_held_up_is_not_followed_by_as_long_a_rest() -> None:
    began = time.monotonic() - 600
    assert pause_after(began) <= 2
    assert table.next_look(began) - time.monotonic() <= 5


def test_a_forged_path_of_the_executable_is_no_daemon(public: World) -> None:
    """A service account mounts its own file over the daemon's, where it alone sees."""
    name, service = unique("forged"), ORDINARY
    real = public.place / "food" / name
    real.parent.mkdir(mode=0o755)
    shutil.copy(need("sleep"), real)
    own = public.place / "own"
    own.mkdir()
    shutil.copy(need("sleep"), own / name)
    for path in (own, own / name):
        path.chmod(0o755)
        os.chown(path, service, service)
    public.watch(name)
    public.facts(name, f'executable = "{real}"\nuser = "{service}"\n')

    def start(*wrapper: str) -> int:
        words = [*wrapper, str(real), "1000"]
        child = public.spawn(words, user=service, group=service, extra_groups=[])
        until(lambda: comm(child.pid) == name or child.poll() is not None)
        return 0 if child.poll() is not None else child.pid

    forged = start(
        *["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"],
        f'mount --bind {own} {real.parent}; exec "$@"',
        "sh",
    )
    if not forged:
        absent("needs user namespaces for everybody")
    assert os.readlink(f"/proc/{forged}/exe") == str(real)
    verdict = json.loads(public.run("check", "--json").out)["daemons"][name]
    assert verdict["verdict"] == "down", verdict
    true = start()
    verdict = json.loads(public.run("check", "--json").out)["daemons"][name]
    assert (verdict["verdict"], verdict["pids"]) == ("up", [true]), verdict
    # An upgrade puts another file in its place: the daemon of before still counts.
    real.unlink()
    shutil.copy(need("sleep"), real)
    verdict = json.loads(public.run("check", "--json").out)["daemons"][name]
    assert (verdict["verdict"], verdict["pids"]) == ("up", [true]), verdict


def test_long_command_lines_of_others_are_not_read(public: World) -> None:
    """1.8 MB in a process that has the daemon's name: not even its first half."""
    need("strace")
    name, trace = unique("long"), public.place / "trace"
    public.watch(name)
    words = [str(public.daemon(name)), "1000", *(["0" * 100_000] * 18)]
    child = public.spawn(words, user=ORDINARY, group=ORDINARY, extra_groups=[])
    until(lambda: comm(child.pid) == name)
    waiter = public.bin / "waiter"  # whose script, as it says, takes root's messages
    shutil.copy(need("dash"), waiter)
    public.watch("kmsg")
    words = [str(waiter), "-s", "/proc/./kmsg"]
    public.spawn(words, stdin=subprocess.PIPE, user=ORDINARY, group=ORDINARY)
    calls = ["strace", "-ff", "-y", "-e", "trace=read,openat", "-o", str(trace)]
    done = run_as([*calls, *public.command("check")])
    text = "".join(one.read_text() for one in public.place.glob("trace.*"))
    assert "kmsg is down" in done.out and "/proc/kmsg" not in text, done
    assert done.code == 1 and f"of the ordinary user {ORDINARY}" in done.out, done
    place = f"</proc/{child.pid}/cmdline>"
    lines = [one for one in text.splitlines() if place in one]
    lines = [line for line in lines if line.startswith("read(")]
    assert lines and sum(int(line.rpartition("= ")[2]) for line in lines) < 400_000


def test_who_has_a_daemons_arguments_does_not_hide_it(public: World) -> None:
    """One that calls itself otherwise: is it told as unknown, or started once more?"""
    name, other = unique("tool"), unique("worker")
    public.watch(name, f'user = "{SYSTEM}"\n')
    their = {"group": SYSTEM, "extra_groups": []}
    twin = public.bin / "twin"
    shutil.copy(need("sleep"), twin)
    for program, user in ((twin, ORDINARY), (public.daemon(name), SYSTEM)):
        link = public.bin / f"{user}" / other
        link.parent.mkdir()
        link.symlink_to(program)
        child = public.spawn([other, "1000"], executable=link, user=user, **their)
        until(lambda: comm(child.pid) == other)  # noqa: B023
    told = public.run("check", name).out
    assert f'{name} is unknown: pid {child.pid}: calls itself "{other}"' in told, told


def test_a_daemon_of_megabytes_of_arguments_fills_no_memory(public: World) -> None:
    """Of its own user, so that they are looked at: but not kept, nor without end."""
    name, dead = unique("long"), unique("dead")
    public.watch(name, f'user = "{SYSTEM}"\ncommand = "no such word"\n')
    public.watch(dead)
    words = [str(public.daemon(name)), "1000", *(["0" * 100_000] * 18)]
    for _ in range(30):
        public.spawn(words, user=SYSTEM, group=SYSTEM, extra_groups=[])
    until(lambda: sum(comm(pid) == name for pid in all_pids()) == 30)
    limited = ["sh", "-c", 'ulimit -v 60000; exec "$@"', "sh"]
    told = run_as([*limited, *public.command("check")])
    assert f"{name} is unknown: " in told.out and "65536 bytes" in told.out, told


def test_a_maze_that_a_stranger_calls_its_script_is_not_walked(public: World) -> None:
    """Links of 4 kB that lead on to each other, in a directory 3 kB deep."""
    name = unique("maze")
    public.watch(name)
    own = public.place / "own"
    own.mkdir()
    os.chown(own, ORDINARY, ORDINARY)
    script = (
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mkdir $1; cd -P $1; done; mkdir d\n"
        "i=0; while [ $i -lt 38 ]; do ln -s $2$((i+1)) $i; i=$((i+1)); done\n"
        'echo "#!$0" >38; ln -s 0 $3; cp "$0" waiter; exec ./waiter -s $3\n'
    )
    words = [need("dash"), "-ec", script, need("dash"), "e" * 250, "d/../" * 700, name]
    child = public.spawn(
        words, cwd=own, stdin=subprocess.PIPE, user=ORDINARY, group=ORDINARY
    )
    until(lambda: comm(child.pid) == "waiter")
    limited = ["sh", "-c", 'ulimit -v 100000; exec "$@"', "sh"]
    done = run_as([*limited, *public.command("run")])
    assert done.code == 0 and public.starts(name) == 1, done
    way = walk(str(next(own.glob("/".join(["*"] * 12))) / "0"))
    with pytest.raises(OSError, match="too many parts"):
        list(way)


# 600 shells, which wait for their own end in a pipe that nobody writes to.
CROWD = 'i=0; while [ $i -lt 600 ]; do read -r x <>"$0/pipe" & i=$((i+1)); done; wait'


@pytest.mark.long
def test_a_strangers_arguments_cost_no_system_call(public: World) -> None:
    """600 processes of the daemon's name, whether or not their arguments are long."""
    name = unique("many")
    public.watch(name, 'user = "root"\n')
    public.up(name)
    crowd = public.place / "crowd" / name
    crowd.parent.mkdir()
    shutil.copy(need("dash"), crowd)
    os.mkfifo(public.place / "pipe")
    (public.place / "pipe").chmod(0o666)
    counts = []
    for size in (10, 100_000):
        words = [str(crowd), "-c", CROWD, str(public.place), "0" * size]
        leader = public.spawn(words, user=ORDINARY, group=ORDINARY, extra_groups=[])
        until(lambda: sum(comm(pid) == name for pid in all_pids()) == 602)
        pids = "|".join(str(pid) for pid in all_pids() if comm(pid) == name)
        seen = re.compile(rf"""[/"]({pids})/""")
        counts.append(sum(bool(seen.search(c.text)) for c in recorded(public, "check")))
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()
        until(lambda: sum(comm(pid) == name for pid in all_pids()) == 1)
    assert counts[0] >= counts[1] > 0, counts


@pytest.mark.parametrize("user", [0, SYSTEM])
def test_a_worker_whose_main_process_lives_is_no_leftover(
    public: World, user: int
) -> None:
    """Of a second instance, say, that a service account runs."""
    name = unique("worker")
    public.watch(name, f'user = {user}\ncommand = "^main "\nleftovers = "stop"\n')
    fake = public.bin / f"{name}"
    shutil.copy(need("dash"), fake)
    main = [str(fake), "-c", f"{fake} -c 'kill -STOP $$' & kill -STOP $$"]
    public.spawn(main, user=SYSTEM, group=SYSTEM, extra_groups=[])
    until(lambda: sum(comm(pid) == name for pid in all_pids()) == 2)
    told = public.run("check").out
    assert "but 1 leftover" in told, told  # the main process itself


# A daemon's socket

LISTENER = f"""\
import os, socket, sys, time
how, place = sys.argv[1:]
if how == "worker":
    if os.fork():
        time.sleep(1000)
    os.setuid({ORDINARY})
if how == "unix":
    server = socket.socket(socket.AF_UNIX)
    server.bind(place)
else:
    server = socket.socket(socket.AF_INET6 if how == "wide" else socket.AF_INET)
    server.bind(("::" if how == "wide" else "127.0.0.1", int(place)))
server.listen()
print("ready", flush=True)
while True:
    server.accept()[0].close()
    if how == "leaves":
        sys.exit()
"""


def listen(world: World, program: str, how: str, place: object, user: int) -> None:
    """Start a process of that user, and wait until it listens."""
    child = world.spawn(
        [program, "-c", LISTENER, how, str(place)],
        **{"user": user, "group": user, "extra_groups": []},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"


@pytest.mark.parametrize("how", ["plain", "wide", "leaves", "unix"])
def test_who_answers_in_a_daemons_place_makes_nothing_well(
    public: World, how: str
) -> None:
    name, own = unique("port"), public.place / "own"
    own.mkdir()
    os.chown(own, ORDINARY, ORDINARY)
    place = str(own / "socket")
    if how != "unix":
        place = str(free_port())
    address = f"{'unix' if how == 'unix' else 'tcp:127.0.0.1'}:{place}"
    public.watch(name, f'start_timeout = "1ms"\nlistens = ["{address}"]\n')
    up_as(public, name, SYSTEM)
    listen(public, users_python(), how, place, ORDINARY)
    verdict = json.loads(public.run("check", "--json").out)["daemons"][name]
    assert verdict["verdict"] == "sick" and address in verdict["reason"], verdict
    if how != "leaves":
        assert f"user {ORDINARY} listens there, not the daemon" in verdict["reason"]


def test_who_answers_a_url_in_a_daemons_place_makes_nothing_well(
    public: World,
) -> None:
    """A proxy of another user may be meant, so it is not stopped for it."""
    name, port = unique("web"), free_port()
    url = f"http://127.0.0.1:{port}/"
    public.watch(name, f'start_timeout = "1ms"\nanswers = ["{url}"]\n')
    up_as(public, name, SYSTEM)
    listen(public, users_python(), "plain", port, ORDINARY)
    verdict = json.loads(public.run("check", "--json").out)["daemons"][name]
    assert verdict["verdict"] == "unknown", verdict
    why = f"{url}: user {ORDINARY} listens there, not the daemon"
    assert verdict["reason"].endswith(why)


def test_many_who_listen_do_not_hide_the_daemons_own_socket() -> None:
    """The table of sockets, and those that others have in it, may be of any length."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3000 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3000, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        found: dict[str, socket.socket] = {}
        port = free_port()  # one alone, of many addresses: others need ports, too
        for number in range(2500):
            one = stack.enter_context(socket.socket())
            one.bind((f"127.77.{number // 250}.{1 + number % 250}", port))
            one.listen()
            found[str(os.fstat(one.fileno()).st_ino)] = one
        rows = [line.split() for line in files.lines("/proc/net/tcp")]
        last = [found[row[9]] for row in rows if row[9] in found][-1]
        client = stack.enter_context(socket.socket())
        client.connect(last.getsockname())
        ourselves = table.find(os.getpid())
        assert ourselves and not socket_owners.why_not_its(client, [ourselves])


def test_what_a_daemons_worker_listens_on_is_the_daemons(public: World) -> None:
    name, port = unique("worker"), free_port()
    listens = f'listens = ["tcp:127.0.0.1:{port}"]\n'
    public.watch(name, f'start_timeout = "1ms"\nuser = "root"\n{listens}')
    program = public.place / name
    program.symlink_to(os.path.realpath(sys.executable))
    listen(public, str(program), "worker", port, 0)
    told = public.run("check", "--verbose")
    assert told.code == 0 and f"{name} is up" in told.out, told


def test_of_another_service_of_that_name_nothing_is_stopped(public: World) -> None:
    """A sentinel beside redis: the same program, and the same user."""
    name = unique("sentinel")
    public.watch(
        name,
        'command = "^/"\nleftovers = "stop"\nleftover_command = "^save"\n',
    )
    program = str(public.daemon(name))
    titles = ("save", "[sentinel]")
    saves, sentinel = [
        public.spawn([title, "1000"], executable=program) for title in titles
    ]
    until(lambda: comm(saves.pid) == comm(sentinel.pid) == name)
    told = public.run()
    assert public.starts(name) == 1, told
    assert saves.wait() < 0 and sentinel.poll() is None, told


@pytest.mark.parametrize("slow", [False, True], ids=["", "slow machine"])
def test_a_sick_daemon_that_goes_on_forking_is_ended(public: World, slow: bool) -> None:
    """However long our own signals take, and those that got one are still to die."""
    name = unique("forks")
    public.watch(name, 'stop_timeout = "0.1s"\n')
    fake = public.place / "forks" / name
    fake.parent.mkdir()
    shutil.copy(need("dash"), fake)
    # From the TERM on: before that, a crowd would slow the whole machine.
    fork = f"sleep 100 & sleep {0.02 if slow else 0.002}"
    script = f"trap 'while :; do {fork}; done' TERM; while :; do sleep 0.02; done"
    marked = environment() | {"PLACE": str(public.place)}  # for the end of the test
    child = public.spawn([str(fake), "-c", script], env=marked)
    until(lambda: comm(child.pid) == name)
    if slow:  # its first KILL, after the TERM
        kill = Call("pidfd_send_signal", 2, "")
        told = injected(public, kill, "delay_enter=1200000", "restart", name)
    else:
        told = public.run("restart", name)
    assert told.code == 0 and public.starts(name) == 1, told
    assert child.wait() == -signal.SIGKILL


def test_nobody_is_ended_for_having_guessed_an_incident(public: World) -> None:
    name, guess = unique("guess"), public.place / "guess"
    wait = f"until [ -e {public.place}/go ]; do sleep 0.05; done"
    public.hook(
        name,
        f"echo $VIAGRA_INCIDENT >{guess}.new; mv {guess}.new {guess}; {wait}; exit 1",
    )
    run = public.spawn(public.command(), stdout=subprocess.PIPE)
    until(guess.exists)
    known = guess.read_text().strip()
    variables = {"VIAGRA_INCIDENT": known, "VIAGRA_MARK": known}
    stranger = public.spawn(["sleep", "1000"], user=ORDINARY, env=variables)
    (public.place / "go").touch()
    out, _ = run.communicate()
    assert run.returncode == 1 and b"left running" not in out, out
    assert stranger.poll() is None


def test_the_verb_test_names_whom_a_service_account_could_pass_for(
    public: World,
) -> None:
    open_to_all, by_user, by_pidfile = unique("open"), unique("user"), unique("pid")
    public.watch(open_to_all)
    public.watch(by_user, 'user = "root"\n')
    public.watch(by_pidfile, f'pidfile = "{public.place}/pid"\n')
    told = public.run("test")
    [line] = [line for line in told.out.splitlines() if "service account" in line]
    assert line.startswith(f"note: {open_to_all}: ") and told.code == 0, told


def test_every_ready_hook_names_its_user() -> None:
    files = sorted((CHECKOUT / "start.d").glob("*.toml"))
    assert files
    without = [p.name for p in files if "user" not in tomllib.loads(p.read_text())]
    assert without == []


def test_make_install_executes_nothing_in_a_tree_of_another_account(
    victim: Victim,
) -> None:
    """As `make install DESTDIR=` finds it, where a user has been there before."""
    environment_of_old = victim.world.place / "venv"
    environment_of_old.mkdir(mode=0o755)
    victim.script(environment_of_old / "bin" / "python")
    text = (CHECKOUT / "install.sh").read_text()
    functions = re.findall(r"^\w+\(\) \{\n.*?^\}\n", text, re.M | re.S)
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'{"".join(functions)}\nis_reusable "$1"',
            "sh",
            environment_of_old,
        ],
        cwd=CHECKOUT,
        env=environment() | {"PYTHON": sys.executable},
        check=False,
    )
    assert done.returncode == 1 and not victim.executed.exists()


def test_a_strangers_command_line_cannot_hold_up_a_run(public: World) -> None:
    name = unique("evil")
    public.watch(name, 'command = "(a+)+$"\n')
    began = time.monotonic()
    slow = public.spawn(
        ["a" * 3000 + "!", "1000"],
        executable=public.daemon(name),
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
    )
    until(lambda: comm(slow.pid) == name[:15])
    result = public.run("check", timeout=30)
    assert result.code == 1 and f"pid {slow.pid}" in result.out, result
    assert time.monotonic() - began < 20


def test_a_strangers_process_is_no_leftover_and_lives_on(public: World) -> None:
    name = unique("left")
    public.watch(name, 'command = "1000"\nleftovers = "stop"\n')
    pid = up_as(public, name, ORDINARY, "999")
    assert public.run().code == 0
    assert public.starts(name) == 1 and os.path.exists(f"/proc/{pid}")


def test_a_strangers_shell_is_no_hook_at_work(public: World) -> None:
    """Its user is compared before its paths are followed, which can be any maze."""
    hook = public.hook(unique("shell"), "kill -STOP $$")
    pids = [
        public.spawn(["sh", str(hook)], user=user, group=user, extra_groups=[]).pid
        for user in (0, ORDINARY)
    ]
    daemons = load(str(public.home)).daemons.values()
    observer = Observer(daemons, ProgramTrust(0), os.getpid())
    hooks_at_work.prepare_one_look(observer)
    assert [one.pid for one in hooks_at_work.find_all(observer)] == pids[:1]


SPY = f"""\
import fcntl, os, sys
os.setgroups([]); os.setgid({SYSTEM}); os.setuid({SYSTEM})
for attempt in (
    lambda: os.pread(1, 4000, 0),
    lambda: open("/proc/self/fd/1").read(),
    lambda: fcntl.fcntl(1, fcntl.F_SETFL, 0),
    lambda: os.pwrite(1, b"all is well, said root's own step", 0),
    lambda: os.ftruncate(1, 5),
):
    try:
        print(attempt(), file=sys.stderr)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
"""


@pytest.mark.parametrize("where", ["hook.log", "memory"])
def test_a_daemon_neither_reads_nor_hides_what_roots_steps_printed(
    tmp_path: Path, where: str
) -> None:
    need_root()
    log = HookLog(str(tmp_path / where) if where == "hook.log" else "")
    printed = b"root's step: all is lost\n"
    with files.Descriptor(log.open()) as first:
        os.write(first, printed)
    with files.Descriptor(log.open()) as second:
        done = subprocess.run(
            [users_python(), "-c", SPY],
            stdout=second,
            stderr=subprocess.PIPE,
            check=True,
            text=True,
        )
    denied = ["Bad file descriptor", "Permission denied"]
    assert done.stderr.splitlines()[:2] == denied and log.last() == printed, done
    with files.Descriptor(log.open()) as third:
        os.write(third, b"the next step's")
    assert log.last() == printed + b"the next step's"
    log.close()


def told_enough(world: World, name: str, word: str) -> State:
    """Note that as much was said of that name and word as is in a day."""
    state = State(str(world.state))
    state.prepare()
    for number in range(5):
        assert announced.announce(state, name, word, "the same"), number
        announced.close(state, name)
    return state


def test_who_waits_and_is_up_by_turns_fills_no_mail(world: World) -> None:
    needed, name = unique("needed"), unique("waits")
    world.watch(needed, 'recovery = "report"\n')
    world.watch(name, f'after = ["{needed}"]\n')
    state = told_enough(world, name, "down")
    first = world.run()
    assert first.code == 1 and f"{name} " not in first.out, first
    world.up(name)
    assert world.run().out == "" and announced.of(state, name) == {}


def test_who_is_unknown_and_well_by_turns_fills_no_mail(world: World) -> None:
    """As its own user can be, by a pidfile; fail.d hears of it no oftener."""
    name, pidfile = unique("turns"), world.place / "pid"
    world.watch(name, f'pidfile = "{pidfile}"\n')
    calls = world.place / "calls"
    world.hook(name, f"echo $VIAGRA_REASON >> {calls}", kind="fail.d")
    pid, state = world.up(name).pid, told_enough(world, name, "unknown")
    for written in (1, pid):
        pidfile.write_text(f"{written}\n")
        assert world.run().out == ""
    assert not calls.exists()
    assert not announced.announce(state, name, "unknown", "whatever else")
    counts = state.read("counts", name)
    yesterday = {**counts, "said_at": time.time() - announced.AGAIN}
    state.write("counts", name, yesterday)
    assert announced.announce(state, name, "unknown", "the same")


def test_who_becomes_unknown_while_it_is_brought_back_fills_no_mail(
    world: World,
) -> None:
    name, pidfile = unique("turns"), world.place / "pid"
    world.watch(name, f'pidfile = "{pidfile}"\npatience = "1h"\n')
    calls = world.place / "calls"
    world.hook(name, f"echo $VIAGRA_REASON >> {calls}", kind="fail.d")
    state = told_enough(world, name, "unknown")
    begun = f"{world.state}/incidents/*-{name}"
    wait = f"until ls {begun}; do sleep 0.02; done; exec {world.daemon(name)} 1000"
    child = world.spawn(["sh", "-c", wait])
    first = world.run()
    assert (first.code, first.out) == (1, "") and not calls.exists(), first
    pidfile.write_text(f"{child.pid}\n")
    assert world.run().out == "" and announced.of(state, name) == {}
