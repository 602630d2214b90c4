"""What leases cost one etcd: requests, watches, bytes, time and memory.

    python3 bench/lease_load.py [--resources N] [--nodes M] [--ttl SECONDS]

As root, with Debian's etcd-server, iproute2 and gcc. One member of etcd is
alone on a machine of its own (a network namespace, see tests/lease_cluster.py), so
that all bytes on its link are the keepers'. N resources with a keeper on one node each
give what a primary costs; as many standbys on each of the other M - 1 nodes, what a
standby costs; and then each resource is switched once. All while idle for two ttl.
What 1,000 nodes and 200 resources cost follows from that: all in proportion, but for
the bytes of an answer, which shows all keepers of a resource and grows with them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

BENCH = os.path.dirname(os.path.realpath(__file__))
CHECKOUT = os.path.dirname(BENCH)
sys.path[:0] = [CHECKOUT, os.path.join(CHECKOUT, "tests", "helpers")]

from lease_cluster import (  # noqa: E402
    LONG,
    Cluster,
    Process,
    cluster,
    compile_command,
)
from world import until  # noqa: E402

MEMBER = 1
REQUESTS = {
    "LeaseKeepAlive": "keepalives",
    "Range": "reads",
    "Txn": "transactions",
    "Watch": "watches opened",
}
# Nodes, resources, and keepers of each resource: what docs/two-machines.md says.
SCALES = [(1000, 200, 2), (1000, 200, 5), (1000, 200, 10)]
PATIENCE = 4 * LONG


class Count:
    """What the member has counted up to now, or between two such moments."""

    def __init__(self, figures: dict[str, float]) -> None:
        self.figures = figures

    def __sub__(self, other: Count) -> Count:
        return Count({k: v - other.figures.get(k, 0) for k, v in self.figures.items()})

    def per(self, number: float) -> Count:
        return Count({k: v / number for k, v in self.figures.items()})

    def __getitem__(self, name: str) -> float:
        return self.figures[name]


def count(machines: Cluster) -> Count:
    """Return what the member has counted so far, and how much it holds."""
    metrics = machines.metrics(MEMBER)
    figures = {title: 0.0 for title in REQUESTS.values()} | {"other requests": 0.0}
    for method, value in machines.requests(MEMBER).items():
        figures[REQUESTS.get(method, "other requests")] += value
    received, sent = link(machines)
    return Count(
        {
            **figures,
            "bytes to etcd": received,
            "bytes from etcd": sent,
            "CPU seconds": metrics["process_cpu_seconds_total"],
            "watches": metrics["etcd_debugging_mvcc_watcher_total"],
            "memory": metrics["process_resident_memory_bytes"],
            "connections": metrics["process_open_fds"],
        }
    )


def link(machines: Cluster) -> tuple[float, float]:
    """Return the bytes that the member's machine has received and sent."""
    path = Path(f"/proc/{machines.nodes[MEMBER].pid}/net/dev")
    line = next(line for line in path.read_text().splitlines() if "eth0:" in line)
    words = line.partition(":")[2].split()
    return float(words[0]), float(words[8])


