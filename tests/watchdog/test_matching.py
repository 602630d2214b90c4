"""Which process is the daemon: each rule, with real processes and the real program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from other_users import (
    HEADLESS,
    ORDINARY,
    SYSTEM,
    Look,
    fresh,
    give,
    look,
    python_program,
    run_as,
    up_as,
    with_mounts,
)
from world import SLEEP, World, alive, comm, need, need_root, unique, until

from viagralib.processes.observer import Observer
from viagralib.processes.table import own_pid
from viagralib.processes.verdicts import judge
from viagralib.settings.configuration import load
from viagralib.trust.programs import ProgramTrust

# A process that gives itself the name in its first argument, and keeps it.
RENAMED = "import sys, time; open('/proc/self/comm', 'w').write(sys.argv[1]); {}"
WAIT = "time.sleep(1000)"
# A process whose pid is the same in its own namespace as outside: clone3(2).
SAME_PID = """\
import ctypes, os, struct, sys
for pid in range(20000, 30000):
    pids = (ctypes.c_int * 2)(pid, pid)
    words = (0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(pids), 2, 0)
    made = ctypes.CDLL(None).syscall(435, struct.pack("11Q", *words), 88)
    if made == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    if made > 0:
        os.waitpid(made, 0)
"""


def look_at(world: World, names: list[str]) -> list[Look]:
    """Look once at several daemons."""
    done = world.run("check", "--json")
    assert done.out, done
    return [Look(name, done) for name in names]


def watched(world: World, facts: str = "", length: int = 0) -> str:
    """Watch a daemon of a fresh name, which is not up; return the name."""
    name = fresh(length)
    world.watch(name, facts)
    return name


def assert_up(seen: Look, *pids: int) -> None:
    assert (seen.word, sorted(seen.pids)) == ("up", sorted(pids)), seen


def assert_down(seen: Look, reason: str = "") -> None:
    assert seen.word == "down" and reason in seen.reason, seen


def assert_unknown(seen: Look, *reasons: str) -> None:
    assert seen.word == "unknown" and seen.code == 1, seen
    for reason in reasons:
        assert reason in seen.reason, seen


# What counts, and what never does


def test_the_exact_name_counts_and_no_text_that_holds_it(world: World) -> None:
    name = watched(world)
    for other in (f"{name}d", f"x{name}", name[:-1], name.upper()):
        world.up(other)
    log = world.place / f"{name}.log"
    log.touch()
    world.spawn(["tail", "-f", str(log)])
    world.spawn(["sh", "-c", f"tail -f /dev/null | tee {log}"])
    world.spawn(["sleep", "1000"], executable=str(world.daemon("x" + fresh())))
    assert_down(look(world, name), f'no process named "{name}"')
    child = world.up(name)
    assert_up(look(world, name), child.pid)


def test_a_zombie_is_dead(world: World) -> None:
    name = watched(world)
    child = world.up(name)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not alive(child.pid))
    assert_down(look(world, name), f"pid {child.pid}: a zombie")
    assert comm(child.pid) == name


@pytest.mark.parametrize("length", [0, 15, 24])
def test_a_dead_first_thread_is_no_zombie(world: World, length: int) -> None:
    name = fresh(length)
    program = python_program(world.bin / name, HEADLESS)
    world.hook(name, "true")
    world.facts(
        name,
        f'command = "{program}$"\nexecutable = "{os.path.realpath(_runs(program))}"',
    )
    child = world.spawn([str(program)])
    until(lambda: not alive(child.pid))
    assert len(os.listdir(f"/proc/{child.pid}/task")) == 2
    assert_up(look(world, name), child.pid)


def _runs(script: Path) -> str:
    return script.read_text().splitlines()[0].removeprefix("#!")


def test_this_run_itself_is_no_daemon(world: World) -> None:
    name = watched(world)
    process = os.path.basename(sys.executable)
    world.facts(name, f'process = "{process}"\ncommand = "{world.home}.* {name}"')
    assert_down(look(world, name))
    assert "not counted: this run of viagra.py" in world.run("explain", name).out


def test_another_run_is_no_daemon(world: World) -> None:
    name, other = watched(world), fresh()
    world.hook(other, f"touch {world.place}/begun; exec sleep 1000 # {world.place}")
    process = os.path.basename(sys.executable)
    world.facts(name, f'process = "{process}"\ncommand = " run {other}$"')
    world.facts(other, 'start_timeout = "60s"')
    sister = world.spawn(world.command("run", other))
    until((world.place / "begun").exists)
    assert_down(look(world, name))
    told = world.run("explain", name).out
    assert f"pid {sister.pid}, not counted: another run of viagra.py" in told


def test_an_ancestor_of_the_run_counts(world: World) -> None:
    name = watched(world)
    ancestor = world.bin / name
    # The comment keeps the shell from becoming its last command.
    world.write(ancestor, '#!/bin/sh\necho $$ >"$0.pid"\n"$@"\nexit # last', 0o755)
    seen = look(world, name, str(ancestor))
    assert_up(seen, int(Path(f"{ancestor}.pid").read_text()))


# The hook at work


LOOP = "while :; do sleep 0.1; done"


@pytest.mark.parametrize(
    "start",
    [
        ["{hook}"],
        ["sh", "{hook}"],
        ["sh", "-e", "-u", "{hook}"],
        ["bash", "-o", "errexit", "{hook}"],
        ["busybox", "sh", "{hook}"],
        ["sh", "start.d/{name}"],
    ],
)
def test_a_hook_at_work_is_not_its_daemon(world: World, start: list[str]) -> None:
    program = need(start[0]) if start[0] != "{hook}" else ""
    name = fresh()
    hook = world.hook(name, LOOP)
    argv = [word.format(hook=hook, name=name) for word in start]
    child = world.spawn(argv, cwd=world.home, executable=program or None)
    until(lambda: comm(child.pid) in {name, start[0]})
    seen = look(world, name)
    assert_down(seen)
    assert seen.standing == f"not now: being started by pid {child.pid}", seen
    assert seen.code == 0


def test_a_hook_that_has_no_arguments_yet_is_not_its_daemon(world: World) -> None:
    name = fresh()
    world.hook(name, "true")
    shell = world.bin / name  # execve(2) half-way: the hook's name, the shell's file
    shell.symlink_to(need("sh"))
    child = world.spawn([""], executable=str(shell), stdin=subprocess.PIPE)
    until(lambda: comm(child.pid) == name)
    seen = look(world, name)
    assert_down(seen)
    assert seen.standing == f"not now: being started by pid {child.pid}", seen
    other = fresh()
    world.hook(other, "true")
    world.facts(other, f'process = "{name}"')
    assert_down(look(world, other), f"pid {child.pid}: still works as a hook's script")
    assert not look(world, other).standing


@pytest.mark.parametrize(
    "first_line",
    ["#!/bin/sh -e", "#!/bin/busybox sh", "#!/usr/bin/env -S sh -e", "#!{nested}"],
)
def test_the_script_that_a_hook_links_to_is_a_hook(
    world: World, first_line: str
) -> None:
    need("busybox")
    name = fresh()
    nested = world.bin / "interpreter"
    world.write(nested, "#!/bin/sh\nwhile :; do sleep 0.1; done\n", 0o755)
    script = world.place / "init.d" / name
    script.parent.mkdir()
    world.write(script, f"{first_line.format(nested=nested)}\n{LOOP}\n", 0o755)
    (world.home / "start.d" / name).symlink_to(f"../../init.d/{name}")
    child = world.spawn([str(script), "start"])
    until(lambda: comm(child.pid) in {name, "sh"})
    seen = look(world, name)
    assert_down(seen)
    assert str(child.pid) in seen.standing, seen


@pytest.mark.parametrize("kind", ["start.d", "stop.d", "check.d", "fail.d", "step"])
def test_every_kind_of_hook_and_each_step_is_a_hook(world: World, kind: str) -> None:
    name = fresh()
    if kind == "step":
        path = world.hook(f"{name}/{name}", LOOP)
    else:
        world.hook(name, "true")
        path = world.hook(name, LOOP, kind)
    child = world.spawn([str(path)])
    until(lambda: comm(child.pid) == name)
    assert_down(look(world, name), f"pid {child.pid}: still works as a hook's script")


def test_who_shows_or_edits_a_hook_is_not_the_hook_at_work(world: World) -> None:
    name = watched(world)
    hook = world.home / "start.d" / name
    world.spawn(["tail", "-f", str(hook)])
    pager = world.bin / "pager"
    world.write(pager, f"#!/bin/sh\n{LOOP}\n", 0o755)
    world.spawn([str(pager), str(hook)])
    world.spawn(["sh", str(pager), str(hook)])
    seen = look(world, name)
    assert_down(seen)
    assert (seen.standing, seen.code) == ("", 1), seen


def test_a_daemon_that_was_told_its_hook_is_the_daemon(world: World) -> None:
    name = watched(world)
    shutil.copy(need("tail"), world.bin / name)
    child = world.spawn([str(world.bin / name), "-f", f"{world.home}/start.d/{name}"])
    until(lambda: comm(child.pid) == name)
    assert_up(look(world, name), child.pid)


def test_an_ordinary_user_cannot_keep_a_daemon_from_being_started(
    public: World,
) -> None:
    name = fresh()
    hook = public.hook(name, LOOP)
    child = public.spawn(["sh", str(hook)], user=ORDINARY, group=ORDINARY)
    until(lambda: comm(child.pid) == "sh")
    seen = look(public, name)
    assert_down(seen)
    assert (seen.standing, seen.code) == ("", 1), seen


# Containers


def test_a_process_of_another_pid_namespace_does_not_count(world: World) -> None:
    need_root()
    name = watched(world)
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    world.spawn([*argv, str(world.daemon(name)), "1000"])
    until(lambda: world.pids(name))
    assert_down(look(world, name), "containers = true")
    world.facts(name, "containers = true")
    assert_up(look(world, name), *world.pids(name))


# A tmpfs as the root, with the host's system in it, and there a program of its own.
CONTAINER = """
mount -t tmpfs none $1
for one in /usr /lib /lib64 /bin; do
    [ ! -e $one ] || { mkdir $1$one && mount --rbind $one $1$one; }
