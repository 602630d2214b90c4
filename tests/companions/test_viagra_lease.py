"""viagra-lease's command line, and its engine on files: real keepers and commands."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from companion_programs import ROOT, Program, children, lives, program, state
from documents import checked
from other_users import ORDINARY, give, public_world, run_as, users_python
from world import need_root, remove_locks, until

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract.guardian import Link
from viagralib.companions.lease.decisions import GoesBefore, LastSign
from viagralib.companions.lease.engine import (
    DeafError,
    Engine,
    Entry,
    Lease,
    UnreachableError,
)
from viagralib.companions.lease.events import Events
from viagralib.companions.lease.file_engine import FileEngine
from viagralib.companions.lease.node_records import NodeRecords
from viagralib.companions.lease.options import parse
from viagralib.companions.lease.primary import Primary
from viagralib.companions.lease.role_programs import RoleProgram

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes through /proc"
)
COMMAND = ROOT / "viagralib" / "companions" / "viagra-lease"
# Tells its pid and token, and stays, with a child in a session of its own.
STAYS = "(setsid sleep 1000 &); echo $$ $VIAGRA_TOKEN >>out; exec sleep 1000"
TTL = "--ttl=2s"
Make = Callable[[str], Program]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make keepers that share a state directory, and so an engine on files."""
    made = []
    (tmp_path / "state").mkdir(0o700)

    def keeper(name: str) -> Program:
        (tmp_path / name).mkdir()
        with_context = program("viagra-lease", tmp_path / name)
        made.append(with_context)
        keeper = with_context.__enter__()
        keeper.environment["VIAGRA_STATE"] = str(tmp_path / "state")
        return keeper

    yield keeper
    for one in made:
        one.__exit__(None, None, None)


def keep(keeper: Program, *options: str, script: str = STAYS) -> None:
    keeper.start(TTL, *options, "food", "--", "sh", "-c", script)


def running(keeper: Program, count: int = 1) -> tuple[int, int]:
    """Return pid and token of the command's life number `count`."""
    until(lambda: len(keeper.lines()) >= count)
    pid, token = keeper.lines()[count - 1].split()
    return int(pid), int(token)


