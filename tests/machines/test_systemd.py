"""On a booted Debian with systemd: what is killed is back, through its manager.

Only `make test-machines` and, in part, CI run it: it needs root, systemd-nspawn, and
a mirror once.
"""

from __future__ import annotations

import json
import re

import pytest
from booted_machine import SETTINGS, BootedMachine, booted_machine
from checkout import CHECKOUT
from cron_machine import write
from debian_machine import FEW
from ready_daemons import DAEMONS, Ready
from ready_machine import PATH

__all__ = ["booted_machine"]  # a fixture
ROOTS = [
    pytest.param(name, marks=pytest.mark.xdist_group(name))  # one machine for each
    for name in ("bookworm-systemd", "trixie-systemd")
]
pytestmark = [
    pytest.mark.machines,
    pytest.mark.parametrize("booted", ROOTS, indirect=True),
]
in_ci = pytest.mark.ci
HOOKS = "/etc/viagra/start.d"
UNITS = "/etc/systemd/system"
STARTED = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf"  # journal: a unit was started
PLAIN_HOOK = "#!/bin/sh\n/opt/{name} 1000 >/dev/null 2>&1 &\n"
UNIT_HOOK = '#!/bin/sh\n. "${0%/*}/service.subr"\nservice_start ${0##*/}\n'


def unit(machine: BootedMachine, name: str, service: str = "") -> None:
    """Make a unit of a daemon that sleeps, watched through it; it is started."""
    machine.shell(f"cp /bin/sleep /opt/{name}")
    text = f"[Service]\nExecStart=/opt/{name} 1000\n{service}"
    write(machine, f"{UNITS}/{name}.service", text)
    write(machine, f"{HOOKS}/{name}", UNIT_HOOK, "755")
    write(machine, f"{HOOKS}/{name}.toml", f'unit = "{name}.service"\n')
    machine.shell(f"systemctl daemon-reload; systemctl start {name}")


def kill(machine: BootedMachine, service: str) -> None:
    """Kill the main process of a service, and wait until systemd knows."""
    pid = value(machine, service, "MainPID")
    assert pid not in ("", "0"), machine.shell(f"systemctl status {service}", False)
    machine.shell(f"kill -9 {pid}")
    machine.await_that(f'[ "$(systemctl show -p MainPID --value {service})" != {pid} ]')


def value(machine: BootedMachine, service: str, name: str) -> str:
    """Return a property of a unit."""
    return machine.shell(f"systemctl show -p {name} --value '{service}'").strip()


def run(machine: BootedMachine, name: str, check: bool = True) -> str:
    """Run viagra.py for one daemon; return what it prints."""
    return machine.run("viagra.py", name, seconds=300, check=check).stdout


def pids(machine: BootedMachine, name: str) -> list[str]:
    return machine.shell(f"pgrep -fx '/opt/{name} 1000'", check=False).split()


@pytest.mark.parametrize(
    "ready",
    [
        pytest.param(one, id=one.name, marks=in_ci if one.package in FEW else ())
        for one in DAEMONS
        if one.name != "nfs"
    ],
)
def test_ready_hook_brings_back_in_its_own_unit(
    booted: BootedMachine, ready: Ready
) -> None:
    # Prepared for a machine without systemd, some; and a container sets no clock.
    booted.shell(ready.prepare if "/etc/init.d/" not in ready.prepare else ":")
    write(booted, f"{UNITS}/chrony.service.d/a.conf", "[Unit]\nConditionCapability=\n")
    if ready.name == "php-fpm":
        booted.shell(f"cd {HOOKS}; sed -i s/8.2/$(ls /etc/php)/ php-fpm.toml")
    shipped = f"/lib/systemd/system/{ready.service}.service"
    main_unit = booted.shell(f"basename {shipped}").strip()
    booted.shell(f"systemctl daemon-reload; systemctl start {main_unit}")
    booted.await_that(ready.works)
    before = main_pid(booted, ready)
    service = owner(booted, before)
    # Its own manager may be faster than any run.
    write(booted, f"{UNITS}/{service}.d/b.conf", "[Service]\nRestart=no\n")
    booted.shell(f"systemctl daemon-reload; chmod +x {HOOKS}/{ready.name}")
    assert f"{ready.name} is up" in booted.shell(f"viagra.py check -v {ready.name}")
    since = booted.shell("date +@%s.%N").strip()
    booted.shell(f"kill -9 {before}")
    told = run(booted, ready.name)
    if ready.name != "rsyslogd":  # its socket may have it started, by any line
        assert f"Restarting {ready.name}\n" in told, told
        assert "  now       up, pid " in told, told
    booted.await_that(ready.works)
    assert main_pid(booted, ready) != before
    assert owner(booted, main_pid(booted, ready)) == service
    starts = f"journalctl -q -o cat -u {service} --since={since} {STARTED}"
    assert len(booted.shell(starts).splitlines()) <= 1  # by its socket: no start
    assert value(booted, service, "NRestarts") == "0"
    booted.shell(f"systemctl stop {main_unit}; chmod -x {HOOKS}/{ready.name}")