done
"""
JAIL = "import os, sys, time; os.chroot(sys.argv[1]); print(); time.sleep(1000)"


@pytest.mark.parametrize("its_own", [True, False])
def test_a_container_in_our_pid_namespace_is_in_doubt(
    world: World, its_own: bool
) -> None:
    need_root()
    name = watched(world)
    place = world.place / "root"
    place.mkdir()
    if its_own:
        program = world.daemon(name)
        then = f"cp {program} $1/{name} && exec chroot $1 /{name} 1000"
    else:  # a service that goes into a directory, as name servers do
        (world.place / name).symlink_to(os.path.realpath(sys.executable))
        then = f"exec {world.place / name} -c '{JAIL}' $1"
    script = f"{CONTAINER}\n{then}"
    child = world.spawn(["unshare", "--mount", "sh", "-ec", script, "sh", str(place)])
    until(lambda: comm(child.pid) == name)
    if not its_own:
        until(lambda: os.readlink(f"/proc/{child.pid}/root") != "/")
        assert_up(look(world, name), child.pid)
        return
    told = look(world, name)
    assert told.word == "unknown" and "containers = true" in told.reason
    world.facts(name, "containers = true")
    assert_up(look(world, name), child.pid)


def test_not_even_when_its_pid_is_the_same_in_there(world: World) -> None:
    need_root()
    name = watched(world)
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
    world.spawn([*argv, SAME_PID, str(world.daemon(name)), "1000"])
    until(lambda: world.pids(name))
    status = Path(f"/proc/{world.pids(name)[0]}/status").read_text()
    assert [line.split()[1:] for line in status.splitlines() if "NSpid" in line] == [
        [str(world.pids(name)[0])] * 2
    ]
    assert_down(look(world, name), "in another pid namespace")


# Names


def test_a_name_of_any_length(world: World) -> None:
    names = [watched(world, length=length) for length in (14, 15, 16, 40)]
    for seen in look_at(world, names):
        assert_down(seen)
    pids = [world.up(name).pid for name in names]
    assert [comm(pid) for pid in pids] == [name[:15] for name in names]
    for seen, pid in zip(look_at(world, names), pids, strict=True):
        assert_up(seen, pid)


def test_names_that_begin_alike_are_not_the_same(world: World) -> None:
    names = [watched(world, length=length) for length in (16, 40)]
    others = [name[:15] + "a" * len(name) for name in names]
    pids = [world.up(other).pid for other in others]
    for seen, pid, other in zip(look_at(world, names), pids, others, strict=True):
        assert_down(seen, f"pid {pid}: another name: {other}")


def test_a_name_of_15_bytes_may_be_what_the_kernel_left_of_another(
    world: World,
) -> None:
    """As ps shows it; or it is that of another daemon, which is watched, too."""
    name, other = watched(world, length=15), unique("other")
    world.up(f"{name}-daemon")
    assert_unknown(look(world, name), f'set the fact process = "{name}-daemon"')
    world.watch(other, f'process = "{name}-daemon"')
    assert_down(look(world, name), f"whole name is {name}-daemon, that of {other}")


def test_a_name_of_16_bytes_that_nothing_of_the_process_tells(world: World) -> None:
    name = watched(world, length=16)
    python = [sys.executable, "-c", RENAMED.format(WAIT), name[:15]]
    child = world.spawn(python)
    until(lambda: comm(child.pid) == name[:15])
    world.facts(name, f'command = "{name[:15]}"')
    assert_down(look(world, name), "another name")


def test_a_name_of_15_bytes_that_the_process_gave_itself(world: World) -> None:
    name = watched(world, length=15)
    # Handed over backwards: nothing but its name tells it.
    program = RENAMED.format(WAIT).replace("argv[1]", "argv[1][::-1]")
    child = world.spawn([sys.executable, "-c", program, name[::-1]])
    until(lambda: comm(child.pid) == name)
    world.hook(name, "true")
    assert_up(look(world, name), child.pid)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("{}", ""),
        ("{}", " two words"),
        ("{}", ": serves [/srv/shop]"),
        ("{}", "\\shop: on C:\\"),
        ("/usr/sbin/{} -d", ""),
        ("C:\\Game Files\\{}", ".exe"),
        ("{}: writer", ""),
    ],
)
def test_a_long_name_in_the_text_that_the_process_shows(
    world: World, title: str, text: str
) -> None:
    hook, name = watched(world), fresh(24, text)
    world.facts(hook, f"process = '{name}'")
    argv = [title.format(name), "-c", RENAMED.format(WAIT), name[:15]]
    child = world.spawn(argv, executable=_real_python())
    until(lambda: comm(child.pid) == name[:15])
    assert_up(look(world, hook), child.pid)


def _real_python() -> str:
    return os.path.realpath(sys.executable)


def test_a_long_name_that_only_the_executable_tells(world: World) -> None:
    name = watched(world, length=24)
    child = world.spawn(["other", "1000"], executable=str(world.daemon(name)))
    until(lambda: comm(child.pid) == name[:15])
    assert_up(look(world, name), child.pid)


# How a process that calls itself otherwise is found out: (its arguments, file).
ALIASES = {
    "executable": (["x", "-c", "{rename}", "Main/Thread"], "{own}"),
    "argument": (["/opt/{name}", "-c", "{rename}", "MainThread"], sys.executable),
    "title": (["{name}: serves [/srv/x]", "-c", "{rename}", "M"], sys.executable),
    "script": ([sys.executable, "-I", "{script}"], sys.executable),
    "module": ([sys.executable, "-I", "{script}.py"], sys.executable),
    "wine": (["Z:\\srv\\{name}", "-c", "{rename}", "wine-preloader"], sys.executable),
}


@pytest.mark.parametrize("how", ALIASES)
def test_what_calls_itself_otherwise_is_unknown_until_a_fact_says_so(
    world: World, how: str
) -> None:
    name, own = watched(world), world.bin / "own"
    own.mkdir()
    script, texts = world.place / name, {"name": name, "rename": RENAMED.format(WAIT)}
    for path in (script, Path(f"{script}.py")):
        world.write(path, "import time\ntime.sleep(1000)\n")
    shutil.copy(_real_python(), own / name)
    arguments, executable = ALIASES[how]
    argv = [one.format(**texts, script=script) for one in arguments]
    child = world.spawn(argv, executable=executable.format(own=own / name))
    called = argv[3] if "{rename}" in arguments else comm(child.pid)
    until(lambda: comm(child.pid) == called)
    until(lambda: look(world, name).word == "unknown")
    seen = look(world, name)
    assert_unknown(seen, f'pid {child.pid}: calls itself "{called}"')
    assert world.run().code == 1 and world.starts(name) == 0
    assert f"pid {child.pid}, unsure: calls itself" in world.run("explain", name).out
    facts = seen.reason.partition(": if that is the daemon, set ")[2]
    facts = facts.rpartition(" in ")[0].replace(" and ", "\n", 1)
    world.facts(name, facts)
    assert_up(look(world, name), child.pid)
    world.kill(child.pid)
    assert_down(look(world, name))


def test_what_is_just_being_started_is_down_or_up_and_nothing_else(
    world: World,
) -> None:
    """Read half before and half after it executes the daemon, it is no alias of it."""
    name = watched(world)
    [daemon] = load(str(world.home)).daemons.values()
    for _ in range(60):
        late = f"sleep 0.01; exec {world.daemon(name)} {SLEEP}"
        child = world.spawn(["/bin/sh", "-c", late])
        words = {"down"}
        while words == {"down"}:
            observer = Observer([daemon], ProgramTrust(os.geteuid()), own_pid())
            words.add(judge([daemon], observer)[name].word)
        assert words == {"down", "up"}
        world.kill(child.pid)
        child.wait(60)


def test_who_only_handles_a_daemons_files_is_no_daemon(world: World) -> None:
    """Its log is read, its script is edited, it is told to an interpreter."""
    name = watched(world)
    file = world.place / name
    file.touch()
    for argv in (
        ["tail", "-f", str(file)],
        [sys.executable, "-c", "import time; time.sleep(1000)", str(file)],
        ["sh", "-c", f"{world.daemon(unique('nap'))} 1000; :", name],
    ):
        child = world.spawn(argv)
        until(Path(f"/proc/{child.pid}/cmdline").read_bytes)
    assert_down(look(world, name))


def test_an_ordinary_users_alias_keeps_no_daemon_from_being_started(
    public: World,
) -> None:
    name = watched(public)
    child = public.spawn(
        [name, "1000"], executable="/bin/sleep", user=ORDINARY, group=ORDINARY
    )
    until(lambda: comm(child.pid) == "sleep")
    assert_down(look(public, name))
    assert f'pid {child.pid}, another name: "sleep"' in public.run("explain", name).out


def test_the_process_of_another_watched_daemon_is_no_alias(world: World) -> None:
    name, other = watched(world), unique("other")
    child = world.spawn([name, "1000"], executable=str(world.daemon(other)))
    until(lambda: comm(child.pid) == other)
    assert_unknown(look(world, name), f'calls itself "{other}"')
    world.watch(other)
    assert_down(look(world, name))


def test_node_calls_itself_as_it_likes(world: World) -> None:
    """As Node.js 24 does at its start, for which Debian 12's is too old."""
    node, name = need("node"), watched(world)
    script = world.place / f"{name}.js"
    rename = "require('fs').writeFileSync('/proc/self/comm', 'MainThread')"
    world.write(script, f"{rename}; setInterval(() => 0, 1e6)\n")
    child = world.spawn([node, str(script)])
    until(lambda: comm(child.pid) == "MainThread", seconds=60)
    assert_unknown(look(world, name), f'pid {child.pid}: calls itself "MainThread"')


