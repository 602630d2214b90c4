"""What a daemon's own user, or who has its name, could do to the watch over others."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from other_users import ORDINARY, SYSTEM, users_python
from world import World, need_root, unique

from viagralib.base import files
from viagralib.processes.observer import Observer
from viagralib.recovery import hooks_at_work
from viagralib.settings.configuration import load
from viagralib.state import announced
from viagralib.state.directory import State
from viagralib.state.hook_log import HookLog
from viagralib.trust.programs import ProgramTrust


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


def test_who_waits_and_is_up_by_turns_fills_no_mail(world: World) -> None:
    needed, name = unique("needed"), unique("waits")
    world.watch(needed, 'recovery = "report"\n')
    world.watch(name, f'after = ["{needed}"]\n')
    state = State(str(world.state))
    state.prepare()
    for number in range(5):
        announced.announce(state, name, "down", chr(97 + number))
        announced.close(state, name)
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
    pid, state = world.up(name).pid, State(str(world.state))
    state.prepare()
    for number in range(5):
        assert announced.announce(state, name, "unknown", "the same"), number
        announced.close(state, name)
    for written in (1, pid):
        pidfile.write_text(f"{written}\n")
        assert world.run().out == ""
    assert not calls.exists()
    assert not announced.announce(state, name, "unknown", "whatever else")
    counts = state.read("counts", name)
    yesterday = {**counts, "said_at": time.time() - announced.AGAIN}
    state.write("counts", name, yesterday)
    assert announced.announce(state, name, "unknown", "the same")