def main_pid(machine: BootedMachine, ready: Ready) -> str:
    by_systemd = f"systemctl show -p MainPID --value '{ready.service}'"
    main = ready.main if "/etc/init.d/" not in ready.prepare else by_systemd
    return machine.shell(main).strip()


def owner(machine: BootedMachine, pid: str) -> str:
    """Return the unit in whose control group a process is."""
    cgroup = machine.shell(f"cat /proc/{pid}/cgroup")
    [line] = [line for line in cgroup.splitlines() if line.startswith("0::")]
    return line.rpartition("/")[2]


@in_ci
def test_timer_and_service_as_shipped(booted: BootedMachine) -> None:
    """A plain hook's daemon lives on when the run that started it has ended."""
    booted.shell("cp /bin/sleep /opt/plain")
    write(booted, f"{HOOKS}/plain", PLAIN_HOOK.format(name="plain"), "755")
    booted.shell(f"cp /usr/local/share/viagra/systemd/viagra.* {UNITS}")
    soon = "[Timer]\nOnCalendar=*:*:0/2\n"
    write(booted, f"{UNITS}/viagra.timer.d/soon.conf", soon)
    booted.shell("systemctl daemon-reload; systemctl start viagra.timer")
    ended = "systemctl show -p ActiveState viagra.service | grep -qx ActiveState="
    booted.await_that(f"pgrep -fx '/opt/plain 1000' && {ended}inactive")
    [pid] = pids(booted, "plain")
    booted.shell("systemctl stop viagra.timer")
    booted.await_that(f"{ended}inactive")
    assert pids(booted, "plain") == [pid]
    journal = booted.shell("journalctl -q -o cat -u viagra.service")
    assert "Restarting plain\n" in journal and f"  now       up, pid {pid}, " in journal
    assert value(booted, "viagra.service", "Result") == "success"
    assert value(booted, "viagra.service", "OOMPolicy") == "continue"
    assert value(booted, "viagra.service", "TasksMax") == "infinity"
    verify = (
        f"systemd-analyze verify --man=no {UNITS}/viagra.service {UNITS}/viagra.timer"
    )
    assert not booted.shell(verify, check=False)
    analyzed = booted.shell("systemd-analyze security --no-pager viagra.service")
    exposure = analyzed.partition("level for viagra.service: ")[2].split()[0]
    page = (CHECKOUT / "docs/cron.md").read_text()
    assert f"`systemd-analyze security viagra.service` says {exposure}," in page
    booted.shell(f"rm {HOOKS}/plain; kill {pid}")