def order(keeper: Program, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the verbs for people, beside the keeper."""
    return subprocess.run(
        [*keeper.argv, *words],
        env={**keeper.environment, "VIAGRA_TEST": ""},
        cwd=keeper.directory,
        capture_output=True,
        text=True,
        check=False,
    )


def status(keeper: Program) -> dict[str, Any]:
    done = order(keeper, "status", "--json", "food")
    found: dict[str, Any] = checked("leases", done.stdout)["leases"]["food"]
    assert (done.returncode == 0) is bool(found["primary"])
    return found


def stands_by(keeper: Program, count: int = 1) -> None:
    until(lambda: len(status(keeper)["standbys"]) == count)


# Bad input

WRONG = [
    ([], 64, "no name"),
    (["food"], 64, "no command"),
    (["food", "--"], 64, "no command"),
    (["--ttl", "1s", "food", "true"], 64, "--ttl: at least 2s"),
    (["--ttl", "10", "food", "true"], 64, "--ttl: '10' needs a unit"),
    (["--ttl", "9s", "--stop", "4s", "food", "true"], 64, "not three times --stop"),
    (["--priority", "-1", "food", "true"], 64, "--priority: '-1' is no number"),
    (["--priority", "many", "food", "true"], 64, "--priority: 'many' is no number"),
    (["--fence", "/no/such", "food", "true"], 64, "--fence: '/no/such' is no program"),
    (["--on-role", "/", "food", "true"], 64, "--on-role: '/' is no program"),
    (["--held-code", "256", "food", "true"], 64, "--held-code: '256' is no number"),
    (["-q", "-v", "food", "true"], 64, "-q and -v do not go together"),
    (["--wat", "food", "true"], 64, "option --wat not recognized"),
    (["a/b", "true"], 64, "'a/b' cannot be a resource's name"),
    (["..", "true"], 64, "'..' cannot be a resource's name"),
    (["two words", "true"], 64, "'two words' cannot be a resource's name"),
    (["yield"], 64, "yield goes with one name"),
    (["forbid", "a", "b"], 64, "forbid goes with one name"),
    (["forbid", "--json", "a"], 64, "option --json not recognized"),
    (["--engine", "zk://h/p", "food", "true"], 78, "begins with none of file, etcd"),
    (["--engine", "nothing", "food", "true"], 78, "begins with none of file, etcd"),
    (
        ["--engine", "file://host/d", "food", "true"],
        78,
        "is not like file:///directory",
    ),
    (["--engine", "etcd://h:port/p", "food", "true"], 78, "'h:port' is not like HOST"),
    (["--engine", "etcd://,h/p", "food", "true"], 78, "'' is not like HOST"),
    (["--engine", "etcd://h/p?x=1", "food", "true"], 78, "unknown 'x'"),
    (["--engine", "etcd://h/p?ca=/x", "food", "true"], 78, "need etcds://"),
    (
        ["--engine", "etcds://h/p?key=/x", "food", "true"],
        78,
        "cert and key go together",
    ),
]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    WRONG,
    ids=[" ".join(words) or "-" for words, *_ in WRONG],
)
def test_what_cannot_be_meant_starts_nothing(
    make: Make, words: list[str], code: int, text: str
) -> None:
    keeper = make("a")
    assert keeper.run(*words) == code
    [line] = keeper.lines("stderr")
    assert line.startswith("viagra-lease: ") and "\\x" not in line
    assert text in line
    assert keeper.lines() == []
    assert not (keeper.directory.parent / "state" / "leases").exists()


TLS = [
    ("?ca=/no/such", "could not read ca, cert or key: No such file"),
    ("?ca={junk}", "ca, cert or key: "),
    ("?cert={junk}&key={junk}", "ca, cert or key: "),
]


@pytest.mark.parametrize(("files", "text"), TLS, ids=[files for files, _ in TLS])
def test_wrong_files_for_tls_start_nothing(
    make: Make, tmp_path: Path, files: str, text: str
) -> None:
    (tmp_path / "junk").write_text("this is no certificate")
    keeper = make("a")
    url = f"etcds://127.0.0.1:1/p{files.format(junk=tmp_path / 'junk')}"
    assert keeper.run("--engine", url, "food", "true") == 78
    (line,) = keeper.lines("stderr")
    assert text in line


def test_a_password_that_cannot_be_read_starts_nothing(make: Make) -> None:
    keeper = make("a")
    url = "etcd://user@127.0.0.1:1/p?password=/no/such"
    assert keeper.run("--engine", url, "food", "true") == 78
    assert "could not read the password: No such file" in keeper.lines("stderr")[0]


def test_no_engine_within_the_time_given(make: Make) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"etcd://127.0.0.1:{nobody.getsockname()[1]}/p"
        keeper = make("a")
        options = ["--wait-for-engine", "100ms", "--engine", url]
        assert keeper.run(*options, "food", "sh", "-c", STAYS) == 69
        assert order(keeper, "status", "--engine", url).returncode == 69
    assert "no engine answers: 127.0.0.1: " in "".join(keeper.lines("stderr"))
    assert "Connection refused" in "".join(keeper.lines("stderr"))
    assert keeper.lines() == []


def test_a_keeper_on_files_imports_nothing_that_only_etcd_needs() -> None:
    """It would be a third of its memory."""
    code = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
import viagralib.companions.lease.keeper, viagralib.companions.lease.file_engine
print("http.client" in sys.modules, "socket" in sys.modules, "ssl" in sys.modules)"""
    said = subprocess.run(
        [sys.executable, "-I", "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["False", "False", "False"]


def test_any_state_directory_holds_the_locks(make: Make) -> None:
    keeper = make("a")
    odd = "st#b?%41\udcff"  # relative, and no UTF-8
    keeper.environment["VIAGRA_STATE"] = odd
    assert keeper.run("food", "true") == 0
    keeper.environment["VIAGRA_STATE"] = str(keeper.directory / odd)
    assert (keeper.directory / odd / "leases/food/lock").exists()


# One at a time


@linux_only
def test_one_runs_it_and_the_other_takes_over(make: Make) -> None:
    first, second = make("a"), make("b")
    keep(first)
    pid, token = running(first)
    keep(second)
    stands_by(second)
    assert second.lines() == []
    first.send(signal.SIGTERM)
    _, later = running(second)
    assert not lives(pid)
    assert later > token
    assert first.end() == 0  # as asked: so a service manager takes it for well
    assert first.left() == []  # the child in its own session, too


@linux_only
@pytest.mark.parametrize("victim", ["keeper", "guardian"])
def test_a_keeper_that_is_killed_takes_all_with_it(make: Make, victim: str) -> None:
    first, second = make("a"), make("b")
    (first.directory / "tell").write_text("#!/bin/sh\nexec sleep 1000\n")
    (first.directory / "tell").chmod(0o755)
    keep(first, "--on-role", "./tell")
    running(first)
    keep(second)
    stands_by(second)
    guardian = first.runner.pid
    os.kill(guardian if victim == "guardian" else children(guardian)[0], signal.SIGKILL)
    running(second)
    assert first.end() == (-signal.SIGKILL if victim == "guardian" else 70)
    assert until(lambda: not first.left())


@linux_only
def test_a_keeper_that_is_stopped_loses_its_command_in_time(make: Make) -> None:
    keeper = make("a")
    keep(keeper)
    pid, _ = running(keeper)
    (holder,) = children(keeper.runner.pid)
    os.kill(holder, signal.SIGSTOP)
    until(lambda: not lives(pid))
    assert keeper.end() == 70
    assert "out of time, ended all" in keeper.lines("stderr")[-1]


@linux_only
def test_a_guardian_that_is_stopped_is_continued(make: Make) -> None:
    keeper = make("a")
    keep(keeper)
    running(keeper)
    keeper.send(signal.SIGSTOP)
    until(lambda: state(keeper.runner.pid) == "T")
    until(lambda: state(keeper.runner.pid) == "S")
    assert len(keeper.lines()) == 1


@linux_only
def test_signals_are_passed_on(make: Make) -> None:
    keeper = make("a")
    keep(
        keeper, script="trap 'echo got' USR1; echo $$ 0 >>out; sleep 1000 & wait; wait"
    )
    running(keeper)
    keeper.send(signal.SIGUSR1)
    until(lambda: keeper.lines("stdout") == ["got"])


@linux_only
def test_a_command_that_swallows_term_is_killed_after_stop(make: Make) -> None:
    keeper = make("a")
    keep(keeper, "--stop", "100ms", script=f"trap '' TERM; {STAYS}")
    running(keeper)
    keeper.send(signal.SIGINT)
    assert keeper.end() == 123


@linux_only
def test_keeper_and_guardian_killed_at_once_leave_no_command(make: Make) -> None:
    """What it has forked is left, which only a fence covers; and that is ended here."""
    keeper = make("a")
    keep(keeper)
    pid, _ = running(keeper)
    holders = [keeper.runner.pid, *children(keeper.runner.pid)]
    for holder in holders:
        os.kill(holder, signal.SIGSTOP)  # so that neither can do anything
    for holder in holders:
        os.kill(holder, signal.SIGKILL)
    until(lambda: not lives(pid))


@pytest.mark.parametrize(("options", "code"), [([], 75), (["--held-code", "9"], 9)])
def test_with_no_wait_held_elsewhere(make: Make, options: list[str], code: int) -> None:
    first, second = make("a"), make("b")
    keep(first)
    running(first)
    keep(second, "--no-wait", *options)
    assert second.end() == code
    assert second.lines() == []
    assert second.lines("stderr") == []  # the exit code has told it
    assert status(first)["role"] == "primary"  # here, still


@pytest.mark.parametrize(
    ("options", "script", "said"),
    [
        (["--no-wait"], "exit 0", []),
        (["-q"], "exit 0", []),
        (["--no-wait"], "exit 3", ["the command ended: exit 3"]),
        (
            ["--no-wait", "-v"],
            "exit 0",
            ["secondary", "primary", "the command ended: exit 0", "init"],
        ),
    ],
    ids=str,
)
def test_a_job_that_is_well_is_told_by_nobody(
    make: Make, options: list[str], script: str, said: list[str]
) -> None:
    keeper = make("a")
    keep(keeper, *options, script=script)
    keeper.end()
    assert keeper.lines("stderr") == [f"viagra-lease: food: {text}" for text in said]


# Turns


@linux_only
@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 123)])
def test_its_end_is_the_keepers_and_another_gets_its_turn(
    make: Make, script: str, code: int
) -> None:
    first, second = make("a"), make("b")
    keep(
        first,
        script=f"echo $$ 0 >>out; until [ -e end ]; do sleep 0.05; done; {script}",
    )
    running(first)
    (first.directory / "end").touch()
    assert first.end() == code
    # On this node nobody tries again, until it is allowed.
    keep(second)
    until(lambda: "next try in" in "".join(second.lines("stderr")))
    time.sleep(1.2 if code == 3 else 0)  # two looks later:
    assert len(second.lines("stderr")) == 2  # each thing is said once
    assert second.lines() == []
    assert status(second)["next_try_in"] > 0
    assert order(second, "allow", "food").returncode == 0
    running(second)


