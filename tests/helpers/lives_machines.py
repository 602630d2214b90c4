"""Three machines made of namespaces, each with an etcd member and keepers.

For test_lease_lives.py. Written from docs/lease.md alone, apart from lease_cluster.py:
what one of the two gets wrong the other may see.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from checkout import HELPERS, copy_library
from world import absent, alive, arguments, need, need_root, of, until

PYTHON = os.path.realpath(sys.executable)
NODES = (1, 2, 3)
# How its command behaves; see LIFE.
RESOURCES = ("plain", "forks", "deaf")
ENGINE = "etcd://10.77.0.1,10.77.0.2,10.77.0.3/lives"
LIFE = """#!/bin/sh
case $2 in
forks) setsid sleep 1000000 & ;;
deaf) trap '' TERM; setsid sleep 1000000 & while :; do sleep 1; done ;;
esac
exec sleep 1000000
"""
# Whose parent is gone is reaped by the kernel.
BOOT = """
mount --bind {place}/id /etc/machine-id &&
mount --bind {place}/boot /proc/sys/kernel/random/boot_id &&
hostname node{number} && trap '' CHLD && exec sleep 1000000
"""
NET = """
ip link set lo up && ip link set eth0 address 02:00:00:00:00:0{number} up &&
ip address add 10.77.0.{number}/24 dev eth0
for other in 1 2 3; do
    [ $other = {number} ] || ip neighbour replace 10.77.0.$other \
        lladdr 02:00:00:00:00:0$other nud permanent dev eth0
done
"""


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]
    return []


def send(pid: int, number: int) -> None:
    """Send a signal to a process, which may be gone."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Machine:
    """One node: its own network, host name, processes, machine-id and boot."""

    def __init__(self, number: int, place: Path, library: Path) -> None:
        self.number = number
        self._place = place
        self._lease = library / "companions/viagra-lease"
        self._init: subprocess.Popen[bytes] | None = None
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.is_member_on = True  # or to be left off for now
        place.mkdir()
        (place / "id").write_text(f"{uuid.uuid4().hex}\n")

    @property
    def is_on(self) -> bool:
        return self._init is not None

    @property
    def first(self) -> int:
        """The pid, as seen from outside, of its process 1; 0 when it is off."""
        return (children(self._init.pid) or [0])[0] if self._init else 0

    def switch_on(self) -> None:
        """Boot it, without a network."""
        (self._place / "boot").write_text(f"{uuid.uuid4()}\n")
        flags = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        script = BOOT.format(place=self._place, number=self.number)
        argv = ["unshare", *flags, "--mount-proc", "sh", "-c", script]
        self._init = subprocess.Popen(argv)
        until(lambda: "1000000" in arguments(self.first))

    def join(self) -> None:
        """Set up the network card that the switch has plugged in."""
        script = NET.format(number=self.number)
        subprocess.run([*self._inside(), "sh", "-c", script], check=True)

    def switch_off(self) -> None:
        """End all of it at one instant."""
        if not self._init:
            return
        first, init, started = self.first, self._init, self._started
        self._init, self._started = None, {}
        send(first, signal.SIGKILL)

        def is_over() -> bool:
            for one in started.values():
                send(one.pid, signal.SIGCONT)  # see _runs; process 1 waits for all
            return all(one.poll() is not None for one in (init, *started.values()))

        until(is_over)

    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.first), "-n", "-m", "-u", "-p", "--"]

    def _start(self, name: str, *argv: str, **more: str) -> None:
        with (self._place / f"{name}.log").open("ab") as log:
            self._started[name] = subprocess.Popen(
                [*self._inside(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], **more},
            )

    def _runs(self, name: str) -> bool:
        """Return whether it does, after waking who would not hear of its end.

        nsenter stops itself when what it has started is stopped.
        """
        if name not in self._started:
            return False
        outer = self._started[name]
        if not any(alive(pid) for pid in children(outer.pid)):
            send(outer.pid, signal.SIGCONT)
        return outer.poll() is None

    def attend(self) -> None:
        """Start what does not run and should, as cron would."""
        if self.is_member_on and not self._runs("etcd"):
            self._start("etcd", *self._etcd())
        for name in RESOURCES:
            if not self._runs(name):
                options = ("--ttl", "4s", "--retry-after", "2s")
                life = (str(self._place.parent / "life"), f"node{self.number}", name)
                state = str(self._place / "state")
                command = (PYTHON, "-I", str(self._lease), *options, name, *life)
                self._start(name, *command, VIAGRA_STATE=state, VIAGRA_LEASE=ENGINE)

    def _etcd(self) -> list[str]:
        own = f"http://10.77.0.{self.number}"
        cluster = ",".join(f"m{n}=http://10.77.0.{n}:2380" for n in NODES)
        return [
            *("etcd", "--name", f"m{self.number}"),
            *("--data-dir", str(self._place / "data"), "--log-level", "error"),
            *("--listen-client-urls", f"{own}:2379"),
            *("--advertise-client-urls", f"{own}:2379"),
            *("--listen-peer-urls", f"{own}:2380"),
            *("--initial-advertise-peer-urls", f"{own}:2380"),
            *("--initial-cluster", cluster),
        ]

    @property
    def member(self) -> int:
        """The pid of etcd, or 0."""
        return self._child("etcd")

    def guardian(self, resource: str) -> int:
        return self._child(resource)

    def keeper(self, resource: str) -> int:
        return (children(self.guardian(resource)) or [0])[0]

    def command(self, resource: str) -> int:
        return (children(self.keeper(resource)) or [0])[0]

    def _child(self, name: str) -> int:
        if not self._runs(name):
            return 0
        return (children(self._started[name].pid) or [0])[0]

    def run(self, *argv: str, **more: str) -> str:
        """Run a program in it to its end; return what it printed, "" if it failed."""
        done = subprocess.run(
            [*self._inside(), "timeout", "-s", "KILL", "3", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], **more},
            text=True,
            check=False,
        )
        return "" if done.returncode else done.stdout

    def order(self, verb: str, resource: str) -> None:
        """Have viagra-lease obey a verb."""
        state = str(self._place / "state")
        command = (PYTHON, "-I", str(self._lease), verb, resource)
        self.run(*command, VIAGRA_STATE=state, VIAGRA_LEASE=ENGINE)

    def etcdctl(self, *words: str) -> str:
        at = f"--endpoints=http://10.77.0.{self.number}:2379"
        return self.run("etcdctl", at, *words, ETCDCTL_API="3")

    def is_healthy(self) -> bool:
        """Return whether a majority answers its member."""
        return bool(self.is_on and self.etcdctl("get", "none", "-w", "json"))

    def leads(self) -> bool:
        """Return whether its member leads the cluster, as far as that knows."""
        words = [w.strip() for w in self.etcdctl("endpoint", "status").split(",")]
        return words[4:5] == ["true"]

    def slow_disk(self, seconds: float) -> subprocess.Popen[bytes]:
        """Have each sync of its member take so long, until the returned one ends."""
        late = f"inject=fdatasync,fsync:delay_enter={seconds * 1e6:.0f}"
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", late]
        argv += ["-e", "trace=fdatasync,fsync", "-p", str(self.member)]
        return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


