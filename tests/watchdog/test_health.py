"""Health: sockets, heartbeats, checks and alarms, with real daemons that fall ill."""

from __future__ import annotations

import http.server
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from unhealthy import FACTS, NOBODY, free_port, start, told, watch_unhealthy
from world import World, absent, alive, unique, until

from viagralib.health.check_plugins import Check
from viagralib.health.checkup import Checkup
from viagralib.processes.verdicts import judge
from viagralib.settings.configuration import load
from viagralib.state.directory import State
from viagralib.state.run_context import Run
from viagralib.trust.programs import ProgramTrust

# Heartbeats


def test_a_heartbeat_of_the_future_is_unknown(world: World) -> None:
    name, beat = unique("ahead"), world.place / "beat"
    facts = f'heartbeat = {{ file = "{beat}", every = "1ms" }}\n'
    watch_unhealthy(world, name, "deaf", world.place / "log", facts)
    child = start(world, name, "deaf", world.place / "log")
    beat.touch()
    os.utime(beat, (time.time() + 3600,) * 2)
    result = world.run()
    assert result.code == 1
    assert f"{name} is unknown: heartbeat {beat} has a time in the future" in result.out
    assert child.poll() is None and told(world, name) == []


# Only told


def test_report_touches_nothing(world: World) -> None:
    name, log = unique("report"), world.place / "terms"
    watch_unhealthy(world, name, "beat", log, f'recovery = "report"\n{NOBODY}')
    child = start(world, name, "beat", log)
    first, second = world.run(), world.run()
    assert "only reported" in first.out and second.out == ""
    assert first.code == second.code == 1
    assert child.poll() is None


def test_sick_after_so_many_runs_in_a_row(world: World) -> None:
    name = unique("dip")
    fact = 'start_timeout = "1ms"\nsick_after = 3\nrecovery = "report"\ncount = '
    world.watch(name, f"{fact}[2, 9]")
    world.up(name)
    assert f"{name} is sick, 0 of 3 runs: 1 of at least 2" in world.run("check").out
    first, second = world.run(), world.run(name)
    assert (first.code, first.out, second.code) == (1, "", 1), first
    assert f"{name} is sick, 2 of 3 runs: " in second.out
    assert f"{name} is sick, 2 of 3 runs: " in world.run("status").out
    world.facts(name, f"{fact}[1, 9]")
    well = world.run()  # counts anew from here on
    assert (well.code, well.out) == (0, ""), well
    world.facts(name, f"{fact}[2, 9]")
    assert [world.run().out for _ in range(2)] == ["", ""]
    assert "only reported" in world.run().out


# Sockets


def test_listens(world: World) -> None:
    name, port = unique("port"), free_port()
    facts = f'listens = ["tcp:127.0.0.1:{port}", "tcp:localhost:{port}"]\n'
    watch_unhealthy(world, name, "listen", port, facts)
    start(world, name, "listen", port)
    assert world.run("check").code == 0
    world.facts(name, FACTS + f'listens = ["unix:{world.place}/none"]\n')
    result = world.run("check")
    assert result.code == 1 and "No such file or directory" in result.out


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_localhost_is_each_of_its_addresses(world: World, address: str) -> None:
    name = unique("local")
    world.watch(name, FACTS)
    world.up(name)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        absent(f"needs the address {address}")
    fact = f'listens = ["tcp:localhost:{server.getsockname()[1]}"]\n'
    world.facts(name, FACTS + fact)
    with server:
        assert world.run("check").code == 0
    result = world.run("check")
    assert result.code == 1 and "is sick: tcp:localhost:" in result.out
    assert result.out.count("Connection refused") == 1


def test_a_full_queue_is_sick_after_the_time_limit(world: World) -> None:
    name, path = unique("queue"), str(world.place / "socket")
    facts = f'listens = ["unix:{path}"]\ncheck_timeout = "0.5s"\n'
    watch_unhealthy(world, name, "beat", world.place / "b", facts)
    start(world, name, "beat", world.place / "b")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as one:
        server.bind(path)
        server.listen(0)
        one.connect(path)  # nobody accepts it: the queue is full
        result = world.run("check")
        assert result.code == 1 and "timed out" in result.out.lower(), result