@pytest.mark.parametrize("line", ["#!/bin/sh", "#!/bin/sh -e", "#!/bin/busybox sh"])
def test_a_daemon_that_is_a_script(world: World, line: str) -> None:
    need("busybox")
    name = watched(world, length=24)
    script = world.bin / "scripts" / name
    script.parent.mkdir()
    world.write(script, f"{line}\n{LOOP}\n", 0o755)
    child = world.spawn([str(script), "-d"])
    until(lambda: comm(child.pid) == name[:15])
    assert_up(look(world, name), child.pid)


UNUSUAL = [" two words", ") S 1 (", "]%d{}'", "é", "ééééééééééé", "\\\\"]


def test_names_of_unusual_characters(world: World) -> None:
    names = [fresh(text=text) for text in UNUSUAL]
    pids = []
    for name in names:
        world.hook(name, "true")
        pids.append(world.spawn([str(world.daemon(name)), "1000"]).pid)
        until(partial(world.pids, name))
    for seen, pid in zip(look_at(world, names), pids, strict=True):
        assert_up(seen, pid)
    for pid in pids:
        world.kill(pid)
    for seen in look_at(world, names):
        assert_down(seen)


def test_a_name_with_a_newline_set_by_a_fact(world: World) -> None:
    name, process = watched(world), fresh(text="\n) Z 1")
    world.facts(name, f'process = "{process}"'.replace("\n", "\\n"))
    child = world.spawn([str(world.daemon(process)), "1000"])
    until(lambda: world.pids(process))
    assert_up(look(world, name), child.pid)
    world.kill(child.pid)
    seen = world.run("check")
    assert seen.out.count("\n") == 1 and "\\x0a" in seen.out, seen


