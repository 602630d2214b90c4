"""Incidents: what is in them, when, for how long; and what a damaged one does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from other_users import ORDINARY, give, public_world, run_as, up_as, users_python
from world import (
    SLEEP,
    World,
    environment,
    need_root,
    reads_kernel_log,
    unique,
    until,
)

FILES = {"incident.json", "notice.txt", "hook.log", "ps.txt"}
SETTINGS = """\
[defaults]
patience = "0.1s"
start_timeout = "60s"
[evidence]
commands = ["ps auxww"]
"""


@pytest.fixture(autouse=True)
def takes_ps(world: World) -> None:
    world.settings(SETTINGS)


def bring_back(world: World, name: str) -> Path:
    """Run once for a daemon that is down; return the incident."""
    result = world.run(name)
    assert result.code == 0, result
    return world.incidents(name)[-1]


def test_incident_of_a_restart(world: World) -> None:
    name = unique("food")
    world.watch(name)
    incident = bring_back(world, name)
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}Z-{name}", incident.name)
    assert {entry.name for entry in incident.iterdir()} >= FILES
    record = world.record(incident)
    assert record["version"] == 1
    assert (record["daemon"], record["id"]) == (name, incident.name)
    assert (record["status"], record["result"]) == ("closed", "brought back")
    assert record["verdict"] == "down"
    assert record["reason"] == f'no process named "{name}"'
    assert record["cause"] == "unknown"
    assert record["pids"] == world.pids(name)
    assert record["hooks"] == [
        line.removeprefix("  hook      ")
        for line in (incident / "notice.txt").read_text().splitlines()
        if line.startswith("  hook      ")
    ]


def test_only_its_owner_may_read_it(world: World) -> None:
    name = unique("food")
    world.watch(name)
    world.state.mkdir(mode=0o755)
    world.state.chmod(0o755)
    bring_back(world, name)
    for path in [world.state, *world.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_notice_is_kept_as_it_was_printed(world: World) -> None:
    name = unique("food")
    world.watch(name)
    result = world.run()
    [incident] = world.incidents(name)
    assert (incident / "notice.txt").read_text() == result.out


def test_all_evidence_is_there_before_any_hook_runs(world: World) -> None:
    names = [unique("food") for _ in range(3)]
    for name in names:
        world.hook(
            name,
            'cd "$VIAGRA_INCIDENT"\n'
            f"wc -c ps.txt disks.txt kernel.txt >{world.place}/{name}.saw\n"
            f"{world.daemon(name)} {SLEEP} &",
        )
    assert world.run().code == 0
    for name in names:
        saw = (world.place / f"{name}.saw").read_text()
        sizes = {line.split()[1]: int(line.split()[0]) for line in saw.splitlines()}
        now = world.incidents(name)[0]
        assert sizes["ps.txt"] == (now / "ps.txt").stat().st_size > 500
        assert sizes["disks.txt"] == (now / "disks.txt").stat().st_size > 50


def test_evidence_is_shared_by_the_incidents_of_a_run(world: World) -> None:
    names = [unique("food") for _ in range(3)]
    for name in names:
        world.watch(name)
    # The first incident of all, which does not stay.
    first, needed = unique("drink"), unique("water")
    world.watch(first, f'after = ["{needed}"]')
    world.watch(needed, 'recovery = "report"')
    assert world.run().code == 1
    kept = [*(world.state / "incidents").iterdir()]
    assert {*kept} == {world.incidents(name)[0] for name in names}
    files = [world.incidents(name)[0] / "ps.txt" for name in names]
    assert len({file.stat().st_ino for file in files}) == 1
    assert files[0].stat().st_nlink == 3
    logs = [world.incidents(name)[0] / "hook.log" for name in names]
    assert len({file.stat().st_ino for file in logs}) == 3


def test_up_again_is_said_once(world: World) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    assert world.run().code == 1
    [incident] = world.incidents(name)
    assert world.record(incident)["status"] == "open"
    world.up(name)
    result = world.run()
    assert result.code == 0
    first, second = result.out.splitlines()
    assert re.fullmatch(
        rf"{name} is up again, down since \w+ \w+ [ \d]\d [\d:]+ \S+ \d+", first
    )
    assert second == f"  evidence  {incident}"
    assert world.record(incident)["status"] == "closed"
    assert world.run().out == ""


@pytest.mark.parametrize("meanwhile", ["faulty", "too many"])
def test_up_again_is_said_whatever_is_seen_in_between(
    world: World, meanwhile: str
) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    world.facts(name, "count = [1, 1]\n")
    assert world.run().code == 1
    [incident] = world.incidents(name)
    many = ""
    if meanwhile == "faulty":
        world.facts(name, "cuont = [1, 1]\n")
        assert world.run().code == 2
        world.facts(name, "count = [1, 1]\n")
    else:
        world.up(name)
        many = f"{name} is up: 2 processes, more than 1\n"
    world.up(name)
    for lines in (3 if many else 2, 0):  # said once
        told = world.run()
        assert told.code == 0 and told.out.count("\n") == lines, told
        assert told.out == "" or told.out.endswith(f"{incident}\n{many}"), told
    assert world.record(incident)["status"] == "closed"
    if many:  # and that it was up since then is not forgotten
        open_one = world.state / "open" / name
        said = json.loads(open_one.read_text())
        world.write(open_one, json.dumps(said | {"since": 1e9}), 0o600)
        for pid in world.pids(name):
            world.kill(pid)
        assert world.run().code == 1
        world.up(name)
        told = world.run()
        assert f"{name} is up again, down since " in told.out, told
        assert " 2001\n" not in told.out, told


def test_a_lock_that_nobody_takes_makes_nothing_down(program: Path) -> None:
    need_root()
    with public_world(program) as world:
        name = unique("food")
        world.hook(name, "exit 1")
        give(world, ORDINARY)
        command = [users_python(), *world.command()[1:]]
        assert run_as(command, ORDINARY).code == 1
        up_as(world, name, ORDINARY)
        shutil.rmtree(world.state / "locks")
        world.state.chmod(0o500)
        told = run_as(command, ORDINARY)
        assert (told.code, told.out, told.err) == (0, "", "")
        world.state.chmod(0o700)
        told = run_as(command, ORDINARY)
        assert told.code == 0 and " is up again, down since " in told.out, told


def test_next_notice_says_what_was_before(world: World) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    world.run()
    result = world.run()
    first, second = world.incidents(name)
    [before] = re.findall(r"^  before    (.*)$", result.out, re.MULTILINE)
    assert before.startswith("not brought back at ")
    assert before.endswith(f": {first}")
    assert world.record(first)["status"] == "closed"
    assert world.record(second)["status"] == "open"


# How many are kept


def keeping(world: World, keep: str) -> None:
    world.settings(SETTINGS + keep + "\n")


def test_oldest_of_who_has_the_most_are_pruned_by_number(world: World) -> None:
    name, other = unique("food"), unique("food")
    keeping(world, "keep = 4")
    world.watch(other)
    theirs = [bring_back(world, other)]
    world.kill(world.pids(other)[0])
    theirs.append(bring_back(world, other))
    world.watch(name)
    made = []
    for _ in range(4):
        made.append(bring_back(world, name))
        world.kill(world.pids(name)[0])
    # Whoever dies again and again pushes out the incidents of nobody else.
    assert world.incidents(other) == theirs
    assert world.incidents(name) == made[-2:]


def test_open_incidents_are_not_pruned(world: World) -> None:
    name, other = unique("food"), unique("food")
    keeping(world, "keep = 1")
    world.hook(name, "exit 1")
    assert world.run().code == 1
    [first] = world.incidents(name)
    assert world.record(first)["status"] == "open"
    world.watch(other)
    for _ in range(2):
        world.run(other)
        world.kill(world.pids(other)[0])
    assert world.incidents(name) == [first]
    assert len(world.incidents(other)) == 1


def test_what_nobody_can_close_any_more_is_pruned(world: World) -> None:
    name = unique("food")
    keeping(world, "keep = 1")
    world.watch(name)
    first = bring_back(world, name)
    # As a run leaves it that was killed at once, or whose disk was full at its end.
    record = world.record(first)
    world.write(first / "incident.json", json.dumps({**record, "status": "open"}))
    # And files that had no name yet, or notice.d's.
    names = ("open/.food.4321", "counts/.a.b.4321", ".notice.4321.json", ".others")
    for one in [*names, "open/.food.4322"]:
        (world.state / one).touch()
    for one in names:
        os.utime(world.state / one, (0, 0))
    world.kill(world.pids(name)[0])
    second = bring_back(world, name)
    assert world.incidents(name) == [second]
    left = [str(one.relative_to(world.state)) for one in world.state.rglob(".*")]
    assert sorted(left) == [".others", "open/.food.4322"]


def test_oldest_are_pruned_by_size(world: World) -> None:
    name = unique("food")
    keeping(world, 'keep_bytes = "1GB"')  # beside which what ps prints is nothing
    world.watch(name)
    first = bring_back(world, name)
    os.truncate(first / "ps.txt", 900_000_000)
    world.kill(world.pids(name)[0])
    second = bring_back(world, name)
    assert world.incidents(name) == [first, second]
    os.truncate(second / "ps.txt", 900_000_000)
    world.kill(world.pids(name)[0])
    third = bring_back(world, name)
    assert world.incidents(name) == [second, third]


def test_what_is_shared_counts_once(world: World) -> None:
    names = [unique("food") for _ in range(3)]
    keeping(world, 'keep_bytes = "1GB"')  # beside which what ps prints is nothing
    for name in names:
        world.watch(name)
    assert world.run().code == 0
    shared = world.incidents(names[0])[0] / "ps.txt"
    os.truncate(shared, 600_000_000)
    for name in names:
        world.kill(world.pids(name)[0])
    assert world.run().code == 0
    assert [len(world.incidents(name)) for name in names] == [2, 2, 2]


def test_log_that_a_daemon_goes_on_writing_is_cut(world: World) -> None:
    name, other = unique("food"), unique("food")
    shell = world.bin / name
    shutil.copy(shutil.which("dash") or "/bin/sh", shell)
    more = world.place / "more"
    world.hook(
        name,
        f"{shell} -c 'echo first; while ! [ -e {more} ]; do sleep 0.05; done; "
        f"seq 1 600000; echo last; touch {more}.done; while :; do sleep 1; done' &",
    )
    incident = bring_back(world, name)
    more.touch()
    until((world.place / "more.done").exists)
    assert (incident / "hook.log").stat().st_size > 3_000_000
    world.watch(other)
    bring_back(world, other)
    text = (incident / "hook.log").read_text()
    assert len(text) < 1_100_000
    assert text.startswith("first\n1\n") and text.endswith("\n600000\nlast\n")
    assert "bytes were here" in text


def test_log_that_grows_while_all_is_well_is_cut_once_an_hour(world: World) -> None:
    name = unique("food")
    world.watch(name)
    incident = bring_back(world, name)
    log = incident / "hook.log"
    log.write_bytes(b"first\n" + b"x" * 3_000_000 + b"\nlast\n")
    until(lambda: time.time() % 3600 < 3570, 40)  # not over the turn of an hour
    (world.state / "last-run").touch()
    assert world.run().out == "" and log.stat().st_size > 3_000_000
    an_hour_ago = time.time() - 3600
    os.utime(world.state / "last-run", (an_hour_ago, an_hour_ago))
    assert world.run().out == ""
    text = log.read_bytes()
    assert len(text) < 1_100_000 and b"bytes were here" in text
    assert text.startswith(b"first\n") and text.endswith(b"\nlast\n")


# Damage


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"daemon": ',
    b"\xff\xdc",
    b"[" * 100_000,
    b"{}",
]


def test_damaged_incidents_are_ignored_and_named(world: World) -> None:
    names = [unique("food") for _ in DAMAGED]
    for name in names:
        world.hook(name, "exit 1")
    world.run()
    for name, damage in zip(names, DAMAGED, strict=True):
        (world.incidents(name)[0] / "incident.json").write_bytes(damage)
    tested = world.run("test")
    assert tested.code == 2
    for name in names:
        assert f"incident {world.incidents(name)[0].name}: damaged" in tested.out, name
        world.watch(name)
    result = world.run()
    assert (result.code, result.err) == (0, ""), result
    assert [world.starts(name) for name in names] == [1] * len(names)
    for name in names:
        assert f"Restarting {name}\n" in result.out


@pytest.mark.parametrize("kind", ["open", "counts"])
def test_damaged_record_reads_as_empty(world: World, kind: str) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    world.run()
    (world.state / kind).mkdir(exist_ok=True)
    (world.state / kind / name).write_bytes(b'{"since": \xff')
    world.watch(name)
    result = world.run()
    assert (result.code, result.err) == (0, ""), result
    assert world.starts(name) == 1


def test_odd_types_in_records_do_no_harm(world: World) -> None:
    name = unique("food")
    world.hook(name, "exit 1")
    world.run()
    [incident] = world.incidents(name)
    record = world.record(incident)
    odd = {"hook": [1], "began": "yesterday", "result": {"a": 1}, "status": "open"}
    world.write(incident / "incident.json", json.dumps({**record, **odd}))
    note = {"since": "long", "incident": incident.name, "said_at": [], "word": 7}
    world.write(world.state / "open" / name, json.dumps(note), 0o600)
    world.watch(name)
    result = world.run()
    assert (result.code, result.err) == (0, ""), result


def test_an_incident_that_is_a_link_elsewhere_is_not_followed(world: World) -> None:
    name = unique("food")
    precious = world.place / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    keeping(world, "keep = 1")
    world.watch(name)
    bring_back(world, name)
    link = world.state / "incidents" / f"20200101T000000Z-{name}"
    link.symlink_to(precious)
    world.kill(world.pids(name)[0])
    bring_back(world, name)
    assert (precious / "file").read_text() == "mine"


def test_run_that_is_killed_leaves_its_evidence(world: World) -> None:
    name = unique("food")
    world.hook(
        name, f"touch {world.place}/begun\nexec {world.daemon(unique('nap'))} {SLEEP}"
    )
    run = world.spawn(world.command())
    until((world.place / "begun").exists)
    world.kill(run.pid)
    [incident] = world.incidents(name)
    assert world.record(incident)["status"] == "open"
    assert "PID" in (incident / "ps.txt").read_text()
    assert (incident / "kernel.txt").exists() or not reads_kernel_log()
    leftovers = [path.name for path in incident.iterdir() if path.name.startswith(".")]
    assert leftovers == []
    told = world.run("restart", name)  # its hook is at work, and no script any more
    assert told.code == 1 and "not restarted: being started by pid " in told.out, told
    assert world.incidents(name) == [incident]


def test_fifty_daemons_dead_at_once(world: World) -> None:
    names = [unique("food") for _ in range(50)]
    for name in names:
        world.watch(name, 'start_timeout = "60s"')  # on a busy machine, too
    result = world.run(timeout=120)
    assert result.code == 0, result
    assert (result.out.count("Restarting "), result.err) == (50, "")
    assert [world.starts(name) for name in names] == [1] * 50
    assert [len(world.pids(name)) for name in names] == [1] * 50
    taken = {(world.incidents(name)[0] / "ps.txt").stat().st_ino for name in names}
    assert len(taken) == 1
    assert world.run().out == ""


def test_state_is_made_for_its_owner_alone_whatever_the_umask(world: World) -> None:
    name, copy = unique("food"), world.place / "program"
    world.watch(name)
    shutil.copytree(world.program.parent, copy)
    world.program = copy / world.program.name
    shutil.rmtree(copy / "viagralib/base/__pycache__")
    done = subprocess.run(
        ["/bin/sh", "-c", 'umask 0; exec "$@"', "sh", *world.command()],
        capture_output=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done
    bytecode = copy / "viagralib/base/__pycache__"
    for path in (bytecode, next(bytecode.iterdir())):
        assert path.stat().st_mode & 0o022 == 0, path
    for path in [world.state, *world.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert os.stat(world.place / f"{name}.starts").st_mode & 0o777 == 0o644
