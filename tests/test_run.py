"""The main job: two names, one of them dead."""

from __future__ import annotations

import re

from world import World, until

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


def test_all_up_is_silent(world: World) -> None:
    world.watch("fooda")
    world.up("fooda")
    result = world.run()
    assert (result.code, result.out, result.err) == (0, "", ""), result
    assert world.starts("fooda") == 0


def test_the_dead_one_is_restarted_and_the_other_left_alone(world: World) -> None:
    world.watch("fooda")
    world.watch("foodb")
    other = world.up("foodb")
    result = world.run()
    first, second, *rest = result.out.splitlines()
    assert first == "Restarting fooda"
    assert re.fullmatch(DATE, second)
    assert "Restarting" not in "\n".join(rest)
    assert result.code == 0
    assert world.starts("fooda") == 1 and world.starts("foodb") == 0
    assert world.pids("foodb") == [other.pid]
    assert len(world.pids("fooda")) == 1
    quiet = world.run()
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_both_dead_are_started_side_by_side(world: World) -> None:
    for name in ("fooda", "foodb"):
        other = "foodb" if name == "fooda" else "fooda"
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
    until(lambda: world.pids("fooda") and world.pids("foodb"))