def test_bytes_that_are_no_text_are_shown_as_such(world: World) -> None:
    name = watched(world)
    other = os.fsdecode(os.fsencode(name) + b"\xff\x1b[2J")
    world.spawn([str(world.daemon(other)), "1000"])
    until(lambda: world.pids(other))
    seen = world.run("explain", name)
    assert f"{name}\\xff\\x1b[2J" in seen.out, seen
    assert "\x1b" not in seen.out


# Facts


def test_an_upgrade_replaces_the_program_of_a_running_daemon(world: World) -> None:
    name = fresh()
    world.hook(name, "true")
    child = world.up(name)
    alias = world.place / "alias"
    alias.symlink_to(world.bin)
    world.facts(name, f'executable = "{alias}/{name}"')
    assert_up(look(world, name), child.pid)
    fresh_copy = world.bin / "new"
    shutil.copy(world.bin / name, fresh_copy)
    fresh_copy.rename(world.bin / name)
    assert os.readlink(f"/proc/{child.pid}/exe").endswith(" (deleted)")
    assert_up(look(world, name), child.pid)
    world.facts(name, "")
    assert_up(look(world, name), child.pid)


def test_the_same_name_of_another_executable(world: World) -> None:
    name = watched(world, 'executable = "/usr/sbin/food"')
    child = world.up(name)
    assert_down(
        look(world, name), f"pid {child.pid}: its executable is {world.daemon(name)}"
    )


