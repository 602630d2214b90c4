"""What can go wrong with machines, their network, etcd, and keepers of leases.

Each fault is a function of the cluster, a place and chance of its own. It claims what
it needs, breaks it, waits until `over` is set, and mends it. What cannot be claimed is
at another fault's mercy already: then it does nothing.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nodes_cluster import HIDDEN, Cluster, Machine, send


@dataclass
class Place:
    """Where a fault strikes."""

    cluster: Cluster
    machine: Machine
    lease: int
    random: random.Random
    over: threading.Event
    name: str = ""

    @contextlib.contextmanager
    def claim(self, *what: str, **more: object) -> Iterator[bool]:
        """Claim parts of the machine, and note from when to when it was broken.

        `process` is the lease's keeper with its guardian; `broken` are the nodes that
        need not do their work meanwhile, by default none.
        """
        number = self.machine.number
        claims: set[tuple[object, ...]] = set()
        for part in what:
            own = (number, part, self.lease) if part == "process" else (number, part)
            claims.add(own)
        if "machine" in what:
            claims |= {(number, "member"), (number, "net"), (number, "memory")}
            leases = range(len(self.cluster.leases))
            claims |= {(number, "process", lease) for lease in leases}
        with self.cluster.lock:
            free = not claims & self.cluster.claimed and bool(self.machine.init)
            if free:
                self.cluster.claimed |= claims
                noted = {"fault": self.name, "node": number, "lease": self.lease}
                self.cluster.note("begin", **noted, **more)
        try:
            yield free
        finally:
            if free:
                with self.cluster.lock:
                    self.cluster.claimed -= claims
                    self.cluster.note("end", **noted, **more)


# Keepers, guardians and commands


def signals(place: Place, *names: str, stop: bool = False) -> None:
    """Kill or stop some of a lease's processes on a machine, at the same time."""
    cluster, machine, lease = place.cluster, place.machine, place.lease
    broken = {"broken": [machine.number], "of": lease}
    with place.claim("process", **broken) as free:
        if not free:
            return
        with cluster.lock:
            pids = {
                "guardian": machine.guardians.get(lease, 0),
                "keeper": cluster.keeper(machine, lease),
                "command": cluster.command(machine, lease),
            }
            chosen = [pids[name] for name in names]
            for pid in chosen:
                send(pid, signal.SIGSTOP if stop else signal.SIGKILL)
        if stop:
            place.over.wait()
            for pid in chosen:
                send(pid, signal.SIGCONT)


def keeper_killed(place: Place) -> None:
    signals(place, "keeper")


def guardian_killed(place: Place) -> None:
    signals(place, "guardian")


def both_killed(place: Place) -> None:
    """What the command has forked is not promised to end: not where it forks."""
    if place.cluster.leases[place.lease].kind != "forks":
        signals(place, "guardian", "keeper")


def keeper_stopped(place: Place) -> None:
    signals(place, "keeper", stop=True)


def guardian_stopped(place: Place) -> None:
    signals(place, "guardian", stop=True)


def both_stopped(place: Place) -> None:
    """Only a fence can help then."""
    if place.cluster.leases[place.lease].fence:
        signals(place, "guardian", "keeper", stop=True)


def command_killed(place: Place) -> None:
    signals(place, "command")


def command_stopped(place: Place) -> None:
    signals(place, "command", stop=True)


# Members of etcd


def member_killed(place: Place) -> None:
    with place.claim("member") as free:
        if free:
            place.cluster.stop_member(place.machine)
            place.over.wait()
            place.cluster.start_member(place.machine)


def member_stopped(place: Place) -> None:
    with place.claim("member") as free:
        if free:
            pid = place.machine.member
            send(pid, signal.SIGSTOP)
            place.over.wait()
            send(pid, signal.SIGCONT)


def member_stutters(place: Place) -> None:
    """It stands still again and again, for up to longer than an election takes."""
    with place.claim("member") as free:
        pid = place.machine.member
        while free and not place.over.wait(place.random.uniform(0.1, 0.7)):
            send(pid, signal.SIGSTOP)
            place.over.wait(place.random.uniform(0.2, 1.8))
            send(pid, signal.SIGCONT)


def disk_slow(place: Place) -> None:
    """Each sync of its disk takes a while."""
    with place.claim("member") as free:
        if not free:
            return
        delay = place.random.randrange(20_000, 900_000)
        command = ["strace", "-qq", "-f", "-e", "trace=fsync,fdatasync"]
        command += ["-e", f"inject=fsync,fdatasync:delay_enter={delay}"]
        with subprocess.Popen(
            [*command, "-o", "/dev/null", "-p", str(place.machine.member)],
            stderr=subprocess.DEVNULL,
        ) as slow:
            place.over.wait()
            slow.terminate()


