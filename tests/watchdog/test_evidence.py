"""Evidence: taken before anything is touched, whatever its commands do; the cause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from other_users import ORDINARY, give, public_world, run_as, users_python
from world import (
    SLEEP,
    World,
    absent,
    alive,
    is_first_pid_namespace,
    missing,
    need,
    need_root,
    reads_kernel_log,
    unique,
    until,
)

from viagralib.evidence import kernel_log
from viagralib.processes.service_units import service_in

GENERAL = '[defaults]\npatience = "0.1s"\nstart_timeout = "10s"\n[evidence]\n'


def with_commands(world: World, *commands: str, timeout: str = "5s") -> None:
    listed = ", ".join(f"'{command}'" for command in commands)
    world.settings(f'{GENERAL}commands = [{listed}]\ntimeout = "{timeout}"\n')


def command(world: World, text: str) -> Path:
    """Write a command that evidence is to take."""
    path = world.bin / unique("cmd")
    world.write(path, f"#!/bin/sh\n{text}\n", 0o755)
    return path


def test_default_commands_take_little_longer_than_vmstat_alone(world: World) -> None:
    for program in ("ps", "w", "vmstat", "df", "ss"):
        need(program)
    if not reads_kernel_log():
        absent("needs the kernel's log")
    name = unique("food")
    world.watch(name)
    world.settings('[defaults]\npatience = "0.1s"\n')
    began = time.monotonic()
    subprocess.run(["vmstat", "1", "2"], stdout=subprocess.DEVNULL, check=True)
    alone = time.monotonic() - began
    result = world.run()
    assert result.code == 0, result
    assert missing(result.out) == []
    [incident] = world.incidents(name)
    began_at = float(str(world.record(incident)["began"]))
    taken = (incident / "vmstat.txt").stat().st_mtime - began_at
    print(f"evidence in {taken:.2f} s, vmstat 1 2 alone in {alone:.2f} s")
    assert taken < alone + 2
    for file in ("ps", "w", "vmstat", "disks", "sockets", "kernel"):
        assert (incident / f"{file}.txt").stat().st_size > 20, file
    assert "WHAT" in (incident / "w.txt").read_text()
    assert (incident / "vmstat.txt").read_text().count("\n") == 4
    assert "/" in (incident / "disks.txt").read_text()


@pytest.mark.parametrize("deaf", [False, True], ids=["hangs", "hangs, deaf to TERM"])
def test_hanging_command_is_ended(world: World, deaf: bool) -> None:
    name = unique("food")
    nap = world.daemon(unique("nap"))
    hangs = command(world, ("trap '' TERM\n" if deaf else "") + f"{nap} {SLEEP}\n:")
    with_commands(world, str(hangs), "ps auxww", timeout="2s")
    world.watch(name)
    began = time.monotonic()
    result = world.run()
    assert result.code == 0, result
    assert time.monotonic() - began < 20
    [text] = missing(result.out)
    assert re.fullmatch(rf"{hangs.name}: out of time after \d\.\d s", text)
    assert world.pids(nap.name) == []
    assert world.starts(name) == 1
    assert "    %CPU" in result.out or " %CPU" in result.out


def test_endless_output_is_cut(world: World) -> None:
    name = unique("food")
    endless = command(world, "exec yes")
    with_commands(world, str(endless), timeout="20s")
    world.watch(name)
    result = world.run()
    assert result.code == 0, result
    assert missing(result.out) == [f"{endless.name}: cut at 4000000 bytes"]
    [incident] = world.incidents(name)
    assert (incident / f"{endless.name}.txt").stat().st_size == 4_000_000


def test_failing_and_missing_commands_are_named(world: World) -> None:
    name = unique("food")
    fails = command(world, "echo some of it; exit 3")
    dies = command(world, "kill -SEGV $$")
    with_commands(world, str(fails), "no-such-program -x", str(dies))
    world.watch(name)
    result = world.run()
    assert result.code == 0, result
    assert f"{fails.name}: exit 3" in missing(result.out)
    assert "no-such-program: not found" in missing(result.out)
    assert f"{dies.name}: killed by signal 11" in missing(result.out)
    [incident] = world.incidents(name)
    assert (incident / f"{fails.name}.txt").read_text() == "some of it\n"


@pytest.mark.parametrize("text", ["", "   ", '\\"', "#"])
def test_command_that_is_none_stops_no_restart(world: World, text: str) -> None:
    name = unique("food")
    world.settings(f'{GENERAL}commands = ["{text}", "ps auxww"]\n')
    world.watch(name)
    result = world.run()
    assert result.code in (0, 2), result  # settings may refuse it before that
    assert result.out.startswith(f"Restarting {name}\n")
    assert world.starts(name) == 1


def test_same_command_twice_has_two_files(world: World) -> None:
    name = unique("food")
    with_commands(world, "ps auxww", "ps -e", "/bin/ps -A")
    world.watch(name)
    result = world.run()
    assert result.code == 0, result
    [incident] = world.incidents(name)
    files = {path.name for path in incident.glob("ps*.txt")}
    assert files == {"ps.txt", "ps-2.txt", "ps-3.txt"}


def test_commands_see_no_more_than_they_need(world: World) -> None:
    name = unique("food")
    shows = command(world, "tr '\\0' '\\n' </proc/$$/environ; ls -l /proc/$$/fd; umask")
    with_commands(world, str(shows))
    world.watch(name)
    done = subprocess.run(
        world.command(),
        stdin=subprocess.PIPE,
        capture_output=True,
        env={"SECRET": "xyzzy", "IFS": "/", "LANG": "de_DE.UTF-8"},
        check=False,
    )
    assert done.returncode == 0
    [incident] = world.incidents(name)
    text = (incident / f"{shows.name}.txt").read_text()
    assert "xyzzy" not in text and "IFS" not in text
    assert "LC_ALL=C\n" in text
    assert "0 -> /dev/null" in text
    assert str(world.state / "locks") not in text


# The cause


def crasher(world: World, name: str) -> list[str]:
    """Return the command of a daemon that dies of a segmentation fault at USR1."""
    program = world.place / "crashers" / name
    program.parent.mkdir(exist_ok=True)
    program.symlink_to(os.path.realpath(sys.executable))
    code = (
        "import ctypes, signal, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: ctypes.string_at(0))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)"
    )
    return [str(program), "-c", code]


def kernel_says(text: str) -> bool:
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=False)
    return text in log.stdout


def crash(world: World, name: str, is_seen: bool = False) -> int:
    """Let a daemon of this name die of a real segmentation fault; return its pid.

    A run has seen it before that, or none has.
    """
    daemon = world.spawn(crasher(world, name), stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"ready\n"
    assert not is_seen or world.run().out == ""
    os.kill(daemon.pid, signal.SIGUSR1)
    assert daemon.wait(10) == -signal.SIGSEGV
    deadline = time.monotonic() + 5
    while not kernel_says(f"{name}[{daemon.pid}]: segfault"):
        if time.monotonic() > deadline:
            absent("needs a kernel that logs segmentation faults")
        time.sleep(0.05)
    return daemon.pid


def cause(out: str) -> str:
    [text] = re.findall(r"^  cause     (.*)$", out, re.MULTILINE)
    return str(text)


def test_segmentation_fault_is_the_cause_once(world: World) -> None:
    need_root()
    name = unique("food")
    world.watch(name)
    pid = crash(world, name, is_seen=True)
    told = world.run()
    assert told.code == 0, told
    assert re.fullmatch(
        rf"kernel: segmentation fault, killed {name} \(pid {pid}\) at \d\d:\d\d:\d\d",
        cause(told.out),
    )
    assert f"{name}[{pid}]: segfault" in (
        world.incidents(name)[0] / "kernel.txt"
    ).read_text(errors="replace")
    # Killed by hand right after that: the old line says nothing of this death.
    world.kill(world.pids(name)[0])
    assert cause(world.run().out) == "unknown"


def test_a_crash_of_who_only_had_the_name_is_told_as_that(world: World) -> None:
    need_root()
    name = unique("food")
    world.watch(name)
    pid = crash(world, name)
    assert re.fullmatch(
        rf"kernel: segmentation fault, killed a process named {name} \(pid {pid}\) at "
        r"[\d:]+, which no run has seen as the daemon",
        cause(world.run().out),
    )


def test_cause_stays_while_the_daemon_does(world: World) -> None:
    need_root()
    name = unique("food")
    world.hook(name, "exit 1")
    crash(world, name)
    first, second = world.run(), world.run()
    assert (first.code, second.code) == (1, 1)
    assert cause(first.out) == cause(second.out) != "unknown"


def test_death_before_the_last_run_is_not_the_cause(world: World) -> None:
    need_root()
    name = unique("food")
    world.watch(name)
    crash(world, name)
    world.up(name)  # somebody else started it
    assert world.run().out == ""  # this run saw it up
    # As if that run had been later: by more than the kernel's clock may go wrong.
    later = time.time() + 3 + 50e-6 * time.monotonic()
    os.utime(world.state / "last-run", (later, later))
    world.kill(world.pids(name)[0])
    assert cause(world.run().out) == "unknown"


def test_death_of_another_name_is_not_the_cause(world: World) -> None:
    need_root()
    name, other = unique("food"), unique("food")
    world.watch(name)
    crash(world, other)
    assert cause(world.run().out) == "unknown"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/web.slice/web-shop.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/a.service/payload/b.service\n", "a.service"),
        ("1:name=systemd:/system.slice/nginx.service\n0::/\n", "nginx.service"),
        ("0::/user.slice/user-4.slice/user@4.service/app.slice/x.service\n", ""),
        (
            "0::/user.slice/user-9.slice/user@9.service/app.slice/x.service\n",
            "x.service",
        ),
        ("0::/init.scope\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_known_in_whatever_slice(text: str, unit: str) -> None:
    assert service_in(text, user=9 if "user@9" in text else 0) == unit
    assert unit == "x.service" or service_in(text, user=9) == unit


def test_out_of_memory_is_the_cause(world: World) -> None:
    need_root()
    if not is_first_pid_namespace():
        absent("needs to know the pids of the kernel's log: no container's")
    name = unique("food")
    memory = Path("/sys/fs/cgroup/memory")
    group = memory / name
    if not (memory / "memory.limit_in_bytes").exists():
        memory = Path("/sys/fs/cgroup")
        group = memory / name
    try:
        group.mkdir()
    except OSError as error:
        absent(f"needs a memory cgroup of its own: {error}")
    try:
        limit = group / "memory.limit_in_bytes"
        if not limit.exists():
            limit = group / "memory.max"
        try:
            limit.write_text(str(24 * 2**20))
        except OSError as error:
            absent(f"needs the memory controller: {error}")
        world.watch(name)
        program = world.bin / unique("eat")
        code = "import sys\nheap = []\nwhile True: heap.append(bytearray(2**20))"
        program.symlink_to(os.path.realpath(sys.executable))
        daemon = world.bin / f"{name}-eater" / name
        daemon.parent.mkdir()
        daemon.symlink_to(os.path.realpath(sys.executable))
        enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        eater = world.spawn(["/bin/sh", "-c", enter, "sh", str(daemon), "-c", code])
        assert eater.wait(60) == -signal.SIGKILL
        until(lambda: kernel_says(f"({name})"))
        result = world.run()
        assert re.fullmatch(
            rf"kernel: out of memory, by the limit of {name}, "
            rf"killed a process named {name} "
            rf"\(pid {eater.pid}\) at [\d:]+, which no run has seen as the daemon",
            cause(result.out),
        )
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_name_with_brackets_is_read_right(world: World) -> None:
    """Whoever names a process can write into the kernel's line."""
    need_root()
    name = unique("f")
    forged = f"{name}[1]: s"[:15]
    world.watch(name)
    pid = crash(world, forged)
    assert pid
    assert cause(world.run().out) == "unknown"


