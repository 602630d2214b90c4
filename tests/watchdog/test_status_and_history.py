"""The verbs for people: status and history, and what goes into evidence for them."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pty
import socket
import subprocess
import time
from pathlib import Path

import pytest
from other_users import with_mounts
from world import SETTINGS, World, need_root, unique, until


def test_status_fits_a_terminal_and_tells_it_all(world: World) -> None:
    up, down, off = unique("up"), unique("a-very-long-name-down"), unique("off")
    world.watch(up)
    world.watch(down, 'recovery = "report"\n')
    world.hook(off, "exit 1", mode=0o644)
    world.run(up)
    result = world.run("status")
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0].split()[:4] == ["DAEMON", "VERDICT", "STANDING", "PIDS"]
    assert all(len(line) <= 80 for line in lines[:3])
    row = next(line for line in lines if line.startswith(up))
    assert " up " in row and str(world.pids(up)[0]) in row and " 1 " in row
    assert lines[-1].startswith("last run ")
    told = json.loads(world.run("status", "--json").out)
    assert told["version"] == 1 and told["exit"] == 1
    assert told["daemons"][up]["pids"] == world.pids(up)
    assert told["daemons"][up]["user"] == getpass.getuser()
    assert time.time() - told["daemons"][up]["since"] < 300
    assert told["overdue"] is False and time.time() - told["last_run"] < 300
    assert told["last_incident"] == {up: world.incidents(up)[0].name, down: None}
    assert told["restarts"][up] == told["restarts_24h"][up] == 1
    assert world.run("status", off).out.splitlines()[1].split()[1:3] == ["-", "off"]


def test_status_says_when_cron_no_longer_runs_it(world: World) -> None:
    name, other = unique("over"), unique("other")
    for one in (name, other):
        world.watch(one, 'recovery = "report"\n')
    assert "no run yet" in world.run("status").out
    world.run(name)  # a crontab may have lines for some of them alone
    assert "OVERDUE" not in world.run("status").out
    world.run()
    assert "OVERDUE" not in world.run("status").out
    past = time.time() - 3600
    os.utime(world.state / "last-run", (past, past))
    assert "OVERDUE" not in world.run("status", name).out
    world.run(name)
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
    assert world.run("history", "--since", "1ms").out == "no incidents\n"
    shown = world.run("history", "show", lines[0].split()[0]).out
    assert shown.startswith("==== notice.txt\nRestarting ")
    assert "==== incident.json" in shown and "==== ps.txt" in shown
    told = json.loads(world.run("history", "--json").out)
    assert [record["daemon"] for record in told["incidents"]] == [two, one]
    bad = world.run("history", "show", "../../etc")
    assert bad.code == 2 and "no such incident" in bad.err


def test_the_end_of_its_log_outlives_the_restart(world: World) -> None:
    name, log = unique("log"), world.place / "food.log"
    others = world.place / "others"  # where anybody could have made that link
    others.mkdir()
    others.chmod(0o777)
    link = others / "link.log"
    link.symlink_to("/etc/shadow")
    world.facts(name, f'logs = ["{log}", "{link}"]\n')
    log.write_text("x" * 150_000 + "\nlast words \x1b[2J\n")
    world.hook(
        name,
        f"echo its new life > {log}\n{world.daemon(name)} 1000 >/dev/null 2>&1 &",
    )
    result = world.run()
    assert r"    last words \x1b[2J" in result.out and "new life" not in result.out
    assert f"missing   log {link}: " in result.out
    incident = world.incidents(name)[0]
    assert "last words" in (incident / "log-1-food.log.txt").read_text()
    assert (incident / "log-1-food.log.txt").stat().st_size < 110_000


def test_one_whole_is_paged_on_a_terminal(world: World) -> None:
    name = unique("paged")
    world.watch(name)
    world.run()
    command = world.command("history", "show", world.incidents(name)[0].name)
    terminal, other = pty.openpty()
    shown = world.spawn(command, stdout=other, stderr=other, env={"TERM": "xterm"})
    os.close(other)
    until(lambda: any(b"less" in line or b"more" in line for line in children(shown)))
    seen: list[bytes] = []

    def is_shown() -> bool:
        seen.append(os.read(terminal, 4096))
        return b"Restarting " in b"".join(seen)

    until(is_shown)

    os.set_blocking(terminal, False)

    def is_over() -> bool:
        with contextlib.suppress(OSError):  # read or not, the rest must find room
            os.write(terminal, b"q")
            os.read(terminal, 65536)
        return shown.poll() is not None

    until(is_over)  # while the terminal is there: more(1) may not end without it
    os.close(terminal)


def children(process: subprocess.Popen[bytes]) -> list[bytes]:
    """Return the command lines of a process's children."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return lines