def leader_hangs(place: Place) -> None:
    """Until there is another; meanwhile the primary is not heard."""
    cluster = place.cluster
    place.machine = cluster.leader() or place.machine
    pid = place.machine.member
    with place.claim("member") as free:
        if not free:
            return
        send(pid, signal.SIGSTOP)
        place.over.wait(0.5)
        if primary := cluster.primary(place.lease):
            not_heard(dataclasses.replace(place, machine=primary, name="not_heard"))
        send(pid, signal.SIGCONT)


def leader_moved(place: Place) -> None:
    """Another member leads, again and again."""
    with place.claim("leader") as free:
        while free:
            leader = place.cluster.leader()
            others = [m for m in place.cluster.machines if m is not leader and m.init]
            with contextlib.suppress(OSError, IndexError):
                target = place.random.choice(others)
                status = place.cluster.ask(target, "maintenance/status", {}, 0.5)
                if leader:
                    to = {"targetID": status["header"]["member_id"]}
                    path = "maintenance/transfer-leadership"
                    place.cluster.ask(leader, path, to)
            if place.over.wait(place.random.uniform(1, 4)):
                return


FORGERIES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",
    b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"result":{"TTL":"-1"}}',
    b'HTTP/1.1 200 OK\r\n\r\n{"header":{"revision":"x","raft_term":[]},"ID":{}}',
    b'HTTP/1.1 200 OK\r\n\r\n{"header":{"revision":"9e9"},"kvs":"","succeeded":1}',
    b"HTTP/1.1 302 Found\r\nLocation: http://10.77.0.1:1/\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nno\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/9 \xff\xfe\r\n",
    b"\x00" * 4096,
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
    b"",
)
FORGER = """
import random, socket, sys, time
chance, answers = random.Random(int(sys.argv[1])), eval(sys.argv[3])
ear = socket.create_server((sys.argv[2], 2379))
while True:
    line = ear.accept()[0]
    try:
        line.settimeout(1)
        line.recv(65536)
        line.sendall(chance.choice(answers))
        time.sleep(chance.choice((0, 0, 0, 0.3)))
    except OSError:
        pass
    line.close()
"""


def member_forged(place: Place) -> None:
    """Clients who ask this member hear nonsense; it still has its vote."""
    cluster, machine = place.cluster, place.machine
    with place.claim("member") as free:
        if not free:
            return
        cluster.stop_member(machine)
        cluster.start_member(machine, HIDDEN)
        words = [str(place.random.randrange(10**6)), machine.address, repr(FORGERIES)]
        python = (sys.executable, "-I", "-S", "-c", FORGER, *words)
        forger = cluster.enter(machine, "forger.log", *python)
        place.over.wait()
        send(forger, signal.SIGKILL)
        cluster.stop_member(machine)
        cluster.start_member(machine)


# The network


def _cut(
    place: Place, what: Callable[[int], None], *, also: tuple[int, ...] = ()
) -> None:
    number = place.machine.number
    with place.claim("net", broken=[number, *also]) as free:
        if not free:
            return
        others = [m.number for m in place.cluster.machines if m.number != number]
        for other in others:
            what(other)
        place.over.wait()
        for other in others:
            place.cluster.link(number, other)
            place.cluster.link(other, number)


def cut_off(place: Place) -> None:
    def both(other: int) -> None:
        place.cluster.link(place.machine.number, other, loss=1)
        place.cluster.link(other, place.machine.number, loss=1)

    _cut(place, both)


def not_heard(place: Place) -> None:
    _cut(place, lambda o: place.cluster.link(place.machine.number, o, loss=1))


def hears_nothing(place: Place) -> None:
    _cut(place, lambda o: place.cluster.link(o, place.machine.number, loss=1))


def parted(place: Place) -> None:
    """Two machines cannot talk to each other, in one direction; the third can."""
    other = place.random.choice([1, 2])
    other = (place.machine.number - 1 + other) % 3 + 1

    def one(to: int) -> None:
        if to == other:
            place.cluster.link(place.machine.number, to, loss=1)

    _cut(place, one, also=(other,))


def lossy(place: Place) -> None:
    there, back = (place.random.choice((0, 0.1, 0.3, 0.6)) for _ in range(2))

    def both(other: int) -> None:
        place.cluster.link(place.machine.number, other, loss=there)
        place.cluster.link(other, place.machine.number, loss=back)

    _cut(place, both)


