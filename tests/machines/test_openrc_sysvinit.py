"""On a booted Debian with OpenRC, or with sysvinit alone: what is killed is back.

Only `make test-machines` runs it: it needs root, systemd-nspawn, and a mirror once.
"""

from __future__ import annotations

import pytest
from booted_machine import BootedMachine, booted_machine
from cron_machine import write
from ready_daemons import DAEMONS, Ready

__all__ = ["booted_machine"]  # a fixture
pytestmark = pytest.mark.machines
OPENRC, SYSVINIT = (
    pytest.param(name, marks=pytest.mark.xdist_group(name))  # one machine for each
    for name in ("bookworm-openrc", "bookworm-sysvinit")
)
on_both = pytest.mark.parametrize("booted", [OPENRC, SYSVINIT], indirect=True)
on_openrc = pytest.mark.parametrize("booted", [OPENRC], indirect=True)
HOOKS = "/etc/viagra/start.d"
# nfs needs the kernel's server, tomcat half a minute, and has no script of its own.
LEFT_OUT = ("nfs", "tomcat")
HOOK = '#!/bin/sh\n. "${0%/*}/service.subr"\nservice_start ${0##*/}\n'


def run(machine: BootedMachine, *arguments: str, check: bool = True) -> str:
    """Run viagra.py; return what it prints."""
    return machine.run("viagra.py", *arguments, seconds=300, check=check).stdout


def service(machine: BootedMachine, name: str, script: str, facts: str = "") -> None:
    """Make a service whose daemon /opt/NAME sleeps, watched through it; started."""
    machine.shell(f"cp /bin/sleep /opt/{name}")
    write(machine, f"/etc/init.d/{name}", script.format(name=name), "755")
    write(machine, f"{HOOKS}/{name}", HOOK, "755")
    write(machine, f"{HOOKS}/{name}.toml", facts)
    machine.shell(f"/etc/init.d/{name} start")
    machine.await_that(f"pgrep -fx '/opt/{name} 1000'")


# A service of OpenRC's own kind.
NATIVE = """#!/sbin/openrc-run
command=/opt/{name}
command_args=1000
pidfile=/run/{name}.pid
"""
BACKGROUND = f"{NATIVE}command_background=yes\n"
SUPERVISED = f"{NATIVE}supervisor=supervise-daemon\nrespawn_delay="
by_either = pytest.mark.parametrize(
    "script",
    [BACKGROUND, f"{SUPERVISED}60\n"],
    ids=["start-stop-daemon", "supervise-daemon"],
)


@on_both
@pytest.mark.parametrize(
    "ready",
    [one for one in DAEMONS if one.name not in LEFT_OUT],
    ids=lambda one: one.name,
)
def test_ready_hook_brings_back_by_its_script(
    booted: BootedMachine, ready: Ready
) -> None:
    """One start by its script, one process; then stopped and started by it."""
    booted.shell(ready.prepare)
    booted.shell(f"cd {HOOKS}; sed -i s/8.2/$(ls /etc/php)/ php-fpm.toml")
    [script] = booted.shell(f"echo /etc/init.d/{ready.service}").split()
    # Each call of the script is noted. Some call themselves, for their status.
    calls = f"grep -v status /run/{ready.name}.calls"
    note = f'echo "$*" >>/run/{ready.name}.calls'
    booted.shell(f"{script} start; sed -i '1a {note}' {script}")
    booted.await_that(ready.works)
    before = booted.shell(ready.main).strip()
    hooks = f"start.d/{ready.name} stop.d/{ready.name}"
    booted.shell(
        f"cd {HOOKS}/..; for hook in {hooks}; do [ ! -e $hook ] || chmod +x $hook; done"
    )
    assert f"{ready.name} is up" in run(booted, "check", "-v", ready.name)
    booted.shell(f"kill -9 $({ready.also}) {before}")
    told = run(booted, ready.name)
    assert f"Restarting {ready.name}\n" in told and "  now       up, pid " in told, told
    booted.await_that(ready.works)
    assert booted.shell(ready.main).strip() not in ("", before)
    assert booted.shell(calls).split() == ["start"], told
    assert f"{ready.name} is up" in run(booted, "check", "-v", ready.name)
    told = run(booted, "restart", ready.name)
    booted.await_that(ready.works)
    stop = ["stop"] if booted.holds(f"[ -e {HOOKS}/../stop.d/{ready.name} ]") else []
    assert booted.shell(calls).split() == ["start", *stop, "start"], told
    booted.shell(f"chmod -x {HOOKS}/{ready.name}; {script} stop")


