"""From the clone to `make uninstall` on a Debian that was installed a moment ago.

Only `make test-machines` and CI run it: it needs root, mmdebstrap, and a mirror once.
"""

from __future__ import annotations

import pytest
from cron_machine import write
from debian_machine import FETCHED, ORIGIN, DebianMachine, fresh_debian

__all__ = ["fresh_debian"]  # a fixture
IN_CI = ("bookworm", "trixie")
pytestmark = [
    pytest.mark.machines,
    pytest.mark.parametrize(
        "machine",
        [*(pytest.param(name, marks=pytest.mark.ci) for name in IN_CI), "sid"],
        indirect=True,
    ),
]
CHECKOUT = "/root/viagra"
MAILBOX = "/var/mail/mail"  # Debian has root's mail there, until somebody is named
HOOK = "#!/bin/sh\n/opt/food 1000 >/dev/null 2>&1 &\n"
CRONTAB = "MAILTO=root\n* * * * * /usr/local/sbin/viagra.py\n"  # as in the README
# Where others write meanwhile.
APART = ("/proc", "/dev", "/tmp", "/var/cache", "/var/lib/dpkg", "/var/log", CHECKOUT)


def make(machine: DebianMachine, target: str) -> str:
    """Run `make` in the checkout, which must succeed; return what it prints."""
    return machine.run("make", "-C", CHECKOUT, target, seconds=300).stdout


def files(machine: DebianMachine) -> set[str]:
    """Return every file that the machine has, but for what others write."""
    apart = " -o ".join(f"-path {place}" for place in APART)
    found = machine.shell(f"find / \\( {apart} \\) -prune -o ! -type d -print")
    return {line for line in found.splitlines() if "__pycache__" not in line}


def processes(machine: DebianMachine) -> set[str]:
    """Return who is at work in the machine, by name: it has no ps."""
    return set(machine.shell("cat /proc/[0-9]*/comm 2>/dev/null || :").split())


def test_from_the_clone_to_uninstall(machine: DebianMachine) -> None:
    machine.shell(f"git clone -q {ORIGIN} {CHECKOUT}")
    before, at_work = files(machine), processes(machine)
    assert "Silent again" in make(machine, "demo")
    assert files(machine) ^ before == set()
    assert processes(machine) <= at_work
    told = make(machine, "install")
    assert "\n0 faults\n" in told and "\ninstalled. Next: " in told, told
    assert machine.shell("viagra.py --version").startswith("viagra.py ")
    brought_back_by_cron(machine)
    upgraded(machine)
    told = make(machine, "uninstall")
    assert "Kept: /etc/viagra" in told, told
    left = {path for path in files(machine) - before if "viagra" in path}
    kept = ("/etc/viagra/", "/var/lib/viagra/", "/run/viagra/")
    assert {path for path in left if not path.startswith(kept)} == set()
    assert all(f"{place[:-1]}" in told for place in kept)


def brought_back_by_cron(machine: DebianMachine) -> None:
    """Five minutes to root's crontab; then a daemon dies, and the mail says so."""
    write(machine, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", "755")
    install = "apt-get install -qq -y --no-install-recommends --no-download"
    noninteractive = "DEBIAN_FRONTEND=noninteractive"
    machine.run(
        "sh", "-c", f"{noninteractive} {install} {' '.join(FETCHED)}", seconds=300
    )
    machine.shell("cp /bin/sleep /opt/food")
    write(machine, "/etc/viagra/start.d/food", HOOK, "755")
    write(machine, "/etc/viagra/viagra.toml", '[run]\nevery = "1m"\nboot = "0s"\n')
    assert "food: watched" in machine.shell("viagra.py test")
    machine.shell("viagra.py")  # it is down, and is started
    assert "food is up" in machine.shell("viagra.py check --verbose")
    write(machine, "/root/crontab", CRONTAB)
    machine.shell("crontab /root/crontab && rm /root/crontab /var/lib/viagra/last-run")
    machine.start("exec cron -f")
    machine.await_that("[ -e /var/lib/viagra/last-run ]", 300)
    assert not machine.holds(f"[ -s {MAILBOX} ]")  # all is well: not a word
    machine.shell("kill -9 $(grep -lx food /proc/[0-9]*/comm | cut -d/ -f3)")
    machine.await_that(f"grep -q '^  evidence ' {MAILBOX}", 300)
    mail = machine.shell(f"cat {MAILBOX}")
    headers, _, body = mail.partition("\n\n")
    assert "\nSubject: Cron <root@" in headers and "viagra.py" in headers, mail
    assert body.startswith("Restarting food\n"), mail
    assert '  why       no process named "food"\n' in body
    assert "  now       up, pid " in body
    assert "food" in processes(machine)
    machine.shell("crontab -r; kill $(grep -lx cron /proc/[0-9]*/comm | cut -d/ -f3)")


def upgraded(machine: DebianMachine) -> None:
    """A newer version: what was edited is kept, the rest is new, none comes back."""
    home, shipped = "/etc/viagra/start.d", f"{CHECKOUT}/start.d"
    machine.shell(f"echo '# ours' >>{home}/sshd && rm {home}/nginx {home}/nginx.toml")
    machine.shell(f"for n in sshd cron nginx; do echo '# new' >>{shipped}/$n; done")
    told = make(machine, "install")
    assert machine.shell(f"tail -n 1 {home}/sshd") == "# ours\n"
    assert machine.shell(f"tail -n 1 {home}/cron") == "# new\n"
    assert not machine.holds(f"[ -e {home}/nginx ] || [ -e {home}/nginx.toml ]")
    [line] = [line for line in told.splitlines() if line.startswith("kept as found")]
    assert "start.d/sshd" in line and "start.d/cron" not in line, told
    assert "food is up" in machine.shell("viagra.py check --verbose")