@in_ci
def test_reason_of_a_start_that_failed(booted: BootedMachine) -> None:
    unit(booted, "fails")
    write(booted, f"{HOOKS}/../fail.d/fails", "#!/bin/sh\n>/run/fails", "755")
    broken = "[Service]\nExecStartPre=sh -c 'echo no such directive; exit 3'\n"
    write(booted, f"{UNITS}/fails.service.d/broken.conf", broken)
    booted.shell("systemctl daemon-reload")
    kill(booted, "fails")
    told = run(booted, "fails", check=False)
    this_start = told.partition("journal fails.service, of this start:")[2]
    assert "no such directive" in this_start.partition("journal ")[0], told
    assert "-- No entries --" not in told and "systemctl status" not in this_start
    assert booted.holds("[ -e /run/fails ]")  # and fail.d had it to read


@in_ci
def test_starts_what_waits_for_its_own_restart(booted: BootedMachine) -> None:
    unit(booted, "waits", "Restart=always\nRestartSec=60\n")
    kill(booted, "waits")
    assert value(booted, "waits", "SubState") == "auto-restart"
    told = run(booted, "waits")
    assert "Restarting waits\n" in told and "  now       up, pid " in told, told
    assert len(pids(booted, "waits")) == 1


def test_nothing_is_started_while_packages_are_installed(booted: BootedMachine) -> None:
    """dpkg at work in a root on overlayfs, as in a container."""
    unit(booted, "packed")
    control = "Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: us\n"
    control += "Description: is installed until /run/go is there\n"
    write(booted, "/root/slow/DEBIAN/control", control)
    wait = "#!/bin/sh\n>/run/installing\nuntil [ -e /run/go ]; do sleep 0.1; done\n"
    write(booted, "/root/slow/DEBIAN/preinst", wait, "755")
    booted.shell("dpkg-deb -b /root/slow /root/slow.deb")
    kill(booted, "packed")
    booted.start("exec dpkg -i /root/slow.deb")
    booted.await_that("[ -e /run/installing ]")
    told = run(booted, "packed", check=False)
    assert "packages are being installed" in told and not pids(booted, "packed"), told
    booted.shell(">/run/go")
    booted.await_that("! pgrep -x dpkg")
    assert "Restarting packed\n" in run(booted, "packed")


def test_a_lease_as_a_unit_leaves_nothing_behind(booted: BootedMachine) -> None:
    """The page's unit, on files: its control group ends what a killed keeper left."""
    page = (CHECKOUT / "docs/two-machines.md").read_text()
    section = page.partition("## With systemd instead of cron\n")[2].partition("\n## ")[
        0
    ]
    text = "".join(re.findall(r"^    (.*\n)", section, re.MULTILINE))
    text = re.sub("LEASE=.*", "LEASE=file:///var/lib/food-lease", text)
    forks = "/bin/sh -c 'setsid /opt/leased 1000 & exec /opt/leased 2000'"
    text = text.replace("/usr/sbin/food -f", forks)
    booted.shell("cp /bin/sleep /opt/leased")
    write(booted, f"{UNITS}/food-lease.service", text)
    verify = f"systemd-analyze verify --man=no {UNITS}/food-lease.service"
    assert not booted.shell(verify, check=False)
    booted.shell("systemctl daemon-reload; systemctl start food-lease")
    all_of_it = "pgrep -fx '/opt/leased [12]000'"
    booted.await_that(f"[ $({all_of_it} | wc -l) = 2 ]")
    old = booted.shell(all_of_it).split()
    guardian = value(booted, "food-lease", "MainPID")
    both = f"{guardian} {booted.shell(f'pgrep -P {guardian}').strip()}"
    booted.shell(f"kill -STOP {both}; kill -KILL {both}")
    for pid in old:
        booted.await_that(f"! kill -0 {pid}")
    booted.await_that(f"[ $({all_of_it} | wc -l) = 2 ]")  # anew
    booted.shell("systemctl stop food-lease")
    assert value(booted, "food-lease", "ActiveState") == "inactive"
    assert not booted.shell(all_of_it, check=False)