@on_openrc
@by_either
def test_openrc_starts_what_it_takes_for_started(
    booted: BootedMachine, script: str
) -> None:
    """By start-stop-daemon; and one whose supervise-daemon waits for a minute."""
    name = f"native{len(script)}"
    service(booted, name, script)
    booted.shell(f"pkill -9 -fx '/opt/{name} 1000'")
    booted.await_that(f"! pgrep -fx '/opt/{name} 1000'")
    assert "status: started" in booted.shell(f"rc-service {name} status")
    told = run(booted, name)
    assert f"Restarting {name}\n" in told and "  now       up, pid " in told, told
    assert len(booted.shell(f"pgrep -fx '/opt/{name} 1000'").split()) == 1
    assert "status: started" in booted.shell(f"rc-service {name} status")
    booted.shell(f"chmod -x {HOOKS}/{name}; rc-service {name} stop")
    booted.await_that(f"! pgrep -fx '/opt/{name} 1000'")


@on_openrc
def test_stopped_on_purpose(booted: BootedMachine) -> None:
    """Told as the cause; left alone if the fact says so, until it is started again."""
    service(booted, "wanted", BACKGROUND)
    run(booted, "wanted")
    booted.shell("rc-service wanted stop")
    assert "cause     OpenRC: stopped by an order (wanted)\n" in run(booted, "wanted")
    write(booted, f"{HOOKS}/wanted.toml", 'on_purpose = "leave"\n')
    booted.shell("rc-service wanted stop")
    order = "stopped: by an order to OpenRC: rc-service wanted start"
    assert order in run(booted, "wanted")
    assert "cannot" not in booted.shell("viagra.py test")
    booted.shell("rc-service wanted start")
    booted.shell("pkill -fx '/opt/wanted 1000'")
    booted.await_that("! pgrep -fx '/opt/wanted 1000'")
    told = run(booted, "wanted")  # a signal, from whomever, is no order
    assert "Restarting wanted\n" in told and "by an order" not in told, told
    booted.shell(f"chmod -x {HOOKS}/wanted; rc-service wanted stop")


# As packages have them.
PLAIN = """#!/bin/sh
of="--quiet --oknodo --exec /opt/{name}"
case $1 in
start) {slow}start-stop-daemon --start --background $of -- 1000 ;;
stop) start-stop-daemon --stop $of ;;
esac
"""
SLOW = "until [ -e /run/{name}.go ]; do sleep 0.1; done"


@on_both
def test_who_stopped_a_plain_script_is_not_known(booted: BootedMachine) -> None:
    """It is said to who asks for it to be left alone then, and it is started."""
    service(booted, "plain", PLAIN.replace("{slow}", ""), 'on_purpose = "leave"\n')
    told = booted.shell("viagra.py test", check=False)
    assert "plain: on_purpose: who stopped it is known here only" in told, told
    booted.shell("service plain stop")
    booted.await_that("! pgrep -fx '/opt/plain 1000'")
    assert "Restarting plain\n" in run(booted, "plain")
    booted.shell(f"rm {HOOKS}/plain*; pkill -fx '/opt/plain 1000'")


@on_both
@pytest.mark.parametrize("kind", ["plain", "native"])
def test_start_by_hand_is_left_to_itself(booted: BootedMachine, kind: str) -> None:
    """A script at work is a hook at work, of whatever kind it is."""
    if kind == "native" and booted.kind != "openrc":
        pytest.skip("a script of OpenRC's own kind")
    name = f"{kind}slow"
    native = f"{BACKGROUND}start_pre() {{{{ {SLOW}; }}}}\n"
    script = native if kind == "native" else PLAIN.replace("{slow}", f"{SLOW}; ")
    booted.shell(f">/run/{name}.go")
    service(booted, name, script)
    booted.shell(f"/etc/init.d/{name} stop; rm /run/{name}.go")
    booted.await_that(f"! pgrep -fx '/opt/{name} 1000'")
    # Debian's service(8) notes it as started first, and then it is not.
    by = "rc-service" if kind == "native" else "service"
    booted.start(f"exec {by} {name} start")
    booted.await_that(f"pgrep -f '[/]etc/init.d/{name} start'")
    told = run(booted, name)
    assert f"{name} is down" in told and "not now: being started by pid" in told, told
    booted.shell(f">/run/{name}.go")
    booted.await_that(f"pgrep -fx '/opt/{name} 1000'")
    booted.await_that(f"! pgrep -f '[/]etc/init.d/{name} start'")
    assert run(booted, name).startswith(f"{name} is up: pid ")
    booted.shell(f"chmod -x {HOOKS}/{name}; /etc/init.d/{name} stop")


