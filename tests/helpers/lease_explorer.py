"""A search of all that keepers and guardians can come to, for two commands at once.

Two nodes, each with a keeper, its guardian and a command that heeds no TERM, and one
etcd. What they decide is asked of the program's own functions (`Rules`), with the time
and what they know; only what happens around them is a model. Time goes in ticks. In
each tick one thing may go wrong, or end, as long as there are faults left:

    the network of a node: requests are lost, answers are lost, answers are late
    a deposed leader answers a node's renewals
    the keeper, or the guardian, is stopped or killed; a keeper is started anew
    the lease is revoked early; a new leader gives it its whole time again

Left out, as the manual page leaves it out: keeper and guardian of a node both stopped,
or one stopped and the other killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from viagralib.companions.contract import guardian
from viagralib.companions.lease import decisions
from viagralib.companions.lease.decisions import LastSign, Limits
from viagralib.companions.lease.engine import Entry, Snapshot

TTL, STOP = 12.0, 2.4  # ticks
LIMITS = Limits(TTL, STOP)
NOBODY = -1
OFF, STANDBY, WAITS, RUNS, ENDS = range(5)  # what the keeper does
FINE, STOPPED, DEAD = range(3)  # how keeper or guardian is
WELL, LOST_REQUEST, LOST_ANSWER, LATE_ANSWER = range(4)  # the network of a node
LATE = 3  # ticks
OTHER = Entry("other", ttl=TTL, token=1)


class Rules(NamedTuple):
    """What is decided by the program."""

    term_at: Callable[[float], float] = LIMITS.term_at
    kill_at: Callable[[float], float] = LIMITS.kill_at
    guardian_at: Callable[[float], float] = LIMITS.guardian_at
    renew_at: Callable[[float], float] = LIMITS.renew_at
    is_over: Callable[[float | None], bool] = guardian.is_over
    deadline_of: Callable[[float, float, float], float] = decisions.deadline_of
    counts: Callable[[object, object], bool] = decisions.counts
    may_tell_end: Callable[[bool, Any], bool] = decisions.may_tell_end
    see: Callable[[LastSign, Snapshot, float], None] = LastSign.see
    clear_at: Callable[..., float] = LastSign.clear_at


class Node(NamedTuple):
    """One node. Times are in its own ticks from now on."""

    does: int = STANDBY
    runs: bool = False  # the command
    keeper: int = FINE
    guardian: int = FINE
    net: int = WELL
    is_fooled: bool = False  # a deposed leader answers its renewals
    deadline: float = 0.0
    guardians: float | None = None  # the guardian's deadline
    renew: float = 0.0
    stop: float = 0.0
    asked: float | None = None  # when it sent what is not answered yet
    asked_counts: bool = False
    seen: float = 0.0  # when it saw the last sign
    is_fresh: bool = False  # the sign that it saw is still the last one
    has_ended: bool = True  # its own last command, for all that it knows


class World(NamedTuple):
    nodes: tuple[Node, Node] = (Node(), Node(does=OFF))
    primary: int = NOBODY  # whose key it is
    left: float = 0.0  # of the key's lease
    last: int = NOBODY  # who started the command last, and did not say that it ended
    faults: int = 0  # how many there have been


class Found(Exception):  # noqa: N818
    """Two commands at once: the way there."""


def explore(
    rules: Rules, faults: int, most: int, rates: tuple[float, float] = (1.0, 1.0)
) -> int:
    """Return how many states there are, or `most`. Raises Found.

    All that takes fewer ticks comes before what takes more. `rates` are how fast the
    nodes' clocks go.
    """
    start = World()
    known = {start}
    level: list[tuple[World, Any]] = [(start, None)]
    while level:
        later: list[tuple[World, Any]] = []
        for world, way in level:
            for what, changed in _changes(world, faults):
                new = _tick(changed, rules, rates)
                if new in known:
                    continue
                known.add(new)
                there = (what, new, way) if what else way
                if new.nodes[0].runs and new.nodes[1].runs:
                    raise Found(_told((f"{what}: two", new, way)))
                if len(known) >= most:
                    return len(known)
                later.append((new, there))
        level = later
    return len(known)


def _told(way: Any) -> str:  # noqa: ANN401
    lines = []
    while way:
        lines.append(f"{way[0]}\n    {way[1]}")
        way = way[2]
    return "\n".join(reversed(lines))


# What goes wrong


def _changes(world: World, faults: int) -> Iterator[tuple[str, World]]:
    """Yield the world as it is, and with one thing more that is wrong, or over."""
    yield "", world
    for number, node in enumerate(world.nodes):
        for what, new, costs in _changes_of(node):
            if world.faults + costs <= faults:
                changed = _with(world, number, new)
                yield (
                    f"{number}: {what}",
                    changed._replace(faults=world.faults + costs),
                )
    if world.faults < faults and world.primary != NOBODY:
        more = world._replace(faults=world.faults + 1)
        yield "revoked", more._replace(primary=NOBODY)
        if world.left < TTL - 1:
            yield "new leader", more._replace(left=TTL)


def _changes_of(node: Node) -> Iterator[tuple[str, Node, int]]:
    if node.does == OFF:
        # Of another keeper it knows nothing.
        fresh = Node(net=node.net, runs=node.runs, has_ended=False)
        if not node.runs:
            yield "keeper started", fresh, 0
        return
    for net in (WELL, LOST_REQUEST, LOST_ANSWER, LATE_ANSWER):
        if net != node.net:
            yield f"network {net}", node._replace(net=net), int(net != WELL)
    yield "fooled", node._replace(is_fooled=not node.is_fooled), int(not node.is_fooled)
    if node.keeper == FINE and node.guardian == FINE:
        yield "keeper stopped", node._replace(keeper=STOPPED), 1
        yield "guardian stopped", node._replace(guardian=STOPPED), 1
        yield "guardian killed", node._replace(guardian=DEAD), 1
        # The kernel kills the command with it, the guardian all that is left.
        yield "keeper killed", _gone(node), 1
    if node.keeper == STOPPED:
        yield "keeper continued", node._replace(keeper=FINE), 0


def _gone(node: Node) -> Node:
    return Node(does=OFF, net=node.net)


def _with(world: World, number: int, node: Node) -> World:
    one, two = world.nodes
    return world._replace(nodes=(one, node) if number else (node, two))


# What keepers, guardians and etcd do


def _tick(world: World, rules: Rules, rates: tuple[float, float]) -> World:
    one, two = (
        _later(node, rate) for node, rate in zip(world.nodes, rates, strict=True)
    )
    left = round(max(0.0, world.left - 1), 3)
    primary = world.primary if left else NOBODY
    if primary == NOBODY:
        left = 0.0
    world = world._replace(nodes=(one, two), left=left, primary=primary)
    for number in (0, 1):
        node = _guard(world.nodes[number], rules)
        world = _with(world, number, node)
    for number in (0, 1):
        node = world.nodes[number]
        if node.does != OFF and node.keeper == FINE:
            world = _keep(world, number, rules)
    return world


def _later(node: Node, rate: float) -> Node:
    if node.does == OFF:
        return node
    return node._replace(
        deadline=_less(node.deadline, rate, node.does > STANDBY),
        guardians=None if node.guardians is None else _less(node.guardians, rate),
        renew=_less(node.renew, rate, node.does > STANDBY),
        stop=_less(node.stop, rate, node.does == ENDS),
        asked=None if node.asked is None else _less(node.asked, rate),
        # Older than that it makes no difference.
        seen=max(-2 * TTL, _less(node.seen, rate)),
    )


def _less(time: float, by: float, goes: bool = True) -> float:
    return round(time - by, 3) if goes else 0.0


def _guard(node: Node, rules: Rules) -> Node:
    if node.does != OFF and node.guardian == FINE and rules.is_over(node.guardians):
        return _gone(node)
    if node.guardian == DEAD and node.keeper == FINE:
        return _gone(node)  # the keeper ends its command, and itself
    return node


def _keep(world: World, number: int, rules: Rules) -> World:
    """Have a keeper do what there is to do now."""
    node = world.nodes[number]
    if node.guardian == STOPPED:
        node = node._replace(guardian=FINE)
        world = _with(world, number, node)
    if node.does == STANDBY:
        return _stand_by(world, number, rules)
    if node.does == ENDS:
        return _end(world, number, rules)
    world = _renew(world, number, rules)
    node = world.nodes[number]
    is_late = rules.term_at(node.deadline) <= 0
    if node.does == RUNS and is_late:
        world = _with(world, number, node._replace(does=ENDS, stop=STOP))
    elif node.does == WAITS and is_late:
        world = _give_up(world, number, rules)
    elif node.does == WAITS and _is_clear(world, number, rules):
        world = _start(world, number, rules)
    return world


def _look(world: World, number: int, rules: Rules) -> Node:
    """Return the node as it is after a look."""
    node = world.nodes[number]
    sign = _sign(node)
    rules.see(sign, Snapshot(mark=2), 0.0)
    return node._replace(seen=sign.seen, is_fresh=True)


def _sign(node: Node) -> LastSign:
    sign = LastSign()
    sign.mark, sign.seen = (2 if node.is_fresh else 1), node.seen
    return sign


def _is_clear(world: World, number: int, rules: Rules) -> bool:
    node = world.nodes[number]
    sign = _sign(node)
    is_own = world.last == number and node.has_ended
    sign.ended = OTHER.token if is_own else 0
    snapshot = Snapshot(uncertain=None if world.last == NOBODY else OTHER)
    return rules.clear_at(sign, snapshot, lambda other: other.ttl) <= 0


def _stand_by(world: World, number: int, rules: Rules) -> World:
    node = world.nodes[number]
    if node.net in (LOST_REQUEST, LATE_ANSWER):
        return world
    if node.net == LOST_ANSWER:  # an order to take it arrives, and nobody knows
        if world.primary == NOBODY:
            return world._replace(primary=number, left=TTL)
        return world
    node = _look(world, number, rules)
    if world.primary == NOBODY:
        world = world._replace(primary=number, left=TTL)
        node = _renewed(node._replace(does=WAITS), 0.0, rules)
    return _with(world, number, node)


def _renewed(node: Node, asked: float, rules: Rules) -> Node:
    deadline = rules.deadline_of(asked, TTL, TTL)
    return node._replace(
        deadline=deadline,
        guardians=rules.guardian_at(deadline),
        renew=rules.renew_at(0.0),
        asked=None,
    )


def _renew(world: World, number: int, rules: Rules) -> World:
    node = world.nodes[number]
    if node.asked is not None:
        return _hear(world, number, rules)
    if node.renew > 0 or node.net == LOST_REQUEST:
        return world
    # The read after it is the true leader's.
    does_count = rules.counts("old" if node.is_fooled else "new", "new")
    if world.primary == NOBODY and (node.does, world.last) == (RUNS, number):
        world, does_count = world._replace(primary=number, left=TTL), True  # again
    elif world.primary != number:  # lost: the command is killed, once it hears of it
        return _give_up(world, number, rules) if node.net == WELL else world
    elif not node.is_fooled:
        world = world._replace(left=TTL)
    if node.does == RUNS:  # it has put the sign anew
        world = _signed(world, number)
    node = world.nodes[number]
    if node.net == LATE_ANSWER:
        node = node._replace(asked=0.0, asked_counts=does_count)
    elif node.net == WELL:
        node = _look(world, number, rules)
        if does_count:
            node = _renewed(node, 0.0, rules)
    return _with(world, number, node)


def _hear(world: World, number: int, rules: Rules) -> World:
    """Have a late answer come, if it can by now."""
    node = world.nodes[number]
    if node.asked is None or node.net != WELL or node.asked > -LATE:
        return world
    new = node._replace(asked=None)
    if node.asked_counts:
        new = _renewed(new, node.asked, rules)
    return _with(world, number, new)


def _signed(world: World, number: int) -> World:
    one, two = (node._replace(is_fresh=False) for node in world.nodes)
    return world._replace(nodes=(one, two), last=number)


def _start(world: World, number: int, rules: Rules) -> World:
    """Note that the command starts, and start it; or give up, where nobody answers."""
    net = world.nodes[number].net
    if net == LOST_REQUEST or world.primary != number:
        return _give_up(world, number, rules)
    world = _signed(world, number)
    if net != WELL:
        return _give_up(world, number, rules)
    node = world.nodes[number]._replace(does=RUNS, runs=True, has_ended=False)
    return _with(world, number, node)


def _end(world: World, number: int, rules: Rules) -> World:
    node = world.nodes[number]
    if node.stop > 0 and rules.kill_at(node.deadline) > 0:
        return world
    return _give_up(world, number, rules)


def _give_up(world: World, number: int, rules: Rules) -> World:
    """Kill the command, say so, and let the lease go, as far as etcd hears of it."""
    node = world.nodes[number]
    was_noted = node.does in (RUNS, ENDS)
    tells = rules.may_tell_end(was_noted, [])
    new = Node(net=node.net, is_fooled=node.is_fooled, seen=node.seen)
    new = new._replace(
        is_fresh=node.is_fresh, has_ended=tells or (node.has_ended and not was_noted)
    )
    if node.net != LOST_REQUEST:
        if world.primary == number:
            world = world._replace(primary=NOBODY, left=0.0)
        if tells and world.last == number:
            world = world._replace(last=NOBODY)
    return _with(world, number, new)