class Versions:
    """A daemon in versioned directories, v1 and v2, behind a link: current."""

    def __init__(self, world: World) -> None:
        self.name = fresh()
        self._world = world
        self.place = world.place
        for version in ("v1", "v2"):
            (self.place / version).mkdir()
            shutil.copy(need("sleep"), self.program(version))
        self.current = self.place / "current"
        self.switch("v1")
        world.watch(self.name, f'executable = "{self.current}/{self.name}"')

    def program(self, version: str) -> Path:
        return self.place / version / self.name

    def switch(self, version: str) -> None:
        (self.place / "new").symlink_to(version)
        (self.place / "new").rename(self.current)

    def start(self, *argv: str, **options: object) -> int:
        words = argv or (str(self.current / self.name), "1000")
        child = self._world.spawn(words, **options)
        until(lambda: comm(child.pid) == self.name)
        return child.pid


def after_a_while() -> None:
    """Let some time pass: a file's time and a process's start are coarse."""
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.3)


def test_a_link_switched_while_the_daemon_runs_leaves_it_unknown(world: World) -> None:
    there = Versions(world)
    pid = there.start()
    assert_up(look(world, there.name), pid)
    there.switch("v2")
    changed = f"but {there.current} was changed since it was started"
    assert_unknown(
        look(world, there.name),
        f"pid {pid}: its executable is {there.program('v1')}, {changed}",
        "set the fact command or user",
    )
    result = world.run()
    assert result.code == 1 and changed in result.out and world.starts(there.name) == 0
    shutil.rmtree(there.place / "v1")  # as a deployment does with old versions
    assert_unknown(look(world, there.name), changed)
    pid = there.start()  # the new one, beside it
    assert_up(look(world, there.name), pid)


def test_another_program_whatever_the_link_is_down(world: World) -> None:
    there = Versions(world)
    there.switch("v2")
    after_a_while()
    pid = there.start(str(there.program("v1")), "1000")
    # Who was started after the link was made was not started through it.
    seen = look(world, there.name)
    assert_down(seen, f"pid {pid}: its executable is {there.program('v1')}")
    # One whose command line does not fit is no leftover either: it is not ours.
    there.switch("v2")
    world.facts(
        there.name,
        f'executable = "{there.current}/{there.name}"\ncommand = " 999$"\n',
    )
    assert_down(look(world, there.name), "counts: ")
    # And one that another daemon's fact names is that daemon's.
    world.facts(there.name, f'executable = "{there.current}/{there.name}"\n')
    assert_unknown(look(world, there.name))
    other = fresh()
    facts = f'process = "{there.name}"\nexecutable = "{there.program("v1")}"\n'
    world.watch(other, facts)
    assert_down(look(world, there.name), f", that of {other}")
    assert_up(look(world, other), pid)


@pytest.mark.parametrize("moved", ["file", "directory", "away"])
def test_a_program_that_was_moved_aside_leaves_it_unknown(
    world: World, moved: str
) -> None:
    name, place = fresh(), world.place / "app"
    place.mkdir()
    program = place / name
    shutil.copy(world.daemon(name), program)
    world.hook(name, "true")
    world.facts(name, f'executable = "{program}"')
    after_a_while()
    child = world.spawn([str(program), "1000"])
    until(lambda: comm(child.pid) == name)
    assert_up(look(world, name), child.pid)
    after_a_while()
    if moved == "directory":
        place.rename(world.place / "app.old")
        place.mkdir()
    else:
        program.rename(place / f"{name}.old")
    if moved != "away":
        shutil.copy(world.daemon(name), program)
    changed = f"but {program} was changed since it was started"
    assert_unknown(look(world, name), f"pid {child.pid}: its executable is ", changed)


def test_a_stranger_gains_nothing_by_a_link_that_was_switched(public: World) -> None:
    there = Versions(public)
    theirs = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
    pid = there.start(str(there.program("v1")), "1000", **theirs)
    there.switch("v2")
    assert_down(look(public, there.name), f"pid {pid}: its executable is ")


def test_a_pattern_that_takes_for_ever_leaves_it_unknown(world: World) -> None:
    name = watched(world, 'command = "(a+)+$"')
    child = world.spawn(
        [name, "-c", RENAMED.format(WAIT), name, "a" * 60 + "!"],
        executable=_real_python(),
    )
    until(lambda: comm(child.pid) == name)
    assert_unknown(
        look(world, name), f"pid {child.pid}: could not read its command line in time"
    )


