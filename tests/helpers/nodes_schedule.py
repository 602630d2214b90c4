"""Random schedules of faults from a seed, on three machines with etcd.

`python tests/helpers/nodes_schedule.py SEED` runs one; `--show` prints what it would
do; `--keep DIRECTORY` leaves logs and records there; `--count N --jobs K` runs N
schedules from SEED on, K at a time. What they have shown is summed up at the end.
`--only FAULT` has that fault alone, always where etcd's leader is.
A seed gives the same faults at the same times; what comes of them is the machine's.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from checkout import copy_library
from nodes_cluster import Cluster, Lease
from nodes_faults import (
    ALONE,
    COMMON,
    FAULTS,
    Place,
    forge_fence,
    serve_fences,
)
from nodes_judge import Judge, Verdict, figures

HERE = Path(__file__).resolve()
KINDS = ("plain", "slow", "forks", "deaf", "fence")
PLACES = ("primary", "primary", "primary", "standby", "leader", "1", "2", "3")
EPISODES = 4
CALM = 45.0  # limit for all to be well again after faults, seconds


@dataclass
class Strike:
    """A fault of an episode: when it begins and ends, from its start, in seconds."""

    fault: str
    place: str
    lease: int
    begin: float
    end: float
    salt: int


@dataclass
class Plan:
    leases: list[Lease]
    episodes: list[list[Strike]]


def plan(seed: int, episodes: int, only: str = "") -> Plan:
    """Return what a seed leads to; `only`: that fault alone, where etcd leads."""
    chance = random.Random(seed)
    leases = []
    for name in ("one", "two"):
        kind = chance.choice(KINDS)
        fence = kind == "fence"
        command = "plain" if fence else kind
        # A fence takes a member of etcd along: a short ttl is over with the election.
        ttl = max(chance.choice((3, 4, 5)), 5 * fence)
        leases.append(Lease(name, command, ttl, fence))
    found = []
    for number in range(episodes):
        if number == 0 and chance.random() < 0.2:
            chosen = [chance.choice(ALONE).__name__]
        else:
            names = [fault.__name__ for fault in COMMON]
            chosen = chance.choices(names, k=chance.choice((1, 1, 2, 3)))
        if only:
            chosen = [only]
        strikes = []
        for name in chosen:
            begin = chance.choice((0.0, 0.0, round(chance.uniform(0, 3), 2)))
            strikes.append(
                Strike(
                    name,
                    "leader" if only else chance.choice(PLACES),
                    chance.randrange(len(leases)),
                    begin,
                    round(begin + chance.choice((0.5, 2, 4, 7, 10)), 2),
                    chance.randrange(10**9),
                )
            )
        found.append(strikes)
    return Plan(leases, found)


def place_of(cluster: Cluster, strike: Strike, over: threading.Event) -> Place:
    """Return where a fault strikes, as things are now."""
    chance = random.Random(strike.salt)
    machines = [m for m in cluster.machines if m.init] or cluster.machines
    primary = cluster.primary(strike.lease)
    chosen = None
    if strike.place == "primary":
        chosen = primary
    elif strike.place == "leader":
        chosen = cluster.leader()
    elif strike.place.isdigit():
        chosen = cluster.machines[int(strike.place) - 1]
    chosen = chosen or chance.choice(
        [m for m in machines if m is not primary] or machines
    )
    return Place(cluster, chosen, strike.lease, chance, over, strike.fault)


def episode(cluster: Cluster, strikes: list[Strike]) -> None:
    """Let some faults strike, and wait until all is well again."""
    errors: list[BaseException] = []
    start = time.monotonic()

    def strike(one: Strike) -> None:
        over = threading.Event()
        time.sleep(max(0, start + one.begin - time.monotonic()))
        timer = threading.Timer(max(0, start + one.end - time.monotonic()), over.set)
        timer.start()
        try:
            FAULTS[one.fault](place_of(cluster, one, over))
        except BaseException as error:
            errors.append(error)
        timer.join()

    threads = [threading.Thread(target=strike, args=(one,)) for one in strikes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    calm(cluster)


def calm(cluster: Cluster) -> None:
    """Wait until each lease has a primary, and all keepers run."""

    def is_well() -> bool:
        return all(
            cluster.primary(index)
            and all(cluster.keeper(m, index) for m in cluster.machines)
            for index in range(len(cluster.leases))
        )

    cluster.wait(is_well, "a primary of each lease", CALM)
    time.sleep(0.5)


def compile_witness(programs: Path) -> None:
    """Put the observer, and the command under the leases, into a directory."""
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]
    source = HERE.with_name("nodes_witness.c")
    subprocess.run([*command, programs / "witness", source], check=True)
    shutil.copy(programs / "witness", programs / "life")


def prepare(programs: Path) -> None:
    """Put all that schedules run into a directory, as root trusts it."""
    programs.chmod(0o755)
    compile_witness(programs)
    copy_library(programs)


def schedule(seed: int, chosen: Plan, programs: Path, place: Path) -> Verdict:
    """Run a schedule as process 1 of a pid namespace, in an empty directory."""
    forge_fence(place)
    cluster = Cluster(programs, place, chosen.leases, seed)
    verdict = Verdict(seed)
    for strike in chosen.episodes[0]:
        if strike.fault == "etcd_full":
            cluster.quota = 4 << 20
    try:
        for machine in cluster.machines:
            cluster.power_on(machine)
            cluster.start_member(machine)
        cluster.wait(cluster.leader, "a leader")
        helpers = [cluster.probe, cluster.revive, lambda: serve_fences(cluster)]
        threads = [threading.Thread(target=one, daemon=True) for one in helpers]
        for thread in threads:
            thread.start()
        calm(cluster)
        for strikes in chosen.episodes:
            episode(cluster, strikes)
    except (TimeoutError, OSError, subprocess.SubprocessError, LookupError) as error:
        verdict.broken.append(f"{type(error).__name__}: {error}")
    cluster.over.set()
    cluster.note("over")
    cluster.observer.send_signal(signal.SIGTERM)
    cluster.observer.wait()
    cluster.record()
    judge = Judge(
        verdict, chosen.leases, cluster.lives(), place / "observed", cluster.journal
    )
    return judge.run()


def run(
    seed: int,
    programs: Path,
    episodes: int = EPISODES,
    keep: Path | None = None,
    only: str = "",
) -> Verdict:
    """Run a schedule in namespaces of its own; the kernel ends all of it with us."""
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--fork"]
    command += ["--pid", "--mount", "--mount-proc", "--net", "--uts", "--ipc"]
    command += [sys.executable, str(HERE), str(seed)]
    command += ["--episodes", str(episodes), "--programs", str(programs)]
    command += ["--keep", str(keep)] if keep else []
    command += ["--only", only] if only else []
    errors = ""
    try:
        with tempfile.TemporaryDirectory(prefix="nodes") as place:
            done = subprocess.run(
                [*command, "--inside", place],
                capture_output=True,
                text=True,
                timeout=60 + 90 * episodes,
                check=False,
            )
        errors = done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        return Verdict(seed, broken=[f"{error!r} {errors}"])
    return Verdict(**{one.name: found[one.name] for one in fields(Verdict)})


def run_all(
    seeds: range,
    programs: Path,
    jobs: int,
    *,
    episodes: int = EPISODES,
    keep: Path | None = None,
    only: str = "",
) -> Iterator[Verdict]:
    """Run schedules, some side by side; give each verdict as soon as it is there."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(run, s, programs, episodes, keep, only) for s in seeds]
        for done in concurrent.futures.as_completed(tasks):
            yield done.result()