def test_what_systemd_is_about_to_start_is_left_to_it(booted: BootedMachine) -> None:
    """An administrator's restart, of a unit that takes longer than a hook may."""
    slow = "ExecStartPre=sh -c 'until [ -e /run/go-on ]; do sleep 0.1; done'\n"
    unit(booted, "slow")
    write(booted, f"{UNITS}/slow.service.d/slow.conf", f"[Service]\n{slow}")
    booted.shell("systemctl daemon-reload; systemctl restart --no-block slow")
    booted.await_that("[ $(systemctl show -p SubState --value slow) = start-pre ]")
    assert "not now: systemd has a job for slow.service" in run(booted, "slow")
    booted.shell(">/run/go-on")
    booted.await_that("pgrep -fx '/opt/slow 1000'")
    assert run(booted, "slow").startswith("slow is up: ")


# Lives on until the journal has seen whose group it is in.
FORGED = """
import socket, time
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/run/systemd/journal/socket")
log.send(b"MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f\\nMESSAGE=forged\\n")
time.sleep(1)
"""


@in_ci
def test_stopped_on_purpose(booted: BootedMachine) -> None:
    """Told as the cause; left alone if the fact says so, until it is started again."""
    unit(booted, "wanted", "ExecReload=/usr/bin/python3 /opt/forge\n")
    write(booted, "/opt/forge", FORGED)
    run(booted, "wanted")
    booted.shell("systemctl stop wanted")
    assert "cause     systemd: stopped by an order at " in run(booted, "wanted")
    leave = 'unit = "wanted.service"\non_purpose = "leave"\n'
    write(booted, f"{HOOKS}/wanted.toml", leave)
    booted.shell("systemctl stop wanted")
    assert "stopped: by an order to systemd, " in run(booted, "wanted")
    booted.shell("systemctl start wanted")
    # What one of its own processes sends to the journal is no order of systemd's.
    booted.await_that("systemctl reload wanted")
    booted.await_that("journalctl -q -o cat -u wanted | grep -q forged")
    booted.await_that("kill $(pgrep -fx '/opt/wanted 1000')")
    booted.await_that("! systemctl -q is-active wanted")
    told = run(booted, "wanted")  # a signal, from whomever, is no order
    assert "Restarting wanted\n" in told and "by an order" not in told, told
    booted.shell("systemctl stop wanted; systemctl mask --runtime wanted")


@in_ci
def test_masked_is_left_alone(booted: BootedMachine) -> None:
    unit(booted, "covered")
    booted.shell(f"mv {UNITS}/covered.service /root && systemctl mask covered")
    kill(booted, "covered")
    told = run(booted, "covered")
    assert "stopped: covered.service is masked: systemctl unmask covered" in told


def test_cause_is_of_this_death_and_of_this_unit(booted: BootedMachine) -> None:
    """Not what the unit told before, nor the unit of whoever ran its hook."""
    unit(booted, "before", "Restart=no\n")
    run(booted, "before")
    pid = value(booted, "before", "MainPID")
    booted.shell(f"kill -SEGV {pid}")
    booted.await_that("[ $(systemctl show -p MainPID --value before) = 0 ]")
    assert "cause     systemd: signal 11 (SIGSEGV)" in run(booted, "before")
    booted.shell("kill -SEGV $(pgrep -fx '/opt/before 1000')")
    booted.await_that("! pgrep -fx '/opt/before 1000'")
    write(booted, f"{HOOKS}/before", PLAIN_HOOK.format(name="before"), "755")
    run(booted, "before")
    booted.shell("sleep 3; viagra.py; kill -9 $(pgrep -fx '/opt/before 1000')")
    told = run(booted, "before")
    assert "cause     unknown\n" in told, told


def test_link_to_an_init_d_script_is_a_fault(booted: BootedMachine) -> None:
    booted.shell(f"cd {HOOKS}; mv nginx /root; ln -s /etc/init.d/nginx nginx")
    told = booted.shell("viagra.py test", check=False)
    booted.shell(f"mv /root/nginx {HOOKS}/nginx")
    assert "a hook that calls service_start nginx" in told, told