def test_the_same_name_without_the_command_is_a_leftover(world: World) -> None:
    name = watched(world, 'command = " 10+$"')
    worker = world.spawn([str(world.daemon(name)), "2000"])
    until(lambda: comm(worker.pid) == name)
    assert_down(look(world, name), "that fits, but 1 leftover")
    told = world.run("explain", name).out
    assert f"pid {worker.pid}, leftover: " in told
    child = world.up(name)
    assert_up(look(world, name), child.pid)


FIT_ROOT = ['"root"', '"0"', "0", '["daemon", "root"]']
FIT_NOT = ['"daemon"', "[1, 2]"]


def test_the_fact_user(world: World) -> None:
    need_root()
    facts = [*FIT_ROOT, *FIT_NOT]
    names = [watched(world, f"user = {fact}") for fact in facts]
    pids = [world.up(name).pid for name in names]
    for fact, seen, pid in zip(facts, look_at(world, names), pids, strict=True):
        if fact in FIT_ROOT:
            assert_up(seen, pid)
        else:
            assert_down(seen, f"pid {pid}: of user root, not ")


def test_in_a_user_namespace_other_users_processes_are_unknown(public: World) -> None:
    """As in a unit with PrivateUsers=: all the others seem to be of nobody."""
    apart = ("unshare", "--user", "--map-root-user")
    name = fresh()
    public.watch(name, f'user = "{SYSTEM}"\n')
    pid = up_as(public, name, SYSTEM)
    seen = look(public, name, *apart)
    assert (
        seen.word == "unknown" and f"pid {pid}: could not read its user" in seen.reason
    )
    public.kill(pid)
    assert look(public, name, *apart).word == "down"


def test_a_system_users_process_counts(public: World) -> None:
    name = watched(public)
    pid = up_as(public, name, SYSTEM)
    assert_up(look(public, name), pid)


# Other users


def test_an_ordinary_users_process_leaves_root_in_doubt(public: World) -> None:
    name = watched(public)
    pid = up_as(public, name, ORDINARY)
    assert_unknown(look(public, name), f"pid {pid}: ", f'user = "{ORDINARY}"')
    # Not even when it executes the daemon's own program: everybody may.
    public.facts(name, f'executable = "{public.daemon(name)}"')
    assert_unknown(look(public, name), f'user = "{ORDINARY}"')
    public.facts(name, f'user = "{ORDINARY}"')
    assert_up(look(public, name), pid)
    public.facts(name, 'user = "root"')
    assert_down(look(public, name), f"of user {ORDINARY}, not root")


def test_nothing_is_started_while_in_doubt(public: World) -> None:
    name = watched(public)
    up_as(public, name, ORDINARY)
    first, second = public.run(), public.run()
    assert first.code == second.code == 1
    assert first.out.startswith(f"{name} is unknown: pid "), first
    assert second.out == ""
    assert public.starts(name) == 0


def test_roots_process_beside_an_ordinary_users_is_enough(public: World) -> None:
    name = watched(public)
    up_as(public, name, ORDINARY)
    child = public.up(name)
    assert_up(look(public, name), child.pid)


