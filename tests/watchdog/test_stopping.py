"""Recovery of a sick one: confirmed, evidence taken, stopped whole, then started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from other_users import with_mounts
from unhealthy import FACTS, NOBODY, of_age, start, told, watch_unhealthy
from world import (
    SETTINGS,
    SLEEP,
    World,
    alive,
    need,
    need_directory,
    need_root,
    unique,
    until,
)

from viagralib.recovery.cause_of_death import how_unit_ended


def test_well_again_within_its_patience_is_not_stopped(world: World) -> None:
    name, ill = unique("moody"), world.place / "ill"
    world.watch(name)
    world.hook(name, f"[ ! -e {ill} ] || exit 2", kind="check.d")
    ill.touch()
    child = world.up(name)
    world.facts(name, of_age() + 'patience = "30s"\n')
    run = world.spawn(world.command(), stdout=subprocess.PIPE)
    until(lambda: world.incidents(name))
    ill.unlink()
    assert run.wait(30) == 0 and run.stdout is not None and run.stdout.read() == b""
    assert child.poll() is None and world.starts(name) == 0
    assert world.record(world.incidents(name)[0])["result"] == "came back by itself"


def test_the_topmost_are_warned_and_the_whole_family_is_killed(world: World) -> None:
    """Its child has its name, too; its grandchild has another, and a session."""
    name, terms = unique("family"), world.place / "terms"
    watch_unhealthy(world, name, "family", terms, NOBODY)
    world.facts(name, FACTS.replace("2s", "0.5s") + NOBODY)
    child = start(world, name, "family", terms)
    noted = Path(f"{terms}.grandchild")
    until(lambda: noted.exists() and noted.read_text())
    grandchild = int(noted.read_text())
    result = world.run()
    assert child.wait(5) == -signal.SIGKILL
    assert terms.read_text() == "TERM\n"
    assert not Path(f"{terms}.child").exists(), "only the topmost is warned"
    assert not alive(grandchild)
    assert f"stopped   {name} (pid {child.pid}), {name} (pid " in result.out, result


def test_each_of_the_daemons_processes_is_stopped(world: World) -> None:
    """Also those beyond the first that makes it up, and no child of it."""
    name, terms = unique("many"), world.place / "terms"
    watch_unhealthy(world, name, "deaf", terms, NOBODY)
    world.facts(name, FACTS.replace("2s", "0.5s") + NOBODY)
    children = [start(world, name, "deaf", terms) for _ in range(2)]
    result = world.run()
    assert result.code == 1, result
    assert [child.wait(5) for child in children] == [-signal.SIGKILL] * 2, result
    assert terms.read_text() == "TERM\n" * 2
    assert all(f"{name} (pid {child.pid})" in result.out for child in children), result


def test_a_stop_hook_replaces_the_signals_and_finds_the_evidence(world: World) -> None:
    name, terms = unique("hooked"), world.place / "terms"
    world.settings(SETTINGS.replace("[]", '["ps auxww"]'))
    watch_unhealthy(world, name, "deaf", terms, NOBODY)
    child = start(world, name, "deaf", terms)
    world.facts(name, of_age() + 'stop_timeout = "30s"\n' + NOBODY)
    world.hook(
        name,
        f"grep -c ' {child.pid} ' $VIAGRA_INCIDENT/ps.txt >{world.place}/seen\n"
        f"echo $VIAGRA_REASON stopping\nkill -9 {child.pid}",
        kind="stop.d",
    )
    result = world.run()
    assert child.wait(5) == -signal.SIGKILL and not terms.exists()
    assert (world.place / "seen").read_text() == "1\n"
    assert f"  hook      stop.d/{name}: exit 0 after " in result.out
    assert "    sick stopping" in result.out
    assert told(world, name) == ["sick 1"]


def test_nothing_is_started_while_an_old_process_lives(world: World) -> None:
    name, terms = unique("undead"), world.place / "terms"
    watch_unhealthy(world, name, "deaf", terms, NOBODY)
    world.hook(name, "exit 0", kind="stop.d")
    child = start(world, name, "deaf", terms)
    limit = 'limit = { restarts = 1, within = "1h" }\n'
    world.facts(name, of_age() + 'stop_timeout = "0.3s"\n' + limit + NOBODY)
    result = world.run()
    assert result.code == 1
    assert f"{name} is sick, not started\n" in result.out, result
    assert f"since these still live: {name} (pid {child.pid})" in result.out
    assert child.poll() is None and told(world, name) == []
    assert "  stopped " not in result.out
    assert f"{name} is held: " in world.run().out  # that was a try
    by_hand = world.run("restart", name).out
    assert by_hand.startswith(f"{name} is up, not restarted\n"), by_hand
    assert f"  next      no run tries this again: viagra.py restart {name}\n" in by_hand


LISTENER = """
cd {bin}; for who in user sleep; do
    case $who in user) what=./{name} ;; *) what=/bin/sh ;; esac
    setsid $what -c 'setsid sleep 1000 & echo $$ $! >{place}/$0; wait' $who &