def test_quit_is_for_good_though_systemd_would_restart_it(
    booted: BootedMachine,
) -> None:
    unit(booted, "quits", "Restart=always\nRestartSec=0.1\n")
    facts = 'unit = "quits.service"\nrecovery = "quit"\nstart_timeout = "0.4s"\n'
    write(booted, f"{HOOKS}/quits.toml", facts)
    write(booted, f"{HOOKS}/../check.d/quits", "#!/bin/sh\nexit 2\n", "755")
    booted.await_that("viagra.py check quits | grep 'is sick'")
    told = run(booted, "quits")
    assert "left so; to start it: viagra.py restart quits" in told, told
    assert value(booted, "quits", "ActiveState") == "inactive"
    assert value(booted, "quits", "Job") == "" and not pids(booted, "quits")


def test_program_of_a_plain_hook_gets_a_unit_of_its_own(booted: BootedMachine) -> None:
    """Neither the control group nor the sandbox of who ran viagra.py."""
    booted.shell("cp /bin/sleep /opt/own")
    hook = UNIT_HOOK.replace("service_start ${0##*/}", "service_run /opt/own 1000")
    write(booted, f"{HOOKS}/own", hook, "755")
    sandboxed = "systemd-run -q --wait --pipe -p PrivateTmp=yes viagra.py own"
    for _ in range(2):
        told = booted.shell(sandboxed)
        assert "Restarting own\n" in told and "  now       up, pid " in told, told
        [pid] = pids(booted, "own")
        assert owner(booted, pid) == "viagra-own.service"
        assert booted.holds(f"[ /proc/{pid}/ns/mnt -ef /proc/1/ns/mnt ]")
        booted.shell(f"kill -9 {pid}")


def test_of_several_clusters_only_the_dead_one_is_started(
    booted: BootedMachine,
) -> None:
    """By the hook of all of them, and by those of the instances."""
    [main] = booted.shell("ls -d /etc/postgresql/*/main").split()
    version = main.split("/")[3]
    two, main = f"postgresql@{version}-two", f"postgresql@{version}-main"
    booted.shell(f"pg_createcluster {version} two; systemctl daemon-reload")
    booted.shell("systemctl start postgresql")
    for service in (two, main):
        write(booted, f"{UNITS}/{service}.service.d/a.conf", "[Service]\nRestart=no\n")
    booted.shell("systemctl daemon-reload")
    healthy = value(booted, main, "MainPID")
    kill(booted, two)
    booted.shell(f"VIAGRA_REASON=sick sh {HOOKS}/postgresql")
    assert value(booted, two, "MainPID") != "0"
    assert value(booted, main, "MainPID") == healthy
    for name in (two, main):
        booted.shell(f"cd {HOOKS}; chmod +x postgresql@; ln -s postgresql@ {name}")
    kill(booted, two)
    booted.await_that(f"viagra.py check {two} | grep '^{two} is down'")
    told = booted.run("viagra.py", two, main, seconds=300).stdout
    assert f"Restarting {two}\n" in told and f"Restarting {main}" not in told, told
    assert f"  journal {two}.service:\n" in told, told
    assert value(booted, main, "MainPID") == healthy
    # On purpose, by its hook: the other one is not even told.
    booted.shell(f"cd {HOOKS}/../stop.d; chmod +x postgresql@; ln -s postgresql@ {two}")
    told = booted.shell(f"viagra.py restart {two}")
    assert f"stop.d/{two}: exit 0" in told and "  now       up, pid " in told, told
    assert value(booted, main, "MainPID") == healthy
    booted.shell(f"rm {HOOKS}/{two} {HOOKS}/{main}; systemctl stop postgresql")


def test_in_a_sandbox_that_hides_users_nothing_is_started(
    booted: BootedMachine,
) -> None:
    unit(booted, "hidden", "User=daemon\n")
    write(booted, f"{HOOKS}/hidden.toml", 'user = "daemon"\nunit = "hidden.service"\n')
    apart = "systemd-run -q --wait --pipe --collect -p PrivateUsers=yes"
    told = booted.shell(f"{apart} viagra.py --verbose hidden", check=False)
    assert "hidden is unknown: pid " in told and "PrivateUsers=" in told, told
    assert (
        value(booted, "hidden", "NRestarts") == "0" and len(pids(booted, "hidden")) == 1
    )


