"""The hook contract, with real hooks that write down what they see and do."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from other_users import with_mounts
from world import (
    SETTINGS,
    SLEEP,
    World,
    absent,
    alive,
    all_pids,
    need,
    need_directory,
    need_root,
    unique,
    until,
)

# A hook that writes down how it was called. /proc/self/fd has one more entry while it
# is listed: the directory itself.
RECORDER = """\
#!/usr/bin/python3 -IS
import json, os, resource, sys
fds = {}
for number in os.listdir("/proc/self/fd"):
    try:
        fds[number] = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        pass
umask = os.umask(0)
seen = {
    "argv": open("/proc/self/cmdline").read().split("\\0")[:-1],
    "environ": dict(
        pair.split("=", 1)
        for pair in open("/proc/self/environ").read().split("\\0")[:-1]
    ),
    "fds": fds,
    "session": os.getsid(0) == os.getpid() == os.getpgrp(),
    "directory": os.getcwd(),
    "umask": umask,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduling": [os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
    "oom_score_adj": int(open("/proc/self/oom_score_adj").read()),
    "limits": {
        name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))
        for name in ("CPU", "FSIZE", "DATA", "STACK", "CORE", "NOFILE")
    },
    "pid": os.getpid(),
    "start": int(open("/proc/self/stat").read().rpartition(")")[2].split()[19]),
}
try:
    with open(os.environ["VIAGRA_INCIDENT"] + "/incident.json") as file:
        seen["incident"] = json.load(file)
    seen["files there"] = sorted(os.listdir(os.environ["VIAGRA_INCIDENT"]))
except OSError:
    pass
with open("PLACE/seen", "w") as file:
    json.dump(seen, file)
sys.exit(1)  # so that nobody waits for a daemon
"""
QUICK = 'start_timeout = "0.5s"'


def recorder(world: World) -> str:
    return RECORDER.replace("PLACE", str(world.place))


def seen(world: World) -> dict[str, object]:
    return dict(json.loads((world.place / "seen").read_text()))


def log(world: World, name: str) -> str:
    return (world.incidents(name)[-1] / "hook.log").read_text(errors="replace")


def count(world: World, name: str) -> str:
    """Return the shell line by which a hook counts its executions."""
    return f"echo started >> {world.place}/{name}.starts\n"


def facts_of(notice: str, key: str) -> list[str]:
    """Return the values that a notice has under this key."""
    return re.findall(rf"^  {key:<9} (.*)$", notice, re.MULTILINE)


# How it is called


def spoil() -> None:
    """Give a run what cron, nohup or a careless shell may give it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGCHLD])
    os.umask(0o077)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 1)  # no more: others load the machine
    Path("/proc/self/oom_score_adj").write_text("500")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
    resource.setrlimit(resource.RLIMIT_STACK, (2**21, 2**25))
    for number in range(3, 21):
        os.dup2(2, number)
    os.chdir("/tmp")


# The limits that a hook finds: the kernel's own, or what spoil() lets them be.
DEFAULTS = {
    "CPU": [-1, -1],
    "FSIZE": [-1, -1],
    "DATA": [-1, -1],
    "STACK": [2**23, -1],
    "CORE": [0, -1],
    "NOFILE": [1024, 4096],
}
AT_MOST = {
    **DEFAULTS,
    "CPU": [600, 600],
    "FSIZE": [2**28, 2**28],
    "STACK": [2**23, 2**25],
}


def may_raise_limits() -> bool:
    """Return whether root is all of root here: has CAP_SYS_RESOURCE, 24."""
    status = Path("/proc/self/status").read_text()
    [capabilities] = re.findall(r"^CapEff:\t(\w+)$", status, re.MULTILINE)
    return bool(int(capabilities, 16) >> 24 & 1)