# URLs


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path[1:])
        if status == 0:  # a hang: the kernel has taken the connection
            self.rfile.read()
            return
        self.send_response(status)
        self.send_header("Location", "/204")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        ("http://127.0.0.1:PORT/204", 0, ""),
        ("http://127.0.0.1:PORT/503", 1, "is sick: URL: status 503"),
        ("http://127.0.0.1:PORT/301", 1, "is sick: URL: status 301"),
        ("http://127.0.0.1:PORT/0", 1, "is sick: URL: no answer in time"),
        ("http://127.0.0.1:1/", 1, "is sick: URL: Connection refused"),
        ("http://a..b/", 1, "is unknown: URL: could not be asked: "),
    ],
)
def test_a_daemon_must_answer(world: World, url: str, code: int, text: str) -> None:
    name = unique("web")
    world.watch(name, FACTS)
    world.up(name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = url.replace("PORT", str(server.server_port))
    limit = "0.5s" if url.endswith("/0") else "60s"
    world.facts(name, f'{FACTS}check_timeout = "{limit}"\nanswers = ["{url}"]\n')
    try:
        result = world.run("check")
    finally:
        server.shutdown()
        server.server_close()
    assert result.code == code, result
    assert text.replace("URL", url) in result.out, result


# Checks


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("echo fine; exit 0", 0, ""),
        ("echo slow; exit 1", 0, ""),
        (
            "echo 'HTTP CRITICAL | t=1'; exit 2",
            1,
            "is sick: check.d/NAME: HTTP CRITICAL",
        ),
        ("echo 'no idea'; exit 3", 1, "is unknown: check.d/NAME: no idea"),
        ("exit 17", 1, "is unknown: check.d/NAME: ended with 17"),
        ("kill -9 $$", 1, "is unknown: check.d/NAME: ended with -9"),
        ("sleep 100", 1, "is sick: check.d/NAME: gave no answer within 0."),
        ("yes", 1, "is unknown: check.d/NAME: printed more than"),
        (r"printf 'a\033[2Jb\n'; exit 2", 1, r"a\x1b[2Jb"),
    ],
)
def test_a_check_speaks_as_monitoring_plugins_do(
    world: World, script: str, code: int, text: str
) -> None:
    name = unique("check")
    limit = "0.5s" if script == "sleep 100" else "60s"
    world.watch(name, f'{FACTS}check_timeout = "{limit}"\nrecovery = "report"\n')
    world.hook(name, script, kind="check.d")
    world.up(name)
    result = world.run()
    assert result.code == code, result
    assert text.replace("NAME", name) in result.out, result


def test_a_check_that_fails_as_commands_do_is_shown_to_whoever_asks(
    world: World,
) -> None:
    crash = f"#!{sys.executable}\nimport no_such_thing\n"
    names = {unique("grep"): "false", unique("crash"): crash, unique("gone"): "exit 99"}
    for name, script in names.items():
        world.watch(name, FACTS + 'recovery = "report"\n')
        world.hook(name, script, kind="check.d")
        world.up(name)
    grep, python, gone = names
    until(lambda: gone in world.run("check").out)
    warns = f"check.d/{grep}: warns (exit 1; only 2 is sick): -"
    died = f"check.d/{python}: warns (exit 1; only 2 is sick): ModuleNotFoundError: No"
    for verb in (["status"], ["check", "-v"], ["explain", grep], ["test", "--checks"]):
        told = world.run(*verb).out
        assert warns in told and (died in told or grep in verb), told
    tested = world.run("test", "--checks")
    fault = f"{gone}: check.d/{gone}: ended with 99, which is no answer: exit 0 is well"
    assert fault in tested.out and "1 fault\n" in tested.out
    # That is no reason to wake anybody.
    assert (world.run(grep, python).code, world.run("check", grep).code) == (0, 0)
    quiet = world.run()
    assert grep not in quiet.out and python not in quiet.out


def test_no_run_checks_a_dead_or_a_young_one_but_who_looks_is_told(
    world: World,
) -> None:
    name = unique("young")
    world.watch(name, 'start_timeout = "60s"\nrecovery = "report"\n')
    check = f"touch {world.place}/checked; echo wrong port; exit 2"
    world.hook(name, check, kind="check.d")
    assert "is down" in world.run("check").out
    pid = world.up(name).pid
    assert world.run().code == 0
    assert not (world.place / "checked").exists()
    seen = world.run("check")
    assert seen.code == 0 and (world.place / "checked").exists()
    assert f"{name} is up: pid {pid}; too young to be sick: " in seen.out
    assert "wrong port" in seen.out