@pytest.mark.parametrize(
    ("program", "code"), [("/no/such/program", 127), ("/etc/passwd", 126)]
)
def test_what_cannot_be_started_gives_the_lease_up(
    make: Make, program: str, code: int
) -> None:
    keeper = make("a")
    assert keeper.run(TTL, "food", program) == code
    assert program in "".join(keeper.lines("stderr"))
    assert status(keeper)["primary"] is None


@linux_only
def test_yield_is_a_planned_switch(make: Make) -> None:
    first, second = make("a"), make("b")
    assert order(first, "yield", "food").returncode == 1
    keep(first)
    pid, token = running(first)
    alone = order(first, "yield", "food")
    assert alone.returncode == 1
    assert "no standby" in alone.stderr
    keep(second)
    stands_by(second)
    assert order(second, "yield", "food").returncode == 0
    _, later = running(second)
    assert later > token
    assert not lives(pid)
    stands_by(second)  # the one that gave up waits


@linux_only
def test_forbidden_here_it_is_stopped_and_waits(make: Make) -> None:
    keeper = make("a")
    keep(keeper)
    pid, _ = running(keeper)
    assert order(keeper, "forbid", "food").returncode == 0
    until(lambda: not lives(pid))
    until(lambda: status(keeper)["role"] == "init")
    assert status(keeper)["forbidden"]
    assert order(keeper, "allow", "food").returncode == 0
    running(keeper, 2)


