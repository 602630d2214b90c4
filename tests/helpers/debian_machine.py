"""A freshly installed Debian, minimal, for one test: thrown away with all that it did.

Its root directory is made once by mmdebstrap(1), and kept in CACHE. Each machine sees
it through an overlay, with /proc, /dev and a network of its own, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from checkout import CHECKOUT
from ready_machine import NAMESPACES, PATH, Machine
from world import need, need_root

CACHE = Path(os.environ.get("VIAGRA_MACHINES", "/var/cache/viagra-machines"))
# What the README asks for, and what a clone from a directory needs.
MINIMAL = ("python3", "python3-venv", "make", "git", "ca-certificates")
# A mount namespace of its own: with the last process, all that it mounts is gone.
APART = ["unshare", "--mount", "--propagation", "private"]
# Installed later, in a machine without a network, as an administrator would.
FETCHED = ("cron", "exim4-daemon-light", "python3-psutil")
# What other roots have besides, by the name of their process 1's program.
FEW = (  # what the tests with the mark `ci` need
    *("procps", "iproute2", "cron", "openssh-server", "openssh-client"),
    *("nginx-light", "redis-server"),
)
DAEMONS_OF_ALL = (
    *FEW,
    *("rsyslog", "apache2", "postgresql", "mariadb-server", "php-fpm", "postfix"),
    *("dovecot-imapd", "bind9", "chrony", "fail2ban", "openbsd-inetd", "at"),
)
SYSTEMD = ("systemd", "systemd-sysv", "dbus", "libpam-systemd")
KINDS = {
    "systemd": (*SYSTEMD, "nftables", "tomcat10", "systemd-coredump", *DAEMONS_OF_ALL),
    "kernel": (  # what boots on a kernel of its own
        *("systemd", "systemd-sysv", "dbus", "procps", "iproute2", "elfutils"),
        *("systemd-coredump", "initramfs-tools", "linux-image-cloud-amd64"),
    ),
    "openrc": ("openrc", "sysvinit-core", *DAEMONS_OF_ALL),
    "sysvinit": ("sysvinit-core", *DAEMONS_OF_ALL),
}
if "VIAGRA_MACHINES_FEW" in os.environ:
    KINDS["systemd"] = (*SYSTEMD, *FEW)
# The machine's own business at its boot; all else is started by the test that needs it.
LEFT_ON = (
    *("dbus", "cron", "systemd-", "getty", "networking", "remote-fs", "e2scrub"),
    *("bootlogs", "rc.local", "rmnologin"),
)
ORIGIN = "/srv/viagra.git"  # the checkout, read-only, to be cloned

# Process 1 of the machine: it makes the machine's root, goes there, and reaps.
INIT = """
import ctypes, fcntl, os, signal, socket, struct, subprocess, sys

def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

directory, lower, checkout, origin = sys.argv[1:]
libc = ctypes.CDLL(None)
mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
root, upper, work = (f"{directory}/{name}" for name in ("root", "upper", "work"))
for place in (root, upper, work):
    os.mkdir(place)
options = f"lowerdir={lower},upperdir={upper},workdir={work}"
mount("-t", "overlay", "-o", options, "overlay", root)
mount("-t", "proc", "proc", f"{root}/proc")
mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/dev")
mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/run")
mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/tmp")
for name in ("null", "zero", "full", "random", "urandom", "tty"):
    open(f"{root}/dev/{name}", "w").close()
    mount("--bind", f"/dev/{name}", f"{root}/dev/{name}")
for name in ("pts", "shm"):
    os.mkdir(f"{root}/dev/{name}")
mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", f"{root}/dev/pts")
mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/dev/shm")
for link, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"),
                     ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
    os.symlink(target, f"{root}/dev/{link}")
os.mkdir(root + origin)
mount("--bind", "-o", "ro", checkout, root + origin)
os.mkdir(f"{root}/outside")
subprocess.run(["pivot_root", root, f"{root}/outside"], check=True)
os.chdir("/")
if libc.umount2(b"/outside", 2):  # MNT_DETACH
    sys.exit("could not leave the outer root")
os.rmdir("/outside")
socket.sethostname("fresh")
with socket.socket() as any_socket:  # loopback is up: SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


class DebianMachine(Machine):
    """A machine that was installed a moment ago; see Machine for what it can do."""

    def __init__(self, suite: str, directory: Path) -> None:
        """`suite` is the name of Debian's version, such as "bookworm"."""
        need_root()
        need("unshare")
        lower = installed(suite)
        directory.mkdir()
        arguments = [str(directory), str(lower), str(origin(directory)), ORIGIN]
        init = [sys.executable, "-IS", "-c", INIT, *arguments]
        try:
            self._begin(["unshare", *NAMESPACES, "--fork", "--kill-child", *init])
        except OSError as error:
            no_machine(error)


