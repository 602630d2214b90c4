"""A private machine for one test: its own processes, network, /etc, /var, /run, /dev.

Made of namespaces and overlays, see unshare(1). What a test starts, writes or breaks
in it is out of reach of the real machine, and is gone when the machine is ended: so
the real daemons of a distribution can be started, and killed, where others run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

NAMESPACES = ("--mount", "--net", "--ipc", "--uts", "--pid")
# Its namespaces, its root directory, and the directory of its process 1.
ENTER = ("-m", "-n", "-i", "-u", "-p", "-r", "-w")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Directories that the machine may change; what it changes is kept in memory.
OWN = ("/etc", "/var", "/run", "/dev", "/mnt")

# Process 1. It must reap what loses its parent, as a real one does: to an init.d
# script a zombie is a process that runs.
INIT = """
import fcntl, os, signal, socket, struct, subprocess, sys

def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

directory, *own = sys.argv[1:]
mount("-t", "tmpfs", "tmpfs", directory)
for place in own:
    upper, work = directory + place, f"{directory}/work{place}"
    os.makedirs(upper)
    os.makedirs(work)
    options = f"lowerdir={place},upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", options, "overlay", place)
mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
subprocess.run("rm -rf /run/systemd/system /run/openrc /dev/log", shell=True)
with socket.socket() as any_socket:  # loopback is up: SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


class Machine:
    """One private machine. `end` ends all of its processes."""

    namespaces: tuple[str, ...] = ENTER

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        init = [sys.executable, "-IS", "-c", INIT, str(directory), *OWN]
        namespaces = [*NAMESPACES, "--fork", "--mount-proc", "--kill-child"]
        self._begin(["unshare", *namespaces, *init])

    def _begin(self, command: list[str]) -> None:
        """Start it: `command` leaves a process 1 in it, which says when it is ready."""
        self._unshare = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._unshare.stdout and self._unshare.stderr
        if self._unshare.stdout.readline() != "ready\n":
            self._unshare.wait()
            raise OSError(f"no private machine: {self._unshare.stderr.read()}")
        [first] = psutil.Process(self._unshare.pid).children()
        self._first = first.pid

    @property
    def entrance(self) -> list[str]:
        """What runs the command that follows in the machine, as root's child."""
        return ["nsenter", "-t", str(self._first), *self.namespaces]

    def end(self) -> None:
        """End the machine: with its process 1, the kernel kills all the others."""
        os.kill(self._first, 9)
        self._unshare.communicate()

    def run(
        self, *command: str, seconds: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine; output and errors come back as `stdout`."""
        return self.enter(*command, seconds=seconds, check=check)

    def enter(
        self, *command: str, seconds: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as a child of ours.

        They go to a file, not to a pipe: what the command leaves running may keep
        them open.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            done = subprocess.run(
                [*self.entrance, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"},
                timeout=seconds,
                check=False,
            )
            output.seek(0)
            text = output.read()
        assert not check or done.returncode == 0, f"{command}: {text}"
        return subprocess.CompletedProcess(command, done.returncode, text, "")

    def shell(self, script: str, check: bool = True) -> str:
        """Run a shell script in the machine and return what it prints."""
        return self.run("sh", "-c", script, check=check).stdout

    def holds(self, condition: str) -> bool:
        """Return whether a shell command succeeds in the machine."""
        return self.run("sh", "-c", condition, check=False).returncode == 0

    def await_that(self, condition: str, seconds: float = 120.0) -> None:
        """Poll until a shell command succeeds in the machine."""
        # In there: to enter the machine for each look costs more than the look.
        poll = f"until {{ {condition}\n}}; do sleep 0.05; done >/dev/null 2>&1"
        limit = ["timeout", str(seconds), "sh", "-c", poll]
        if self.run(*limit, seconds=2 * seconds, check=False).returncode != 0:
            processes = self.shell("ps -eo pid,ppid,user,comm,args")
            raise AssertionError(f"not in {seconds} s: {condition}\n{processes}")

    def start(self, script: str) -> None:
        """Start a shell script in the machine that goes on by itself."""
        self.shell(f"( {script} ) </dev/null >/dev/null 2>&1 &")
