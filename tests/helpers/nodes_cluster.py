"""Machines made of namespaces, an etcd member on each, and keepers of some leases.

All of it is in a pid namespace whose process 1 is this program: when it ends, however
that comes, the kernel ends the rest.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACES = 8  # as in nodes_witness.c
LINK = struct.Struct("iiii")
LIFE = struct.Struct("qqqiiii24x")
LIVES = 8192
BOOK = 64 + LIVES * LIFE.size  # bytes
CLIENT, HIDDEN = 2379, 2400  # ports: a member's for clients, and one that nobody knows


@dataclass
class Lease:
    """A lease, and the command under it (`kind`, as in nodes_witness.c)."""

    name: str
    kind: str
    ttl: int
    fence: bool = False


@dataclass
class Machine:
    """A machine, by its number from 1."""

    number: int
    uptime: int  # of its boot clock when it is made, in seconds
    process: subprocess.Popen[bytes] | None = None
    init: int = 0  # the pid of its process 1, 0 while it is off
    member: int = 0  # etcd's pid
    port: int = CLIENT
    guardians: dict[int, int] = field(default_factory=dict)
    entered: list[int] = field(default_factory=list)  # all pids that were started there

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number + 1}"


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def send(pid: int, number: int) -> None:
    """Send a signal to one that may be gone."""
    if pid > 0:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def lives_in(book: mmap.mmap | bytes) -> list[dict[str, Any]]:
    """Return what commands noted of themselves in a book, in order of their starts."""
    found = []
    names = ("start", "last", "token", "lease", "node", "first", "met")
    count: int = struct.unpack_from("q", book)[0]
    for number in range(min(LIVES, count)):
        values = LIFE.unpack_from(book, 64 + number * LIFE.size)
        one: dict[str, Any] = dict(zip(names, values, strict=False))
        one["start"], one["last"] = one["start"] / 1e9, one["last"] / 1e9
        one["main"] = one["first"] == number
        found.append(one)
    return found


class Cluster:
    """Three machines on a network of their own, and what happened to them."""

    def __init__(
        self, programs: Path, place: Path, leases: list[Lease], seed: int
    ) -> None:
        self.programs = programs
        self.place = place
        self.leases = leases
        self.random = random.Random(seed)
        self.journal: list[tuple[float, str, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.era = 0
        self.quota = 0  # bytes of etcd's database, 0 for its default
        self.claimed: set[tuple[object, ...]] = set()
        # Of a node and a lease whose keeper is not to be started: until when.
        self.resting: dict[tuple[int, int], float] = {}
        self.machines = [
            Machine(n, self.random.randrange(10**3, 10**7)) for n in (1, 2, 3)
        ]
        self.witness = programs / "witness"
        self.program = str(programs / "viagralib/companions/viagra-lease")
        for name, size in (
            ("book", BOOK),
            ("links", PLACES * PLACES * LINK.size),
        ):
            (place / name).write_bytes(bytes(size))
        self.book = self._mapped("book")
        self._links = self._mapped("links")
        self.network = subprocess.Popen(
            [self.witness, "network", place / "links", "3", str(seed)],
            stdout=subprocess.PIPE,
        )
        assert self.network.stdout and self.network.stdout.readline() == b"ready\n"
        self._observed = (place / "observed").open("wb")
        self.observer = subprocess.Popen(
            [self.witness, "observe", place / "book"], stdout=self._observed
        )

    def _mapped(self, name: str) -> mmap.mmap:
        with (self.place / name).open("r+b") as file:
            return mmap.mmap(file.fileno(), 0)

    def note(self, what: str, **more: object) -> None:
        """Put something into the journal, at the observer's clock."""
        self.journal.append((time.monotonic(), what, more))

    # The network

    def link(
        self, source: int, to: int, loss: float = 0, delay: int = 0, jitter: int = 0
    ) -> None:
        """Set what happens to packets from a machine to another: loss 0 to 1, ms."""
        at = (source * PLACES + to) * LINK.size
        LINK.pack_into(self._links, at, int(loss * 1000), delay, jitter, 0)

    # Machines

    def power_on(self, machine: Machine) -> None:
        space = f"/proc/{self.network.pid}/fd/{100 + machine.number}"
        command = ["nsenter", f"--net={space}", "unshare", "--uts", "--mount", "--pid"]
        command += ["--fork", "--mount-proc", "--kill-child", "--time"]
        command += [f"--boottime={machine.uptime}"]
        name = f"node{machine.number}"
        boot, own = self.place / f"boot{machine.number}", self.place / name
        boot.write_text(f"{uuid.uuid4()}\n")
        own.write_text(f"{machine.number:032x}\n")
        command += [str(self.witness), "machine", name, str(boot), str(own)]
        machine.process = process = subprocess.Popen(command)
        self.wait(lambda: children(process.pid), "a machine's process 1")
        init = children(process.pid)[0]
        comm = Path(f"/proc/{init}/comm")
        self.wait(lambda: comm.read_text() == "witness\n", "a machine")
        mounts = Path(f"/proc/{init}/mounts")
        self.wait(lambda: "boot_id" in mounts.read_text(), "a machine's boot")
        machine.init = init
        self.note("on", node=machine.number)

    def power_off(self, machine: Machine) -> None:
        """Take the power: nothing of it says a last word on the network."""
        self.note("off", node=machine.number)
        with self.lock:
            for other in range(4):
                self.link(machine.number, other, loss=1)
            init, machine.init, machine.member = machine.init, 0, 0
            machine.guardians.clear()
        send(init, signal.SIGKILL)
        # Process 1 ends when nobody is left there: whom we started, we must wait for.
        self.wait(lambda: self._reaped(machine), "all processes of a machine to end")
        if machine.process:
            machine.process.wait()

    def _reaped(self, machine: Machine) -> bool:
        machine.entered = [pid for pid in machine.entered if not self.ended(pid)]
        return not machine.entered

    def power_back(self, machine: Machine) -> None:
        """Give the power back, and start etcd there."""
        for other in range(4):
            self.link(machine.number, other)
        self.power_on(machine)
        self.start_member(machine)

    def enter(
        self, machine: Machine, log: str, *command: str, **environment: str
    ) -> int:
        """Start a command in a machine; return its pid."""
        done = subprocess.run(
            [self.witness, "enter", str(machine.init), self.place / log, *command],
            stdout=subprocess.PIPE,
            env=dict(os.environ, **environment),
            check=True,
        )
        machine.entered.append(int(done.stdout))
        return machine.entered[-1]

    @staticmethod
    def ended(pid: int) -> bool:
        """Return whether a process that `enter` started has ended."""
        try:
            return pid == 0 or os.waitpid(pid, os.WNOHANG) != (0, 0)
        except ChildProcessError:
            return True

    def wait(self, holds: Callable[[], object], what: str, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"waited in vain for {what}")
            time.sleep(0.02)

    # etcd

    def start_member(self, machine: Machine, port: int = CLIENT) -> None:
        """Start a member that does not run, on its data if there are any."""
        if not machine.init or not self.ended(machine.member):
            return
        peers = ",".join(f"m{m.number}=http://{m.address}:2380" for m in self.machines)
        peer, client = f"http://{machine.address}:2380", f"http://{machine.address}:"
        options = {
            "name": f"m{machine.number}",
            "data-dir": f"{self.place}/data{machine.number}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": f"{client}{port}",
            "advertise-client-urls": f"{client}{port}",
            "initial-cluster": peers,
            "initial-cluster-token": f"era{self.era}",
            "logger": "zap",
            "log-level": "warn",
            "heartbeat-interval": "100",
            "election-timeout": "1000",
        }
        if self.quota:
            options["quota-backend-bytes"] = str(self.quota)
        words = [word for pair in options.items() for word in (f"--{pair[0]}", pair[1])]
        machine.port = port
        log = f"etcd{machine.number}.log"
        machine.member = self.enter(machine, log, "/usr/bin/etcd", *words)

    def stop_member(self, machine: Machine) -> None:
        send(machine.member, signal.SIGKILL)
        self.wait(lambda: self.ended(machine.member), "a member's end")
        machine.member = 0

    def erase(self) -> None:
        """Stop etcd, and start it anew with no data."""
        for machine in self.machines:
            self.stop_member(machine)
        self.era += 1
        self.note("era", era=self.era)
        for machine in self.machines:
            shutil.rmtree(self.place / f"data{machine.number}")
            self.start_member(machine)

    def ask(
        self, machine: Machine, path: str, body: object, limit: float = 1
    ) -> dict[str, Any]:
        """Ask a member through its gateway; OSError if it does not answer."""
        line = http.client.HTTPConnection(machine.address, machine.port, timeout=limit)
        try:
            line.request("POST", f"/v3/{path}", json.dumps(body))
            answer = line.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise OSError(f"{path}: {answer.status} {text[:200]!r}")
            found = json.loads(text)
            assert isinstance(found, dict)
            return found
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{path}: {error!r}") from error
        finally:
            line.close()

    def ask_any(self, path: str, body: object, limit: float = 1) -> dict[str, Any]:
        """Ask the members in turn."""
        for machine in sorted(self.machines, key=lambda m: self.claimed_by(m.number)):
            if machine.init:
                try:
                    return self.ask(machine, path, body, limit)
                except OSError:
                    continue
        raise OSError("no member answers")

    def claimed_by(self, number: int) -> int:
        """Return how many faults are at work on a machine."""
        return sum(number in claim for claim in list(self.claimed))

    def leader(self) -> Machine | None:
        """Return the machine whose member leads, if one says so."""
        for machine in self.machines:
            try:
                found = self.ask(machine, "maintenance/status", {}, 0.5)
            except OSError:
                continue
            if found.get("leader") == found["header"]["member_id"]:
                return machine
        return None

    def probe(self) -> None:
        """Note again and again whether a majority of etcd takes a change."""
        body = {"key": base64.b64encode(b"probe").decode(), "value": "MQ=="}
        while not self.over.wait(0.15):
            before = time.monotonic()
            try:
                term = self.ask_any("kv/put", body, 0.4)["header"]["raft_term"]
            except (OSError, KeyError):
                term = None
            self.note("probe", since=before, term=term)

    # Keepers

    def url(self, machine: Machine) -> str:
        order = (
            self.machines[machine.number - 1 :] + self.machines[: machine.number - 1]
        )
        return f"etcd://{','.join(one.address for one in order)}/nodes"

    def start_keeper(self, machine: Machine, index: int) -> None:
        lease = self.leases[index]
        options = ["--engine", self.url(machine), "--ttl", f"{lease.ttl}s"]
        options += ["--retry-after", "0s"]
        if lease.fence:
            options += ["--fence", str(self.place / "fence")]
        life = [str(self.programs / "life"), "life", str(self.place / "book")]
        life += [str(index), str(machine.number), lease.kind]
        machine.guardians[index] = self.enter(
            machine,
            f"keeper{machine.number}.{lease.name}.log",
            *(sys.executable, "-I", self.program, *options, lease.name, "--", *life),
            VIAGRA_STATE=str(self.place / f"state{machine.number}"),
        )
        self.note("keeper", node=machine.number, lease=index)

    def order(self, machine: Machine, verb: str, index: int) -> None:
        """Give an order as an administrator does on a machine."""
        self.enter(
            machine,
            "orders.log",
            *(sys.executable, "-I", self.program, verb, "--engine", self.url(machine)),
            self.leases[index].name,
            VIAGRA_STATE=str(self.place / f"state{machine.number}"),
        )

    def keeper(self, machine: Machine, index: int) -> int:
        """Return a keeper's pid: it is its guardian's child."""
        return next(iter(children(machine.guardians.get(index, 0))), 0)

    def revive(self) -> None:
        """As cron does, start the keepers that are gone, after a while."""
        while not self.over.wait(0.1):
            for machine in self.machines:
                for index in range(len(self.leases)):
                    with self.lock:
                        self._revive(machine, index)

    def _revive(self, machine: Machine, index: int) -> None:
        if not machine.init:
            return
        guardian = machine.guardians.get(index, 0)
        if guardian and not self.ended(guardian):
            return
        if guardian:
            self.note("keeper gone", node=machine.number, lease=index)
            machine.guardians[index] = 0
            rest = time.monotonic() + self.random.choice((0.2, 1, 3))
            self.resting.setdefault((machine.number, index), rest)
        until = self.resting.get((machine.number, index), 0)
        if time.monotonic() < until or self.over.is_set():
            return
        self.resting.pop((machine.number, index), None)
        with contextlib.suppress(subprocess.SubprocessError):  # its machine ends
            self.start_keeper(machine, index)

    # Commands

    def lives(self) -> list[dict[str, Any]]:
        """Return what all commands noted of themselves."""
        return lives_in(self.book)

    def primary(self, index: int) -> Machine | None:
        """Return the machine on which a lease's command has just shown itself."""
        now = time.monotonic()
        for one in reversed(self.lives()):
            if one["lease"] == index and one["main"] and now - one["last"] < 0.3:
                node: int = one["node"]
                return self.machines[node - 1]
        return None

    def command(self, machine: Machine, index: int) -> int:
        """Return the pid of the command on a machine, 0 if none is to be found."""
        for pid in children(self.keeper(machine, index)):
            if Path(f"/proc/{pid}/comm").read_text() == "life\n":
                return pid
        return 0

    def record(self) -> None:
        """Write the journal beside what the observer wrote."""
        lines = [
            json.dumps([f"{at:.3f}", what, more]) for at, what, more in self.journal
        ]
        (self.place / "journal").write_text("\n".join(lines) + "\n")
