"""The hooks that lie ready in start.d and stop.d.

First in themselves, then with a service manager that only takes note of its calls,
then with the real daemons of Debian's packages (tests/packages-hooks.txt), each
killed while its children live.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from checkout import CHECKOUT
from ready_daemons import DAEMONS, Ready
from ready_machine import PATH, Machine

ROOT = CHECKOUT
STARTS = ROOT / "start.d"
STOPS = ROOT / "stop.d"
NAMES = sorted(path.stem for path in STARTS.glob("*.toml"))
HOOKS = [
    path
    for path in sorted([*STARTS.rglob("*"), *STOPS.rglob("*")])
    if path.is_file()
    and path.suffix not in (".toml", ".subr")
    and path.stem != "README"
]
SHELLS = (["dash"], ["bash", "--posix"], ["busybox", "sh"])


def lacking(what: str) -> NoReturn:
    """Skip the test for want of something; under CI it is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")


def need(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            lacking(program)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need("unshare", "nsenter", "pgrep")
    if os.geteuid() != 0:
        lacking("root's rights")
    try:
        machine = Machine(tmp_path / "machine")
    except OSError as error:
        lacking(str(error))
    yield machine
    machine.end()


# In themselves


def test_each_hook_has_facts_and_each_facts_file_a_hook() -> None:
    hooks = {path.name for path in STARTS.iterdir()} - {"README", "service.subr"}
    assert sorted(name for name in hooks if not name.endswith(".toml")) == NAMES
    assert {path.name for path in STOPS.iterdir()} <= set(NAMES)


def test_hook_is_off_until_it_is_made_executable() -> None:
    for path in HOOKS:
        assert not path.stat().st_mode & 0o111, path
        assert path.read_text().startswith("#!/bin/sh\n"), path


def test_hooks_pass_shellcheck() -> None:
    need("shellcheck")
    # It reads service.subr anew for each: one will do of those that differ in plain
    # words and comments alone.
    kinds = {}
    for path in HOOKS:
        text = re.sub(r"(?m)^#(?! shellcheck|!).*\n", "", path.read_text())
        kinds[re.sub(r"(?m)^(service_\w+)( [\w@./-]+)+$", r"\1", text)] = path
    done = subprocess.run(
        ["shellcheck", "-x", STARTS / "service.subr", *kinds.values()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def test_facts_are_such_as_the_program_knows() -> None:
    from viagralib.settings import facts

    for name in NAMES:
        table = tomllib.loads((STARTS / f"{name}.toml").read_text())
        _, complaints = facts.read(table, facts.Facts(), f"{name}.toml")
        assert (name, complaints) == (name, [])


def test_pages_fit_on_80_columns() -> None:
    for path in [STARTS / "README", *STARTS.glob("*.toml")]:
        assert [line for line in path.read_text().splitlines() if len(line) > 80] == []


# What tells the daemon from what else has its name: (hook, command line, fits).
# Taken from running programs; where a title is padded, the padding is cut.
COMMAND_LINES = [
    ("sshd", "sshd: /usr/sbin/sshd [listener] 0 of 10-100 startups", True),
    ("sshd", "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups", True),
    ("sshd", "/usr/sbin/sshd -D", True),  # before OpenSSH 8.2
    ("sshd", "/usr/sbin/sshd", True),
    ("sshd", "/usr/sbin/sshd -D -R", False),  # a connection, before its title is set
    ("sshd", "sshd: [accepted]", False),
    ("sshd", "sshd: root@notty", False),
    ("sshd", "sshd: alice [priv]", False),
    ("sshd", "sshd: /usr/sbin/x [listener]@pts/0", False),
    ("cron", "/usr/sbin/cron", True),
    ("cron", "/usr/sbin/cron -f -P", True),
    ("cron", "/usr/sbin/CRON -f", False),
    ("cron", "cron: running job (cron)", False),  # FreeBSD
    ("crond", "/usr/sbin/crond -n", True),
    ("crond", "/usr/sbin/CROND -n", False),
    ("nginx", "nginx: master process /usr/sbin/nginx -g daemon on;", True),
    ("nginx", "nginx: worker process", False),
    ("nginx", "nginx: worker process is shutting down", False),
    ("nginx", "nginx: cache manager process", False),
    ("postgresql", "/usr/lib/postgresql/15/bin/postgres -D /var/lib/x", True),
    ("postgresql", "/usr/bin/postmaster -D /var/lib/pgsql/data", True),
    ("postgresql", "postgres: 15/main: checkpointer ", False),
    ("postgresql", "postgres: 15/main: postgres postgres [local] SELECT", False),
    ("postgresql", "postgres: walwriter", False),
    ("redis", "/usr/bin/redis-server 127.0.0.1:6379", True),
    ("redis", "redis-server *:6379 [cluster]", True),
    ("redis", "redis-rdb-bgsave 127.0.0.1:6379", False),
    ("redis", "redis-aof-rewrite 127.0.0.1:6379", False),
    ("redis", "redis-server *:26379 [sentinel]", False),
    ("postfix", "/usr/lib/postfix/sbin/master -w", True),
    ("postfix", "/usr/libexec/postfix/master -w", True),
    ("postfix", "/usr/lib/postfix/bin//master -w", True),  # SUSE
    ("postfix", "/usr/lib/cyrus/bin/master -d", False),
    ("php-fpm", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", True),
    ("php-fpm", "php-fpm: pool www", False),
    ("inetd", "/usr/sbin/inetd -i", True),
    ("inetd", "/usr/sbin/inetutils-inetd", True),
    ("inetd", "echo [127.0.0.1]", False),
    ("inetd", "-echo [127.0.0.1]   ", False),  # inetutils
    (
        "tomcat",
        "/usr/lib/jvm/java-17/bin/java -Xmx1g -classpath /x/bootstrap.jar "
        "-Dcatalina.base=/x org.apache.catalina.startup.Bootstrap start",
        True,
    ),
    ("tomcat", "java org.apache.catalina.startup.Bootstrap -config x start", True),
    ("tomcat", "java org.apache.catalina.startup.Bootstrap stop", False),
    ("tomcat", "java -jar app.jar start", False),
]


def is_in(name: str, fact: str, line: str) -> bool:
    """Return whether the pattern of a ready hook's fact is in a command line."""
    facts = tomllib.loads((STARTS / f"{name}.toml").read_text())
    return bool(re.search(facts[fact], line))


def test_command_tells_the_daemon_from_its_kin() -> None:
    found = [
        (name, line, is_in(name, "command", line)) for name, line, _ in COMMAND_LINES
    ]
    assert found == COMMAND_LINES


LEFT_BEHIND = [
    ("redis", "redis-rdb-bgsave 127.0.0.1:6379", True),
    ("redis", "redis-aof-rewrite 127.0.0.1:6379", True),
    ("redis", "redis-server *:26379 [sentinel]", False),
    ("nginx", "nginx: worker process is shutting down", True),
    ("nginx", "nginx: cache manager process", True),
    ("nginx", "nginx -c /srv/app/nginx.conf -g master_process off;", False),
    ("php-fpm", "php-fpm: pool www", True),
    ("php-fpm", "php-fpm8.2 -y /srv/app/php-fpm.conf", False),
]


@pytest.mark.parametrize(("name", "line", "is_left"), LEFT_BEHIND)
def test_what_it_leaves_behind_is_told_from_another_service(
    name: str, line: str, is_left: bool
) -> None:
    assert is_in(name, "leftover_command", line) == is_left


# With a service manager that only takes note

SYSTEMD = "mkdir -p /run/systemd/system"
OPENRC = "mkdir -p /run/openrc"
KNOWN, NOT_KNOWN = "echo LoadState=loaded", "echo LoadState=not-found"
STATE = "-p ActiveState -p SubState -p MainPID"
INACTIVE = "echo ActiveState=inactive; echo MainPID=0"


class Managed:
    """A machine with stand-ins for service managers, which write down each call."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._calls = directory / "calls"
        self.programs = directory / "programs"
        self.programs.mkdir()
        for hooks in (STARTS, STOPS):
            shutil.copytree(hooks, directory / hooks.name)
        self._home = directory

    def stand_in(self, path: str | Path, replies: dict[str, str]) -> None:
        """Put a program there that notes its call and does what `replies` says."""
        cases = "".join(f'"{call}") {reply} ;;\n' for call, reply in replies.items())
        file = self.programs / Path(path).name
        call = '"${0##*/}${*:+ $*}"'
        file.write_text(
            f'#!/bin/sh\necho {call} >>{self._calls}\ncase "${{*}}" in\n{cases}esac\n'
        )
        file.chmod(0o755)
        if Path(path).is_absolute():
            self._machine.shell(f"mkdir -p {Path(path).parent}; mv {file} {path}")

    def write(self, hook: str, text: str) -> None:
        (self._home / hook).write_text(text)

    def prepare(self, script: str) -> None:
        self._machine.shell(script)

    def run(self, hook: str, *shell: str) -> tuple[int, str, list[str]]:
        """Run a hook of start.d or stop.d; return exit code, output and the calls."""
        path = self._home / hook
        path.chmod(0o755)
        searched = f"PATH={self.programs}:{PATH}"
        done = self._machine.run("env", searched, *shell, str(path), check=False)
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return done.returncode, done.stdout, calls


@pytest.fixture
def managed(machine: Machine, tmp_path: Path) -> Managed:
    machine.shell("rm -f /etc/init.d/*")
    return Managed(machine, tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_systemd_forgives_and_starts_the_first_name_it_knows(
    managed: Managed, shell: list[str]
) -> None:
    need(shell[0])
    managed.prepare(SYSTEMD)
    managed.stand_in(
        "systemctl",
        {
            "show -p LoadState ssh.service": NOT_KNOWN,
            "show -p LoadState sshd.service": KNOWN,
            f"show {STATE} sshd.service": INACTIVE,
        },
    )
    assert managed.run("start.d/sshd", *shell) == (
        0,
        "",
        [
            "systemctl show -p LoadState ssh.service",
            "systemctl show -p LoadState sshd.service",
            "systemctl reset-failed sshd.service sshd@*.service",
            f"systemctl show {STATE} sshd.service",
            "systemctl start sshd.service",
        ],
    )


PARTS = "show -p ConsistsOf --value cron.service"
EVER = "show -p ActiveEnterTimestampMonotonic --value"


@pytest.mark.parametrize(
    ("state", "order"),
    [
        ("echo ActiveState=failed; echo MainPID=0", "start"),
        ("echo ActiveState=activating; echo MainPID=0", "start"),
        ("echo ActiveState=active; echo MainPID=120", "start"),
        ("echo ActiveState=active; echo MainPID=0", "restart"),
        ("echo MainPID=0; echo ActiveState=active", "restart"),
        (
            "echo ActiveState=activating; echo SubState=auto-restart; echo MainPID=0",
            "restart",
        ),
        (
            "echo MainPID=0; echo ActiveState=active; : parts",
            "start a.service b.service",
        ),
    ],
)
def test_systemd_restarts_only_what_is_active_without_a_process(
    managed: Managed, state: str, order: str
) -> None:
    """And of what stands for its parts, starts those alone that it lacks."""
    managed.prepare(SYSTEMD)
    managed.stand_in(
        "systemctl",
        {
            "show -p LoadState cron.service": KNOWN,
            f"show {STATE} cron.service": state,
            PARTS: "echo a.service up.service never.service b.service"
            if "parts" in state
            else ":",
            "show -p Wants --value cron.service": "echo up.service a.service",
            **{f"-q is-active {one}.service": "exit 3" for one in ("a", "b", "never")},
            f"{EVER} never.service": "echo 0",
            f"{EVER} b.service": "echo 170301",
        },
    )
    code, _, calls = managed.run("start.d/cron")
    wanted = order if "parts" in state else f"{order} cron.service"
    assert (code, calls[-1]) == (0, f"systemctl {wanted}")


def test_what_systemd_has_not_to_forgive_is_no_failure_but_no_start_is(
    managed: Managed,
) -> None:
    managed.prepare(SYSTEMD)
    managed.stand_in(
        "systemctl",
        {
            "show -p LoadState cron.service": KNOWN,
            "reset-failed cron.service cron@*.service": "echo no >&2; exit 1",
            f"show {STATE} cron.service": INACTIVE,
            "start cron.service": "echo Job failed. >&2; exit 1",
        },
    )
    code, output, calls = managed.run("start.d/cron")
    assert (code, output) == (1, "Job failed.\n")
    assert calls[-1] == "systemctl start cron.service"


def test_systemctl_is_not_asked_where_systemd_does_not_run(managed: Managed) -> None:
    managed.stand_in("systemctl", {})
    managed.stand_in("/etc/init.d/cron", {})
    assert managed.run("start.d/cron") == (0, "", ["cron start"])


@pytest.mark.parametrize(
    ("interpreter", "state", "forgets"),
    [
        ("/bin/sh", ":", []),  # it knows no zap
        ("/sbin/openrc-run", ":", ["zap"]),
        (
            "/sbin/openrc-run",
            "touch /run/openrc/options/sshd/child_pid",
            ["stop", "zap"],
        ),
    ],
)
def test_openrc_is_told_first_that_it_does_not_run(
    managed: Managed, interpreter: str, state: str, forgets: list[str]
) -> None:
    managed.prepare(f"{OPENRC}/options/sshd; {state}")
    managed.prepare(f"echo '#!{interpreter}' >/etc/init.d/sshd")
    resolve, known = "--resolve sshd", ["--exists ssh", "--exists sshd"]
    replies = {"--exists ssh": "exit 1", resolve: "echo /etc/init.d/sshd"}
    managed.stand_in("rc-service", replies)
    assert managed.run("start.d/sshd")[2] == [
        f"rc-service {one}" for one in [*known, "sshd start"]
    ]
    calls = managed.run("start.d/sshd", "env", "VIAGRA_REASON=down")[2][3:]
    verbs = {"stop": "sshd --nodeps stop", "zap": "sshd zap"}
    told = [*known, resolve, *[verbs[one] for one in forgets], "sshd start"]
    assert calls == [f"rc-service {one}" for one in told]


def test_openbsd_starts_also_what_boot_does_not(managed: Managed) -> None:
    managed.stand_in("rcctl", {})
    managed.stand_in("/etc/rc.d/postgresql", {})
    assert managed.run("start.d/postgresql")[2] == ["rcctl -f start postgresql"]
    assert managed.run("stop.d/postgresql")[2][1:] == ["rcctl -f stop postgresql"]


def test_freebsd_starts_also_what_boot_does_not(managed: Managed) -> None:
    managed.prepare("touch /etc/rc.subr")
    managed.stand_in("service", {})
    managed.stand_in("/etc/rc.d/redis", {})
    assert managed.run("start.d/redis")[2] == ["service redis onestart"]
    assert managed.run("stop.d/redis")[2][1:] == ["service redis onestop"]


def test_stop_hook_stops_what_the_start_hook_starts() -> None:
    for path in STOPS.iterdir():
        [stopped] = re.findall(r"^service_stop (.*)$", path.read_text(), re.M)
        started = (STARTS / path.name).read_text()
        assert f"\nservice_start {stopped}\n" in started, path


def test_stop_hook_calls_the_owner(managed: Managed) -> None:
    managed.stand_in("/etc/init.d/redis-server", {"stop": "exit 3"})
    assert managed.run("stop.d/redis") == (3, "", ["redis-server stop"])


def test_program_gets_a_unit_of_its_own_where_systemd_runs(managed: Managed) -> None:
    """And no unit elsewhere."""
    text = '#!/bin/sh\n. "${0%/*}/service.subr"\nservice_run echo food -f\n'
    managed.write("start.d/own", text)
    assert managed.run("start.d/own") == (0, "food -f\n", [])
    managed.prepare(SYSTEMD)
    for program in ("systemctl", "systemd-run"):
        managed.stand_in(program, {})
    own = "--quiet --collect --service-type=exec --unit=viagra-own.service"
    _, _, calls = managed.run("start.d/own")
    assert calls[-1] == f"systemd-run {own} -- echo food -f"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_without_an_owner_one_line_says_what_was_looked_for_and_what_to_do(
    managed: Managed, tmp_path: Path, shell: list[str]
) -> None:
    need(shell[0])
    code, output, calls = managed.run("start.d/tomcat", *shell)
    assert (code, calls) == (1, [])
    assert output == (
        "tomcat: no service to be found: /etc/init.d (systemd does not run here) has "
        "none of: tomcat tomcat11 tomcat10 tomcat9.\nInstall one, or write into "
        f"{tmp_path}/start.d/tomcat what starts it here.\n"
    )


def test_of_several_php_versions_the_newest_is_started(managed: Managed) -> None:
    managed.prepare("rm -rf /etc/php; mkdir -p /etc/php/8.2/fpm /etc/php/8.4/fpm")
    managed.stand_in("/etc/init.d/php8.2-fpm", {})
    managed.stand_in("/etc/init.d/php8.4-fpm", {})
    assert managed.run("start.d/php-fpm")[2] == ["php8.4-fpm start"]


def test_orphans_are_ended_only_when_their_main_process_is_dead(
    managed: Managed, machine: Machine
) -> None:
    managed.stand_in("/etc/init.d/apache2", {})
    machine.shell("mkdir -p /run/apache2")
    machine.start(
        "exec setsid sh -c 'echo $$ >/run/apache2/apache2.pid; sleep 1000 & wait'"
    )
    machine.start("exec setsid sleep 2000")  # of another process group
    machine.shell("until pgrep -fx 'sleep 1000'; do sleep 0.02; done")
    managed.run("start.d/apache")
    assert machine.shell("pgrep -fx 'sleep [12]000' | wc -l").strip() == "2"
    machine.shell(
        "read -r pid </run/apache2/apache2.pid; kill -9 $pid\n"
        "while kill -0 $pid; do sleep 0.02; done"  # it is a zombie at first
    )
    managed.run("start.d/apache")
    assert machine.shell("pgrep -afx 'sleep [12]000'").split()[1:] == ["sleep", "2000"]


def test_compound_restart_cleans_up_starts_and_mounts_in_this_order(
    managed: Managed,
) -> None:
    managed.stand_in("/etc/init.d/nfs-common", {})
    for program in ("mount", "umount", "viagra-wait"):
        managed.stand_in(program, {})
    calls: list[str] = []
    for step in sorted((STARTS / "nfs").iterdir()):
        *_, calls = managed.run(f"start.d/nfs/{step.name}")
    assert calls == [
        "umount -f -l /mnt/web",
        "umount -f -l /mnt/home",
        "nfs-common start",
        "viagra-wait --timeout 20s tcp:192.0.2.1:2049",
        "mount -t nfs 192.0.2.1:/home /mnt/home",
        "viagra-wait --timeout 20s mount:/mnt/home",
        "mount -t nfs 192.0.2.1:/web /mnt/web",
    ]


# With real daemons

# Fast, and also on a machine that has only just been booted.
GENERAL = """
[defaults]
patience = "0.3s"
[evidence]
commands = ["ps auxww"]
[run]
boot = "0s"
packages = "0s"
"""


class Watched:
    """A home with one ready hook switched on, in the machine where its daemon is."""

    def __init__(self, machine: Machine, home: Path, program: Path) -> None:
        self._machine = machine
        self._program = program
        self._home = home
        (home / "start.d").mkdir(parents=True)
        self.general = home / "viagra.toml"
        self.general.write_text(GENERAL)
        shutil.copy(STARTS / "service.subr", home / "start.d")

    def switch_on(self, ready: Ready) -> Path:
        """Put its ready hook into the home; return where it is."""
        hooks = self._home / "start.d"
        facts = (STARTS / f"{ready.name}.toml").read_text()
        if ready.name == "php-fpm":  # whose version an administrator writes here
            [version] = [path.name for path in Path("/etc/php").iterdir()]
            facts = facts.replace("8.2", version)
        (hooks / f"{ready.name}.toml").write_text(facts)
        hook = hooks / ready.name
        if (STARTS / ready.name).is_dir():
            shutil.copytree(STARTS / ready.name, hook)
        else:
            shutil.copy(STARTS / ready.name, hook)
        for path in hook.iterdir() if hook.is_dir() else [hook]:
            text = path.read_text().replace("nfs 192.0.2.1:/", "tmpfs new-")
            # rpcbind's port, which is one that is served.
            path.write_text(text.replace("192.0.2.1:2049", "127.0.0.1:111"))
            path.chmod(0o755)
        return hook

    def viagra(self, *words: str) -> tuple[int, str]:
        """Run viagra.py in the machine; return its exit code and what it prints."""
        state = self._home / "state"
        command = [sys.executable, str(self._program), "--dir", str(self._home)]
        done = self._machine.run(*command, "--state", str(state), *words, check=False)
        return done.returncode, done.stdout

    def counted(self, ready: Ready) -> list[int]:
        """Return the pids of the processes that are the daemon."""
        _, text = self.viagra("--json", "explain", ready.name)
        told = json.loads(text)["candidates"]
        return [one["pid"] for one in told if one["counted"] == "counted"]


def start(machine: Machine, ready: Ready) -> None:
    """Start a daemon in the machine, and wait until its children are alive."""
    if not Path(ready.program).exists():
        lacking(f"Debian's package {ready.package}")
    machine.shell(ready.prepare)
    machine.shell(f"exec /etc/init.d/{ready.service} start", check=False)
    machine.await_that(ready.works)
    machine.start(ready.occupy)
    machine.await_that(ready.occupied)


@pytest.fixture
def watched(machine: Machine, tmp_path: Path, program: Path) -> Watched:
    return Watched(machine, tmp_path / "home", program)


@pytest.mark.parametrize("ready", DAEMONS, ids=lambda ready: ready.name)
def test_killed_daemon_is_brought_back_once(
    machine: Machine, watched: Watched, ready: Ready
) -> None:
    start(machine, ready)
    hook = watched.switch_on(ready)
    old = machine.shell(ready.main).strip()
    assert watched.viagra() == (0, "")
    counted = watched.counted(ready)
    assert (int(old) in counted, len(counted)) == (True, ready.processes)

    machine.shell(f"kill -KILL {old} $({ready.also})")
    machine.await_that(f"! kill -0 {old}")
    machine.await_that(f"! {ready.vanishes}")
    code, output = watched.viagra("check")
    assert (code, output[: output.find(":")]) == (1, f"{ready.name} is down")

    code, output = watched.viagra()
    assert (code, output.partition("\n")[0]) == (0, f"Restarting {ready.name}"), output
    machine.await_that(ready.works)
    assert machine.holds(ready.afterwards)
    new = machine.shell(ready.main).strip()
    assert f"up, pid {new}" in output
    counted = watched.counted(ready)
    assert (int(new) in counted, len(counted)) == (True, ready.processes)
    assert watched.viagra() == (0, "")

    if hook.is_file():  # a second start, by hand, makes no second daemon
        machine.run("setsid", str(hook), check=False)
        assert machine.shell(ready.main).strip() == new
        assert len(watched.counted(ready)) == ready.processes


@pytest.mark.parametrize(
    "ready",
    [one for one in DAEMONS if one.name in {"cron", "sshd"}],
    ids=lambda ready: ready.name,
)
def test_sessions_and_jobs_live_on_when_it_is_restarted_by_hand(
    machine: Machine, watched: Watched, ready: Ready
) -> None:
    start(machine, ready)
    watched.switch_on(ready)
    old = machine.shell(ready.main).strip()
    before = machine.shell("pgrep -fx 'sleep 1000'")
    code, output = watched.viagra("restart", ready.name)
    assert code == 0, output
    assert f"  stopped   {ready.service.replace('ssh', 'sshd')} (pid {old})\n" in output
    machine.await_that(ready.works)
    assert machine.shell(ready.main).strip() != old
    assert machine.holds(ready.afterwards)
    assert before and machine.shell("pgrep -fx 'sleep 1000'") == before


def test_what_its_own_guard_brings_back_is_not_started_twice(
    machine: Machine, watched: Watched
) -> None:
    [ready] = [ready for ready in DAEMONS if ready.name == "mariadb"]
    start(machine, ready)
    watched.switch_on(ready)
    watched.general.write_text(GENERAL.replace("0.3s", "3s"))
    old = machine.shell(ready.main).strip()
    machine.shell(f"kill -KILL {old}")  # not mysqld_safe, which sees it die
    code, output = watched.viagra()
    assert code == 0 and "hook" not in output
    machine.await_that(ready.works)
    [new] = watched.counted(ready)
    assert new != int(old)
    assert len(machine.shell(ready.also).split()) == 1


# Stays until it may finish, and says so.
CALCULATION = """\
#!/bin/sh
echo "working as $(id -un), restarted $VIAGRA_INSTANCE times"
until [ -e /var/local/done ]; do sleep 0.05; done
"""


def test_calculation_is_brought_back_with_its_cause_and_left_when_finished(
    machine: Machine, watched: Watched, tmp_path: Path
) -> None:
    program = tmp_path / "calculation"
    program.write_text(CALCULATION)
    # As shipped, but for the place of the program, and a shorter wait.
    machine.shell(f"install -m 755 {program} /var/local/calculation")
    [ready] = [path for path in HOOKS if path.name == "calculation"]
    text = ready.read_text().replace("/usr/local/bin", "/var/local")
    hook = tmp_path / "home" / "start.d" / "calculation"
    hook.write_text(text.replace("-b 1s:1m", "-b 10ms:1m"))
    hook.chmod(0o755)
    shutil.copy(STARTS / "calculation.toml", hook.parent)

    code, output = watched.viagra()
    assert (code, output.partition("\n")[0]) == (0, "Restarting calculation"), output
    for lived in range(1, 5):  # three times viagra-run is quicker than anybody
        machine.await_that(f"[ $(wc -l </var/log/calculation.out) = {lived} ]")
        assert watched.viagra("check") == (0, "")
        machine.shell("kill -KILL $(pgrep -x calculation)")
    record = f"{tmp_path}/home/state/deaths/calculation"
    machine.await_that(f"grep '\"finished\": false' {record}")
    code, output = watched.viagra()
    assert code == 0
    assert "cause     viagra-run: signal 9 (SIGKILL), after " in output, output

    machine.shell("touch /var/local/done")
    machine.await_that(f"grep '\"finished\": true' {record}")
    code, output = watched.viagra()
    assert code == 0 and output.startswith("calculation is finished: "), output
    assert watched.viagra() == (0, "")
    assert "finished" in watched.viagra("status")[1]
    machine.shell("rm /var/local/done")
    assert watched.viagra("restart", "calculation")[0] == 0
    said = machine.shell("cut -d , -f 1 /var/log/calculation.out").split("\n")
    assert said == ["working as nobody"] * 6 + [""]


DATABASES = [one for one in DAEMONS if one.name in ("mariadb", "postgresql", "redis")]


@pytest.mark.parametrize("ready", DATABASES, ids=lambda ready: ready.name)
def test_stop_hook_stops_the_real_database_and_all_its_processes(
    machine: Machine, watched: Watched, ready: Ready, tmp_path: Path
) -> None:
    start(machine, ready)
    watched.switch_on(ready)
    hook = tmp_path / "home" / "stop.d" / ready.name
    hook.parent.mkdir()
    shutil.copy(STOPS / ready.name, hook)
    hook.chmod(0o755)
    assert len(watched.counted(ready)) == 1
    machine.run("setsid", str(hook))
    assert watched.counted(ready) == []
    process = tomllib.loads((STARTS / f"{ready.name}.toml").read_text())["process"]
    machine.await_that(f"! pgrep -x {process}")


@pytest.mark.long
def test_all_that_died_at_once_are_brought_back_by_one_run(
    machine: Machine, watched: Watched
) -> None:
    # Apache wants nginx's port; nfs is up only when its mounts are.
    many = [ready for ready in DAEMONS if ready.name not in ("apache", "nfs")]
    for ready in many:
        start(machine, ready)
        watched.switch_on(ready)
    assert watched.viagra() == (0, "")
    for ready in many:
        machine.shell(f"kill -KILL $({ready.main}) $({ready.also})")
    code, output = watched.viagra()
    assert code == 0, output
    begun = re.findall(r"^Restarting (\S+)$", output, re.MULTILINE)
    assert sorted(begun) == sorted(ready.name for ready in many)
    for ready in many:
        machine.await_that(ready.works)
        assert machine.holds(ready.afterwards), ready.name
    assert watched.viagra() == (0, "")