@linux_only
def test_fail_back_gives_it_to_the_lower_number(make: Make) -> None:
    first, second = make("a"), make("b")
    keep(first, "--fail-back-after", "1ms", "--priority", "2")
    pid, _ = running(first)
    keep(second, "--priority", "1")
    running(second)
    assert not lives(pid)


def test_it_fails_back_to_who_was_there_for_long_without_a_break() -> None:
    behind, one, two = (Entry(name, pid=1, priority=1) for name in ("c", "a", "b"))
    behind = dataclasses.replace(behind, priority=9)
    before = GoesBefore(priority=5)

    def due(now: float, *standbys: Entry) -> list[Entry]:
        before.see(standbys, now)
        return before.due(standbys, 10.0, now)

    assert due(0, one, behind) == []
    assert due(9, one, two, behind) == []
    assert due(10, one, two, behind) == [one]
    assert due(11, two) == []
    assert due(12, one, two) == []
    assert due(19, one, two) == [two]
    assert due(22, one, dataclasses.replace(two, pid=2)) == [one]


@linux_only
def test_roles_are_told_in_their_order(make: Make) -> None:
    keeper = make("a")
    teller = keeper.directory / "tell"
    teller.write_text('#!/bin/sh\necho "$*" >>roles\n')
    teller.chmod(0o755)
    keep(keeper, "--on-role", str(teller))
    running(keeper)
    until(lambda: len(keeper.lines("roles")) == 2)
    keeper.send(signal.SIGTERM)
    keeper.end()
    assert keeper.lines("roles") == [
        "food init secondary",
        "food secondary primary",
        "food primary secondary",
        "food secondary init",
    ]


# Fencing: who had it last without saying that it ended


def of_another_node(keeper: Program) -> None:
    """Have it that another node started the command last, and said no more."""
    place = keeper.directory.parent / "state" / "leases" / "food"
    place.mkdir(parents=True)
    entry = {"node": "other-node", "host": "other\nhost", "token": 7, "released": False}
    (place / "last").write_text(json.dumps(entry))


def fence(keeper: Program, code: int, first: str = "") -> str:
    script = keeper.directory / "fence"
    script.write_text(f'#!/bin/sh\n{first}\necho "$*" >>fenced\nexit {code}\n')
    script.chmod(0o755)
    return str(script)


def test_a_fence_comes_before_the_command(make: Make) -> None:
    keeper = make("a")
    of_another_node(keeper)
    # What is passed on to the command is nothing for the fence.
    hup = "kill -HUP $PPID; sleep 0.2"
    keep(keeper, "--fence", fence(keeper, 0, hup))
    running(keeper)
    assert keeper.lines("fenced") == ["food other-node 7"]