def test_the_name_of_a_control_group_forges_no_death() -> None:
    forged = "Out of memory: Killed process 7 (food) x"
    text = f"oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/u/{forged},pid=9,uid=1000"
    assert kernel_log.find_death([kernel_log.Line(1.0, text)], "food", 0.0, [7]) is None


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        ("out of memory", "Memory cgroup out of memory: Killed process 7 (food) total"),
        ("segmentation fault", "food[7]: segfault at 0 ip 0 sp 0 error 4 in food[1]"),
        ("segmentation fault", "food[7]: segfault (11) at 0 nip 0 lr 0 code 1 in food"),
        (
            "segmentation fault",
            "food[7]: unhandled signal 11 code 0x1 at 0x0 in food[1]",
        ),
        (
            "segmentation fault",
            "food[7]: unhandled level 2 translation fault (11) at 0x8, esr 0x92000006",
        ),
        (
            "unhandled exception: DABT (lower EL)",
            "food[7]: unhandled exception: DABT (lower EL), ESR 0x92000005, level 1",
        ),
        (
            "undefined instruction",
            "food[7]: undefined instruction: pc=0000000000400544",
        ),
        ("undefined instruction", "food (7): undefined instruction: pc=00010478"),
        ("illegal instruction", "food[7]: illegal instruction (4) at 10000 nip 10000"),
        (
            "trap invalid opcode",
            "traps: food[7] trap invalid opcode ip:4 sp:7 error:0 in f",
        ),
        (
            "a system call that seccomp forbids",
            'audit: type=1326 audit(17.5:9): auid=0 uid=0 ses=1 pid=7 comm="food" '
            'exe="/usr/bin/food" sig=31 arch=c000003e syscall=59 compat=0',
        ),
        (
            "signal 6",
            'audit: type=1701 audit(17.5:9): auid=0 uid=0 ses=1 pid=7 comm="food" '
            'exe="/usr/bin/food" sig=6 res=1',
        ),
        (
            "broken memory",
            "Memory failure: 0x1a2b3: Killing food:7 due to hardware memory corruption",
        ),
        (
            "",
            'audit: type=1326 audit(1.5:9): uid=0 pid=7 comm="food" sig=0 arch=c',
        ),
        ("", "food[7]: says segfault at 0"),
    ],
)
def test_the_words_of_a_kernel_for_a_death(cause: str, text: str) -> None:
    death = kernel_log.find_death([kernel_log.Line(1.0, text)], "food", 0.0)
    told = (death.cause, death.pid) if death else ("", 7)
    assert told == (cause, 7)


def test_kernel_log_that_cannot_be_read_is_named(program: Path) -> None:
    need_root()
    if not Path("/dev/kmsg").exists():
        absent("needs /dev/kmsg")
    name = unique("food")
    with public_world(program) as world:
        give(world, ORDINARY)
        world.hook(name, f"{world.daemon(name)} {SLEEP} &")
        done = run_as([users_python(), *world.command()[1:]], ORDINARY)
        assert done.code == 0, done
        assert done.out.startswith(f"Restarting {name}\n")
        readable = "kernel log: " not in done.out
        assert readable or re.search("Permission denied|not permitted", done.out), done
        [pid] = world.pids(name)
        assert alive(pid)