def test_restart_waits_for_another_runs_work(world: World) -> None:
    name, go = unique("wait"), world.place / "go"
    world.hook(
        name,
        f"echo started >>{world.place}/{name}.starts\n"
        f"while ! [ -e {go} ]; do sleep 0.05; done\n"
        f"{world.daemon(name)} 1000 >/dev/null 2>&1 &",
    )
    world.facts(name, 'start_timeout = "60s"\n')
    first = world.spawn(world.command())
    until(lambda: world.starts(name) == 1)
    second = world.spawn(world.command("restart", name), stdout=subprocess.PIPE)
    until(lambda: b"restart" in Path(f"/proc/{second.pid}/cmdline").read_bytes())
    assert first.poll() is None and second.poll() is None and world.starts(name) == 1
    go.touch()
    assert first.wait(30) == second.wait(30) == 0
    assert world.starts(name) == 2 and len(world.pids(name)) == 1
    assert second.stdout is not None
    assert second.stdout.read().startswith(f"Restarting {name}\n".encode())


def test_restart_tells_of_what_somebody_else_restarts(world: World) -> None:
    name = unique("kept")
    world.hook(name, "exit 1")
    pid = world.place / "pid"
    daemon = f"{world.daemon(name)} 1000 & echo $! >{pid}; wait"
    keeper = world.spawn(["sh", "-c", f"while :; do {daemon}; done"])
    [first] = until(lambda: world.pids(name))
    again = f'[ "$(cat /proc/$(cat {pid})/comm)" = {name} ]'
    world.hook(
        name,
        f"kill {first}\nuntil ! [ -e /proc/{first} ] && {again}; do sleep 0.05; done",
        kind="stop.d",
    )
    told = world.run("restart", name)
    [second] = until(lambda: world.pids(name))
    assert first != second
    assert (told.code, told.out) == (0, f"{name} is up: pid {second}\n"), told
    world.kill(keeper.pid)


def files(place: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies below a directory: when each was changed, and its content."""
    return {
        str(path): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [place, *place.rglob("*")]
    }


def test_who_only_looks_changes_nothing(world: World) -> None:
    name, log = unique("look"), world.place / "log"
    alarm = f'alarm = {{ file = "{log}", pattern = "panic" }}\n'
    world.watch(name, f'start_timeout = "1ms"\nrecovery = "report"\n{alarm}')
    world.watch(unique("dead"), 'recovery = "report"\n')
    log.write_text("")
    world.up(name)
    looks = (["check"], ["status"], ["explain", name], ["history"])
    for verb in looks:
        world.run(*verb)
        assert not world.state.exists(), verb
    world.run()
    with log.open("a") as file:
        file.write("panic\n")
    before = files(world.place)
    for verb in looks:
        done = world.run(*verb)
        assert files(world.place) == before, verb
        assert ("alarm: panic" in done.out) == (verb != ["history"]), done
    assert "alarm: panic" in world.run().out  # nobody has read it away


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("paused/NAME", '{"since": 17'),
        ("paused/NAME", '{"since": "long ago"}'),
        ("paused/NAME", '{"since": 17, "until": "later"}'),
        ("open/NAME", ""),
        ("counts/NAME", "[]"),
        ("deaths/NAME", '{"version": 99}'),
        ("incidents/20260101T000000Z-NAME", None),
    ],
)
def test_damage_to_the_state_is_ignored_and_said_by_test(
    world: World, file: str, text: str | None
) -> None:
    name = unique("damage")
    world.watch(name)
    path = world.state / file.replace("NAME", name)
    path.parent.mkdir(mode=0o700, parents=True)
    if text is None:  # a run was killed before it could write
        path.mkdir(mode=0o700)
    else:
        path.write_text(text)
    said = world.run("test")
    assert said.code == 2 and said.out.count("damaged, and ignored: remove it") == 1
    assert path.name in said.out
    result = world.run()
    assert (result.code, result.err) == (0, "") and world.starts(name) == 1


def in_private_run(world: World, script: str) -> list[str]:
    """Return a command: `script` in a private /run, then the program."""
    shell = f"mount -t tmpfs tmpfs /run && {script}"
    return [*with_mounts(shell), *world.command()]


@pytest.mark.parametrize("reads", [True, False])
def test_one_line_to_syslog_and_no_waiting_for_it(world: World, reads: bool) -> None:
    need_root()
    name, busy = unique("syslog"), unique("busy")
    world.watch(name)
    world.hook(busy, "exit 75")
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
            timeout=180,
            check=False,
        )
        assert done.returncode == 0 and done.stdout.startswith("Restarting "), done
        if reads:
            lines = [listener.recv(4096).decode() for _ in range(2)]
            starts = {line.partition("[")[0] for line in lines}
            assert starts == {"<30>viagra.py"}  # facility daemon, info
            told = "".join(lines)
            assert f": {name}: down, brought back, cause " in told
            assert f": {busy}: down, not now, says start.d/{busy} (exit 75)" in told


def test_history_is_not_cut_for_a_slow_reader(world: World) -> None:
    name = unique("long")
    world.watch(name)
    world.run()
    incident = world.incidents(name)[0]
    (incident / "ps.txt").write_text(("y" * 79 + "\n") * 3000)
    shown = world.spawn(
        world.command("history", "show", incident.name), stdout=subprocess.PIPE
    )
    assert shown.stdout is not None
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 10.5, seconds=20)
    assert shown.stdout.read().count(b"y" * 79) == 3000
    assert shown.wait(10) == 0
    record = json.loads((incident / "incident.json").read_text())
    assert record["result"] == "brought back"
