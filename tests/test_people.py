"""The verbs for people: status and history, and what goes into evidence for them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time

import pytest
from world import SETTINGS, World, need_root, unique

from viagralib.cause import how_unit_ended


def test_status_fits_a_terminal_and_tells_it_all(world: World) -> None:
    up, down, off = unique("up"), unique("a-very-long-name-down"), unique("off")
    world.watch(up)
    world.watch(down, 'recovery = "report"\n')
    world.hook(off, "exit 1", mode=0o644)
    world.run(up)
    result = world.run("status")
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0].split()[:4] == ["DAEMON", "STATE", "PIDS", "USER"]
    assert all(len(line) <= 80 for line in lines[:3])
    row = next(line for line in lines if line.startswith(up))
    assert " up " in row and str(world.pids(up)[0]) in row and " 1 " in row
    assert lines[-1].startswith("last run ")
    told = json.loads(world.run("status", "--json").out)
    assert told["version"] == 1 and told["exit"] == 1
    assert told["daemons"][up]["pids"] == world.pids(up)
    assert told["restarts"][up] == told["restarts_24h"][up] == 1
    assert world.run("status", off).out.splitlines()[1].split()[1] == "off"


def test_status_says_when_cron_no_longer_runs_it(world: World) -> None:
    world.watch(unique("over"), 'recovery = "report"\n')
    assert "no run yet" in world.run("status").out
    world.run()
    assert "OVERDUE" not in world.run("status").out
    past = time.time() - 3600
    os.utime(world.state / "last-run", (past, past))
    assert "OVERDUE, cron should run it every 10 m" in world.run("status").out


def test_history_newest_first_and_one_whole(world: World) -> None:
    one, two = unique("first"), unique("second")
    world.settings(SETTINGS.replace("[]", '["ps auxww"]'))
    world.watch(one)
    world.watch(two)
    world.run(one)
    world.run(two)
    lines = world.run("history").out.splitlines()
    assert [line.split()[0].partition("-")[2] for line in lines] == [two, one]
    assert "down, brought back in " in lines[0] and "cause: " in lines[0]
    assert len(world.run("history", one).out.splitlines()) == 1
    assert world.run("history", "--since", "1h").out.splitlines() == lines
    assert world.run("history", "--since", "1ms").out == ""
    shown = world.run("history", "show", lines[0].split()[0]).out
    assert shown.startswith("==== notice.txt\nRestarting ")
    assert "==== incident.json" in shown and "==== ps.txt" in shown
    told = json.loads(world.run("history", "--json").out)
    assert [record["daemon"] for record in told["incidents"]] == [two, one]
    bad = world.run("history", "show", "../../etc")
    assert bad.code == 2 and "no such incident" in bad.err


def test_the_end_of_its_log_outlives_the_restart(world: World) -> None:
    name, log = unique("log"), world.place / "food.log"
    link = world.place / "link.log"
    link.symlink_to("/etc/shadow")
    world.facts(name, f'logs = ["{log}", "{link}"]\n')
    log.write_text("x" * 150_000 + "\nlast words \x1b[2J\n")
    world.hook(
        name,
        f"echo fresh > {log}\n{world.daemon(name)} 1000 >/dev/null 2>&1 &",
    )
    result = world.run()
    assert r"    last words \x1b[2J" in result.out and "fresh" not in result.out
    assert f"missing   log {link}: " in result.out
    incident = world.incidents(name)[0]
    assert "last words" in (incident / "log-1-food.log.txt").read_text()
    assert (incident / "log-1-food.log.txt").stat().st_size < 110_000


def test_how_a_unit_ended() -> None:
    """In the form of `systemctl show`, after systemd's pages: of no real machine."""
    recorded = {
        "Result=core-dump\nExecMainCode=3\nExecMainStatus=11": (
            "signal 11 (SIGSEGV), core dumped"
        ),
        "Result=oom-kill\nExecMainCode=2\nExecMainStatus=9": (
            "out of memory, signal 9 (SIGKILL)"
        ),
        "Result=exit-code\nExecMainCode=1\nExecMainStatus=3": "exit 3",
        "Result=start-limit-hit\nExecMainCode=1\nExecMainStatus=1": (
            "started too often, given up, exit 1"
        ),
        "Result=success\nExecMainCode=0\nExecMainStatus=0": "",
        "Result=watchdog\nExecMainCode=3\nExecMainStatus=6": (
            "its watchdog ran out, signal 6 (SIGABRT), core dumped"
        ),
    }
    for text, words in recorded.items():
        values = dict(line.split("=") for line in text.split("\n"))
        assert how_unit_ended(values) == words


def in_private_run(world: World, script: str) -> list[str]:
    """Return a command: `script` in a private /run, then the program."""
    shell = f'mount -t tmpfs tmpfs /run && {script} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", shell, "sh", *world.command()]


@pytest.mark.parametrize("reads", [True, False])
def test_one_line_to_syslog_and_no_waiting_for_it(world: World, reads: bool) -> None:
    need_root()
    name = unique("syslog")
    world.watch(name)
    place = world.place / "log"
    script = f"ln -s {place} /run/log"
    if os.path.exists("/dev/log"):
        script = f"mount --bind {place} $(realpath /dev/log)"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
        if not reads:  # a log daemon that hangs: its queue is full
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
                filler.setblocking(False)
                filler.connect(str(place))
                with contextlib.suppress(BlockingIOError):
                    while True:
                        filler.send(b"x")
        done = subprocess.run(
            in_private_run(world, script),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 and done.stdout.startswith("Restarting "), done
        if reads:
            line = listener.recv(4096).decode()
            assert line.startswith("<30>viagra.py[")  # facility daemon, info
            assert f": {name}: down, brought back, cause " in line
