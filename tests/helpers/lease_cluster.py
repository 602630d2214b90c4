"""Machines for the tests of viagra-lease: real ones, as far as one kernel has them.

A node is a process namespace with a network, mounts and a host name of its own, and
with a machine-id and a boot-id that no other node has. Its first process
(lease_node.py) starts all else; once that is killed, the node is switched off. A node
more, the hub, holds the bridge that connects them. Nothing has a name outside: when
the first processes are gone, also because these tests were killed, all of it is gone.

The nodes from the first on are members of an etcd cluster too, from Debian's packages.
What runs under a lease is lease_command.c; `Lives` sees when it began and ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from checkout import COMPANIONS, HELPERS
from world import environment, need, need_root, until

LONG = 30.0  # seconds; only a machine that hangs takes this long
NETWORK = "10.77.0."
HUB = 254
# Everything that a node must not share with others; "$1": its directory.
BOOT = """
mount --bind "$1/machine-id" /etc/machine-id
mount --bind "$1/boot-id" /proc/sys/kernel/random/boot_id
mount -t tmpfs tmpfs /run
hostname "$2"
ip link set lo up
exec "$3" -I -S "$4"
"""
UNSHARE = "unshare --pid --fork --kill-child --net --mount --uts --ipc --mount-proc"
# An election takes a fraction of a second, so that it fits into the tests' leases.
TIMES = ["--heartbeat-interval=50", "--election-timeout=500"]
_OFD_GETLK = 36  # fcntl.h; Python has no name for it before 3.13
_FLOCK = struct.Struct("hhqqi4x")


def need_cluster() -> None:
    """Skip the test, or fail under CI, where there can be no nodes or no etcd."""
    need_root()
    for program in ("etcd", "etcdctl", "ip", "unshare", "nsenter", "gcc"):
        need(program)


def compile_command(place: Path) -> Path:
    """Return the program that the tests put under a lease."""
    built = place / "lease_command"
    subprocess.run(
        [need("gcc"), "-O1", "-Wall", "-o", built, HELPERS / "lease_command.c"],
        check=True,
    )
    return built


class Process:
    """A process of a node: its pid there, and the file with its output."""

    def __init__(self, node: Node, pid: int, out: Path) -> None:
        self.node = node
        self.life = node.life
        self.pid = pid
        self.out = out

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; no error when it is gone."""
        if self.life == self.node.life:
            self.node.kill(self.pid, number)

    @property
    def status(self) -> int | None:
        """Its exit status (minus the signal, if one killed it); None while it runs."""
        if self.life != self.node.life:
            return -signal.SIGKILL
        return self.node.ended.get(self.pid)

    def wait(self, seconds: float = LONG) -> int:
        until(lambda: self.status is not None, seconds)
        return self.status or 0

    def text(self) -> str:
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def children(self) -> list[int]:
        return self.node.children(self.pid)