done
wait
"""


@pytest.mark.parametrize(
    ("leftovers", "command"),
    [("leave", " listener$"), ("leave-all", " listener$"), ("leave-all", "")]
    + [("stop", " listener$")],
)
def test_what_is_not_the_daemon_is_left_alone_when_it_is_stopped(
    world: World, leftovers: str, command: str
) -> None:
    """Its session has its name, another child has not; both have a child."""
    name = unique("sessd")
    shutil.copy("/bin/sh", world.bin / name)
    text = LISTENER.format(name=name, bin=world.bin, place=world.place)
    world.write(world.bin / "listener", text)
    started = f"{world.bin / name} {world.bin}/listener"
    world.hook(name, f"{started} listener >/dev/null 2>&1 &")
    world.facts(
        name,
        f'command = "{command}"\nleftovers = "{leftovers}"\n'.replace(
            'command = ""', ""
        )
        + 'stop_timeout = "1s"\n',
    )
    listener = world.spawn(["/bin/sh", "-c", f"exec {started} listener"])
    files = [world.place / who for who in ("user", "sleep")]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    session, other = ([int(pid) for pid in file.read_text().split()] for file in files)
    result = world.run("restart", name)
    assert result.code == 0, result
    assert listener.wait(10) == -signal.SIGTERM
    assert [alive(pid) for pid in session] == [leftovers != "stop"] * 2, result
    assert [alive(pid) for pid in other] == [leftovers == "leave-all"] * 2, result
    [line] = [one for one in result.out.split("\n") if one.startswith("  stopped ")]
    for pid in (listener.pid, *session, *other):
        assert (f"(pid {pid})" in line) == (pid == listener.pid or not alive(pid)), line


# What is needed


@pytest.mark.long
def test_a_stopped_process_is_not_well(world: World) -> None:
    """SIGSTOP, as of a debugger: the kernel goes on to take its connections."""
    name = unique("halted")
    world.watch(name)
    child = world.up(name)
    world.facts(name, of_age() + 'stop_timeout = "30s"\n')
    child.send_signal(signal.SIGSTOP)
    told = f"{name} is sick: pid {child.pid} is stopped (state T): kill -CONT "
    until(lambda: told in world.run("check").out)
    result = world.run()
    # It hears of the end that is wanted.
    assert (result.code, child.wait(5)) == (0, -signal.SIGTERM), result
    assert world.starts(name) == 1


# A parent waits in state D until the child of vfork(2) executes or ends.
IN_WAIT = "import ctypes, time; ctypes.CDLL(None).vfork() or time.sleep(1000)"


@pytest.mark.long
def test_a_process_that_waits_for_a_device_is_unknown(world: World) -> None:
    name = unique("device")
    world.watch(name, FACTS)
    (world.place / name).symlink_to(os.path.realpath(sys.executable))
    child = world.spawn([world.place / name, "-c", IN_WAIT])
    until(lambda: b") D " in Path(f"/proc/{child.pid}/stat").read_bytes())
    told = world.run()
    why = f"{name} is unknown: pid {child.pid} waits for a device (state D), for over "
    assert told.code == 1 and why in told.out, told
    assert child.poll() is None and world.starts(name) == 0


EACH = 'stop_timeout = "2s"\ncount = [3, 3]\ncount_hook = "each"\n'


@pytest.mark.parametrize("way", ["", pytest.param("exec ", marks=pytest.mark.long)])
def test_a_count_that_is_short_starts_what_is_missing(world: World, way: str) -> None:
    name = unique("queue")
    world.facts(name, EACH)
    command = f"{way}{world.daemon(name)} {SLEEP} >/dev/null 2>&1{'' if way else ' &'}"
    world.hook(name, f"echo started >> {world.place}/{name}.starts\n{command}")
    assert world.run().code == 0
    assert (world.starts(name), len(world.pids(name))) == (3, 3)
    world.facts(name, of_age(4.0) + EACH)
    before = world.pids(name)
    world.kill(before.pop())
    planned = world.run("run", "--dry-run", name).out
    assert planned.count(f"would run start.d/{name}") == 1 and "TERM" not in planned
    told = world.run()
    assert told.code == 0 and "why       2 of at least 3 processes" in told.out, told
    assert "stopped" not in told.out
    assert {*before} < {*world.pids(name)} and len(world.pids(name)) == 3
    assert world.starts(name) == 4
    # By hand, all of them are meant.
    assert world.run("restart", name).code == 0
    assert world.starts(name) == 7 and len(world.pids(name)) == 3
    assert not {*before} & {*world.pids(name)}


@pytest.mark.long
def test_what_does_not_count_is_not_added_again_and_again(world: World) -> None:
    name, other = unique("queue"), unique("other")
    world.hook(name, f"{world.daemon(other)} {SLEEP} >/dev/null 2>&1 &")
    child = world.up(name)
    world.facts(name, of_age() + EACH)
    told = world.run()
    assert told.code == 1 and child.poll() is None, told
    assert f"ended what its hook left running: {other} (pid " in told.out
    assert world.pids(other) == []


@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_is_needed_must_be_well_however_young_it_is(
    world: World, meanwhile: bool
) -> None:
    needed, upper = unique("need"), unique("upper")
    world.watch(needed, 'start_timeout = "60s"\npatience = "60s"\n')
    world.hook(needed, f"[ -e {world.place}/ready ] || exit 2", kind="check.d")
    world.watch(upper, f'after = ["{needed}"]\n')
    if not meanwhile:
        world.up(needed)
    run = world.spawn(world.command(), stdout=subprocess.PIPE)
    if meanwhile:
        until(lambda: world.incidents(needed))
        world.up(needed)
    said = run.communicate(timeout=180)[0].decode()
    assert run.returncode == 1 and world.starts(upper) == 0, said
    assert f"waits for {needed}, which is sick" in said
    (world.place / "ready").touch()
    assert world.run().code == 0 and world.starts(upper) == 1


def test_what_is_needed_is_asked_once_by_however_many(world: World) -> None:
    needed, uppers = unique("need"), [unique("upper") for _ in range(3)]
    world.watch(needed, FACTS + 'recovery = "report"\ncheck_timeout = "1s"\n')
    asked = world.place / "asked"
    world.hook(needed, f"echo >>{asked}; exec sleep 100", kind="check.d")
    for upper in uppers:
        world.watch(upper, f'after = ["{needed}"]\n')
    world.up(needed)
    result = world.run()
    assert result.out.count(f"waits for {needed}, which is sick") == 3, result
    assert asked.read_text() == "\n"


def test_what_is_needed_over_several_levels(world: World) -> None:
    need("pgrep")
    base, middle, top = (unique(stem) for stem in ("base", "middle", "top"))
    world.watch(base)
    for name, other in ((middle, base), (top, middle)):
        text = f"pgrep -fx '{world.daemon(other)} {SLEEP}' && echo in order\n"
        world.hook(name, f"{text}{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &")
        world.facts(name, f'after = ["{other}"]\n')
    result = world.run()
    assert result.code == 0 and result.out.count("    in order") == 2, result
    for name in (base, middle, top):
        world.kill(world.pids(name)[0])
    world.hook(base, "exit 1")
    result = world.run()
    assert result.code == 1 and world.pids(middle) == world.pids(top) == []
    assert f"waits for {base}, which is down" in result.out
    assert f"waits for {middle}, which is down" in result.out


# How the service manager says that it ended


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


def below_systemd(
    world: World, tools: Path, *words: str, mount: str = ":"
) -> subprocess.CompletedProcess[str]:
    """Run viagra.py where systemd seems to be process 1, with stand-ins in `tools`."""
    systemd = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system"
    mounts = f"{systemd}\nmount --bind {tools} /usr/local/sbin\n{mount}\n"
    return subprocess.run(
        [*with_mounts(mounts), *world.command(*words)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_why_a_unit_could_not_be_started_is_told_before_fail_d(world: World) -> None:
    """The journal of before the start knows nothing of it: systemctl says see there."""
    need_root()
    name, tools = unique("food"), world.place / "tools"
    tools.mkdir()
    world.write(tools / "systemctl", "#!/bin/sh\necho running\n", 0o755)
    world.write(
        tools / "journalctl",
        "#!/bin/sh\ncase $* in *--since=@*) echo unknown directive ;;\n"
        "*) echo was up ;;\nesac\n",
        0o755,
    )
    world.watch(name, 'unit = "food.service"\n')
    world.hook(name, "exit 1")
    seen = world.place / "seen"
    world.hook(name, f"cat $VIAGRA_INCIDENT/journal-*-start.txt >{seen}", kind="fail.d")
    done = below_systemd(world, tools)
    assert done.returncode == 1, done
    told = "  journal food.service, of this start:\n    unknown directive\n"
    assert f"{told}  journal food.service:\n    was up\n" in done.stdout, done
    assert seen.read_text() == "unknown directive\n"


# What systemctl show and journalctl print of food.service, the facts, and what follows.
LEAVE = 'on_purpose = "leave"\n'
STOPPED = "echo ActiveState=inactive", "de5b426a63be47a7b6ac3eaac82e2f6f"
ENDED = "echo Result=core-dump; echo ExecMainCode=3; echo ExecMainStatus=11"
UNIT_SAYS = {
    "masked": (("echo LoadState=masked", ""), "", "stopped: food.service is masked"),
    "job": (("echo Job=12", ""), "", "not now: systemd has a job for food.service"),
    "no job": (("echo Job=", ""), "", "cause     unknown"),
    "by order": (STOPPED, LEAVE, "stopped: by an order to systemd, "),
    "by order, but": (STOPPED, "", "cause     systemd: stopped by an order at "),
    "by itself": ((STOPPED[0], "39f53479d3a045ac8e11786248231fbf"), LEAVE, "unknown"),
    "long ago": (
        (f"{ENDED}; echo ExecMainExitTimestampMonotonic=1", ""),
        "",
        "cause     unknown",
    ),
}


@pytest.mark.parametrize("case", UNIT_SAYS)
def test_what_systemd_says_of_a_unit_decides(world: World, case: str) -> None:
    """A unit masked, at work, or stopped by order; its end counts if it is this one."""
    need_root()
    (show, message), facts, told = UNIT_SAYS[case]
    name, tools = unique("food"), world.place / "tools"
    tools.mkdir()
    systemctl = f'case "$*" in *food.service) {show} ;; *) echo running ;; esac'
    world.write(tools / "systemctl", f"#!/bin/sh\n{systemctl}\n", 0o755)
    last = {"MESSAGE_ID": message, "__REALTIME_TIMESTAMP": f"{time.time() * 1e6:.0f}"}
    own = f"case \"$*\" in *_PID=1*) echo '{json.dumps(last)}' ;; esac"
    world.write(tools / "journalctl", f"#!/bin/sh\n{own}\n", 0o755)
    world.run()  # this death came after it
    world.watch(name, f'unit = "food.service"\n{facts}')
    done = below_systemd(world, tools, "--verbose")
    assert done.returncode == 0 and told in done.stdout, done
    assert world.starts(name) == ("cause" in told or told == "unknown")


@pytest.mark.long
def test_a_systemd_that_does_not_answer_leaves_its_units_unknown(world: World) -> None:
    """They may be masked, or stopped by an order; what has no unit comes back."""
    need_root()
    name, plain, tools = unique("food"), unique("plain"), world.place / "tools"
    tools.mkdir()
    world.write(tools / "systemctl", "#!/bin/sh\nexec sleep 100\n", 0o755)
    world.watch(name, 'unit = "food.service"')
    world.watch(plain)
    done = below_systemd(world, tools)
    assert done.returncode == 1 and world.starts(name) == 0, done
    told = "systemd does not answer: systemctl show food.service; "
    assert f"{told}viagra.py restart {name} starts it" in done.stdout, done
    assert world.starts(plain) == 1 and f"Restarting {plain}\n" in done.stdout


@pytest.mark.parametrize(
    ("state", "facts", "told"),
    [
        ("options", LEAVE, "stopped: by an order to OpenRC: rc-service food start"),
        ("options", "", "cause     OpenRC: stopped by an order (food)"),
        ("started", LEAVE, "cause     unknown"),
        ("", LEAVE, "food: on_purpose: who stopped it is known here only of a"),
    ],
)
def test_what_openrc_was_told_to_stop(
    world: World, state: str, facts: str, told: str
) -> None:
    """What has died is "started" in its files; elsewhere `test` says: not known."""
    need_root()
    need_directory("/etc/init.d")
    scripts = world.place / "init.d"
    scripts.mkdir()
    world.write(scripts / "food", "#!/sbin/openrc-run\n", 0o755)
    world.facts("food", facts)
    world.hook(
        "food", f"echo started; {world.daemon('food')} 1000 & exit\nservice_start food"
    )
    links = f"mkdir -p /run/openrc/{state}; touch /run/openrc/{state}/food\n"
    script = f"mount -t tmpfs tmpfs /run\nmount --bind {scripts} /etc/init.d\n"
    command = world.command("--verbose") if state else world.command("test")
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*alone, *with_mounts(script + (links if state else "")), *command],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert told in done.stdout + done.stderr, done
    assert ("Restarting food\n" in done.stdout) == ("cause" in told)


def test_what_can_bring_nothing_back_below_systemd_is_a_fault(world: World) -> None:
    """An unknown unit, and a link to a script that leaves the work to systemd."""
    need_root()
    need_directory("/etc/init.d")
    name, tools, scripts = unique("food"), world.place / "tools", world.place / "init.d"
    tools.mkdir()
    scripts.mkdir()
    world.write(tools / "systemctl", "#!/bin/sh\necho LoadState=not-found\n", 0o755)
    world.write(scripts / name, "#!/bin/sh\n. /lib/lsb/init-functions\n", 0o755)
    world.facts(name, 'unit = "no.service"\narguments = ["start"]\n')
    (world.home / f"start.d/{name}").symlink_to(f"/etc/init.d/{name}")
    mount = f"mount --bind {scripts} /etc/init.d"
    done = below_systemd(world, tools, "test", mount=mount)
    assert done.returncode == 2, done
    assert f"{name}: systemd knows no unit 'no.service': mend" in done.stdout, done
    assert f"write a hook that calls service_start {name}, as" in done.stdout, done


@pytest.mark.parametrize("told_by", ["fact", "cgroup"])
def test_the_unit_tells_the_cause_and_its_journal(world: World, told_by: str) -> None:
    """Its unit is named by the fact, or by the cgroup of what lives on of it.

    systemctl and journalctl are stand-ins that print what their pages say they do.
    """
    need_root()
    name, tools, cgroup = unique("food"), world.place / "tools", world.place / "cgroup"
    tools.mkdir()
    show = "#!/bin/sh\necho Result=core-dump; echo ExecMainCode=3\n"
    at = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    show += f"echo ExecMainExitTimestampMonotonic={at}\n"
    case = 'case "$*" in *food.service) ;; *) echo running; exit;; esac\n'
    show = show.replace("\n", f"\n{case}", 1)
    world.write(tools / "systemctl", f"{show}echo ExecMainStatus=11\n", 0o755)
    world.write(tools / "journalctl", '#!/bin/sh\necho "last words $*"\n', 0o755)
    cgroup.write_text("1:name=systemd:/x\n0::/system.slice/food.service\n")
    facts = 'command = " 1000$"\n'
    world.watch(name, facts + ('unit = "food.service"\n' if told_by == "fact" else ""))
    worker = world.spawn([str(world.daemon(name)), "999"])  # of the dead one
    mount = f"mount --bind {cgroup} /proc/{worker.pid}/cgroup"
    done = below_systemd(world, tools, mount=mount if told_by == "cgroup" else ":")
    assert done.returncode == 0, done
    cause = "systemd: signal 11 (SIGSEGV), core dumped (food.service)"
    assert f"  cause     {cause}\n" in done.stdout, done
    assert "  journal food.service:\n    last words " in done.stdout
    incident = world.incidents(name)[0]
    assert "core-dump" in (incident / "unit-food.service.txt").read_text()
    assert "-u food.service" in (incident / "journal-food.service.txt").read_text()