def run_spoiled(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in surroundings that no hook must see anything of."""
    hostile = {
        "IFS": "/",
        "LD_PRELOAD": "",
        "PYTHONPATH": "/nowhere",
        "TZ": "Asia/Kathmandu",
        "PATH": "/nowhere",
        "LC_ALL": "C",
        "MAILTO": "nobody",
        "HOME": "/nowhere",
        "SHELL": "/bin/false",
        "VIAGRA_STEP": "wrong",
    }
    return subprocess.run(
        world.command(*arguments),
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=hostile,
        preexec_fn=spoil,
        close_fds=False,
    )


def test_clean_room_whatever_the_run_was_given(world: World) -> None:
    need_root()  # a lower nice, higher limits
    name = unique("food")
    world.hook(name, recorder(world))
    world.facts(name, 'arguments = ["start", "a b", "*"]')
    done = run_spoiled(world)
    assert f"Restarting {name}" in done.stdout, done
    told = seen(world)
    incident = str(world.incidents(name)[0])
    argv = [str(world.home / "start.d" / name), "start", "a b", "*"]
    assert told["argv"] == ["/usr/bin/python3", "-IS", *argv]
    assert told["session"] is True
    assert told["directory"] == "/"
    fds = dict(told["fds"])  # type: ignore[call-overload]
    assert fds == {
        "0": "/dev/null",
        "1": f"{incident}/hook.log",
        "2": f"{incident}/hook.log",
    }
    assert told["umask"] == 0o022
    assert (told["nice"], told["oom_score_adj"]) == (0, 0)
    assert told["scheduling"] == [os.SCHED_OTHER, sorted(os.sched_getaffinity(1))]
    assert told["limits"] == (DEFAULTS if may_raise_limits() else AT_MOST)


def test_environment_is_what_the_contract_names_and_nothing_else(
    world: World,
) -> None:
    name = unique("food")
    world.hook(name, recorder(world))
    run_spoiled(world)
    environ = dict(seen(world)["environ"])  # type: ignore[call-overload]
    path = environ.pop("PATH").split(":")
    assert "/usr/bin" in path and "/sbin" in path
    assert path[-1] == str(world.program.parent / "viagralib" / "companions")
    if os.geteuid() == 0:
        user = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
        assert {key: environ.get(key) for key in user} == user
    for key in ("HOME", "USER", "LOGNAME"):
        environ.pop(key)
    incident = world.incidents(name)[0]
    assert re.fullmatch(f"{incident}/[0-9a-f]{{32}}", environ.pop("VIAGRA_MARK"))
    assert environ == {
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "VIAGRA_DAEMON": name,
        "VIAGRA_REASON": "down",
        "VIAGRA_INSTANCE": "1",
        "VIAGRA_INCIDENT": str(incident),
        "VIAGRA_STATE": str(world.state),
        "VIAGRA_STEP": "",
    }


def test_signals_are_as_after_a_login(world: World) -> None:
    name = unique("food")
    # No interpreter that handles signals itself: cat, as the kernel started it.
    world.hook(name, "#!/bin/cat /proc/self/status\n")
    world.facts(name, 'start_timeout = "1.5s"')
    run_spoiled(world)
    masks = dict(re.findall(r"^(Sig\w+|Shd\w+):\t([0-9a-f]+)$", log(world, name), re.M))
    # The C library keeps two for itself, and make(1) leaves them ignored.
    kept = 1 << 31 | 1 << 32
    assert [int(masks[key], 16) & ~kept for key in ("SigBlk", "SigIgn")] == [0, 0]


def test_instance_counts_the_restarts(world: World) -> None:
    name = unique("food")
    world.hook(name, f"echo $VIAGRA_INSTANCE\n{world.daemon(name)} {SLEEP} &")
    world.run()
    assert log(world, name) == "1\n"
    world.kill(world.pids(name)[0])
    world.run()
    assert log(world, name) == "2\n"


def test_init_script_behind_a_link_sees_its_own_name(world: World) -> None:
    name = unique("food")
    script = world.place / "init.d-food"
    world.write(
        script, f'#!/bin/sh\necho "$0 $*"\n{world.daemon(name)} {SLEEP} &\n', 0o755
    )
    (world.home / "start.d" / name).symlink_to(script)
    world.facts(name, 'arguments = ["start"]')
    result = world.run()
    assert result.code == 0, result
    assert log(world, name) == f"{script} start\n"
    [hook] = facts_of(result.out, "hook")
    assert hook.startswith(f"start.d/{name} start: exit 0 after ")


def test_incident_knows_the_hook_before_it_executes(world: World) -> None:
    name = unique("food")
    world.hook(name, recorder(world))
    world.settings(SETTINGS.replace("[]", '["ps auxww"]'))
    world.run()
    told = seen(world)
    incident = dict(told["incident"])  # type: ignore[call-overload]
    hook = incident["hook"]
    assert (hook["pid"], hook["start"]) == (told["pid"], told["start"])
    assert incident["status"] == "open"
    assert {"hook.log", "incident.json", "ps.txt"} <= set(
        told["files there"]  # type: ignore[call-overload]
    )


# How it ends


def test_hook_that_succeeds_but_starts_nothing(world: World) -> None:
    name = unique("food")
    world.hook(name, "echo tried")
    for seconds in ("0.5", "20"):  # a busy machine may need longer for the hook itself
        world.facts(name, f'start_timeout = "{seconds}s"')
        result = world.run()
        if ": exit 0" in result.out:
            break
    assert result.code == 1
    [now] = facts_of(result.out, "now")
    assert now == f"down, not brought back: not up after {seconds} s"
    assert "    tried\n" in result.out


# Holds the run from the hook's end until its time is over: the next look is a late one.
LATE = """\
run=$PPID
(
    until grep -q '"hooks"' "$VIAGRA_INCIDENT/incident.json"; do sleep 0.05; done
    kill -STOP $run
    sleep {seconds}
    {daemon} 1000 &
    until [ "$(readlink /proc/$!/exe)" = {daemon} ]; do sleep 0.05; done
    kill -CONT $run
) >/dev/null 2>&1 &
"""


def test_what_a_late_look_finds_up_is_back(world: World) -> None:
    name, seconds = unique("food"), 3
    world.hook(name, LATE.format(daemon=world.daemon(name), seconds=seconds + 0.5))
    world.facts(name, f'start_timeout = "{seconds}s"')
    result = world.run()
    assert result.code == 0, result
    [now] = facts_of(result.out, "now")
    assert now.startswith(f"up, pid {world.pids(name)[0]}, after "), now


def test_failed_hook_ends_the_waiting(world: World) -> None:
    name = unique("food")
    world.hook(name, "echo no such file >&2; exit 3")
    world.facts(name, 'start_timeout = "60s"')
    began = time.monotonic()
    result = world.run()
    assert result.code == 1
    assert time.monotonic() - began < 20
    [hook] = facts_of(result.out, "hook")
    assert hook.startswith(f"start.d/{name}: exit 3 after ")
    assert "    no such file\n" in result.out


def test_verdict_decides_not_the_exit_code(world: World) -> None:
    name = unique("food")
    world.hook(name, f"{world.daemon(name)} {SLEEP} &\nexit 1")
    result = world.run()
    assert result.code == 0
    [hook] = facts_of(result.out, "hook")
    assert hook.startswith(f"start.d/{name}: exit 1 after ")
    [now] = facts_of(result.out, "now")
    assert now.startswith(f"up, pid {world.pids(name)[0]}, after ")


def test_not_now_is_silent_and_leaves_no_heap_of_incidents(world: World) -> None:
    name = unique("food")
    world.hook(name, count(world, name) + "exit 75")
    limit = 'limit = { restarts = 2, within = "1h" }'  # of no such tries
    world.facts(name, f'stays = "0s"\n{limit}')
    for _ in range(3):
        result = world.run()
        assert (result.code, result.out, result.err) == (0, "", ""), result
    assert world.starts(name) == 3
    assert len(world.incidents(name)) <= 1
    verbose = world.run("--verbose")
    assert f"start.d/{name} (exit 75)" in verbose.out


def test_not_now_keeps_what_was_open_before(world: World) -> None:
    name = unique("food")
    flag = world.place / "busy"
    world.hook(name, f"[ ! -e {flag} ] || exit 75\nexit 1")
    world.facts(name, 'stays = "0s"')
    world.hook(name, count(world, "alarm"), "fail.d")
    assert world.run().code == 1
    first = world.state / "open" / name
    since = json.loads(first.read_text())["since"]
    flag.touch()
    assert world.run().code == 0
    [incident] = world.incidents(name)
    assert world.record(incident)["status"] == "open"
    flag.unlink()
    assert world.run().code == 1
    assert json.loads(first.read_text())["since"] == since
    assert world.starts("alarm") == 1


def test_killed_hook_is_told_with_its_signal(world: World) -> None:
    name = unique("food")
    world.hook(name, "kill -9 $$")
    result = world.run()
    assert result.code == 1
    [hook] = facts_of(result.out, "hook")
    assert hook.startswith(f"start.d/{name}: killed by signal 9 after ")


def test_hook_without_a_first_line_is_named_before_it_is_needed(world: World) -> None:
    name = unique("food")
    path = world.home / "start.d" / name
    world.write(path, "echo hello\n", 0o755)
    result = world.run()
    assert result.code == 2
    assert "#!" in result.err and str(path) in result.err
    assert world.run("test").code == 2


def test_hook_may_be_a_binary(world: World) -> None:
    name = unique("food")
    shutil.copy(world.daemon(name), world.home / "start.d" / name)
    world.facts(name, f'arguments = ["{SLEEP}"]')
    result = world.run()
    assert result.code == 0, result
    [hook] = facts_of(result.out, "hook")
    assert re.search(r"became the daemon \(pid \d+\)", hook)
    pid = int(re.findall(r"pid (\d+)", hook)[0])
    assert alive(pid)
    assert world.run().out == ""
    assert alive(pid)
    world.kill(pid)
    gone = world.place / "gone"  # whoever types it there
    code = f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"'
    for verb in ("check", "run"):
        done = subprocess.run(
            ["sh", "-c", code, "sh", *world.command(verb)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "" and done.returncode == (verb == "check"), done
    assert "became the daemon" in done.stdout


def test_hook_may_become_the_daemon(world: World) -> None:
    name = unique("food")
    world.hook(
        name, f"{count(world, name)}sleep 0.3\nexec {world.daemon(name)} {SLEEP}"
    )
    began = time.monotonic()
    result = world.run()
    assert result.code == 0, result
    assert time.monotonic() - began < 20
    assert len(world.pids(name)) == world.starts(name) == 1
    assert "became the daemon" in result.out
    assert world.run().out == ""


def test_children_left_on_its_output_are_not_waited_for(world: World) -> None:
    name = unique("food")
    world.hook(name, f"sleep {SLEEP}.1 &\n{world.daemon(name)} {SLEEP} &\necho done")
    began = time.monotonic()
    result = world.run()
    assert result.code == 0, result
    assert time.monotonic() - began < 20
    end_all(f"sleep {SLEEP}.1", world)


def end_all(command: str, world: World) -> None:
    """End the processes of this command line that a hook of this test left."""
    for pid in all_pids():
        if command_of(pid) == command and alive(pid):
            os.kill(pid, signal.SIGKILL)


def command_of(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
    return line.rstrip("\0").replace("\0", " ")


def running(command: str) -> list[int]:
    return [pid for pid in all_pids() if command_of(pid) == command and alive(pid)]


# Out of time


@pytest.mark.parametrize("deaf", [False, True], ids=["hears TERM", "ignores TERM"])
def test_hung_hook_is_ended_with_all_that_came_of_it(world: World, deaf: bool) -> None:
    name, other = unique("food"), unique("food")
    sleeps = [str(world.daemon(unique("nap"))) for _ in range(3)]
    world.hook(
        name,
        ("trap '' TERM\n" if deaf else "")
        + f"{sleeps[0]} {SLEEP} &\nsetsid {sleeps[1]} {SLEEP} &\n"
        # As daemons do: nothing but its environment tells where it came from.
        + f"(setsid sh -c '{sleeps[2]} {SLEEP} &')\n"
        + f"while :; do {sleeps[0]} 1; done",
    )
    world.facts(name, 'start_timeout = "1s"')
    world.watch(other)
    began = time.monotonic()
    result = world.run()
    assert result.code == 1, result
    assert time.monotonic() - began < 30
    [hook] = [one for one in facts_of(result.out, "hook") if name in one]
    assert re.match(
        rf"start.d/{name}: still at work after \d\.\d s: ended, with:", hook
    )
    left = [pid for pid in all_pids() if command_of(pid).startswith(tuple(sleeps))]
    assert [pid for pid in left if alive(pid)] == []
    # The other one was served meanwhile, not afterwards.
    assert len(world.pids(other)) == 1
    assert result.out.index(f"Restarting {other}") < result.out.index(
        f"Restarting {name}"
    )


@pytest.mark.parametrize("lives", ["0.8", SLEEP], ids=["dies", "stays"])
def test_back_is_what_stays(world: World, lives: str) -> None:
    name = unique("food")
    world.hook(name, f"{world.daemon(name)} {lives} >/dev/null 2>&1 &")
    dies = lives != SLEEP
    seconds = 2 if dies else 30
    world.facts(name, f'stays = "1.5s"\nstart_timeout = "{seconds}s"')
    began = time.monotonic()
    result = world.run()
    [now] = facts_of(result.out, "now")
    assert result.code == dies, result
    assert ("not up for 1.5 s in one process after 2.0 s" in now) == dies, now
    assert time.monotonic() - began >= 1.5 and bool(world.pids(name)) != dies


def test_wrong_name_is_ended_and_named_with_the_fact_to_set(world: World) -> None:
    name, wrong = unique("food"), unique("httpd")
    world.hook(name, f"(setsid sh -c '{world.daemon(wrong)} {SLEEP} &')")
    world.facts(name, 'start_timeout = "2s"')
    result = world.run()
    assert result.code == 1
    [now] = facts_of(result.out, "now")
    assert wrong in now and "set the fact process" in now
    assert world.pids(wrong) == []


ESCAPE = "env -i setsid sh -c 'setsid sh -c \"{} {} &\" &' >/dev/null 2>&1"


@pytest.mark.parametrize("exit_code", [0, 1], ids=["succeeds", "fails"])
@pytest.mark.parametrize("number", [1, 2], ids=["alone", "beside another"])
def test_what_escapes_from_its_hook_is_ended_and_no_second_is_added(
    world: World, number: int, exit_code: int
) -> None:
    """Its parents end at once; it has neither their session nor their environment."""
    names = [unique("food") for _ in range(number)]
    wrongs = [unique("httpd") for _ in names]
    for name, wrong in zip(names, wrongs, strict=True):
        escape = ESCAPE.format(world.daemon(wrong), SLEEP)
        world.hook(name, f"{escape}\nexit {exit_code}")
        world.facts(name, 'start_timeout = "1s"')
    result = world.run()
    assert result.code == 1
    for wrong in wrongs:
        assert f"{wrong} (pid " in result.out, result
        assert world.pids(wrong) == []
    assert result.out.count("set the fact process = ") >= 1, result
    world.run()
    assert [world.pids(wrong) for wrong in wrongs] == [[]] * number


def test_what_only_hangs_on_to_its_hooks_output_is_its_own(world: World) -> None:
    """Even where another hook, whose daemon is back, may have left it as well."""
    name, other, wrong = unique("food"), unique("food"), unique("httpd")
    escape = ESCAPE.format(world.daemon(wrong), SLEEP).partition(" >")[0]
    world.hook(name, escape)
    world.facts(name, 'start_timeout = "1s"')
    world.watch(other)
    result = world.run()
    assert f"ended what its hook left running: {wrong} (pid " in result.out, result
    assert world.pids(wrong) == [] and len(world.pids(other)) == 1


def test_an_orphan_that_ends_is_no_zombie_to_its_hook(world: World) -> None:
    """An init.d script waits until the pid of what it stops is gone."""
    name, file = unique("food"), world.place / "pid"
    world.hook(
        name,
        f"(setsid sh -c 'sleep 0.2 & echo $! >{file}')\n"
        f"while kill -0 $(cat {file}); do sleep 0.05; done\necho gone\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.facts(name, 'start_timeout = "20s"')
    result = world.run()
    assert result.code == 0 and log(world, name).endswith("gone\n"), result


def test_hook_out_of_time_is_left_alone_when_the_daemon_may_be_there(
    world: World,
) -> None:
    """It is there but sick: what the hook still does may be what makes it well."""
    name = unique("food")
    world.hook(
        name, f"{world.daemon(name)} {SLEEP} &\nexec {world.daemon(unique('nap'))} 9"
    )
    world.facts(name, 'start_timeout = "2s"\ncount = [2, 9]')
    result = world.run()
    assert result.code == 1, result
    [hook] = facts_of(result.out, "hook")
    assert hook.endswith(", left alone")
    assert len(world.pids(name)) == 1


@pytest.mark.parametrize(
    ("seconds", "limit", "why"),
    [
        (0.2, "1s", "not up after 1.0 s"),
        (0.6, "5s", "it was up, and died before it was"),
    ],
    ids=["settles", "is verified"],
)
def test_short_life_is_no_return(
    world: World, seconds: float, limit: str, why: str
) -> None:
    """What its hook left beside it is ended, whenever it dies."""
    name, other = unique("food"), world.daemon(unique("other"))
    world.hook(name, f"{other} {SLEEP} &\n{world.daemon(name)} {seconds} &")
    world.hook(name, "exit 2", kind="check.d")
    world.facts(name, f'start_timeout = "{limit}"')
    result = world.run()
    assert result.code == 1, result
    [now] = facts_of(result.out, "now")
    assert now.startswith(f"down, not brought back: {why}"), now
    assert ("set the fact process" in now) == (limit == "1s")
    assert world.pids(other.name) == []


def test_daemon_that_forks_away_from_its_first_process_is_back(world: World) -> None:
    name = unique("food")
    world.hook(
        name, f"{world.daemon(name)} 0.2 &\n(sleep 0.1; {world.daemon(name)} {SLEEP}) &"
    )
    result = world.run()
    assert result.code == 0, result
    [pid] = world.pids(name)
    [now] = facts_of(result.out, "now")
    assert now.startswith(f"up, pid {pid}, after ")


def test_hook_that_is_its_daemon_is_unknown_once_too_old(world: World) -> None:
    name = unique("food")
    path = world.hook(name, f"while :; do {world.daemon(unique('nap'))} 0.1; done")
    world.facts(name, QUICK)
    hook = world.spawn([str(path)])
    early = world.run("--verbose")
    if "unknown" not in early.out:  # a slow machine may have aged it already
        assert (early.code, early.err) == (0, ""), early
        assert f"not now: being started by pid {hook.pid}" in early.out
    time.sleep(0.6)
    late = world.run()
    assert late.code == 1, late
    said = early.out + late.out  # once
    assert f"{name} is unknown: its hook is at work for over" in said
    assert "a hook must exec its daemon" in said
    assert hook.poll() is None


# What it prints


def taken_out(text: str) -> tuple[str, int, str]:
    """Return what a hook.log keeps of the beginning, a number, and what of the end."""
    first, mark, rest = text.partition("\n[... about ")
    number, _, last = rest.partition(" bytes were here ...]\n")
    assert mark and number.isdecimal(), text[:1000]
    return first, int(number), last


def test_a_gigabyte_of_output_is_kept_at_both_ends(world: World) -> None:
    """The hook goes on when room was freed: on the disk is never more than a round."""
    name, rounds, lines = unique("food"), 21, 7_000_000
    scratch = world.place / "scratch"
    scratch.write_bytes(b"." * 8192)
    punch = [need("fallocate"), "-p", "-l", "4096", str(scratch)]
    if subprocess.run(punch, capture_output=True, check=False).returncode:
        absent("needs a file system that frees room within a file")
    world.hook(
        name,
        "used() { stat -Lc %b /proc/$$/fd/1; }\n"
        "echo first line\n"
        f"for round in $(seq {rounds}); do yes viagra | head -c {7 * lines}\n"
        "until [ $(used) -lt 4000 ]; do sleep 0.01; done; done\n"
        "echo last line\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.facts(name, 'start_timeout = "2m"')
    result = world.run()
    assert result.code == 0, result
    begin, end, viagra = "first line\n", "last line\n", "viagra\n" * 80_000
    first, number, last = taken_out(log(world, name))
    assert first == (begin + viagra)[:500_000]
    assert last == (viagra + end)[-500_000:]
    kept = len(first) + len(last)
    assert kept + number == rounds * lines * 7 + len(begin + end)


def test_what_was_taken_out_of_the_output_is_counted(world: World) -> None:
    """Where no room can be freed within a file it is cut, and the hook waits for it."""
    need_root()
    name, rounds, begin = unique("food"), 10, 500_000
    below, over = 1_440_000, 100_000
    world.hook(
        name,
        "size() { stat -Lc %s /proc/$$/fd/1; }\n"
        f"yes viagra | head -c {begin}\n"
        f"for round in $(seq {rounds}); do\n"
        f"yes viagra | head -c {below}\n"
        # One write makes it too large.
        f"yes viagra | dd bs={over} count=1 iflag=fullblock status=none\n"
        "until [ $(size) -lt 1000000 ]; do sleep 0.02; done\n"
        "done\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.state.mkdir(mode=0o700)
    show = f'"$@" >&2 && cat {world.state}/incidents/*/hook.log'
    done = subprocess.run(
        [
            *with_mounts(f"mount -t ramfs ramfs {world.state}"),
            *("sh", "-c", show, "sh", *world.command()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, number, last = taken_out(done.stdout)
    lost = begin + rounds * (below + over) - len(first) - number - len(last)
    print(f"lost {lost}")
    assert 0 <= lost <= 2 * over  # a cut may have come within that one write


# Several steps


def steps(world: World, name: str, **texts: str) -> None:
    """Write a hook of steps; each notes its own name first."""
    for step, text in texts.items():
        note = f"echo $VIAGRA_STEP >> {world.place}/steps\n"
        world.hook(f"{name}/{step.replace('__', '.')}", note + text)


def noted(world: World) -> list[str]:
    return (world.place / "steps").read_text().split()


def test_steps_run_in_the_order_of_their_names(world: World) -> None:
    name = unique("food")
    steps(
        world,
        name,
        b_mount=":",
        c_start=f"{world.daemon(name)} {SLEEP} &",
        a_clean="echo $VIAGRA_DAEMON $# $0",
        D_first=":",
    )
    world.hook(f"{name}/z-off", "exit 1", mode=0o644)
    world.facts(name, 'arguments = ["start"]')
    result = world.run()
    assert result.code == 0, result
    assert noted(world) == ["D_first", "a_clean", "b_mount", "c_start"]
    assert log(world, name) == f"{name} 1 {world.home}/start.d/{name}/a_clean\n"
    hooks = facts_of(result.out, "hook")
    assert [line.split()[0] for line in hooks] == [
        f"start.d/{name}/{step}" for step in noted(world)
    ]
    world.kill(world.pids(name)[0])  # killed again: all of it again
    assert world.run().code == 0
    assert len(noted(world)) == 8


def test_failed_step_ends_it(world: World) -> None:
    name = unique("food")
    steps(world, name, a=":", b="exit 4", c=f"{world.daemon(name)} {SLEEP} &")
    # Then the kernel reaps our children, and how they ended is lost: wait(2).
    result = world.run(preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert result.code == 1
    assert noted(world) == ["a", "b"]
    assert [line.split(" after")[0] for line in facts_of(result.out, "hook")] == [
        f"start.d/{name}/a: exit 0",
        f"start.d/{name}/b: exit 4",
    ]


def test_step_that_may_fail_does_not_end_it(world: World) -> None:
    name = unique("food")
    steps(world, name, a__mayfail="exit 4", b=f"{world.daemon(name)} {SLEEP} &")
    result = world.run()
    assert result.code == 0, result
    assert noted(world) == ["a.mayfail", "b"]


def test_step_that_says_not_now(world: World) -> None:
    name = unique("food")
    steps(world, name, a="exit 75", b=f"{world.daemon(name)} {SLEEP} &")
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", "")
    assert noted(world) == ["a"]


def test_time_limit_is_that_of_all_steps(world: World) -> None:
    name = unique("food")
    nap = world.daemon(unique("nap"))
    steps(world, name, a=f"{nap} 0.1", b__mayfail=f"{nap} {SLEEP}", c="echo third")
    for limit in ("2.5s", "10s", "40s"):  # the first two will do but on a busy machine
        (world.place / "steps").write_text("")
        world.facts(name, f'start_timeout = "{limit}"')
        result = world.run()
        assert result.code == 1, result
        if len(noted(world)) == 2:
            break
    assert noted(world) == ["a", "b.mayfail"]  # no time is left for the third
    assert "still at work after" in facts_of(result.out, "hook")[1]


def test_daemon_that_a_step_started_early_does_not_keep_the_rest(world: World) -> None:
    name = unique("food")
    steps(world, name, a=f"{world.daemon(name)} {SLEEP} &\nsleep 0.5", b=":", c=":")
    result = world.run()
    assert result.code == 0, result
    assert noted(world) == ["a", "b", "c"]


# fail.d


def alarm(world: World, name: str) -> None:
    text = f'echo "$VIAGRA_DAEMON $VIAGRA_REASON $#" >> {world.place}/alarm'
    world.hook(name, f"{text}\necho $$ > {world.place}/alarm.pid", "fail.d")


def alarms(world: World) -> list[str]:
    path = world.place / "alarm"
    return path.read_text().splitlines() if path.exists() else []


def test_alarm_is_raised_once_while_the_incident_is_open(world: World) -> None:
    name = unique("food")
    good = world.place / "good"
    world.hook(name, f"[ -e {good} ] || exit 1\n{world.daemon(name)} {SLEEP} &")
    world.facts(name, 'arguments = ["start"]')
    alarm(world, name)
    for _ in range(3):
        assert world.run().code == 1
    assert alarms(world) == [f"{name} down 0"]
    # Of a run that is killed meanwhile, the next one must not take it for a start.
    incident = world.record(world.incidents(name)[0])
    hook = dict(incident["hook"])  # type: ignore[call-overload]
    assert hook["pid"] != int((world.place / "alarm.pid").read_text())
    good.touch()
    assert world.run().code == 0
    assert len(alarms(world)) == 1
    good.unlink()
    world.kill(world.pids(name)[0])  # another failure, another alarm
    assert world.run().code == 1
    assert len(alarms(world)) == 2


def test_no_alarm_for_what_is_brought_back(world: World) -> None:
    name = unique("food")
    world.watch(name)
    alarm(world, name)
    assert world.run().code == 0
    assert alarms(world) == []


def test_alarm_for_what_cannot_be_judged(world: World) -> None:
    name = unique("food")
    world.watch(name, f'pidfile = "{world.place}/none.pid"')
    alarm(world, name)
    world.up(name)  # it fits, but the pidfile does not name it
    for _ in range(2):
        result = world.run()
        assert result.code == 1, result
    assert alarms(world) == [f"{name} unknown 0"]
    assert world.starts(name) == 0


def test_hung_alarm_is_ended(world: World) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    world.facts(name, QUICK)
    nap = world.daemon(unique("nap"))
    world.hook(name, f"{nap} {SLEEP}", "fail.d")
    began = time.monotonic()
    assert world.run().code == 1
    assert time.monotonic() - began < int(SLEEP) / 4
    assert running(f"{nap} {SLEEP}") == []


# Order, patience, stopping


def test_needed_daemon_is_up_before_the_other_is_started(world: World) -> None:
    base, upper = unique("base"), unique("upper")
    up = world.place / "base.up"
    world.hook(
        base,
        f"(sleep 0.6; touch {up}; exec {world.daemon(base)} {SLEEP}) >/dev/null 2>&1 &",
    )
    world.hook(upper, f"[ -e {up} ] && echo in order\n{world.daemon(upper)} {SLEEP} &")
    world.facts(upper, f'after = ["{base}"]')
    result = world.run()
    assert result.code == 0, result
    assert log(world, upper) == "in order\n"


def test_not_started_while_the_needed_one_stays_down(world: World) -> None:
    base, upper = unique("base"), unique("upper")
    world.hook(base, "exit 1")
    world.watch(upper, f'after = ["{base}"]')
    result = world.run()
    assert result.code == 1
    assert world.starts(upper) == 0
    assert f"waits for {base}, which is down" in result.out
    again = world.run()
    assert again.code == 1
    assert f"waits for {base}" not in again.out  # it was said
    assert world.starts(upper) == 0
    assert len(world.incidents(upper)) <= 1


def test_what_came_back_while_it_waited_is_left_alone(world: World) -> None:
    base, upper = unique("base"), unique("upper")
    go = world.place / "go"
    world.hook(
        base,
        f"while ! [ -e {go} ]; do sleep 0.05; done\n"
        f"{world.daemon(base)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.watch(upper, f'after = ["{base}"]')
    run = start_run(world)
    until(lambda: recorded(world, upper, "phase") == "wait")
    child = world.up(upper)
    go.touch()
    assert run.wait(180) == 0
    assert child.poll() is None and world.starts(upper) == 0
    [incident] = world.incidents(upper)
    assert world.record(incident)["result"] == "came back by itself"


def test_needed_one_counts_although_it_was_not_named(world: World) -> None:
    base, upper = unique("base"), unique("upper")
    world.watch(base)
    world.watch(upper, f'after = ["{base}"]')
    result = world.run(upper)
    assert result.code == 1, result
    assert f"waits for {base}, which is down" in result.out
    assert (world.starts(base), world.starts(upper)) == (0, 0)


@pytest.mark.parametrize("asked", ["by cron", "on its way", "by hand", "--json"])
def test_back_within_its_patience_is_not_started(world: World, asked: str) -> None:
    name = unique("food")
    low = 2 if asked == "on its way" else 1
    world.watch(name, f'patience = "30s"\ncount = [{low}, 9]')
    words = {"by hand": [name], "--json": ["run", "--json"]}.get(asked, [])
    run = subprocess.Popen(
        world.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: world.incidents(name))
    pid = world.up(name).pid
    out, err = run.communicate(timeout=30)
    if asked == "--json":
        found = json.loads(out)["daemons"][name]
        assert (found["verdict"], found["pids"]) == ("up", [pid])
    else:
        assert out == (f"{name} is up: pid {pid}\n" if asked == "by hand" else "")
    assert (run.returncode, err, world.starts(name)) == (0, "", 0)
    [incident] = world.incidents(name)
    record = world.record(incident)
    assert (record["status"], record["result"]) == ("closed", "came back by itself")


@pytest.mark.parametrize("leftovers", ["stop", "leave"])
def test_leftovers(world: World, leftovers: str) -> None:
    name = unique("food")
    worker = world.spawn([str(world.daemon(name)), "999"])
    world.watch(name, f'command = " {SLEEP}$"\nleftovers = "{leftovers}"')
    result = world.run()
    assert result.code == 0, result
    assert world.starts(name) == 1
    assert (worker.poll() is None) == (leftovers == "leave")
    assert "but 1 leftover" in facts_of(result.out, "why")[0]


def test_deaf_leftover_is_killed(world: World) -> None:
    name = unique("food")
    shell = world.bin / name
    shutil.copy("/bin/sh", shell)
    worker = world.spawn(
        [str(shell), "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    )
    until(lambda: re.search(r"SigIgn:\t[0-9a-f]{12}4000\b", status_of(worker.pid)))
    world.hook(name, f"{shell} -c 'while sleep 1; do :; done' master &")
    world.facts(name, 'command = " master$"\nleftovers = "stop"\nstop_timeout = "0.3s"')
    result = world.run()
    assert result.code == 0, result
    assert worker.wait(10) == -signal.SIGKILL


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""


def test_too_few_processes_are_stopped_and_started(world: World) -> None:
    name = unique("food")
    program = world.daemon(name)
    world.hook(
        name,
        f'echo "$VIAGRA_REASON"\n{program} {SLEEP} &\n{program} {SLEEP} &',
    )
    world.facts(name, 'count = [2, 3]\nstart_timeout = "5s"')
    lonely = world.up(name)
    time.sleep(5.1)  # younger than start_timeout it is never sick
    result = world.run()
    assert result.code == 0, result
    assert facts_of(result.out, "why") == ["1 of at least 2 processes"]
    assert lonely.wait(10) == -signal.SIGTERM
    assert len(world.pids(name)) == 2
    assert log(world, name) == "sick\n"


def test_too_many_processes_are_only_reported(world: World) -> None:
    name = unique("food")
    world.watch(name, "count = [1, 1]")
    world.up(name)
    world.up(name)
    result = world.run()
    assert (result.code, result.err) == (0, ""), result
    assert result.out == f"{name} is up: 2 processes, more than 1\n"
    assert world.run().out == ""
    assert (world.starts(name), len(world.pids(name))) == (0, 2)


# Runs that are killed


def start_run(world: World) -> subprocess.Popen[bytes]:
    return world.spawn(world.command())


def recorded(world: World, name: str, key: str) -> object:
    """Return what the incident of a run at work has under this key, or None."""
    for incident in world.incidents(name):
        try:
            return world.record(incident).get(key)
        except (OSError, ValueError):
            continue
    return None


def test_run_killed_before_the_release_has_started_nothing(world: World) -> None:
    for _ in range(10):
        name = unique("food")
        world.watch(name)
        run = start_run(world)
        deadline = time.monotonic() + 20
        while not recorded(world, name, "hook"):
            assert time.monotonic() < deadline
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(0.1)
        if world.starts(name) == 0:
            break
        (world.home / "start.d" / name).unlink()
    else:
        pytest.fail("was never quick enough to kill the run before the release")
    assert world.pids(name) == []
    result = world.run(name)
    assert result.code == 0, result
    assert "did not finish" in facts_of(result.out, "before")[0]
    assert (world.starts(name), len(world.pids(name))) == (1, 1)


def test_run_killed_while_its_hook_works(world: World) -> None:
    name = unique("food")
    go = world.place / "go"
    world.hook(
        name,
        count(world, name) + f"while ! [ -e {go} ]; do sleep 0.05; done\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    world.facts(name, 'start_timeout = "60s"')
    run = start_run(world)
    until(lambda: world.starts(name))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    meanwhile = world.run("--verbose")
    assert meanwhile.code == 0, meanwhile
    assert "not now: being started by pid" in meanwhile.out
    assert "; its recovery has begun: start (not now: " in world.run("status").out
    go.touch()
    until(lambda: world.pids(name))
    after = world.run()
    assert after.code == 0
    assert after.out.startswith(f"{name} is up again, down since ")
    assert "did not finish" in after.out
    [incident] = world.incidents(name)
    assert world.record(incident)["status"] == "closed"
    assert world.record(incident)["phase"] == "start"
    assert str(incident) in after.out
    assert (world.starts(name), len(world.pids(name))) == (1, 1)
    assert world.run().out == ""


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.25, 0.35, 0.45, 0.6, 0.8])
def test_one_daemon_whenever_the_run_is_killed(world: World, delay: float) -> None:
    name = unique("food")
    world.hook(
        name,
        count(world, name) + f"sleep 0.2\n{world.daemon(name)} {SLEEP} &",
    )
    run = start_run(world)
    time.sleep(delay)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 20
    while not world.pids(name):
        assert time.monotonic() < deadline
        assert world.run().err == ""
    world.run()
    assert (world.starts(name), len(world.pids(name))) == (1, 1)


# Nobody's but ours


def test_hook_started_by_hand_is_not_started_again(world: World) -> None:
    name = unique("food")
    go = world.place / "go"
    path = world.hook(
        name,
        count(world, name) + f"while ! [ -e {go} ]; do sleep 0.05; done\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )
    hand = world.spawn(["/bin/sh", str(path)])
    until(lambda: world.starts(name))
    world.facts(name, 'recovery = "report"')
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, ""), quiet
    world.facts(name, "")
    result = world.run("--verbose")
    assert result.code == 0, result
    assert f"not now: being started by pid {hand.pid}" in result.out
    go.touch()
    hand.wait(10)
    until(lambda: world.pids(name))
    assert world.run().code == 0
    assert world.starts(name) == 1


def test_instances_share_a_template_and_nothing_else(world: World) -> None:
    """One's hook at work, outside the run or in it, holds no other instance back."""
    food = unique("food")
    instance = "${VIAGRA_DAEMON#*@}"
    template = world.hook(
        f"{food}@",
        f"cd {world.place}; >here-{instance}\n"
        "until [ -e here-1001 ] && [ -e here-1002 ]; do sleep 0.05; done\n"
        f"{world.daemon(food)} {instance} >/dev/null 2>&1 &",
    )
    world.facts(f"{food}@", f'process = "{food}"\ncommand = " %i$"\n')
    names = [f"{food}@1001", f"{food}@1002"]
    for name in names:
        template.with_name(name).symlink_to(template.name)
    given = {**os.environ, "VIAGRA_DAEMON": names[0]}
    world.spawn([str(template.with_name(names[0]))], env=given)
    until((world.place / "here-1001").exists)
    assert f"Restarting {names[1]}\n" in world.run(names[1]).out
    until(lambda: len(world.pids(food)) == 2)
    for pid in world.pids(food):
        world.kill(pid)
    for mark in world.place.glob("here-*"):
        mark.unlink()
    told = world.run().out
    assert [f"Restarting {name}\n" in told for name in names] == [True, True], told
    assert len(world.pids(food)) == 2
    assert "0 faults\n" in world.run("test").out


@pytest.mark.parametrize("shell", ["", "sh "])
def test_the_service_script_of_a_ready_hook_is_not_disturbed(
    world: World, shell: str
) -> None:
    need_root()
    need_directory("/etc/init.d")
    name = unique("food")
    # As by service.subr, whose function this is.
    starts = f"service_start() {{ {count(world, name)} }}\nservice_start other {name}"
    world.hook(name, starts)
    script = f"""
        mount -t tmpfs none /etc/init.d
        echo '#!/bin/sh' >/etc/init.d/{name}
        echo 'touch {world.place}/began; while sleep 0.1; do :; done' \\
            >>/etc/init.d/{name}
        chmod +x /etc/init.d/{name}
        {shell}/etc/init.d/{name} restart >/dev/null 2>&1 & hand=$!
        until [ -e {world.place}/began ]; do sleep 0.02; done
        "$@"; code=$?; kill $hand; exit $code"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *world.command("--verbose")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "not now: being started by pid " in done.stdout
    assert world.starts(name) == 0


def test_python_is_not_needed_by_hooks(world: World) -> None:
    """The hook's PATH is the system's, not that of the run's virtual environment."""
    name = unique("food")
    world.hook(name, f"command -v python3\n{world.daemon(name)} {SLEEP} &")
    world.run()
    assert os.path.dirname(sys.executable) not in log(world, name)


def test_after_waits_for_one_that_is_well(world: World) -> None:
    needed, dependent = unique("need"), unique("dep")
    facts = 'start_timeout = "500ms"\nrecovery = "report"\n'
    world.watch(needed, facts)
    world.hook(needed, "echo ill; exit 2", kind="check.d")
    world.watch(dependent, f'after = ["{needed}"]\n')
    world.up(needed)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.6)
    result = world.run()
    assert result.code == 1 and world.starts(dependent) == 0
    assert f"waits for {needed}, which is sick" in result.out
