"""On a kernel of its own: limits of memory, core dumps, the boot and the shutdown.

For `make test-machines PYTEST="-m machines"`: it needs root, qemu, and a mirror once.
"""

from __future__ import annotations

import pytest
from cron_machine import write
from kernel_machine import KernelMachine, kernel_machine

__all__ = ["kernel_machine"]  # a fixture
pytestmark = [
    pytest.mark.machines,
    pytest.mark.long,
    pytest.mark.xdist_group("kernel"),  # one machine for all
]
HOOKS = "/etc/viagra/start.d"
SETTINGS = '[defaults]\npatience = "0.1s"\n[run]\nboot = "{boot}"\n'
EATER = """#!/usr/bin/python3
import os, time
while not os.path.exists("/run/eat"):
    time.sleep(0.1)
eaten = []
while True:
    eaten.append(bytearray(1_000_000))
"""


def watch(machine: KernelMachine, name: str, hook: str, boot: str = "0s") -> None:
    write(machine, "/etc/viagra/viagra.toml", SETTINGS.format(boot=boot))
    write(machine, f"{HOOKS}/{name}", f"#!/bin/sh\n{hook}\n", "755")


def run(machine: KernelMachine, *names: str) -> str:
    return machine.run("viagra.py", *names, seconds=300, check=False).stdout


def test_nothing_is_started_while_the_machine_is_young(machine: KernelMachine) -> None:
    machine.shell("cp /bin/sleep /opt/young")
    watch(machine, "young", "/opt/young 1000 >/dev/null 2>&1 &", boot="10h")
    uptime = float(machine.shell("cut -d ' ' -f 1 /proc/uptime"))
    assert uptime < 3600  # its own, whatever that of the real machine is
    assert "not now: the machine booted " in run(machine, "--verbose", "young")
    assert not machine.holds("pgrep -x young")
    watch(machine, "young", "/opt/young 1000 >/dev/null 2>&1 &")
    assert "Restarting young\n" in run(machine, "young")


def test_memory_that_a_unit_may_not_have_is_the_cause(machine: KernelMachine) -> None:
    write(machine, "/opt/eats", EATER, "755")
    service = "[Service]\nExecStart=/opt/eats\nMemoryMax=60M\nMemorySwapMax=0\n"
    write(machine, "/etc/systemd/system/eats.service", service)
    machine.shell("systemctl daemon-reload")
    watch(machine, "eats", '. "${0%/*}/service.subr"; service_start eats')
    assert "  now       up, pid " in run(machine, "eats")
    run(machine)  # which has seen the daemon, pid and all
    pid = machine.shell("systemctl show -p MainPID --value eats").strip()
    machine.shell(">/run/eat")
    machine.await_that("[ $(systemctl show -p Result --value eats) = oom-kill ]", 300)
    machine.shell("rm /run/eat")
    told = run(machine, "eats")
    limit = "out of memory, by the MemoryMax= of eats.service"
    assert f"cause     kernel: {limit}, killed eats (pid {pid}) at " in told, told


def test_core_dump_shows_where_it_crashed(machine: KernelMachine) -> None:
    machine.shell("cp /bin/sleep /opt/crashes")
    start = "ulimit -c unlimited; /opt/crashes 1000 >/dev/null 2>&1 &"
    watch(machine, "crashes", start)
    assert "  now       up, pid " in run(machine, "crashes")
    run(machine)
    pid = machine.shell("pgrep -x crashes").strip()
    machine.shell(f"kill -SEGV {pid}")
    machine.await_that(f"coredumpctl -q list {pid}", 300)
    told = run(machine, "crashes")
    assert f"cause     systemd-coredump: signal 11 (SEGV), pid {pid}\n" in told, told
    section = told.partition("  core dump:\n")[2]
    assert section.startswith(f"    Process {pid} (crashes) of user 0 dumped core."), (
        told
    )
    assert "    #0  0x" in section, told


def test_nothing_is_started_while_it_is_powered_off(machine: KernelMachine) -> None:
    """The last test: the machine is gone then."""
    slow = "[Service]\nExecStart=sleep 1000\nTimeoutStopSec=infinity\n"
    slow += "ExecStop=sh -c 'until [ -e /run/go-on ]; do sleep 0.1; done'\n"
    write(machine, "/etc/systemd/system/slow.service", slow)
    machine.shell("cp /bin/sleep /opt/gone; systemctl daemon-reload")
    machine.shell("systemctl start slow")
    watch(machine, "gone", "/opt/gone 1000 >/dev/null 2>&1 &")
    machine.shell("systemctl poweroff --no-block")
    machine.await_that("systemctl is-system-running | grep -qx stopping")
    told = run(machine, "--verbose", "gone")
    assert "not now: the machine is shutting down" in told, told
    assert not machine.holds("pgrep -x gone")
    machine.shell(">/run/go-on")
