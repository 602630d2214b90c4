"""Pauses: who is left alone for a while, and how that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from other_users import with_mounts
from world import World, need_root, unique, until

from viagralib.processes.table import boot_id

# Pauses


def test_paused_is_left_alone_until_resumed(world: World) -> None:
    name = unique("pause")
    world.watch(name)
    result = world.run("pause", name, "--reason", "new disk")
    assert (
        result.code == 0
        and f"{name} is paused until resumed: viagra.py resume {name}\n" in result.out
    )
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, "") and world.starts(name) == 0
    assert "paused: until resumed: new disk" in world.run("status").out
    assert "paused" in world.run("check", name).out
    assert world.run("resume", name).code == 0
    assert world.run().code == 0 and world.starts(name) == 1


@pytest.mark.parametrize("whose", ["NAME", "--all"])
def test_a_pause_without_an_end_is_recalled_once_a_day(
    world: World, whose: str
) -> None:
    name = unique("pause")
    world.watch(name)
    end = f", until resumed; to end that: viagra.py resume {whose}\n"
    end = end.replace("NAME", name)
    note = f'echo "$VIAGRA_RESULT|$VIAGRA_DAEMON|$(cat)" >>{world.place}/told'
    world.hook("note", note, "notice.d")
    for arguments, told in (([], end), (["--for", "2h"], "")):
        world.run("pause", whose.replace("NAME", name), *arguments)
        assert world.run().out == ""
        [record] = (world.state / "paused").iterdir()
        for age, said in ((86390, ""), (86410, told), (None, "")):
            if age is not None:
                os.utime(record, (time.time() - age,) * 2)
            done = world.run()
            assert (done.code, done.err, world.starts(name)) == (0, "", 0)
            assert done.out.endswith(said) and bool(done.out) == bool(said), done
    about = "" if whose == "--all" else name  # cron's mail may be switched off by now
    [said] = (world.place / "told").read_text().splitlines()
    assert said.startswith(f"paused|{about}|") and said.endswith(end.strip())


def test_a_pause_ends_by_itself(world: World) -> None:
    name = unique("pause")
    world.watch(name)
    began = time.time()
    world.run("pause", name, "--for", "2s")
    until(lambda: world.run().out != "")
    assert world.starts(name) == 1 and time.time() > began + 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--for", "0s"], "is over at once"),
        (["--until", "2001-01-01"], "is past"),
        (["--until", "soon"], "is no time"),
        (["--for", "2"], "needs a unit"),
        (["--for", "1h", "--until", "18:00"], "give one of them"),
    ],
)
def test_a_pause_that_makes_no_sense(
    world: World, arguments: list[str], text: str
) -> None:
    name = unique("pause")
    world.watch(name)
    result = world.run("pause", name, *arguments)
    assert result.code == 2 and text in result.err and result.err.count("\n") == 1
    assert world.run("status").out.count("paused") == 0


def test_a_pause_of_nobody_is_an_error(world: World) -> None:
    result = world.run("pause", "nobody")
    assert result.code == 2 and "no such hook" in result.err


def test_a_pause_survives_a_reboot_and_quit_does_not(world: World) -> None:
    """A boot is known by the kernel's boot_id, here by another one in its place."""
    need_root()
    paused, stopped = unique("paused"), unique("quit")
    for name in (paused, stopped):
        world.watch(name)
    world.run("pause", paused, "--until", "2099-12-24 18:00")
    boot = boot_id()
    world.write(world.state / "open" / stopped, f'{{"quit": "{boot}"}}')
    assert world.run().out == "" and world.starts(stopped) == 0
    (world.place / "boot_id").write_text("another\n")
    of_kernel = "/proc/sys/kernel/random/boot_id"
    shell = f"mount --bind {world.place}/boot_id {of_kernel}"
    done = subprocess.run(
        [*with_mounts(shell), *world.command()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert (world.starts(paused), world.starts(stopped)) == (0, 1)
    assert "paused: until Thu Dec 24 18:00:00" in world.run("status").out


def test_a_pause_counts_for_what_cannot_be_judged(world: World) -> None:
    name = unique("odd")
    world.watch(name, f'pidfile = "{world.place}/none"\n')
    world.up(name)
    assert world.run("pause", name).code == 0
    for verb in ("run", "check", "status", "explain"):
        told = world.run(verb, name)
        assert told.code == 0 and f"{name} is unknown: " in told.out, told
        assert "(paused: until resumed)" in told.out, told


def test_paused_while_its_patience_runs(world: World) -> None:
    name = unique("late")
    world.watch(name, 'patience = "2s"\n')
    run = world.spawn(world.command())
    until(lambda: world.incidents(name))
    run.send_signal(signal.SIGSTOP)  # a busy machine may need longer for a pause
    assert world.run("pause", name).code == 0
    run.send_signal(signal.SIGCONT)
    assert run.wait(180) == 0 and world.starts(name) == 0