def test_where_the_fence_fails_nothing_starts_and_the_next_one_fences(
    make: Make,
) -> None:
    first, second = make("a"), make("b")
    of_another_node(first)
    keep(first, "--no-wait", "--fence", fence(first, 1))
    assert first.end() == 75
    (text,) = (line for line in first.lines("stderr") if "could not" in line)
    assert "could not fence other\\x0ahost: exit 1" in text
    keep(second, "--fence", fence(second, 1), "--retry-after", "1h")
    (pid,) = until(lambda: children(second.runner.pid))
    until(lambda: status(second)["next_try_in"])
    rest = second.directory.parent / "state" / "leases" / "food" / "rest"
    assert json.loads(rest.read_text())["pid"] == pid  # and not of other keepers
    assert second.lines() == []
    fence(second, 0)
    order(second, "allow", "food")
    running(second)
    assert second.lines("fenced") == ["food other-node 7"] * 2


def test_after_an_orderly_end_nobody_is_fenced(make: Make) -> None:
    first, second = make("a"), make("b")
    keep(first)
    running(first)
    first.send(signal.SIGTERM)
    first.end()
    keep(second, "--fence", fence(second, 1))
    running(second)
    assert second.lines("fenced") == []


def test_status_names_who_had_it_last_as_long_as_nobody_has_it(make: Make) -> None:
    keeper = make("a")
    of_another_node(keeper)
    (keeper.directory.parent / "state/leases/food/lock").touch()
    assert status(keeper)["last"]["token"] == 7
    assert "which did not end in order" in order(keeper, "status", "food").stdout
    keep(keeper)
    running(keeper)
    assert status(keeper)["last"] is None
    assert "token" not in status(keeper)["primary"]


# As primary, without a keeper


class Hears(Events):
    """Hears nothing, and counts how often it has listened."""

    count = 0

    def listen(self, until: float) -> None:
        self.count += 1
        time.sleep(max(0.0, until - boot_clock()))


class Deaf(Engine):
    """Renews for one more second, and tells of no changes."""

    def renew(self, lease: Lease, until: float) -> Lease:
        return Lease(lease.token, boot_clock() + 1.0)

    def watch(self, as_primary: bool) -> bool:
        raise DeafError("refused")


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[tuple[Primary, Hears]]:
    """Give a primary that has to stop a command which swallows TERM, in 0.2 s."""
    plan = parse([TTL, "--stop", "200ms", "food", "true"])
    engine = Deaf("food", 2.0, Entry("here"))
    ends = os.pipe()
    told = RoleProgram("viagra-lease", None, "food")
    events = Hears(frozenset(), Link(os.getpid(), *ends), told)
    noted = NodeRecords(str(tmp_path), "food")
    yield Primary(plan, engine, events, noted, LastSign()), events
    for end in ends:
        os.close(end)