@pytest.mark.parametrize("starter", [SYSTEM, ORDINARY])
def test_a_set_user_id_program_under_the_daemons_name(
    public: World, starter: int
) -> None:
    if os.statvfs(public.place).f_flag & os.ST_NOSUID:
        pytest.skip("needs a /tmp without nosuid")
    name = fresh()
    public.hook(name, "true")
    public.facts(name, 'user = "root"')
    program = public.daemon(name)
    program.chmod(0o4755)
    pid = up_as(public, name, starter)
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{starter}\t0\t0\t0" in status
    assert look(public, name).word == "down"  # who started it is not root
    both = f'user = ["root", "{starter}"]\n'
    public.facts(name, both)
    assert_unknown(look(public, name), f"pid {pid}: ", str(program), "executable")
    public.facts(name, f'{both}executable = "{program}"')
    assert_up(look(public, name), pid)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ("UID_MIN 1000\nUID_MAX 60000", "unknown"),
        (f"UID_MIN {ORDINARY}\nUID_MAX {ORDINARY}", "unknown"),
        (f"UID_MIN {ORDINARY + 1}", "up"),
        (f"UID_MAX {ORDINARY - 1}", "unknown"),  # a directory's, or a subordinate id
        (f"#UID_MIN {ORDINARY + 1}\nUID_MIN\nUID_MIN many\n\nUMASK 022", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_bounds_of_ordinary_users(
    public: World, limits: str | None, word: str
) -> None:
    if not os.path.exists("/etc/login.defs"):
        pytest.skip("needs /etc/login.defs")
    name = watched(public)
    up_as(public, name, ORDINARY)
    limits_file = public.place / "login.defs"
    if limits is not None:
        public.write(limits_file, limits + "\n")
    else:
        limits_file.mkdir()  # in the way: login.defs is not there to be read
        limits_file = Path("/dev/null")
    wrapper = with_mounts(f"mount --bind {limits_file} /etc/login.defs")
    assert look(public, name, *wrapper).word == word


def test_a_users_own_run_counts_that_users_processes_only(public: World) -> None:
    name = watched(public)
    give(public, ORDINARY)
    root = public.up(name)
    assert_down(
        look(public, name, user=ORDINARY), f"pid {root.pid}: of another user (root)"
    )
    own = up_as(public, name, ORDINARY)
    assert_up(look(public, name, user=ORDINARY), own)
    public.kill(own)
    assert_down(look(public, name, user=ORDINARY))


def test_what_a_user_cannot_read_of_others_leaves_no_doubt(public: World) -> None:
    name = watched(public, length=16)
    give(public, ORDINARY)
    other = _silent(public, name)
    assert_down(look(public, name, user=ORDINARY), "of another user (root)")
    assert f"pid {other}: " in look(public, name, user=ORDINARY).reason


def _silent(world: World, name: str, **identity: int) -> int:
    """Start a process of this name that shows no arguments; return its pid."""
    path = world.bin / "silent" / name
    path.parent.mkdir()
    shutil.copy(need("cat"), path)
    never = world.place / "never"
    os.mkfifo(never)
    never.chmod(0o666)
    silently = 'exec -a "" "$1" 0<>"$2"'
    child = world.spawn(
        [need("bash"), "-c", silently, "bash", str(path), str(never)], **identity
    )
    until(lambda: comm(child.pid) == name[:15])
    return child.pid


# The pidfile


def with_pidfile(world: World) -> tuple[str, Path]:
    """Watch a daemon that has a pidfile, which is not there yet."""
    name = fresh()
    pidfile = world.place / f"{name}.pid"
    world.watch(name, f'pidfile = "{pidfile}"')
    return name, pidfile


PIDFILES = [  # what is in it, and the verdict on a daemon that fits
    ("{pid}\n", "up"),
    ("  {pid} \nmore\n", "up"),
    ("{other}\n", "unknown"),
    ("4194304999\n", "unknown"),
    ("0\n", "unknown"),
    ("-{pid}\n", "unknown"),
    ("garbage {pid}\n", "unknown"),
    ("", "unknown"),
    ("\0\xff\xff", "unknown"),
    ("9" * 3_000_000, "unknown"),
    (None, "unknown"),
]


def test_a_pidfile_while_a_process_fits(world: World) -> None:
    pairs = [with_pidfile(world) for _ in PIDFILES]
    pids, other = [world.up(name).pid for name, _ in pairs], world.up(fresh())
    for (content, _), (_, pidfile), pid in zip(PIDFILES, pairs, pids, strict=True):
        if content is not None:
            pidfile.write_text(content.format(pid=pid, other=other.pid))
    looks = look_at(world, [name for name, _ in pairs])
    for (content, word), (_, pidfile), pid, seen in zip(
        PIDFILES, pairs, pids, looks, strict=True
    ):
        assert seen.word == word, (content and content[:20], seen)
        if word == "unknown":
            assert f"pid {pid}: {pidfile} names " in seen.reason


def test_a_pidfile_while_no_process_fits(world: World) -> None:
    other, gone = world.up(fresh()), world.up(fresh())
    world.kill(gone.pid)
    names = []
    for content in (str(gone.pid), str(other.pid), "", None):
        name, pidfile = with_pidfile(world)
        names.append(name)
        if content is not None:
            pidfile.write_text(content)
    for seen in look_at(world, names):
        assert_down(seen)


def test_what_leads_no_session_is_left_of_one_that_does(world: World) -> None:
    """As a child of atd, of the same command line, that waits for somebody's job."""
    name = watched(world, "session_leader = true")
    world.spawn(["sh", "-c", f"{world.daemon(name)} {SLEEP} & wait"])
    until(lambda: [comm(pid) for pid in world.pids(name)] == [name])
    assert_down(look(world, name), "that fits, but 1 leftover")
    assert "does not lead its session" in world.run("explain", name).out
    leader = world.up(name)
    assert_up(look(world, name), leader.pid)


def test_the_process_of_the_pidfile_must_fit_the_other_facts(world: World) -> None:
    pidfile = world.place / "pidfile"
    name = watched(world, f'pidfile = "{pidfile}"\ncommand = " 1000$"')
    worker = world.spawn([str(world.daemon(name)), "2000"])
    until(lambda: comm(worker.pid) == name)
    pidfile.write_text(str(worker.pid))
    assert_down(look(world, name), "1 leftover")


def test_something_else_in_place_of_the_pidfile(world: World) -> None:
    pairs = [with_pidfile(world) for _ in range(4)]
    directory, device, fifo, written = [pidfile for _, pidfile in pairs]
    directory.mkdir()
    device.symlink_to("/dev/zero")
    os.mkfifo(fifo)
    os.mkfifo(written)
    writer = os.open(written, os.O_RDWR)
    for name, _ in pairs:
        world.up(name)
    for seen in look_at(world, [name for name, _ in pairs]):
        assert_unknown(seen, "names no process")
    os.close(writer)


# How many


def test_too_few_are_sick_and_too_many_are_reported(world: World) -> None:
    name = watched(world, "count = [2, 3]")
    assert_down(look(world, name))
    pids = [world.up(name).pid]
    assert_up(look(world, name), *pids)  # younger than start_timeout, never sick
    world.facts(name, 'count = [2, 3]\nstart_timeout = "1ms"')
    seen = look(world, name)
    assert (seen.word, seen.reason) == ("sick", "1 of at least 2 processes")
    pids += [world.up(name).pid, world.up(name).pid]
    seen = look(world, name)
    assert_up(seen, *pids)
    assert seen.reason == ""
    pids.append(world.up(name).pid)
    seen = look(world, name)
    assert_up(seen, *pids)
    assert seen.reason == "4 processes, more than 3"


def test_one_that_may_be_the_second_is_no_reason_to_stop_the_first(
    public: World,
) -> None:
    old = 'start_timeout = "1ms"\n'
    name = watched(public, f"{old}count = [2, 9]")
    public.up(name)
    pid = up_as(public, name, ORDINARY)
    assert_unknown(look(public, name), f"pid {pid}: of the ordinary user")
    public.facts(name, f"{old}count = [3, 9]")
    assert look(public, name).word == "sick"
    public.kill(public.pids(name)[0])
    public.kill(public.pids(name)[0])
    pid = up_as(public, name, ORDINARY)
    assert_unknown(look(public, name), f"pid {pid}: of the ordinary user")


# What cannot be seen

UNPRIVILEGED = [
    *("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"),
    *("--regid", "1", "--clear-groups"),
]


def hiding(options: str) -> list[str]:
    return with_mounts(f"mount -t proc -o {options} proc /proc")


@pytest.mark.parametrize("options", ["hidepid=1", "hidepid=2", "hidepid=4"])
@pytest.mark.parametrize("runs_as", [0, SYSTEM])
def test_root_without_the_right_to_look_never_says_down(
    public: World, options: str, runs_as: int
) -> None:
    name = watched(public)
    unprivileged = [*hiding(options), *UNPRIVILEGED]
    assert_unknown(look(public, name, *unprivileged), "hidden from us", "hidepid")
    pid = up_as(public, name, runs_as) if runs_as else public.up(name).pid
    seen = look(public, name, *unprivileged)
    assert seen.word == "unknown" or seen.pids == [pid], seen
    assert_up(look(public, name, *hiding(options)), pid)


@pytest.mark.parametrize("group", ["gid=7", "gid=1"])
def test_the_group_that_sees_all_may_say_down(world: World, group: str) -> None:
    need_root()
    name = watched(world)
    seen = look(world, name, *hiding(f"hidepid=2,{group}"), *UNPRIVILEGED)
    assert seen.word == ("down" if group == "gid=1" else "unknown"), seen


@pytest.mark.parametrize("options", ["hidepid=0", "hidepid=1", "hidepid=2"])
def test_root_itself_sees_all(world: World, options: str) -> None:
    need_root()
    name = watched(world)
    assert_down(look(world, name, *hiding(options)))
    alone = [*hiding(options), "setpriv", "--regid", "1", "--clear-groups"]
    # A sandbox may keep process 1 from us even so; then that is what counts.
    seen_whole = run_as([*alone, "test", "-r", "/proc/1/stat"]).code == 0
    assert look(world, name, *alone).word == ("down" if seen_whole else "unknown")


@pytest.mark.parametrize("name", ["a\rb", "a\rb\vc\vd\ve\v/proc\v"])
def test_what_a_mount_is_called_hides_nothing(world: World, name: str) -> None:
    """Users name theirs (fusermount(1)); few blanks are escaped in the table."""
    need_root()
    daemon = watched(world)
    mounted = with_mounts(f"mount -t tmpfs '{name}' {world.bin}")
    assert_down(look(world, daemon, *mounted))


def test_that_process_1_is_seen_does_not_prove_that_all_are(world: World) -> None:
    need_root()
    name = watched(world)
    as_process_1 = ["unshare", "--pid", "--fork", "--kill-child", *hiding("hidepid=2")]
    assert_unknown(look(world, name, *as_process_1, *UNPRIVILEGED), "hidden from us")
    assert_down(look(world, name, *as_process_1))


def test_whatever_hides_process_1_may_hide_more(world: World) -> None:
    need_root()
    name = watched(world)
    hidden = with_mounts("mount -t tmpfs none /proc/1")
    assert_unknown(look(world, name, *hidden), "hidden from us")


@pytest.mark.parametrize("options", ["hidepid=0", "hidepid=1", "hidepid=2"])
def test_a_user_sees_own_processes_and_never_says_anothers_is_down(
    public: World, options: str
) -> None:
    give(public, ORDINARY)
    own, roots = watched(public), watched(public, 'user = "root"')
    user = ["setpriv", "--reuid", str(ORDINARY), "--regid", str(ORDINARY)]
    wrapper = [*hiding(options), *user, "--clear-groups", "env", "--"]
    assert _look_as_user(public, own, wrapper).word == "down"
    pid = up_as(public, own, ORDINARY)
    assert_up(_look_as_user(public, own, wrapper), pid)
    public.up(roots)
    seen = _look_as_user(public, roots, wrapper)
    assert seen.word == ("down" if options == "hidepid=0" else "unknown"), seen


def _look_as_user(world: World, name: str, wrapper: list[str]) -> Look:
    from other_users import users_python

    command = world.command("check", "--json", name)
    command[0] = users_python()
    return Look(name, run_as([*wrapper, *command]))


@pytest.mark.parametrize("user", [0, ORDINARY])
@pytest.mark.parametrize(
    "how", ["while umount -l /proc; do :; done", "mount -t tmpfs none /proc"]
)
def test_without_proc_nothing_is_known(public: World, user: int, how: str) -> None:
    name = watched(public)
    wrapper = with_mounts(how)
    if user:
        give(public, user)
        wrapper += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    assert_unknown(_look_as_user(public, name, wrapper), "is /proc mounted?")


def test_a_long_name_of_which_nothing_can_be_read(public: World) -> None:
    name = watched(public, length=16)
    pid = _silent(public, name, user=SYSTEM, group=SYSTEM)
    seen = look(public, name, *UNPRIVILEGED)
    assert_unknown(seen, f"pid {pid}: could not read its executable: Permission denied")
    assert_up(look(public, name), pid)


# Races


def test_processes_that_come_and_go_are_no_error(world: World) -> None:
    name = watched(world, 'command = "1000"', length=16)
    program = world.daemon(name)
    churn = f"while :; do {program} 0.001 & {program} 0.002 & wait; done"
    world.spawn(["sh", "-c", churn])
    for _ in range(4):
        seen = world.run("check", name)
        assert seen.code == 1 and seen.err == "", seen
        assert seen.out.startswith(f"{name} is down: "), seen