class Node:
    """A machine that can be switched on and off."""

    def __init__(self, place: Path, name: str, hostname: str = "") -> None:
        place.mkdir()
        self.place = place
        self.name = name
        self.hostname = hostname or name
        self.life = 0  # how often it was switched on
        self.ended: dict[int, int] = {}
        (place / "machine-id").write_text(uuid.uuid4().hex + "\n")
        self._number = 0
        self._asking = threading.Lock()
        self._machine: subprocess.Popen[bytes] | None = None

    # The machine

    def start(self) -> None:
        """Switch it on, with a new boot-id; `ready` waits until it is."""
        (self.place / "boot-id").write_text(f"{uuid.uuid4()}\n")
        self.life += 1
        self.ended = {}
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        words = [str(self.place), self.hostname, os.path.realpath(sys.executable)]
        boot = ["sh", "-ec", BOOT, "boot", *words, str(HELPERS / "lease_node.py")]
        with (self.place / "boot.log").open("ab") as log:
            self._machine = subprocess.Popen(
                [*UNSHARE.split(), *boot],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        self._listener = threading.Thread(
            target=self._listen, args=(self._machine, self.ended, self._answers)
        )
        self._listener.start()

    def ready(self) -> None:
        self._answer()

    def off(self) -> None:
        """Switch it off, as by pulling the plug; return when nothing of it lives."""
        machine, self._machine = self._machine, None
        if machine is None:
            return
        # Its first process is the child; without one, it never came so far.
        for pid in _children(f"/proc/{machine.pid}", machine.pid) or [machine.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Once the first process is reaped, the kernel has ended all the others.
        machine.wait(LONG)
        self._listener.join()
        for end in (machine.stdin, machine.stdout):
            with contextlib.suppress(BrokenPipeError):
                end.close()  # type: ignore[union-attr]
        self.life += 1

    @property
    def is_on(self) -> bool:
        return self._machine is not None

    @property
    def pid(self) -> int:
        """A process, in the host's count, that is in the node's network and mounts."""
        assert self._machine is not None
        return self._machine.pid

    # Its processes

    def run(
        self, argv: Sequence[str], more: dict[str, str] | None = None, out: str = ""
    ) -> Process:
        """Start a process in it."""
        self._number += 1
        name = out or f"{self._number:03}-{os.path.basename(argv[0])}"
        place = self.place / f"{name}.log"
        env = {"PATH": os.environ["PATH"], "HOME": str(self.place), **(more or {})}
        answer = self._ask({"run": list(argv), "env": env, "out": str(place)})
        assert answer["pid"], answer
        return Process(self, answer["pid"], place)

    def kill(self, pid: int, number: int) -> None:
        if self.is_on:
            self._ask({"kill": pid, "signal": int(number)})

    def children(self, pid: int) -> list[int]:
        """Return the children of one of its processes, as the node counts them."""
        return _children(f"/proc/{self.pid}/root/proc", pid) if self.is_on else []

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._asking:
            assert self._machine is not None and self._machine.stdin is not None
            self._machine.stdin.write(json.dumps(order).encode() + b"\n")
            self._machine.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer = self._answers.get(timeout=LONG)
        assert answer, f"{self.name} is off: {self._log()}"
        return answer

    def _log(self) -> str:
        return (self.place / "boot.log").read_text(errors="replace")

    @staticmethod
    def _listen(
        machine: subprocess.Popen[bytes],
        ended: dict[int, int],
        answers: queue.Queue[dict[str, Any]],
    ) -> None:
        for text in machine.stdout or ():
            answer = json.loads(text)
            if "ended" in answer:
                ended[answer["ended"]] = answer["status"]
            else:
                answers.put(answer)
        answers.put({})


def _children(proc: str, pid: int) -> list[int]:
    try:
        return [
            int(word)
            for word in Path(f"{proc}/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Network:
    """The hub, and who is plugged in."""

    def __init__(self, place: Path) -> None:
        self.hub = Node(place, "hub")
        self._ports: dict[int, str] = {}

    def start(self) -> None:
        self.hub.start()
        self.hub.ready()
        self._ip(
            self.hub,
            "link add br0 type bridge",
            "link set br0 up",
            f"addr add {NETWORK}{HUB}/24 dev br0",
        )

    def plug_in(self, number: int, node: Node) -> None:
        """Connect a node that was switched on, always under the same address."""
        # The kernel takes the old port away in its own time: a new name.
        port = self._ports[number] = f"v{number}x{node.life}"
        address = f"address 02:00:00:00:00:{number:02x}"
        self._ip(
            self.hub,
            f"link add {port} type veth peer name eth0 {address} netns {node.pid}",
            f"link set {port} master br0",
            f"link set {port} up",
        )
        self._ip(node, f"addr add {NETWORK}{number}/24 dev eth0", "link set eth0 up")

    def cut(self, number: int) -> None:
        self._ip(self.hub, f"link set {self._ports[number]} down")

    def mend(self, number: int) -> None:
        self._ip(self.hub, f"link set {self._ports[number]} up")

    def part(self, *numbers: int, parted: bool = True) -> None:
        """Let these nodes not see each other, but all the others; or end that."""
        word = "on" if parted else "off"
        for number in numbers:
            line = f"link set dev {self._ports[number]} isolated {word}"
            self._enter(self.hub, ["bridge", *line.split()])

    def deafen(self, node: Node, others: Sequence[int], cut: bool = True) -> None:
        """Let what a node sends to others get lost, and not what they send; or not."""
        lines = []
        for other in others:
            address = 0xFF if cut else other  # of nobody, or its own: see plug_in
            to = f"{NETWORK}{other} lladdr 02:00:00:00:00:{address:02x} dev eth0"
            lines.append(f"neigh replace {to} nud {'permanent' if cut else 'stale'}")
        self._ip(node, *lines)

    def _ip(self, node: Node, *lines: str) -> None:
        self._enter(node, ["ip", "-batch", "-"], "\n".join(lines) + "\n")

    @staticmethod
    def _enter(node: Node, argv: list[str], text: str = "") -> None:
        entry = ["nsenter", f"--net=/proc/{node.pid}/ns/net"]
        subprocess.run([*entry, *argv], input=text.encode(), check=True, timeout=LONG)


class Cluster:
    """Nodes 1 to `nodes`, of which the first `members` are members of etcd."""

    def __init__(
        self, place: Path, command: Path, nodes: int = 3, members: int = 3
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.command = command
        self.network = Network(place / "hub")
        self.nodes = {n: Node(place / f"n{n}", f"n{n}") for n in range(1, nodes + 1)}
        self.members: dict[int, Process] = {}
        self.numbers = range(1, members + 1)
        self._resources: list[Resource] = []

    def start(self) -> None:
        self.network.start()
        for node in self.nodes.values():
            node.start()
        for number, node in self.nodes.items():
            node.ready()
            self.network.plug_in(number, node)
        for number in self.numbers:
            self.start_member(number)
            # Started together, each waits 2 s for others that do not answer yet.
            self.probe("--", f"{NETWORK}{number}:2380").wait()
        self.wait_for_members()

    def end(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        for node in (*self.nodes.values(), self.network.hub):
            with contextlib.suppress(Exception):
                node.off()
        for resource in self._resources:
            resource.end()
        for number in self.numbers:  # some hundred megabytes each
            shutil.rmtree(self.nodes[number].place / "etcd", ignore_errors=True)

    # Machines

    def off(self, number: int) -> None:
        self.nodes[number].off()

    def on(self, number: int) -> None:
        """Switch a node on again: its etcd runs, keepers do not."""
        self.nodes[number].start()
        self.nodes[number].ready()
        self.network.plug_in(number, self.nodes[number])
        if number in self.numbers:
            self.start_member(number)

    # etcd

    def start_member(self, number: int, *more: str) -> None:
        """Start a member, or start it again with the data that it has."""
        here = f"http://{NETWORK}{number}"
        peers = ",".join(f"n{n}=http://{NETWORK}{n}:2380" for n in self.numbers)
        argv = [
            *("etcd", f"--name=n{number}"),
            f"--data-dir={self.nodes[number].place / 'etcd'}",
            *(f"--listen-peer-urls={here}:2380", f"--listen-client-urls={here}:2379"),
            f"--initial-advertise-peer-urls={here}:2380",
            f"--advertise-client-urls={here}:2379",
            *(f"--initial-cluster={peers}", "--initial-cluster-state=new"),
            *(*TIMES, "--unsafe-no-fsync", "--logger=zap", "--log-level=warn"),
            *more,
        ]
        self.members[number] = self.nodes[number].run(argv, out="etcd")

    def wait_for_members(self) -> None:
        """Wait until each member serves, which takes a leader."""
        members = [self.member(number) for number in self.numbers]
        self.probe("-", *members).wait()

    def probe(self, *arguments: str) -> Process:
        """Run lease_probe.py in the hub."""
        argv = [sys.executable, "-I", "-S", str(HELPERS / "lease_probe.py"), *arguments]
        return self.network.hub.run(argv)

    def member(self, number: int) -> str:
        return f"{NETWORK}{number}:2379"

    def url(self, first: int = 1, prefix: str = "test") -> str:
        """Return the engine's URL, as for a node that asks itself first."""
        numbers = sorted(self.numbers, key=lambda n: (n != first, n))
        return f"etcd://{','.join(map(self.member, numbers))}/{prefix}"

    def etcdctl(self, *arguments: str, at: Sequence[int] = ()) -> str:
        """Ask etcd from the hub; return what it prints, "" when it fails."""
        members = ",".join(map(self.member, at or self.numbers))
        entry = ["nsenter", f"--net=/proc/{self.network.hub.pid}/ns/net"]
        etcdctl = ["etcdctl", f"--endpoints={members}", "--command-timeout=2s"]
        done = subprocess.run(
            [*entry, *etcdctl, *arguments],
            capture_output=True,
            text=True,
            env={**environment(), "ETCDCTL_API": "3"},
            timeout=LONG,
            check=False,
        )
        return done.stdout

    def leader(self) -> int:
        """Return the number of the node whose member leads, 0 when none does."""
        text = self.etcdctl("endpoint", "status", "--write-out=json")
        if not text.strip():
            return 0
        for found in json.loads(text):
            status = found["Status"]
            if status.get("leader") == status["header"]["member_id"]:
                return int(found["Endpoint"].rpartition(":")[0].rpartition(".")[2])
        return 0

    def metrics(self, number: int) -> dict[str, float]:
        """Return what a member has counted so far, by name and labels."""
        entry = ["nsenter", f"--net=/proc/{self.network.hub.pid}/ns/net"]
        url = f"http://{self.member(number)}/metrics"
        code = f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())"
        done = subprocess.run(
            [*entry, sys.executable, "-I", "-S", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=LONG,
        )
        lines = [line for line in done.stdout.splitlines() if line[:1] not in ("", "#")]
        return {name: float(v) for name, _, v in (x.rpartition(" ") for x in lines)}

    def requests(self, number: int) -> dict[str, float]:
        """Return how many requests of each kind a member has had, by gRPC's names."""
        found: dict[str, float] = {}
        for name, value in self.metrics(number).items():
            if name.startswith("grpc_server_started_total"):
                method = name.partition('grpc_method="')[2].partition('"')[0]
                found[method] = found.get(method, 0.0) + value
        return found

    # Leases

    def resource(self, name: str) -> Resource:
        made = Resource(self.place / name, name)
        self._resources.append(made)
        return made

    def lease(
        self, number: int, *arguments: str, more: dict[str, str] | None = None
    ) -> Process:
        """Run viagra-lease on a node."""
        node = self.nodes[number]
        argv = [sys.executable, "-I", str(COMPANIONS / "viagra-lease"), *arguments]
        state = {"VIAGRA_STATE": str(node.place / "state")}
        name = f"lease-{time.monotonic():.3f}-{arguments[0].strip('-')}"
        return node.run(
            argv, {"VIAGRA_LEASE": self.url(number), **state, **(more or {})}, name
        )

    def keep(
        self,
        number: int,
        resource: Resource,
        *options: str,
        command: Sequence[str] = (),
        more: dict[str, str] | None = None,
    ) -> Process:
        """Run a keeper on a node, with the tests' command under the lease."""
        held = [str(self.command), str(resource.place), f"n{number}", *command]
        return self.lease(number, *options, resource.name, "--", *held, more=more)


@contextlib.contextmanager
def cluster(
    place: Path, command: Path, nodes: int = 3, members: int = 3
) -> Iterator[Cluster]:
    made = Cluster(place, command, nodes, members)
    try:
        made.start()
        yield made
    finally:
        made.end()


class Life:
    """One command under a lease, from its start to the end of all its descendants."""

    def __init__(self, words: Sequence[str], process: int) -> None:
        _, self.node, token, _, began, lock = words
        self.token = int(token) if token.isdecimal() else -1
        self.began = float(began)  # monotonic clock, as the command said
        self.alone = lock == "held"
        self.ended: float | None = None  # the same, when its end was seen
        self._process = process

    def __repr__(self) -> str:
        end = f"{self.ended:.3f}" if self.ended else "now"
        lock = "" if self.alone else " OVERLAP"
        return f"{self.node} {self.token}: {self.began:.3f} to {end}{lock}"

    def send(self, number: int) -> None:
        """Signal the command itself; no error when it is gone."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._process, number)

    def forget(self) -> None:
        os.close(self._process)


class Resource:
    """What one node at a time may run: its name, and all the lives it had."""

    def __init__(self, place: Path, name: str) -> None:
        place.mkdir()
        self.place = place
        self.name = name
        self.lives: list[Life] = []
        self._open: dict[socket.socket, Life | None] = {}
        self._selector = selectors.DefaultSelector()
        self._door = socket.socket(socket.AF_UNIX)
        directory = os.open(place, os.O_PATH)
        self._door.bind(f"/proc/self/fd/{directory}/socket")  # paths are cut at 107
        os.close(directory)
        self._door.listen(64)
        self._wake, self._stop = os.pipe()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        os.close(self._stop)
        self._thread.join()
        for connection in self._open:
            connection.close()
        for life in self.lives:
            life.forget()
        self._door.close()
        self._selector.close()
        os.close(self._wake)

    # What is seen

    def current(self) -> Life | None:
        """Return the command that lives now, the youngest if there were more."""
        return next((life for life in reversed(self.lives) if not life.ended), None)

    def primary(self, seconds: float = LONG, other_than: Life | None = None) -> Life:
        """Wait for a command that lives; return it."""

        def found() -> Life | None:
            life = self.current()
            return None if life is other_than else life

        life = until(found, seconds)
        assert life is not None
        return life

    def is_free(self) -> bool:
        """Return whether no command, nor what is left of one, lives: the kernel's."""
        with (self.place / "lock").open("ab") as file:
            asked = _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)
            answer = fcntl.fcntl(file, _OFD_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] == fcntl.F_UNLCK)

    def log(self) -> list[list[str]]:
        """Return what the commands wrote, word by word."""
        path = self.place / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines]

    def check(self) -> None:
        """Fail if two commands ever lived at the same time, or a token did not grow."""
        starts = [words for words in self.log() if words[0] == "start"]
        text = "\n".join(" ".join(words) for words in self.log())
        assert all(words[5] == "held" for words in starts), f"two at a time:\n{text}"
        tokens = [int(words[2]) for words in starts]
        grow = all(old < new for old, new in zip(tokens, tokens[1:], strict=False))
        assert grow, f"a token that did not grow:\n{text}"

    # How it is seen

    def _watch(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._wake:
                    return
                if key.fileobj is self._door:
                    self._welcome(self._door.accept()[0])
                else:
                    self._hear(key.fileobj)  # type: ignore[arg-type]

    def _welcome(self, connection: socket.socket) -> None:
        self._open[connection] = None
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        text = connection.recv(4096)
        if text:
            self._open[connection] = life = Life(
                text.decode().split(), _process_of(connection)
            )
            self.lives.append(life)
            return
        life_or_none = self._open.pop(connection)
        if life_or_none:
            life_or_none.ended = time.monotonic()
        self._selector.unregister(connection)
        connection.close()


def _process_of(connection: socket.socket) -> int:
    """Return a pidfd of who connected; of nobody alive when that is gone."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = struct.unpack("3i", credentials)[0]
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return os.open("/dev/null", os.O_RDONLY)
