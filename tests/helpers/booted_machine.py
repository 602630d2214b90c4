"""A Debian with a real process 1, for tests: booted in seconds, thrown away after.

systemd-nspawn(1) boots it, on an overlay in memory over a root directory that is made
once (debian_machine). The kernel is this machine's: so its uptime, its log and its
core_pattern are not the booted machine's own, and units have no limit of memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from checkout import CHECKOUT
from cron_machine import write
from debian_machine import APART, installed, no_machine
from ready_machine import ENTER, PATH, Machine
from world import comm, need, need_root, unique, until

# nspawn is to end with us, also if we are killed.
LAST = ["setpriv", "--pdeathsig", "KILL"]
# Out here, nspawn takes the control group that it is started in for the machine's. One
# that two machines share would have two systemds, each of which fails at what the other
# does in there: "Input/output error" is a process that has no pid in its own namespace.
BOOT = """
directory=$1 lower=$2 checkout=$3 name=$4 first=$5
tree=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)
[ -n "$tree" ] || { echo "no cgroup v2 is mounted"; exit 1; }
group=$tree$(sed -n s/^0:://p /proc/self/cgroup)/$name
mkdir "$group"
echo $$ >"$group/cgroup.procs"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
options=lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work
mount -t overlay -o "$options" overlay "$directory/root"
# Neither a machined nor a systemd is needed out here; its network is its own.
exec systemd-nspawn --quiet --directory="$directory/root" --machine="$name" \\
	--register=no --keep-unit --private-network --resolv-conf=off --timezone=off \\
	--link-journal=no --console=pipe --bind-ro="$checkout:/srv/viagra" "$first"
"""
# Below a service manager a command gets a unit of its own: what nsenter alone brings in
# stays in the control group that it has out here.
IN_A_UNIT = """
exec systemd-run --quiet --wait --pipe --collect --service-type=exec \
	--property=KillMode=process --setenv=HOME=/root --setenv=LANG=C.UTF-8 \
	--setenv=PATH="$PATH" -- "$@"
"""
SETTINGS = '[defaults]\npatience = "0.1s"\n[run]\nboot = "0s"\n'
# With systemd installed beside it, --boot would take that.
FIRST = {"systemd": "--boot", "openrc": "/sbin/init", "sysvinit": "/sbin/init"}
SCRIPTS_DONE = "runlevel | grep -q ' 2$' && pgrep -x cron && ! pgrep -x rc"
BOOTED = {
    "systemd": "systemctl is-system-running | grep -qE '^(running|degraded)$'",
    "openrc": SCRIPTS_DONE,
    "sysvinit": SCRIPTS_DONE,
}


def copy_checkout(directory: Path) -> Path:
    """Copy what is installed in a machine beside its directory; return the copy."""
    checkout = directory.with_suffix(".checkout")
    others = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(CHECKOUT, checkout, ignore=others, symlinks=True)
    return checkout


class BootedMachine(Machine):
    """A machine whose process 1 is `kind`: see debian_machine.KINDS, and Machine.

    Our checkout is installed in it.
    """

    namespaces = (*ENTER, "-C")

    def __init__(self, suite: str, kind: str, directory: Path) -> None:
        need_root()
        for program in ("systemd-nspawn", "unshare", "nsenter"):
            need(program)
        self.kind = kind
        lower = installed(suite, kind)
        directory.mkdir()
        checkout = copy_checkout(directory)
        self._name = unique("machine")
        script = ["sh", "-euc", BOOT, "sh", str(directory), str(lower), str(checkout)]
        self._console = directory.with_suffix(".console").open("w+")
        self._nspawn = subprocess.Popen(
            [*LAST, *APART, *script, self._name, FIRST[kind]],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        self._first = 0
        try:
            self._first = self._or_none(self._process_1)
            self._or_none(self._is_booted)
            self._need_units()
            self.run("make", "-C", "/srv/viagra", "install", seconds=300)
        except BaseException:
            self.end()
            raise

    def _process_1(self) -> int:
        """Return the pid, out here, of its process 1; 0: not yet."""
        if self._nspawn.poll() is not None:
            no_machine(f"systemd-nspawn: {self.console()}")
        children = psutil.Process(self._nspawn.pid).children()
        pids = [one.pid for one in children if comm(one.pid) in ("systemd", "init")]
        return pids[0] if pids else 0

    def _is_booted(self) -> bool:
        try:
            done = self.enter("sh", "-c", BOOTED[self.kind], check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _or_none(self, look: Callable[[], int]) -> int:
        """Return what `look` returns once it is true; skip the test if it never is."""
        try:
            return until(look, 180)
        except AssertionError:
            no_machine(f"{self.kind} does not come up: {self.console()[-1000:]}")

    def _need_units(self) -> None:
        """Skip the test where the machine's systemd cannot start what it is told to."""
        if self.kind == "systemd":
            five = "for _ in 1 2 3 4 5; do systemd-run -q --wait true || exit; done"
            done = self.enter("sh", "-c", five, check=False)
            if done.returncode:
                no_machine(f"its systemd starts no units: {done.stdout}{done.stderr}")

    def console(self) -> str:
        """Return what was printed on its console."""
        self._console.seek(0)
        return self._console.read()

    def end(self) -> None:
        """End the machine: with its process 1, the kernel kills all the others."""
        for pid in (self._first, self._nspawn.pid):
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, 9)
        self._nspawn.wait()
        self._console.close()
        until(self._has_no_group)

    def _has_no_group(self) -> bool:
        """Remove its control groups, also those that nspawn made of its own accord."""
        groups = ["find", "/sys/fs/cgroup", "-depth", "-type", "d"]
        groups += ["-path", f"*/{self._name}*", "-exec", "rmdir", "{}", "+"]
        done = subprocess.run(groups, stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def run(
        self, *command: str, seconds: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, in a unit of its own where there are units."""
        if self.kind == "systemd":
            command = ("sh", "-c", IN_A_UNIT, "sh", *command)
        return self.enter(*command, seconds=seconds, check=check)


@pytest.fixture(name="booted", scope="module")
def booted_machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BootedMachine]:
    """A machine for all tests of a module: `request.param` is such as trixie-systemd.

    Each test watches daemons of its own, and names them to viagra.py.
    """
    suite, _, kind = request.param.partition("-")
    directory = tmp_path_factory.mktemp(request.param) / "machine"
    machine = BootedMachine(suite, kind, directory)
    try:
        write(machine, "/etc/viagra/viagra.toml", SETTINGS)
        yield machine
    finally:
        machine.end()