def late(place: Place) -> None:
    """Frames are late in both directions, by different times, so out of order."""
    delay = place.random.choice((30, 200, 600))

    def both(other: int) -> None:
        place.cluster.link(place.machine.number, other, 0, delay, delay)
        place.cluster.link(other, place.machine.number, 0, delay // 3, delay)

    _cut(place, both)


# Several parts at once


def power_cut(place: Place) -> None:
    number = place.machine.number
    with place.claim("machine", broken=[number]) as free:
        if free:
            place.cluster.power_off(place.machine)
            place.over.wait()
            place.cluster.power_back(place.machine)


def revoked(place: Place) -> None:
    """Somebody revokes all leases that etcd has: who is well takes them again."""
    with place.claim("revoked"), contextlib.suppress(OSError):
        found = place.cluster.ask_any("lease/leases", {})
        for one in found.get("leases", []):
            place.cluster.ask_any("lease/revoke", {"ID": one["ID"]})


def yielded(place: Place) -> None:
    with place.claim("asked", asked=place.lease) as free:
        if free:
            place.cluster.order(place.machine, "yield", place.lease)


def forbidden(place: Place) -> None:
    broken = {"broken": [place.machine.number], "of": place.lease}
    with place.claim("process", "asked", **broken) as free:
        if free:
            place.cluster.order(place.machine, "forbid", place.lease)
            place.over.wait()
            place.cluster.order(place.machine, "allow", place.lease)


# What spoils etcd as a whole: no other fault at the same time


def etcd_full(place: Place) -> None:
    """It takes no more, until it is emptied and its alarm is silenced."""
    cluster = place.cluster
    value = base64.b64encode(bytes(900_000)).decode()
    key = base64.b64encode(b"large").decode()
    with place.claim("etcd", broken=[1, 2, 3]):
        for _ in range(40):
            try:
                cluster.ask_any("kv/put", {"key": key, "value": value}, 5)
            except OSError:
                break
        place.over.wait()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                _make_room(cluster)
                cluster.ask_any("kv/put", {"key": key, "value": ""}, 5)
                break
            time.sleep(0.2)


def _make_room(cluster: Cluster) -> None:
    revision = cluster.ask_any("kv/range", {"key": "YQ=="}, 5)["header"]["revision"]
    with contextlib.suppress(OSError):
        compact = {"revision": revision, "physical": True}
        cluster.ask_any("kv/compaction", compact, 5)
    for machine in cluster.machines:
        cluster.ask(machine, "maintenance/defragment", {}, 10)
    alarms = cluster.ask_any("maintenance/alarm", {"action": "GET"}, 5)
    for one in alarms.get("alarms", []):
        cluster.ask_any("maintenance/alarm", {"action": "DEACTIVATE", **one}, 5)


def etcd_erased(place: Place) -> None:
    with place.claim("etcd", broken=[1, 2, 3]):
        place.cluster.erase()
        place.over.wait()


ALONE = (etcd_full, etcd_erased)
COMMON = (
    *(keeper_killed, guardian_killed, both_killed, keeper_stopped, guardian_stopped),
    *(both_stopped, command_killed, command_stopped),
    *(member_killed, member_stopped, member_stutters, disk_slow, member_forged),
    *(
        leader_moved,
        leader_hangs,
        cut_off,
        not_heard,
        hears_nothing,
        parted,
        lossy,
        late,
        power_cut,
    ),
    *(revoked, yielded, forbidden),
)
FAULTS = {fault.__name__: fault for fault in (*COMMON, *ALONE)}


def forge_fence(place: Path) -> None:
    """Write the fence: it asks the cluster to take a machine's power, and waits."""
    (place / "fences").mkdir()
    path = place / "fence"
    path.write_text(
        f"#!/bin/sh\nown={place}/fences/$VIAGRA_FENCE_HOST.$$\n"
        ': >"$own.tmp" && mv "$own.tmp" "$own.wanted"\n'
        'until [ -e "$own.done" ]; do sleep 0.1; done\n'
    )
    path.chmod(0o755)


def serve_fences(cluster: Cluster) -> None:
    """Take the power of machines when asked, and give it back a little later."""
    while not cluster.over.wait(0.05):
        for wanted in (cluster.place / "fences").glob("*.wanted"):
            number = int(wanted.name.partition(".")[0].removeprefix("node"))
            machine = cluster.machines[number - 1]
            with cluster.lock:
                # Switched off already: it stays so, as far as the fence knows.
                was_on = bool(machine.init)
                cluster.note("begin", fault="fence", node=number, broken=[number])
                if was_on:
                    cluster.power_off(machine)
            wanted.rename(wanted.with_suffix(".done"))
            if was_on:
                cluster.over.wait(1)
                with cluster.lock:
                    cluster.power_back(machine)
            cluster.note("end", fault="fence", node=number, broken=[number])
