"""viagra-lease: a command on one machine at a time. See viagra-lease(1)."""

from __future__ import annotations

import os
import signal
import sys
from urllib.parse import quote  # engine_url needs the others

from viagralib.companions.contract import guardian, signals
from viagralib.companions.contract.companion import Companion
from viagralib.companions.lease import node
from viagralib.companions.lease.engine import Entry
from viagralib.companions.lease.engine_url import open_engine
from viagralib.companions.lease.node_records import NodeRecords
from viagralib.companions.lease.options import PROGRAM, USAGE, Plan, parse
from viagralib.state import death_records

BAD_USAGE, BROKEN, BAD_SETTINGS = 64, 70, 78  # sysexits(3)


def entry() -> None:
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Do what `argv` (without the program's name) asks for; return the exit code."""
    companion = Companion(PROGRAM, USAGE, BAD_USAGE, BAD_SETTINGS, failed=BROKEN)
    return companion.run(argv, parse, _work)


def _work(plan: Plan) -> int:
    state = death_records.state_directory()
    place = quote(os.path.abspath(state), errors="surrogateescape")
    engine = plan.engine or f"file://{place}/leases"
    if plan.verb == "keep":
        return _keep(plan, engine, state)
    from viagralib.companions.lease import verbs

    return verbs.obey(plan, engine, state)


def _keep(plan: Plan, url: str, state: str) -> int:
    """Keep a resource on this node; return the exit code."""
    name = plan.name or ""
    entry = Entry(
        node.this_node(),
        node.host(),
        os.getpid(),
        priority=plan.priority,
        ttl=plan.ttl,
    )
    engine = open_engine(url, name, plan.ttl, entry)
    engine.prepare()
    node.name_process(PROGRAM)
    wanted = signals.collect()
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        # A keeper that a terminal stops could not end its command in time.
        signal.signal(number, signal.SIG_IGN)
    link = guardian.stand(PROGRAM, killed=BROKEN, late=BROKEN)
    from viagralib.companions.lease.keeper import Keeper  # in the holder alone

    engine.connect()
    return Keeper(plan, engine, NodeRecords(state, name), wanted, link).run()