class Load:
    """Keepers of N resources, on more and more nodes."""

    def __init__(self, machines: Cluster, resources: int, ttl: float) -> None:
        self.machines = machines
        self.resources = [machines.resource(f"r{n}") for n in range(resources)]
        self.ttl = ttl
        self.keepers: list[Process] = []

    def add(self, number: int) -> None:
        """Start a keeper of each resource on a node, a few at a time."""
        for at, resource in enumerate(self.resources):
            keeper = self.machines.keep(number, resource, f"--ttl={self.ttl:g}s")
            self.keepers.append(keeper)
            self._wait(number, at + 1)

    def _wait(self, number: int, count: int) -> None:
        """Wait until each resource has a command, and all others stand by."""
        if number == 2:
            until(lambda: all(r.current() for r in self.resources[:count]), PATIENCE)
            return
        wanted = len(self.keepers) - len(self.resources)
        until(lambda: self._standbys() >= wanted, PATIENCE)

    def _standbys(self) -> int:
        keys = self.machines.etcdctl("get", "", "--prefix", "--keys-only")
        return keys.count("/standby/")

    def idle(self) -> Count:
        """Return what a second costs while nothing happens."""
        time.sleep(self.ttl)
        before, began = count(self.machines), time.monotonic()
        time.sleep(2 * self.ttl)
        return (count(self.machines) - before).per(time.monotonic() - began)

    def switch(self, idle: Count) -> Count:
        """Return what handing over one resource costs; `idle` is what a second does."""
        before, began = count(self.machines), time.monotonic()
        lives = {resource: resource.current() for resource in self.resources}
        for resource, life in lives.items():
            self.machines.lease(2, "yield", resource.name)
            resource.primary(PATIENCE, other_than=life)
        seconds = time.monotonic() - began
        more = count(self.machines) - before - idle.per(1 / seconds)
        return more.per(len(self.resources))


def main() -> None:
    parser = argparse.ArgumentParser(description="What leases cost one etcd.")
    parser.add_argument("--resources", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--ttl", type=float, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viagra-bench-") as place:
        command = compile_command(Path(place))
        nodes = options.nodes + 1
        with cluster(Path(place, "machines"), command, nodes, members=1) as machines:
            measure(Load(machines, options.resources, options.ttl), options.nodes)


def measure(load: Load, nodes: int) -> None:
    number = len(load.resources)
    nothing, empty = load.idle(), count(load.machines)
    load.add(2)
    alone, primaries = load.idle(), count(load.machines)
    for node in range(3, nodes + 2):
        load.add(node)
    full, all_of_them = load.idle(), count(load.machines)
    standbys = number * (nodes - 1)
    primary = (alone - nothing).per(number)
    standby = (full - alone).per(standbys)
    print(f"{number} resources on {nodes} nodes, ttl {load.ttl:g} s; one etcd\n")
    print_rates(primary, standby, load.switch(full), nodes - 1)
    print_held((primaries - empty).per(number), (all_of_them - primaries).per(standbys))
    each = (full - nothing).per(number * nodes)
    print_scales(primary, each, nodes, load.ttl)


def print_rates(primary: Count, standby: Count, switch: Count, others: int) -> None:
    print(
        f"| | a primary, a second | a standby, a second | a switch, {others} others |"
    )
    print("|---|---|---|---|")
    for name in (*REQUESTS.values(), "other requests", *_BYTES, "CPU seconds"):
        digits = 5 if name == "CPU seconds" else 1 if name in _BYTES else 3
        cells = (f"{c[name]:.{digits}f}" for c in (primary, standby, switch))
        print(f"| {name} | {' | '.join(cells)} |")


_BYTES = ("bytes to etcd", "bytes from etcd")


def print_held(primary: Count, standby: Count) -> None:
    print("\n| held | by a primary | by a standby |\n|---|---|---|")
    for name in ("watches", "connections"):
        print(f"| {name} | {primary[name]:.2f} | {standby[name]:.2f} |")
    cells = (f"{c['memory'] / 1024:.0f}" for c in (primary, standby))
    print(f"| memory, KiB | {' | '.join(cells)} |")


def print_scales(lonely: Count, each: Count, keepers: int, ttl: float) -> None:
    """`lonely`: what a keeper alone costs in a second; `each`: one of `keepers`."""
    one, all_of_them = (sum(count[name] for name in _BYTES) for count in (lonely, each))
    card = (all_of_them - one) / (keepers - 1)
    print(
        "\n| nodes | resources | keepers of each | keepalives/s | watches | bytes/s |"
        "\n|--:|--:|--:|--:|--:|--:|"
    )
    for nodes, resources, number in SCALES:
        total = resources * number
        size = total * (one + card * (number - 1))
        print(
            f"| {nodes:,} | {resources} | {number} | {total / (ttl / 3):,.0f} "
            f"| {total:,} | {size:,.0f} |"
        )


if __name__ == "__main__":
    main()