@on_openrc
def test_quit_is_for_good_though_supervise_daemon_would_restart_it(
    booted: BootedMachine,
) -> None:
    facts = 'recovery = "quit"\nstart_timeout = "0.4s"\n'
    service(booted, "quits", f"{SUPERVISED}1\n", facts)
    write(booted, f"{HOOKS}/../check.d/quits", "#!/bin/sh\nexit 2\n", "755")
    booted.await_that("viagra.py check quits | grep 'is sick'")
    told = run(booted, "quits")
    assert "left so; to start it: viagra.py restart quits" in told, told
    assert "status: stopped" in booted.shell("rc-service quits status", check=False)
    assert not booted.holds(
        "pgrep -fx '/opt/quits 1000' || pgrep -f '[s]upervise-daemon quits'"
    )
    booted.shell(f"chmod -x {HOOKS}/quits")


@on_both
def test_link_to_an_init_d_script_brings_back(booted: BootedMachine) -> None:
    """As no hook does below systemd, which Debian's scripts leave the work to."""
    booted.shell(f"cd {HOOKS}; mv nginx /root; ln -s /etc/init.d/nginx nginx")
    write(booted, f"{HOOKS}/nginx.toml.more", 'arguments = ["start"]\n')
    booted.shell(f"cd {HOOKS}; cat nginx.toml.more >>nginx.toml; service nginx start")
    booted.shell("kill -9 $(cat /run/nginx.pid)")
    told = run(booted, "nginx")
    assert "  hook      start.d/nginx start: exit 0 " in told, told
    assert "  now       up, pid " in told and "\n0 faults\n" in run(booted, "test")
    booted.shell(f"service nginx stop; mv /root/nginx {HOOKS}/; chmod -x {HOOKS}/nginx")
    booted.shell(f"cd {HOOKS}; sed -i /arguments/d nginx.toml; rm nginx.toml.more")


@on_both
def test_real_cron_mails_why_a_start_failed(booted: BootedMachine) -> None:
    """nginx with broken settings; its script keeps what nginx says to itself."""
    booted.shell(f"chmod +x {HOOKS}/nginx; service nginx start; service postfix start")
    booted.shell(
        "cp /etc/nginx/nginx.conf /root; echo 'bogus;' >>/etc/nginx/nginx.conf"
    )
    booted.shell("kill -9 $(cat /run/nginx.pid)")
    job = "MAILTO=root\n@reboot root exec /usr/local/sbin/viagra.py nginx\n"
    write(booted, "/etc/cron.d/viagra", job)
    # Such a job runs at cron's first start after the boot.
    booted.shell("rm -f /run/crond.reboot; service cron restart")
    booted.await_that("grep -q '^  evidence' /var/mail/root", 120)
    mail = booted.shell("cat /var/mail/root")
    assert "\nRestarting nginx\n" in mail and "not brought back" in mail, mail
    assert 'unknown directive "bogus"' in mail.partition("hook output:")[2], mail
    booted.shell("mv /root/nginx.conf /etc/nginx/; rm /etc/cron.d/viagra")
    assert "  now       up, pid " in run(booted, "restart", "nginx")
    booted.shell(f"chmod -x {HOOKS}/nginx; service nginx stop; service postfix stop")


INITTAB = (
    "vr:2345:respawn:/usr/local/bin/viagra-run -n run -o noorphan -- /opt/run 1000"
)