def test_what_tells_of_no_changes_has_renewed_all_the_same(
    primary: tuple[Primary, Hears], capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = primary
    began = boot_clock()
    made._keep(Lease(1, began))
    made._renew()
    assert capsys.readouterr().err == (
        "viagra-lease: food: renewed, but sees changes late: refused\n"
    )
    assert made._renew_at > began + 0.6  # as ever: a third of the ttl


def test_who_stops_late_waits_for_the_end_and_does_not_spin(
    primary: tuple[Primary, Hears],
) -> None:
    made, events = primary
    made._keep(Lease(1, boot_clock() + 0.6))  # so it is late, and may take the 0.2 s
    made._renew_at = boot_clock()
    with subprocess.Popen(["sleep", "1000"]) as command:
        events.follow(command.pid)
        made._stop()
    assert events.count <= 2


# What may happen to the files


@linux_only
def test_the_state_may_be_deleted(make: Make, tmp_path: Path) -> None:
    """The command is ended, for its lock is not the one that others would see."""
    first, second = make("a"), make("b")
    keep(first)
    pid, token = running(first)
    # At one blow: file by file, a keeper may be writing one meanwhile.
    (tmp_path / "state" / "leases").rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    keep(second)
    _, later = running(second)
    assert not lives(pid)
    assert later >= token
    assert first.end() == 70  # nobody else sees its lock: it has to be started anew
    assert "deleted: start anew" in first.lines("stderr")[-1]


def test_a_lock_that_is_out_of_sight_is_waited_for(tmp_path: Path) -> None:
    """As in a file system that was unmounted: a new one would be another lock."""
    place = tmp_path / "leases"
    engine = FileEngine(str(place), "food", 2.0, Entry("here"))
    engine.prepare()
    gone = place.rename(tmp_path / "gone")
    with pytest.raises(UnreachableError, match="No such file"):
        engine.stand_by()
    shutil.rmtree(gone)
    # For a second, its primary may not have seen it.
    with pytest.raises((UnreachableError, OSError), match="the lock was deleted"):
        engine.stand_by()
    remove_locks({tmp_path})


def test_what_cannot_be_noted_is_not_started(make: Make, tmp_path: Path) -> None:
    """Others could not know that it runs."""
    keeper = make("a")
    last = tmp_path / "state" / "leases" / "food" / "last"
    last.mkdir(parents=True)
    keep(keeper)
    until(lambda: "no engine answers" in "".join(keeper.lines("stderr")))
    assert keeper.lines() == []
    last.rmdir()
    running(keeper)


TAKES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from viagralib.companions.lease.engine import Entry
from viagralib.companions.lease.file_engine import FileEngine
engine = FileEngine(sys.argv[2], "food", 2.0, Entry("here"))
engine.prepare()
print(engine.take() is not None)
os.utime(f"{sys.argv[2]}/food/lock", (1, 1))
print(engine.take() is not None)
"""


def test_a_users_new_lock_waits_for_who_had_the_one_that_was_deleted(
    program: Path,
) -> None:
    """Root's is in /run as well, which is not deleted with the state."""
    need_root()
    with public_world(program) as world:
        give(world, ORDINARY)
        words = (str(world.program.parent), str(world.state / "leases"))
        done = run_as([users_python(), "-c", TAKES, *words], ORDINARY)
    assert (done.out, done.err) == ("False\nTrue\n", "")


def test_a_directory_that_others_can_write_to_is_refused(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o777)
    keeper = make("a")
    engine = f"file://{tmp_path}/locks"
    assert keeper.run("--engine", engine, "food", "true") == 78
    assert f"chmod o-w {tmp_path}/locks" in keeper.lines("stderr")[0]


@pytest.mark.parametrize("verb", ["status", "yield"])
@pytest.mark.parametrize("names", ["all", "one"])
def test_where_others_can_write_nothing_is_removed_for_people(
    make: Make, tmp_path: Path, verb: str, names: str
) -> None:
    """As PostgreSQL's standby.signal, in the directory that another's link leads to."""
    (tmp_path / "data").mkdir()
    kept = tmp_path / "data" / "standby.signal"
    kept.touch()
    (tmp_path / "data" / "lock").touch()
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "food").symlink_to(tmp_path / "data")
    (tmp_path / "locks").chmod(0o777)
    name = ["food"] if names == "one" or verb == "yield" else []
    keeper = make("a")
    assert keeper.run(verb, "--engine", f"file://{tmp_path}/locks", *name) == 78
    assert f"chmod o-w {tmp_path}/locks" in keeper.lines("stderr")[0]
    assert kept.exists()


def test_a_directory_that_others_can_move_is_refused(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "open/locks").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    keeper = make("a")
    engine = f"file://{tmp_path}/open/locks"
    assert keeper.run("--engine", engine, "food", "true") == 78
    assert f"chmod o-w {tmp_path}/open" in keeper.lines("stderr")[0]
    assert list((tmp_path / "open/locks").iterdir()) == []


def test_what_it_writes_is_for_its_owner_alone(make: Make, tmp_path: Path) -> None:
    keeper = make("a")
    keep(keeper)
    running(keeper)
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_damaged_files_are_no_obstacle(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "state" / "leases" / "food"
    keeper = make("a")
    place.mkdir(parents=True)
    for name in ("lease", "last", "yield", "rest", "keeper", "standby.junk"):
        (place / name).write_bytes(b'{"node": 1, "token": "x"}\xff\x00')
    keep(keeper)
    running(keeper)
    assert status(keeper)["role"] == "primary"


def test_status_is_for_people_too(make: Make) -> None:
    keeper = make("a")
    nothing = order(keeper, "status")
    assert (nothing.returncode, nothing.stdout) == (1, "no leases\n")
    keep(keeper)
    running(keeper)
    done = order(keeper, "status")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "food"
    assert [line.split()[0] for line in lines[1:]] == ["here", "primary", "standbys"]


@linux_only
def test_it_is_known_by_its_name(make: Make) -> None:
    keeper = make("a")
    keep(keeper)
    running(keeper)
    for pid in (keeper.runner.pid, *children(keeper.runner.pid)):
        assert Path(f"/proc/{pid}/comm").read_text() == "viagra-lease\n"


@linux_only
def test_its_memory_is_small(make: Make) -> None:
    keeper = make("a")
    keep(keeper)
    running(keeper)
    pids = (keeper.runner.pid, *children(keeper.runner.pid))
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    sizes = [int(text.partition("\nPss:")[2].split()[0]) for text in rollups]
    assert sum(sizes) < 20_000, sizes  # kB: guardian and keeper
