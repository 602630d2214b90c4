"""viagra-lease: a command on one machine at a time. See viagra-lease(1)."""

from __future__ import annotations

import os
import signal
import sys

from viagralib import deaths, guardian, nodes, signals
from viagralib.companion import Companion, say
from viagralib.engine import Card, Engine
from viagralib.engines import open_engine
from viagralib.guardian import GuardianGoneError
from viagralib.leaseplan import USAGE, Plan, parse
from viagralib.marks import Marks

PROGRAM = "viagra-lease"
BAD_USAGE, BROKEN, BAD_SETTINGS = 64, 70, 78  # sysexits(3)


def entry() -> None:
    """Be the program viagra-lease."""
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Do what `argv` (without the program's name) asks for; return the exit code."""
    companion = Companion(PROGRAM, USAGE, BAD_USAGE, BAD_SETTINGS, failed=BROKEN)
    return companion.run(argv, parse, _work)


def _work(plan: Plan) -> int:
    state = deaths.state_directory()
    engine = plan.engine or f"file://{state}/leases"
    if plan.verb == "keep":
        return _keep(plan, engine, state)
    from viagralib import leases

    return leases.obey(plan, engine, state)


def _keep(plan: Plan, url: str, state: str) -> int:
    """Keep a resource on this node; return the exit code."""
    name = plan.name or ""
    card = Card(
        nodes.this_node(),
        nodes.host(),
        os.getpid(),
        priority=plan.priority,
        ttl=plan.ttl,
    )
    engine = open_engine(url, name, plan.ttl, card)
    engine.prepare()
    nodes.name_process(PROGRAM)
    wanted = signals.collect()
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        # A keeper that a terminal stops could not end its command in time.
        signal.signal(number, signal.SIG_IGN)
    link = guardian.stand(PROGRAM, killed=BROKEN, late=BROKEN)
    return _hold(plan, engine, Marks(state, name), wanted, link)


def _hold(
    plan: Plan,
    engine: Engine,
    marks: Marks,
    wanted: frozenset[int],
    link: guardian.Link,
) -> int:
    from viagralib.keeper import Keeper

    engine.connect()
    try:
        return Keeper(plan, engine, marks, wanted, link).run()
    except GuardianGoneError:
        say(PROGRAM, "the guardian was killed, ended all")
        return BROKEN
