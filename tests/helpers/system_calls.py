"""A run's system calls, by strace(1): all of them, one that fails, or its last one."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from world import (
    SLEEP,
    Result,
    World,
    absent,
    alive,
    all_pids,
    environment,
    need,
    until,
)

_T = TypeVar("_T")
# As strace -y writes it: "openat(AT_FDCWD</>, "/proc/1/stat", O_RDONLY) = 3<...>".
_LINE = re.compile(r"(\w+)\((.*)")
_FILE = re.compile(r'"(.*?)"|\d+<(.*?)>')


class Call:
    """One system call of a run: the `number`-th of its `name`, counted from 1."""

    def __init__(self, name: str, number: int, text: str) -> None:
        self.name = name
        self.number = number
        self.text = text  # its arguments and its result

    def __repr__(self) -> str:
        return f"{self.name} {self.number}: {self.text[:100]}"

    def kind(self) -> tuple[str, str]:
        """Return what many calls have in common: name, and file without its numbers.

        Modules are loaded alike: Python's are one file, and so are the program's.
        """
        found = _FILE.search(self.text)
        file = (found[1] or found[2] or "") if found else ""
        for place in ("/lib/python", "/viagralib/"):
            if place in file:
                file = place
        return self.name, re.sub(r"\d[\da-fTZ.-]*", "N", file)


def recorded(world: World, *arguments: str) -> list[Call]:
    """Run the program, and return all the system calls that it makes itself."""
    file = world.place / "calls"
    traced(world, ["-y", "-s", "200", "-o", str(file)], *arguments)
    counts: Counter[str] = Counter()
    calls = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        if found := _LINE.match(line):
            counts[found[1]] += 1
            calls.append(Call(found[1], counts[found[1]], found[2]))
    if not calls:
        absent("needs strace, and the right to trace a process")
    return calls


def traced(world: World, options: Sequence[str], *arguments: str) -> Result:
    """Run the program under strace with these options."""
    out, err = world.place / "out", world.place / "err"
    # No pipes: with -D, strace would keep them open as long as the daemon lives.
    with out.open("w") as stdout, err.open("w") as stderr:
        done = subprocess.run(
            [need("strace"), "-qq", *options, *world.command(*arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            check=False,
            env=environment(),
            timeout=600,
        )
    texts = [file.read_text(errors="surrogateescape") for file in (out, err)]
    return Result(done.returncode, *texts)


def injected(world: World, call: Call, what: str, *arguments: str) -> Result:
    """Run the program, and do `what` to one system call of it: signal=, error=."""
    inject = f"--inject={call.name}:{what}:when={call.number}"
    options = ["-o", "/dev/null", "-e", f"trace={call.name}", inject]
    return traced(world, options, *arguments)


def since(calls: list[Call], place: object) -> list[Call]:
    """Return the calls from the first one on that opens this, or something in it."""
    opens = (n for n, one in enumerate(calls) if one.name.startswith("open"))
    return calls[next(n for n in opens if f'"{place}' in calls[n].text) :]


def first_and_last(calls: list[Call]) -> tuple[list[Call], list[Call]]:
    """Return the first call of each kind, and the last one."""
    firsts: dict[tuple[str, str], Call] = {}
    lasts: dict[tuple[str, str], Call] = {}
    for call in calls:
        firsts.setdefault(call.kind(), call)
        lasts[call.kind()] = call
    return list(firsts.values()), list(lasts.values())


def spread(items: Sequence[_T], number: int) -> list[_T]:
    """Return so many of the items, at equal distances."""
    return [items[n * len(items) // number] for n in range(number)]


# What both kinds of faults are held to


def scene(world: World, number: int) -> World:
    """Return a world of its own below a test's world, which ends what it started."""
    place = world.place / f"scene{number:04}"
    place.mkdir()
    inner = World(place, world.program)
    world.locked += inner.locked
    return inner


def watch_counted(world: World, name: str, facts: str = "", settings: str = "") -> None:
    """Put in a hook whose daemon itself notes that it was executed, each time."""
    world.settings(
        f'[defaults]\npatience = "0s"\nstart_timeout = "2m"\n{settings}'
        '[evidence]\ncommands = ["ps auxww"]\n'
    )
    if facts:
        world.facts(name, facts)
    program = world.place / "first" / name
    program.parent.mkdir()
    text = f"echo $$ >> {world.place}/executed\nexec {world.daemon(name)} {SLEEP}\n"
    world.write(program, f"#!/bin/sh\n{text}", 0o755)
    world.hook(name, f"{program} >/dev/null 2>&1 &")


def executions(world: World) -> int:
    """Return how often the daemon was executed: whoever starts it."""
    file = world.place / "executed"
    return len(file.read_text().splitlines()) if file.exists() else 0


def settle(world: World, name: str) -> list[Result]:
    """Run until there is nothing left to do or to say; return how the runs went."""
    results = []

    def is_quiet() -> bool:
        was_up = bool(world.pids(name))
        result = world.run()
        results.append(result)
        # 75: what was started by the last one may hold its lock for a moment.
        assert result.code in (0, 75) and not result.err, result
        return was_up and result.code == 0 and not result.out

    until(is_quiet, 300)
    return results


def assert_whole(world: World, name: str) -> None:
    """One daemon; all incidents closed and readable; no lock, no stray process."""
    found = (executions(world), len(world.pids(name)))
    assert found == (1, 1), f"{found[0]} executions, {found[1]} daemons"
    tested = world.run("test")
    assert (tested.code, tested.err) == (0, ""), tested
    for incident in published(world):
        assert world.record(incident)["status"] == "closed", incident
    is_open = [path.name for path in (world.state / "open").glob("[!.]*")]
    assert not is_open, f"still open: {is_open}"
    assert_free(world, name)
    until(lambda: strays(world) == world.pids(name), 300)


def published(world: World) -> list[Path]:
    """Return the incidents. One whose run was killed before it had its name is none."""
    return [place for place in world.incidents() if not place.name.startswith(".")]


def assert_free(world: World, name: str) -> None:
    """The daemon's locks, in the state and in /run, are nobody's."""
    locks = [world.state / "locks" / name, *Path("/run/viagra").glob(f"{name}.*")]
    for lock in filter(Path.exists, locks):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def strays(world: World) -> list[int]:
    """Return the processes that came of this world, by arguments or environment."""
    mark = os.fsencode(world.place)
    found = []
    for pid in all_pids():
        try:
            told = Path(f"/proc/{pid}/cmdline").read_bytes()
            told += Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if mark in told and alive(pid):
            found.append(pid)
    return found
