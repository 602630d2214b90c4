"""The Debian package: built, without faults, installed, upgraded, removed, purged.

All but lintian's part needs freshly installed Debians: `make test-machines`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from checkout import CHECKOUT
from debian_machine import ORIGIN, DebianMachine, fresh_debian
from world import need

__all__ = ["fresh_debian"]  # a fixture
SOURCE = "/root/viagra"
HOME = "/etc/viagra/start.d"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-download"
# What its manual pages name of its own, and does not lie in it, unpacked at $1.
NAMED = (
    r"zcat $1/usr/share/man/man*/* | grep -v '^\.Bl' |"
    r" grep -o '/usr/[a-z]*/[a-z/]*viagra[a-z/.-]*' | sort -u |"
    " while read -r path; do [ -e $1$path ] || echo $path; done"
)
OURS = f"find / -xdev -path {SOURCE} -prune -o -name '*viagra*' -print"


def built(machine: DebianMachine) -> str:
    """Build the package in the machine; return its path there."""
    path = machine.shell(f"make -s -C {SOURCE} deb").splitlines()[0]
    return f"{SOURCE}/{path}"


@pytest.mark.machines
@pytest.mark.parametrize("machine", ["bookworm", "trixie"], indirect=True)
def test_installed_upgraded_over_an_edited_hook_removed_and_purged(
    machine: DebianMachine,
) -> None:
    machine.shell(f"git clone -q {ORIGIN} {SOURCE}")
    before = machine.shell(OURS)
    package = built(machine)
    machine.shell(f"dpkg-deb -x {package} /tmp/unpacked")
    assert machine.shell(f"set -- /tmp/unpacked; {NAMED}") == "/usr/local/etc/viagra\n"
    machine.shell(f"rm -r /tmp/unpacked; dpkg -i {package}")  # it needs no psutil
    told = machine.shell("viagra.py test")
    assert "\n0 faults\n" in told, told
    assert "home /etc/viagra, state /var/lib/viagra\n" in told
    assert machine.shell("find /etc/viagra -type f -perm /111") == ""
    assert not machine.holds("find /etc/systemd /usr/lib/systemd | grep wants/viagra")
    assert machine.holds("[ -s /usr/lib/systemd/catalog/viagra.catalog ]")
    for companion in ("run", "wait", "lease"):
        machine.shell(f"viagra-{companion} --help >/dev/null")
    assert machine.holds("find /usr/lib/viagra -name '*.pyc' | grep -q .")

    machine.shell(f"chmod +x {HOME}/sshd {HOME}/cron; rm {HOME}/nginx")
    machine.shell(f"echo '# ours' >>{HOME}/cron")
    machine.shell(
        f"cd {SOURCE} && for n in sshd cron nginx; do echo '# new' >>start.d/$n; done"
        f" && sed -i 's/^VERSION = .*/VERSION = \"99.0.0\"/' viagralib/__init__.py"
    )
    told = machine.shell(f"dpkg -i --force-confold {built(machine)}")
    assert machine.shell("viagra.py --version") == "viagra.py 99.0.0\n", told
    assert machine.shell(f"tail -qn 1 {HOME}/sshd {HOME}/cron") == "# new\n# ours\n"
    assert machine.holds(f"[ -x {HOME}/sshd ] && [ -x {HOME}/cron ]")
    assert not machine.holds(f"[ -e {HOME}/nginx ]")
    assert "cron.dpkg-dist: a copy" in machine.shell("viagra.py test", check=False)

    machine.shell("viagra.py check", check=False)
    machine.shell(f"{APT} remove viagra-py")
    left = set(machine.shell(OURS).split()) - set(before.split())
    assert {"/etc/viagra", "/var/lib/viagra"} <= left
    kept = ("/etc/viagra", "/var/lib/viagra", "/var/lib/dpkg/info/viagra-py.")
    assert {path for path in left if not path.startswith(kept)} == set()
    machine.shell(f"{APT} purge viagra-py")
    assert set(machine.shell(OURS).split()) - set(before.split()) == set()


@pytest.mark.long
def test_lintian_finds_nothing(tmp_path: Path) -> None:
    lintian, deb = need("lintian"), need("dpkg-deb")
    assert deb
    source = tmp_path / "source"
    clone = ["git", "-c", "safe.directory=*", "clone", "-q"]
    subprocess.run([*clone, str(CHECKOUT), str(source)], check=True)
    environment = {**os.environ, "MAINTAINER": "Somebody <somebody@debian.org>"}
    subprocess.run(["make", "-s", "deb"], cwd=source, env=environment, check=True)
    [package] = (source / "build").glob("*.deb")
    done = subprocess.run(
        [lintian, "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