class Machines:
    """All of them, and the switch between them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.life = place / "life"
        self.life.write_text(LIFE)
        self.life.chmod(0o755)
        library = copy_library(place)
        self.all = {n: Machine(n, place / str(n), library) for n in NODES}
        self._switch = subprocess.Popen(
            [PYTHON, "-I", str(HELPERS / "lives_switch.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def switch_on(self, number: int) -> None:
        machine = self.all[number]
        machine.switch_on()
        self._tell(f"plug {number} {machine.first}")
        machine.join()
        machine.attend()

    def cable(self, one: int, other: int, lost: float = 0, late: float = 0) -> None:
        """Have frames in this direction be lost, or late."""
        self._tell(f"cable {one} {other} {lost} {late}")

    def attend(self) -> None:
        for machine in self.all.values():
            if machine.is_on:
                machine.attend()

    def _tell(self, line: str) -> None:
        assert self._switch.stdin
        assert self._switch.stdout
        self._switch.stdin.write(f"{line}\n".encode())
        self._switch.stdin.flush()
        assert self._switch.stdout.readline() == b"done\n"

    def end(self) -> None:
        for machine in self.all.values():
            machine.switch_off()
        self._switch.kill()
        self._switch.communicate()
        until(lambda: not of(os.fsencode(self.place)))


@contextlib.contextmanager
def machines(place: Path) -> Iterator[Machines]:
    """Give three machines that are on; skip by name what the host lacks."""
    need_root()
    for program in ("etcd", "etcdctl", "ip", "unshare", "nsenter", "strace"):
        need(program)
    if not os.path.exists("/dev/net/tun"):
        absent("needs /dev/net/tun")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    place.chmod(0o755)
    them = Machines(place)
    try:
        for number in NODES:
            them.switch_on(number)
        yield them
    finally:
        them.end()