def test_checks_that_take_long_run_together(world: World) -> None:
    """Each is content when all of them have begun: those that hang cost one limit."""
    names = [unique("slow") for _ in range(4)]
    begun = world.place / "begun"
    for name in names:
        world.watch(name, FACTS + 'check_timeout = "20s"\nrecovery = "report"\n')
        ready = f'[ "$(wc -l <{begun})" = 4 ]'
        script = f"echo >>{begun}; until {ready}; do sleep 0.1; done"
        world.hook(name, script, kind="check.d")
        world.up(name)
    result = world.run("check")
    assert result.code == 0, result


def test_the_time_limit_begins_when_the_checks_have_begun(world: World) -> None:
    """On a busy machine, to begin them may take longer than they have."""
    name = unique("begun")
    world.watch(name, FACTS)
    world.hook(name, "exec sleep 100", kind="check.d")
    world.up(name)
    trust, state = ProgramTrust(os.geteuid()), State(str(world.state))
    run = Run(load(str(world.home)), state, [], trust)
    daemon = run.settings.daemons[name]
    checkup = Checkup(run, daemon, judge([daemon], run.observer)[name])
    [check] = checkup._under_way
    assert isinstance(check, Check) and check._child
    given = checkup._deadline - check._child.began
    checkup.close()
    assert given >= daemon.facts.check_timeout


def test_a_real_plugin_is_a_check_unchanged(world: World) -> None:
    plugin = "/usr/lib/nagios/plugins/check_tcp"
    if not os.path.exists(plugin):
        absent("needs monitoring-plugins-basic")
    name, port = unique("plugin"), free_port()
    watch_unhealthy(world, name, "listen", port, 'recovery = "report"\n')
    world.hook(name, f"exec {plugin} -H 127.0.0.1 -p {port}", kind="check.d")
    start(world, name, "listen", port)
    assert world.run("check").code == 0
    world.hook(name, f"exec {plugin} -H 127.0.0.1 -p 1", kind="check.d")
    result = world.run("check")
    assert result.code == 1 and "is sick: check.d/" in result.out, result


def test_an_unsafe_check_is_refused(world: World) -> None:
    name = unique("unsafe")
    world.watch(name, FACTS)
    world.hook(name, f"touch {world.place}/ran", kind="check.d", mode=0o777)
    world.up(name)
    result = world.run()
    assert result.code == 2 and "chmod o-w" in result.err
    assert not (world.place / "ran").exists()


def test_up_and_well_before_it_is_back(world: World) -> None:
    """The hook returns at once; the daemon needs a while until its check is content."""
    name = unique("slow")
    world.facts(name, 'start_timeout = "8s"\n')
    world.hook(name, f"[ -e {world.place}/ready ] || exit 2", kind="check.d")
    world.hook(
        name,
        f"{world.daemon(name)} 1000 >/dev/null 2>&1 &\n"
        f"(sleep 1; touch {world.place}/ready) >/dev/null 2>&1 &",
    )
    began = time.monotonic()
    result = world.run()
    assert result.code == 0, result
    assert "now       up" in result.out and time.monotonic() - began >= 1


# Alarms


def test_alarm(world: World) -> None:
    name, log = unique("alarm"), world.place / "log"
    facts = f'alarm = {{ file = "{log}", pattern = "panic" }}\nrecovery = "report"\n'
    watch_unhealthy(world, name, "log", log, facts)

    def say(text: str) -> None:
        Path(f"{log}.new").write_text(text)
        os.rename(f"{log}.new", f"{log}.say")
        until(lambda: not os.path.exists(f"{log}.say"))
        until(lambda: text.rstrip("\n") in log.read_text())

    log.write_text("panic of an earlier life\n")
    child = start(world, name, "log", log)
    assert world.run().code == 0  # notes the place
    say("all is well\n")
    assert world.run().code == 0
    log.rename(world.place / "log.1")
    log.write_text("rotated\n")
    say("still well\n")
    assert world.run().code == 0
    log.write_text("")  # truncated
    say("kernel panic \x1b[2J\n")
    result = world.run("check")
    assert result.code == 1 and r"alarm: kernel panic \x1b[2J" in result.out, result
    assert world.run("check").code == 1  # until it has another life
    assert child.poll() is None


