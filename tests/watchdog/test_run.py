"""The main job: two names, one of them dead."""

from __future__ import annotations

import re

from world import World, unique, until

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


def test_all_up_is_silent(world: World) -> None:
    name = unique("food")
    world.watch(name)
    world.up(name)
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", ""), result
    assert world.starts(name) == 0


def test_the_dead_one_is_restarted_and_the_other_left_alone(world: World) -> None:
    dead, living = unique("food"), unique("food")
    world.watch(dead)
    world.watch(living)
    other = world.up(living)
    result = world.run()
    first, second, *rest = result.out.splitlines()
    assert first == f"Restarting {dead}"
    assert re.fullmatch(DATE, second)
    assert "Restarting" not in "\n".join(rest)
    assert result.code == 0
    assert world.starts(dead) == 1 and world.starts(living) == 0
    assert world.pids(living) == [other.pid]
    assert len(world.pids(dead)) == 1
    quiet = world.run()
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_both_dead_are_started_side_by_side(world: World) -> None:
    one, two = unique("food"), unique("food")
    for name, other in ((one, two), (two, one)):
        # Each hook goes on only when it sees that the other one was begun, too.
        world.hook(
            name,
            f"touch {world.place}/{name}.begun\n"
            f"while ! [ -e {world.place}/{other}.begun ]; do sleep 0.05; done\n"
            f"{world.daemon(name)} 1000 >/dev/null 2>&1 &",
        )
    result = world.run()
    assert result.code == 0, result
    assert result.out.count("Restarting ") == 2
    until(lambda: world.pids(one) and world.pids(two))