def test_users_own_units_are_those_of_their_own_manager(booted: BootedMachine) -> None:
    booted.shell("useradd -m joe; systemctl start user@$(id -u joe)")
    home = "/home/joe/.config"
    write(
        booted,
        f"{home}/systemd/user/joes.service",
        "[Service]\nExecStart=/opt/joes 1000\n",
    )
    write(booted, f"{home}/viagra/start.d/joes", UNIT_HOOK, "755")
    booted.shell(
        f"cp /bin/sleep /opt/joes; cp {HOOKS}/service.subr {home}/viagra/start.d"
    )
    write(booted, f"{home}/viagra/viagra.toml", SETTINGS)
    booted.shell(f"chown -R joe: {home}")
    as_cron = (
        "runuser",
        "-u",
        "joe",
        "--",
        "env",
        "-i",
        "HOME=/home/joe",
        f"PATH={PATH}",
    )
    told = booted.run(*as_cron, "viagra.py", "--verbose").stdout
    assert "  now       up, pid " in told and "joes is down" not in told, told
    [pid] = pids(booted, "joes")
    booted.shell(f"kill -9 {pid}")
    told = booted.run(*as_cron, "viagra.py").stdout
    assert "cause     systemd: signal 9 (SIGKILL) (joes.service)" in told, told
    assert owner(booted, pids(booted, "joes")[0]) == "joes.service"


def test_a_unit_that_is_active_with_another_process_is_told(
    booted: BootedMachine,
) -> None:
    """The main process is a wrapper, which does not die with the daemon."""
    wrapper = (
        "[Service]\nExecStart=\nExecStart=sh -c '/opt/wrapped 1000 & sleep 1001'\n"
    )
    unit(booted, "wrapped")
    write(booted, f"{UNITS}/wrapped.service.d/a.conf", wrapper)
    write(booted, f"{HOOKS}/wrapped.toml", 'start_timeout = "2s"\n')
    booted.shell("systemctl daemon-reload; systemctl restart wrapped")
    booted.await_that("kill $(pgrep -fx '/opt/wrapped 1000')")
    told = run(booted, "wrapped", check=False)
    main = value(booted, "wrapped", "MainPID")
    assert f"for started, with process {main} (sh), and starts nothing." in told, told


def test_core_dump_of_a_plain_daemon_is_its_cause(booted: BootedMachine) -> None:
    """As if the kernel, which is not the machine's own, gave it to systemd-coredump."""
    booted.shell("cp /bin/sleep /opt/dumps")
    write(booted, f"{HOOKS}/dumps", PLAIN_HOOK.format(name="dumps"), "755")
    run(booted, "dumps")
    booted.shell("viagra.py", check=False)  # has seen it, pid and all
    [pid] = pids(booted, "dumps")
    places = "/usr/lib/systemd/systemd-coredump /lib/systemd/systemd-coredump"
    helper = f"$(ls {places} | head -n 1)"
    given = f"{pid} 0 0 11 $(date +%s) 18446744073709551615 vm"
    booted.shell(
        f"systemctl start systemd-coredump.socket; {helper} {given} </dev/null"
    )
    booted.await_that(f"coredumpctl -q list {pid}")
    forged = (
        "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1\nCOREDUMP_COMM=dumps\n"
        f"COREDUMP_PID={pid}\nCOREDUMP_SIGNAL=6\nCOREDUMP_UID=0\nMESSAGE=of nobody\n"
    )
    write(booted, "/tmp/forged", forged)
    booted.shell("setpriv --reuid=65534 --clear-groups logger --journald=/tmp/forged")
    booted.await_that("journalctl -q MESSAGE='of nobody' | grep .")
    booted.shell(f"kill -9 {pid}")
    told = run(booted, "dumps")
    assert f"cause     systemd-coredump: signal 11 (SEGV), pid {pid}\n" in told, told
    section = told.partition("  core dump:\n")[2]
    assert section.startswith(f"    Process {pid} (dumps) of user 0 dumped core."), told
    booted.shell(f"rm {HOOKS}/dumps")