@pytest.mark.parametrize(
    ("watched", "first", "moved", "second"),
    [
        ("food.log", "food.log", "food.log.1", "food.log"),
        ("food.log", "food.log", "food.log-20261128", "food.log"),  # dateext
        ("food.log", "food.log", "food-20261128.log", "food.log"),
        ("food-*.log", "food-27.log", "", "food-28.log"),
        ("current", "food-27.log", "", "food-28.log"),  # a link to it
    ],
)
def test_an_alarm_before_the_rotation_is_found(
    world: World, watched: str, first: str, moved: str, second: str
) -> None:
    name, place = unique("rotate"), world.place / "log"
    place.mkdir()

    def begin(log: str) -> None:
        (place / log).write_text("fresh\n")
        if watched == "current":
            (place / "new").symlink_to(log)
            (place / "new").rename(place / watched)

    log = f'logs = ["{place}/{watched}"]\nalarm = {{ file = "{place}/{watched}", '
    facts = f'{log}pattern = "panic" }}\nrecovery = "report"\n'
    watch_unhealthy(world, name, "deaf", world.place / "t", facts)
    begin(first)
    os.utime(place / first, (0, 0))
    start(world, name, "deaf", world.place / "t")
    assert world.run().code == 0
    with (place / first).open("a") as file:
        file.write("panic\n")
    os.utime(place / first, (0, 0))
    if moved:
        (place / first).rename(place / moved)
    begin(second)
    assert world.run("check").code == 1
    if moved:
        return
    told = world.run("restart", name).out
    assert f"log {place}/{watched if watched == 'current' else second}:" in told


def test_of_a_log_that_grows_too_much_the_newest_part_is_searched(world: World) -> None:
    name, log = unique("flood"), world.place / "log"
    facts = f'alarm = {{ file = "{log}", pattern = "panic" }}\nrecovery = "report"\n'
    watch_unhealthy(world, name, "deaf", world.place / "t", facts)
    log.write_text("")
    start(world, name, "deaf", world.place / "t")
    assert world.run().code == 0

    def grow(last: str) -> None:
        with log.open("a") as file:
            file.write(f"{'all is well ' * 300}\n" * 1400 + last)

    grow("")
    told = world.run()
    assert told.code == 0, told
    assert f"{name} is up: alarm: 1.0 MB of its log were not searched" in told.out
    assert world.run().out == ""  # said once a day
    with log.open("a") as file:
        file.write("zz\n" * 1_300_000)
    limit = (150_000_000, 150_000_000)  # bytes: a line costs little, however many
    told = world.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
    assert (told.code, told.out) == (0, ""), told
    grow("panic\n")
    assert world.run("check").code == 1


def test_an_alarm_of_its_first_moments_is_found(world: World) -> None:
    """From the start of its life on, which its own restart knows."""
    name, log = unique("early"), world.place / "log"
    alarm = f'alarm = {{ file = "{log}", pattern = "panic" }}\n'
    begin = f"{world.daemon(name)} 1000 >/dev/null 2>&1 &"

    def live(first_words: str) -> str:
        """Let it be started by a run; return what is said of it when it is of age."""
        world.facts(name, alarm)
        world.hook(name, f"{first_words}\n{begin}")
        for pid in world.pids(name):
            world.kill(pid)
        assert world.run().code == 0
        world.facts(name, FACTS + alarm)
        return world.run("check", "--verbose").out

    log.write_text("panic of an earlier life\n")
    assert f"{name} is up" in live(f"echo fine >>{log}")
    assert f"{name} is sick: alarm: panic again" in live(f"echo panic again >>{log}")
    # The next life has nothing to do with it, and not even a log.
    assert f"{name} is up" in live(f"rm {log}")


def test_a_pattern_that_takes_for_ever_is_bounded(world: World) -> None:
    name, log = unique("evil"), world.place / "log"
    facts = f'alarm = {{ file = "{log}", pattern = "(a+)+$" }}\n'
    watch_unhealthy(world, name, "deaf", world.place / "t", facts)
    log.write_text("")
    child = start(world, name, "deaf", world.place / "t")
    assert world.run().code == 0
    with log.open("a") as file:
        file.write("a" * 60 + "b\n")
    result = world.run()
    assert result.code == 1 and "is unknown: alarm: its pattern needs" in result.out
    assert child.poll() is None and alive(child.pid)
