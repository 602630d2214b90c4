"""The verbs of viagra-lease for people: status, yield, forbid, allow."""

from __future__ import annotations

import dataclasses
import json
import time

from viagralib.base import durations
from viagralib.base.messages import Fault, reason, safe
from viagralib.companions.contract.companion import say, show
from viagralib.companions.lease import node
from viagralib.companions.lease.engine import Engine, Entry, Snapshot, UnreachableError
from viagralib.companions.lease.engine_url import open_engine
from viagralib.companions.lease.keeper import UNREACHABLE, WELL
from viagralib.companions.lease.node_records import INIT, NodeRecords
from viagralib.companions.lease.options import PROGRAM, Plan

VERSION = 1  # of the JSON document
NOT_SO = 1  # no primary, or nobody to yield to
_TTL = 15.0  # seconds: each call may take a fifth of it


def obey(plan: Plan, url: str, state: str) -> int:
    """Do what a verb asks for; return the exit code. Raises Fault."""
    if plan.verb in ("forbid", "allow"):
        return _mark(plan.verb, NodeRecords(state, plan.name or ""))
    engine = _connected(url, plan.name or "")
    try:
        if plan.verb == "yield":
            return _yield(engine)
        names = [plan.name] if plan.name else engine.names()
        snapshots = {name: _connected(url, name).look() for name in names}
    except UnreachableError as error:
        say(PROGRAM, f"no engine answers: {error}")
        return UNREACHABLE
    seen = [
        _Resource(name, NodeRecords(state, name), snapshot)
        for name, snapshot in snapshots.items()
    ]
    if plan.json:
        told = {one.name: one.document() for one in seen}
        text = json.dumps({"version": VERSION, "leases": told}, indent=1)
    else:
        text = "\n".join(line for one in seen for line in one.lines()) or "no leases"
    show(text)
    is_well = snapshots and all(one.primary for one in snapshots.values())
    return WELL if is_well else NOT_SO


def _connected(url: str, name: str) -> Engine:
    engine = open_engine(url, name, _TTL, Entry(node.this_node()))
    engine.connect()
    return engine


def _mark(verb: str, records: NodeRecords) -> int:
    try:
        if verb == "forbid":
            records.forbid()
        else:
            records.allow()
    except OSError as error:
        raise Fault("", f"could not {verb}: {reason(error)}") from None
    return WELL


def _yield(engine: Engine) -> int:
    """Ask the primary to give up, if there is somebody to take over."""
    snapshot = engine.look()
    if not snapshot.primary:
        say(PROGRAM, f"{engine.name}: there is no primary")
        return NOT_SO
    if not snapshot.standbys:
        say(PROGRAM, f"{engine.name}: there is no standby that could take over")
        return NOT_SO
    engine.ask_to_yield(snapshot.token)
    return WELL


class _Resource:
    """What is known of one resource, here and by the engine."""

    def __init__(self, name: str, records: NodeRecords, snapshot: Snapshot) -> None:
        self.name = name
        self._snapshot = snapshot
        self._keeper = records.keeper()
        self._is_forbidden = records.is_forbidden
        self._rest_left = records.rest_left(self._keeper.get("pid"))

    def document(self) -> dict[str, object]:
        """Return it for JSON; times in seconds."""
        snapshot, primary = self._snapshot, self._snapshot.primary
        # Else that is the primary itself.
        last = None if primary else snapshot.uncertain
        return {
            "role": self._keeper.get("role", INIT),
            "keeper": self._keeper.get("pid"),
            "forbidden": self._is_forbidden,
            "next_try_in": round(self._rest_left, 1),
            "primary": _told(primary) if primary else None,
            "token": snapshot.token or None,
            "ttl_left": snapshot.left,
            "standbys": [_told(entry) for entry in snapshot.standbys],
            "last": {**_told(last), "token": last.token} if last else None,
        }

    def lines(self) -> list[str]:
        snapshot, primary = self._snapshot, self._snapshot.primary
        lines = [safe(self.name), f"  here      {self._here()}"]
        if primary:
            text = f"{_who(primary)}, since {_moment(primary.since)}"
            if snapshot.left is not None:
                text += f", {durations.spell(snapshot.left)} left"
            lines.append(f"  primary   {text}, token {snapshot.token}")
        else:
            lines.append("  primary   none")
        standbys = ", ".join(
            f"{_who(c)} (priority {c.priority})" for c in snapshot.standbys
        )
        lines.append(f"  standbys  {standbys or 'none'}")
        if not primary and snapshot.uncertain:
            lines.append(
                f"  last      {_who(snapshot.uncertain)}, which did not end in order"
            )
        return lines

    def _here(self) -> str:
        role = str(self._keeper.get("role", INIT))
        text = safe(role)
        text += f", pid {self._keeper['pid']}" if self._keeper else ", no keeper"
        if self._is_forbidden:
            text += f", forbidden; to end that: viagra-lease allow {safe(self.name)}"
        if self._rest_left:
            text += f", next try in {durations.spell(self._rest_left)}"
        return text


def _told(entry: Entry) -> dict[str, object]:
    """Return an entry for JSON; the token is told apart from it."""
    told = dataclasses.asdict(entry)
    del told["token"]
    return told


def _who(entry: Entry) -> str:
    return f"{safe(entry.host) or '?'} ({safe(entry.node)[:8]})"


def _moment(seconds: float) -> str:
    return time.strftime("%b %e %H:%M:%S", time.localtime(seconds))