def inside(
    seed: int, chosen: Plan, programs: Path, place: Path, keep: Path | None
) -> None:
    """Be process 1: all data in memory, which goes with the mount namespace."""
    mount = ["mount", "-t", "tmpfs", "-o", "mode=755"]
    subprocess.run([*mount, "nodes", place], check=True)
    verdict = schedule(seed, chosen, programs, place)
    if keep:
        where = keep / str(seed)
        leave = shutil.ignore_patterns("data*", "state*")
        shutil.copytree(place, where, ignore=leave, dirs_exist_ok=True)
        (where / "verdict").write_text(json.dumps(vars(verdict), indent=1))
    print(json.dumps(vars(verdict)), flush=True)
    os._exit(0)


def summary(verdicts: list[Verdict]) -> str:
    """Return what many schedules have shown."""
    faults: collections.Counter[str] = collections.Counter()
    takeovers: dict[str, list[float]] = collections.defaultdict(list)
    for one in verdicts:
        faults.update(one.faults)
        for kind, values in one.takeovers.items():
            takeovers[kind] += values
    lines = [f"schedules {len(verdicts)}"]
    judged = [
        sum(getattr(v, name) for v in verdicts) for name in ("judged", "unjudged")
    ]
    lines += [f"times judged {judged[0]}, not judged on a busy machine {judged[1]}"]
    lines += [f"faults {faults.total()}, lives {sum(one.lives for one in verdicts)}"]
    for what in ("overlaps", "tokens", "broken", "waits", "losses"):
        found = [(one.seed, text) for one in verdicts for text in getattr(one, what)]
        lines += [f"{what} {len(found)}", *(f"  {s}: {t}" for s, t in found[:40])]
    lines += ["between two lives: number, median, worst"]
    every = [one for values in takeovers.values() for one in values]
    for kind, values in [("all", every), *sorted(takeovers.items())]:
        lines += [f"  {kind} ({faults[kind]} times): {figures(values)}"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    for name, number in (("episodes", EPISODES), ("count", 1), ("jobs", 4)):
        parser.add_argument(f"--{name}", type=int, default=number)
    for name in ("keep", "inside", "programs"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--only", default="", choices=list(FAULTS))
    given = parser.parse_args()
    chosen = plan(given.seed, given.episodes, given.only)
    if given.show:
        print(json.dumps(asdict(chosen), indent=1))
        return 0
    if given.inside:
        inside(given.seed, chosen, given.programs, given.inside, given.keep)
    seeds = range(given.seed, given.seed + given.count)
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="programs") as place:
        programs = Path(place)
        prepare(programs)
        for one in run_all(
            seeds,
            programs,
            given.jobs,
            episodes=given.episodes,
            keep=given.keep,
            only=given.only,
        ):
            verdicts.append(one)
            print(one.seed, one if one.losses or not one.holds() else "", flush=True)
    print(summary(verdicts))
    return 0 if all(one.holds() for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