@in_ci
def test_status_and_explain_name_the_unit(booted: BootedMachine) -> None:
    unit(booted, "owned", "Restart=always\nRestartSec=0.1\n")
    for _ in range(2):
        kill(booted, "owned")
        booted.await_that("systemctl -q is-active owned")
    owner_of_it = "owned.service, 2 restarts by systemd"
    assert f"\n  owned by {owner_of_it}\n" in booted.shell("viagra.py explain owned")
    assert f" {owner_of_it}\n" in booted.shell("viagra.py status owned")


@in_ci
def test_what_requires_a_unit_is_up_again_after_its_restart(
    booted: BootedMachine,
) -> None:
    """Also if the start comes about only later; and the notice names it."""
    unit(booted, "needed")
    for name, needs in (("needy", "needed"), ("needier", "needy")):
        booted.shell(f"cp /bin/sleep /opt/{name}")
        text = f"[Unit]\nRequires={needs}.service\nAfter={needs}.service\n"
        text += f"[Service]\nExecStart=/opt/{name} 1000\n"
        write(booted, f"{UNITS}/{name}.service", text)
    stop = UNIT_HOOK.replace("service_start", "service_stop")
    stop = stop.replace("${0%/*}", "${0%/*/*}/start.d")
    write(booted, f"{HOOKS}/../stop.d/needed", stop, "755")
    booted.shell("systemctl daemon-reload; systemctl start needier")
    before = pids(booted, "needier")
    told = booted.run("viagra.py", "restart", "needed").stdout
    assert "started again, as needed.service is: needy.service needier.service" in told
    booted.await_that("systemctl -q is-active needier")
    assert pids(booted, "needier") != before
    broken = f"{UNITS}/needed.service.d/broken.conf"
    write(booted, broken, "[Service]\nExecStartPre=false\n")
    booted.shell("systemctl daemon-reload")
    told = booted.run("viagra.py", "restart", "needed", check=False).stdout
    assert "needy.service needier.service" in told and not pids(booted, "needier"), told
    booted.shell(f"rm {broken}; systemctl daemon-reload")
    assert "  now       up, pid " in run(booted, "needed")
    booted.await_that("systemctl -q is-active needier")


@in_ci
def test_viagra_run_as_a_unit_is_inactive_when_it_was_stopped(
    booted: BootedMachine,
) -> None:
    unit(booted, "kept")
    command = "/usr/local/bin/viagra-run -n kept -o noorphan -- /opt/kept 1000"
    text = f"[Service]\nExecStart=\nExecStart={command}\n"
    write(booted, f"{UNITS}/kept.service.d/run.conf", text)
    booted.shell("systemctl daemon-reload; systemctl restart kept")
    booted.await_that("pgrep -fx '/opt/kept 1000'")
    booted.shell("systemctl stop kept")
    assert value(booted, "kept", "ActiveState") == "inactive"
    assert not pids(booted, "kept")


@in_ci
def test_journal_knows_daemon_and_result_and_explains_them(
    booted: BootedMachine,
) -> None:
    unit(booted, "logged", "Restart=no\n")
    kill(booted, "logged")
    run(booted, "logged")
    [entry] = booted.shell("journalctl -q -o json VIAGRA_DAEMON=logged").splitlines()
    fields = json.loads(entry)
    assert fields["VIAGRA_RESULT"] == "brought back" and fields["PRIORITY"] == "6"
    assert fields["MESSAGE"].startswith("logged: down, brought back, cause systemd: ")
    assert booted.holds(f"viagra.py history show {fields['VIAGRA_INCIDENT']}")
    explained = booted.shell("journalctl -q -x VIAGRA_DAEMON=logged")
    assert "Subject: logged was not up, or was restarted: brought back" in explained
