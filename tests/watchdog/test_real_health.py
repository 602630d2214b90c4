"""Health with real parts: Debian's monitoring plugins, apache2 and postgresql.

Each in a private machine. The plugins are check.d hooks as they are, by a link.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import CHECKOUT
from ready_machine import Machine
from world import absent, need, need_root

PLUGINS = Path("/usr/lib/nagios/plugins")
ROOT = CHECKOUT
AGE = 8  # seconds, from when on a daemon here can be sick: enough to start it
SETTINGS = """\
[defaults]
patience = "0.5s"
[run]
boot = "0s"
packages = "0s"
"""


class Watched:
    """A home in a private machine, and the program that serves it."""

    def __init__(self, machine: Machine, home: Path, program: Path) -> None:
        self.machine = machine
        self._home = home
        places = ["--dir", str(home), "--state", str(home / "state")]
        self._command = [sys.executable, "-I", str(program), *places]
        for kind in ("start.d", "check.d"):
            (home / kind).mkdir(parents=True)
        (home / "viagra.toml").write_text(SETTINGS)

    def link(self, kind: str, name: str, target: str | Path) -> None:
        (self._home / kind / name).symlink_to(target)

    def facts(self, name: str, text: str) -> None:
        (self._home / "start.d" / f"{name}.toml").write_text(text)

    def run(self, *words: str) -> tuple[int, str]:
        done = self.machine.run(*self._command, *words, check=False)
        return done.returncode, done.stdout


@pytest.fixture
def watched(tmp_path: Path, program: Path) -> Iterator[Watched]:
    need_root()
    for tool in ("unshare", "nsenter", "pgrep"):
        need(tool)
    if not (PLUGINS / "check_http").exists():
        absent("needs monitoring-plugins-basic")
    try:
        machine = Machine(tmp_path / "machine")
    except OSError as error:
        absent(str(error))
    yield Watched(machine, tmp_path / "home", program)
    machine.end()


def of_age(watched: Watched, name: str, seconds: int) -> None:
    """Wait until the oldest process of a name has lived for so long."""
    age = f"$(ps -o etimes= -p $(pgrep -xo {name}))"
    watched.machine.await_that(f"[ {age} -gt {seconds} ]")


# Two workers, and what they serve at /slow takes each of them two seconds or more.
BUSY = """\
ServerLimit 1
ThreadLimit 2
ThreadsPerChild 2
MaxRequestWorkers 2
StartServers 1
MinSpareThreads 1
MaxSpareThreads 2
LoadModule ratelimit_module /usr/lib/apache2/modules/mod_ratelimit.so
<Location /slow>
SetOutputFilter RATE_LIMIT
SetEnv rate-limit 4
</Location>
"""
CLIENTS = """\
for client in 1 2 3; do
( while :; do python3 -c '
import urllib.request
urllib.request.urlopen("http://127.0.0.1/slow").read()'; done ) &
done; wait
"""
BY_HTTP = """\
process = "apache2"
user = "root"
arguments = ["start"]
start_timeout = "{AGE}s"
stop_timeout = "1s"
check_timeout = "{check_timeout}"
check_arguments = {check_arguments}
logs = ["/var/log/apache2/error.log"]
"""


def apache(watched: Watched, settings: str, **facts: str) -> list[int]:
    """Start Apache and watch it by check_http; return its processes."""
    if not os.access("/etc/init.d/apache2", os.X_OK):
        absent("needs Debian's package apache2")
    watched.link("start.d", "apache", "/etc/init.d/apache2")
    watched.link("check.d", "apache", PLUGINS / "check_http")
    watched.facts("apache", BY_HTTP.format(AGE=AGE, **facts))
    machine = watched.machine
    machine.shell(
        f"printf %s '{settings}' >/etc/apache2/mods-enabled/zz.load\n"
        "rm -f /etc/apache2/mods-enabled/mpm_*.conf; mkdir -p /var/www/html\n"
        "head -c 10000 /dev/zero >/var/www/html/slow; echo ok >/var/www/html/index.html"
    )
    machine.shell("exec /etc/init.d/apache2 start", check=False)
    machine.await_that(f"{PLUGINS}/check_http -H 127.0.0.1")
    of_age(watched, "apache2", AGE)
    return [int(pid) for pid in machine.shell("pgrep -x apache2").split()]


def test_apache_hung_is_found_stopped_and_started(watched: Watched) -> None:
    arguments = '["-H", "127.0.0.1", "-t", "2"]'
    old = apache(watched, "", check_timeout="20s", check_arguments=arguments)
    assert watched.run() == (0, "")
    watched.machine.shell(f"kill -STOP {' '.join(map(str, old))}")
    code, notice = watched.run()
    assert code == 0, notice
    lines = notice.splitlines()
    assert lines[0] == "Restarting apache"
    facts_told = dict(re.findall(r"^  (\w+)  +(.*)$", notice, re.MULTILINE))
    assert re.match(r"pid \d+ is stopped \(state T\)", facts_told["why"])
    assert f"apache2 (pid {old[0]})" in facts_told["stopped"]
    assert re.fullmatch(
        r"start.d/apache start: exit 0 after .* s", facts_told["hook"]
    ), notice
    [main] = watched.machine.shell("cat /run/apache2/apache2.pid").split()
    assert main in facts_told["now"] and facts_told["now"].startswith("up, pid ")
    assert "  log /var/log/apache2/error.log:" in notice
    for pid in old:
        assert not watched.machine.holds(f"kill -0 {pid}")
    assert watched.machine.holds(f"{PLUGINS}/check_http -H 127.0.0.1 -t 5")
    assert watched.run() == (0, "")


def test_apache_busy_is_left_alone(watched: Watched) -> None:
    arguments = '["-H", "127.0.0.1", "-u", "/slow", "-w", "0.5", "-t", "45"]'
    old = apache(watched, BUSY, check_timeout="50s", check_arguments=arguments)
    watched.machine.start(CLIENTS)
    full = "[ $(ss -Htn state established sport = :80 | wc -l) -ge 2 ]"
    watched.machine.await_that(full)
    code, said = watched.run("check", "--verbose")
    assert code == 0 and "apache is up" in said, said
    assert watched.run() == (0, "")
    now = [int(pid) for pid in watched.machine.shell("pgrep -x apache2").split()]
    assert old[0] in now and now[0] == old[0]


# A plugin, its arguments while all is well and when it is sick, and what it says then.
BY_A_LINK = {
    "check_tcp": ("-H 127.0.0.1 -p 8080", "-H 127.0.0.1 -p 8081", "onnection refused"),
    # A limit of memory, in KiB: the manual's example.
    "check_procs": ("-C python3 -m RSS -c 900000", "-C python3 -m RSS -c 9", "RSS CRI"),
}


@pytest.mark.parametrize(
    "plugin", ["check_tcp", pytest.param("check_procs", marks=pytest.mark.long)]
)
def test_a_plugin_by_a_link(watched: Watched, plugin: str) -> None:
    machine, (well, sick, words) = watched.machine, BY_A_LINK[plugin]
    machine.start("exec python3 -m http.server 8080 --bind 127.0.0.1")
    facts = 'start_timeout = "1s"\nrecovery = "report"\ncommand = "8080"\n'
    watched.facts("python3", f"{facts}check_arguments = {well.split()}\n")
    watched.link("start.d", "python3", "/bin/true")
    watched.link("check.d", "python3", PLUGINS / plugin)
    machine.await_that(f"{PLUGINS}/check_tcp -H 127.0.0.1 -p 8080")
    of_age(watched, "python3", 1)
    assert watched.run() == (0, "")
    watched.facts("python3", f"{facts}check_arguments = {sick.split()}\n")
    code, said = watched.run()
    assert code == 1 and "python3 is sick: check.d/python3: " in said, said
    assert words in said


def test_a_database_in_recovery_is_left_alone(watched: Watched, tmp_path: Path) -> None:
    """It answers "the database system is starting up" for as long as we want."""
    if not os.access("/etc/init.d/postgresql", os.X_OK):
        absent("needs Debian's package postgresql")
    machine = watched.machine
    data = machine.shell("ls -d /var/lib/postgresql/*/main").split()[0]
    [binaries] = machine.shell("ls -d /usr/lib/postgresql/*/bin").split()
    version = data.split("/")[-2]
    settings = f"/etc/postgresql/{version}/main/postgresql.conf"
    machine.shell(
        f"touch {data}/standby.signal; chown postgres: {data}/standby.signal\n"
        f"echo \"restore_command = 'sleep 1000; false'\" >>{settings}"
    )
    machine.shell("mkdir -p /run/postgresql; chown postgres: /run/postgresql")
    machine.start(
        f"exec runuser -u postgres -- {binaries}/postgres -D {data} "
        f"-c config_file={settings}"
    )
    starting = "runuser -u postgres -- psql -c 'select 1' 2>&1 | grep 'is starting up'"
    machine.await_that(starting)
    of_age(watched, "postgres", 1)
    facts = (ROOT / "start.d" / "postgresql.toml").read_text()
    watched.link("start.d", "postgresql", "/bin/true")
    check = tmp_path / "home" / "check.d" / "postgresql"
    check.write_text("#!/bin/sh\npsql -U postgres -h /run/postgresql -c '' || exit 2\n")
    check.chmod(0o755)
    watched.facts("postgresql", facts)
    pids = machine.shell("pgrep -x postgres")
    assert watched.run() == (0, "")
    assert machine.shell("pgrep -x postgres") == pids and machine.holds(starting)
    # Nothing but its youth saves it: the check does not find it well.
    watched.facts("postgresql", facts.replace("10m", "1s") + 'recovery = "report"\n')
    code, said = watched.run()
    assert code == 1 and "is sick: check.d/postgresql: " in said, said
    assert "starting up" in said