@on_both
def test_viagra_run_below_the_manager(booted: BootedMachine) -> None:
    """Its daemon killed, itself killed, and ended by its manager: nothing is left."""
    booted.shell("cp /bin/sleep /opt/run")
    write(booted, f"{HOOKS}/run", HOOK, "755")
    if booted.kind == "openrc":
        script = NATIVE.replace("/opt/{name}", "/usr/local/bin/viagra-run")
        script = script.replace("1000", "'-n run -o noorphan -- /opt/run 1000'")
        script += "supervisor=supervise-daemon\nrespawn_delay=1\n"
        write(booted, "/etc/init.d/run", script.format(name="run"), "755")
        booted.shell("rc-service run start")
        stop = "rc-service run stop"
    else:
        booted.shell(f"echo '{INITTAB}' >>/etc/inittab; telinit q")
        stop = "sed -i /^vr:/d /etc/inittab; telinit q"
    booted.await_that("pgrep -fx '/opt/run 1000'")
    for victim in ("pgrep -fx '/opt/run 1000'", "pgrep -f '[v]iagra-run -n run'"):
        before = booted.shell(victim).split()
        booted.shell(f"kill -9 {before[0]}")
        booted.await_that(f"pgrep -fx '/opt/run 1000' && ! kill -0 {before[0]}")
        booted.await_that("[ $(pgrep -fx '/opt/run 1000' | wc -l) = 1 ]")
    assert "run is up" in run(booted, "check", "-v", "run")
    booted.shell(f"chmod -x {HOOKS}/run; {stop}")
    booted.await_that("! pgrep -fx '/opt/run 1000' && ! pgrep -f '[v]iagra-run -n run'")


# Between the manager and viagra-run: passes TERM on, and notes how that ended.
NOTED = """#!/bin/sh
/usr/local/bin/viagra-run -n {name} -o noorphan -- /opt/{name} 1000 &
trap "kill $!" TERM
wait $!
wait $!
echo $? >/run/{name}.code
"""


@on_openrc
@by_either
def test_viagra_run_ends_well_when_its_manager_asks(
    booted: BootedMachine, script: str
) -> None:
    name = f"asked{len(script)}"
    write(booted, f"/opt/{name}.noted", NOTED.format(name=name), "755")
    # OpenRC compares with what the process executes, which a script does not.
    script = script.replace("/opt/{name}", "/usr/bin/dash")
    script = script.replace("1000", "/opt/{name}.noted")
    service(booted, name, f"{script}retry=TERM/60\n")
    booted.shell(f"chmod -x {HOOKS}/{name}; rc-service {name} stop")
    booted.await_that(f"[ -e /run/{name}.code ]")
    assert booted.shell(f"cat /run/{name}.code") == "0\n"
    assert not booted.holds(f"pgrep -fx '/opt/{name} 1000'")


LSB_HEADER = """#!/bin/sh
### BEGIN INIT INFO
# Provides: waits
# Required-Start: cron
# Required-Stop:
# Default-Start: 3
# Default-Stop: 0 6
### END INIT INFO
"""


@on_both
def test_boot_and_shutdown_under_way(booted: BootedMachine) -> None:
    """The last one: the machine is not the same after it."""
    service(booted, "late", PLAIN.replace("{slow}", ""))
    booted.shell("pkill -fx '/opt/late 1000'")
    write(booted, f"{HOOKS}/../viagra.toml", '[run]\nboot = "1h"\n')
    assert "not now: the machine booted " in run(booted, "late")
    settings = '[run]\nboot = "1s"\n[defaults]\npatience = "0.1s"\n'
    write(booted, f"{HOOKS}/../viagra.toml", settings)  # however young it is
    waits = f"{LSB_HEADER}>/run/late.begun; {SLOW.format(name='late')}\n"
    write(booted, "/etc/init.d/waits", waits, "755")
    booted.shell("update-rc.d waits defaults; telinit 3")
    booted.await_that("[ -e /run/late.begun ]")
    told = run(booted, "late")
    assert "not now: the machine starts and stops its services (pid " in told, told
    booted.shell(">/run/late.go")
    booted.await_that("! pgrep -x rc && ! pgrep -x openrc")
    # What a runlevel's scripts do there would end this test's commands as well.
    wait = "s,^l6:.*,l6:6:wait:/bin/sleep 1000,"
    booted.shell(f"sed -i '{wait}' /etc/inittab; telinit q; telinit 6")
    booted.await_that("runlevel | grep ' 6$'")
    assert "not now: the machine is shutting down" in run(booted, "late")