def no_machine(why: object) -> NoReturn:
    """Skip the test, under CI too: that none is to be had here is no fault of ours."""
    pytest.skip(f"no machine here: {why}")


def origin(directory: Path) -> Path:
    """Return a bare repository of what is committed here, to be cloned."""
    path = directory.with_suffix(".git")
    # Of a worktree, the repository lies elsewhere, which the machine does not see.
    git = ["git", "-c", "safe.directory=*"]
    subprocess.run([*git, "clone", "-q", "--bare", CHECKOUT, path], check=True)
    return path


@pytest.fixture(name="machine")
def fresh_debian(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[DebianMachine]:
    """A machine for one test: `request.param` is the name of Debian's version."""
    machine = DebianMachine(request.param, tmp_path / "machine")
    try:
        yield machine
    finally:
        machine.end()


def installed(suite: str, kind: str = "") -> Path:
    """Return the root directory of a Debian, made now if CACHE lacks part of it.

    It is a fresh one, or one of a `kind` that can be booted: see KINDS.
    """
    place = CACHE / (f"{suite}-{kind}" if kind else suite)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of several test workers makes it
        if not _is_whole(place, kind):
            new = CACHE / f"{place.name}.{os.getpid()}"
            try:
                _make(new, suite, kind)
                shutil.rmtree(place, ignore_errors=True)
                new.rename(place)
            except OSError as error:
                shutil.rmtree(new, ignore_errors=True)
                no_machine(f"a root of Debian {suite} cannot be made: {error}")
    return place


def _is_whole(place: Path, kind: str) -> bool:
    """Tell whether a root directory has all that is asked of it today."""
    if kind:
        information = place / "var/lib/dpkg/info"
        return all([*information.glob(f"{name}[.:]*list")] for name in KINDS[kind])
    archives = place / "var/cache/apt/archives"
    return all([*archives.glob(f"{name}_*")] for name in FETCHED)


def _mirror() -> str:
    """Return from where this machine's apt has Debian. Raises OSError."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    done = subprocess.run(
        [*targets, "Created-By: Packages", "Component: main"],
        capture_output=True,
        text=True,
        check=False,
    )
    places = [one for one in done.stdout.split() if "security" not in one]
    if not places:
        raise OSError(None, "apt has no mirror of Debian here")
    return places[0]


def _make(new: Path, suite: str, kind: str) -> None:
    """Make a root directory. Raises OSError."""
    if not kind:
        included = f"--include={','.join(MINIMAL)}"
        make = [need("mmdebstrap"), "--quiet", "--variant=minbase", included]
        make += [
            "--aptopt=Acquire::Check-Valid-Until false",
            suite,
            str(new),
            _mirror(),
        ]
        _command([*APART, *make])
        (new / "etc/apt/apt.conf.d/99mmdebstrap").unlink()
        shutil.copy("/etc/resolv.conf", new / "etc/resolv.conf")
        _fetch(new, "--download-only", *FETCHED)
        return
    _command(["cp", "-a", "--reflink=auto", str(installed(suite)), str(new)])
    policy = new / "usr/sbin/policy-rc.d"  # nothing is started in here
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    _fetch(new, *KINDS[kind])
    policy.unlink()
    for places in (
        "etc/systemd/system/*.wants",
        "etc/runlevels/default",
        "etc/rc[2-5].d",
    ):
        for link in new.glob(f"{places}/*"):
            name = re.sub("^S[0-9]+", "", link.name)
            if link.is_symlink() and not name.startswith(LEFT_ON):
                link.unlink()


def _fetch(root: Path, *packages: str) -> None:
    """Install packages in a root directory, with a process table of its own.

    Some would set the kernel's parameters, which are everybody's, such as core_pattern.
    """
    apart = [*APART, "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc"]
    sealed = 'mount --bind -o ro "$0/proc/sys" "$0/proc/sys"; exec chroot "$0" "$@"'
    apart += ["sh", "-ec", sealed, str(root)]
    fetch = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    # A mirror may lag behind sid's date, which is valid for a week.
    update = ["apt-get", "-o", "Acquire::Check-Valid-Until=false", "update", "-qq"]
    for command in (update, fetch):
        _command([*apart, *command])


def _command(command: list[str]) -> None:
    """Execute a command of those that make a root.

    Raises OSError, with the last of what it said where it failed, or took too long.
    """
    limit = ["timeout", "--kill-after=10", "900"]
    environment = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        [*limit, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout.strip()[-300:]
        raise OSError(f"{shlex.join(command)}: exit {done.returncode}: {said}")
