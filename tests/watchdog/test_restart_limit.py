"""The restart limit: held after so many tries, and when it is tried again."""

from __future__ import annotations

import re
import subprocess
import time

from world import World, unique

LIMIT = 'limit = { restarts = 2, within = "1h" }\n'


def age_counts(world: World, name: str, seconds: float) -> None:
    """Let the tries of a daemon be older by that much."""
    path = world.state / "counts" / name
    text = path.read_text()
    at = float(text.partition('"tried_at": ')[2].split(",")[0].split("\n")[0])
    path.write_text(
        text.replace(f'"tried_at": {at!r}', f'"tried_at": {at - seconds!r}')
    )


def die(world: World, name: str) -> None:
    for pid in world.pids(name):
        world.kill(pid)


def test_held_after_its_tries_then_one_try_each_within(world: World) -> None:
    name = unique("held")
    world.watch(name, LIMIT)
    world.hook(name, f"touch {world.place}/told", kind="fail.d")
    for tries in (1, 2):
        result = world.run()
        assert result.code == 0 and world.starts(name) == tries
        assert ("\n  series    " in result.out) == (tries > 1)
        die(world, name)
    assert (
        "series    try 2 since" in result.out
        and "the next one not before " in result.out
    )
    assert not (world.place / "told").exists()
    first = world.run()
    assert first.code == 1 and f"{name} is held: tried 2 times" in first.out
    assert f"viagra.py restart {name}" in first.out
    assert (world.place / "told").exists()
    (world.place / "told").unlink()
    for _ in range(2):
        again = world.run()
        assert (again.code, again.out, again.err) == (1, "", "")
    assert world.starts(name) == 2
    assert not (world.place / "told").exists()
    assert "held" in world.run("status").out
    age_counts(world, name, 3700)
    assert world.run().code == 0 and world.starts(name) == 3
    die(world, name)
    assert world.run().code == 1 and world.starts(name) == 3
    age_counts(world, name, 2 * 3600)  # a quiet time: all is forgotten
    for tries in (4, 5):
        assert world.run().code == 0 and world.starts(name) == tries
        die(world, name)
    assert world.run().code == 1


def test_the_last_try_says_that_the_next_run_holds_it(world: World) -> None:
    name = unique("last")
    world.hook(name, "exit 3")
    world.facts(name, LIMIT.replace("2", "3"))
    assert "  next      the next run tries again" in world.run().out
    second = world.run().out
    told = re.search(
        r"^  series    try 2 since (.*); after try 3 it is held", second, re.M
    )
    assert told and time.strptime(told[1], "%a %b %d %H:%M:%S %Z %Y")
    third = world.run().out
    assert f"try 3 since {told[1]}; the next one not before " in third
    assert "  next      held: tried 3 times" in third
    assert f"{name} is held: tried 3 times" in world.run().out


def test_the_state_may_be_deleted(world: World) -> None:
    name = unique("forget")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    die(world, name)
    assert world.run().code == 1
    subprocess.run(["rm", "-rf", str(world.state)], check=True)
    assert world.run().code == 0 and world.starts(name) == 2


def test_restart_by_hand_does_not_count_and_is_not_held(world: World) -> None:
    name = unique("manual")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    pid = world.pids(name)[0]
    for starts in (2, 3):
        result = world.run("restart", name)
        assert result.code == 0, result
        assert result.out.startswith(f"Restarting {name}\n")
        assert "  why       restarted by hand\n" in result.out
        assert world.starts(name) == starts and len(world.pids(name)) == 1
    assert world.run("history").out.count("; restarted by hand\n") == 2
    assert world.pids(name) != [pid]


def test_a_clock_set_back_holds_nobody(world: World) -> None:
    name = unique("clock")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    die(world, name)
    age_counts(world, name, -86400)
    assert world.run().code == 0 and world.starts(name) == 2
