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
    machine.await_that(f"pgrep -x {name}")


# A service of OpenRC's own kind.
NATIVE = """#!/sbin/openrc-run
command=/opt/{name}
command_args=1000
pidfile=/run/{name}.pid
"""
BACKGROUND = f"{NATIVE}command_background=yes\n"
SUPERVISED = f"{NATIVE}supervisor=supervise-daemon\nrespawn_delay="


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
@pytest.mark.parametrize(
    "script",
    [BACKGROUND, f"{SUPERVISED}60\n"],
    ids=["start-stop-daemon", "supervise-daemon"],
)
def test_openrc_starts_what_it_takes_for_started(
    booted: BootedMachine, script: str
) -> None:
    """By start-stop-daemon; and one whose supervise-daemon waits for a minute."""
    name = f"native{len(script)}"
    service(booted, name, script)
    booted.shell(f"pkill -9 -x {name}")
    booted.await_that(f"! pgrep -x {name}")
    assert "status: started" in booted.shell(f"rc-service {name} status")
    told = run(booted, name)
    assert f"Restarting {name}\n" in told and "  now       up, pid " in told, told
    assert len(booted.shell(f"pgrep -x {name}").split()) == 1
    assert "status: started" in booted.shell(f"rc-service {name} status")
    booted.shell(f"chmod -x {HOOKS}/{name}; rc-service {name} stop")
    booted.await_that(f"! pgrep -x {name}")
