"""Trees of processes: some, and all that descends from them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container, Iterable

from viagralib.processes import table
from viagralib.processes.linux import Process, Unreadable, Vanished

_Table = dict[int, Process]  # by pid


class _Snapshots:
    """Full looks at the table, which all trees share."""

    def __init__(self) -> None:
        self.newest: _Table = {}  # without zombies
        self._next = 0.0
        self._since = float("inf")

    def fresh(self, since: float) -> _Table:
        """Look now; return the processes begun `since` that are no zombies.

        What is older than each tree is in none of them: of many thousands, it takes
        the memory of most.
        """
        began = time.monotonic()
        self._since, our_pid = min(since, self._since), os.getpid()
        there = {
            one.pid: one
            for one in table.look()
            if one.start >= self._since or one.parent == our_pid or one.silent
        }
        self.newest = {pid: one for pid, one in there.items() if not one.zombie}
        for pid in there.keys() - self.newest.keys():
            _reap(there[pid])
        self._next = table.next_look(began)
        return self.newest

    def recent(self, since: float) -> _Table:
        """Return the newest look, or a fresh one if it is time for that."""
        is_time = since < self._since or time.monotonic() >= self._next
        return self.fresh(since) if is_time else self.newest


_SNAPSHOTS = _Snapshots()
_CHILDREN: set[tuple[int, float]] = set()  # our own: all others are orphans
_HOOKS: list[ProcessTree] = []  # whose orphans may be ours


def grow(child: Process, mark: str) -> ProcessTree:
    """Return the tree of a child of ours; one with a mark is a hook's.

    Where we are the reaper (reaper.py), orphans become our children: those that can
    have come of no other hook are the hook's.
    """
    _CHILDREN.add(child.identity)
    tree = ProcessTree([child], mark=mark)
    if mark:
        _HOOKS.append(tree)
    return tree


def orphans(since: float) -> list[Process]:
    """Return the living orphans that began `since`, and of which hook is not known."""
    known = {one.identity for tree in _HOOKS for one in tree.members()}
    newest = _SNAPSHOTS.newest.values()
    return [
        one for one in newest if _is_orphan(one, since) and one.identity not in known
    ]


def _is_orphan(one: Process, since: float) -> bool:
    ours = one.parent == os.getpid() and one.identity not in _CHILDREN
    return ours and one.start >= since


def _reap(one: Process) -> None:
    """Reap an orphan that has ended: to an init.d script, a zombie still runs."""
    if _is_orphan(one, 0):
        with contextlib.suppress(OSError):
            os.waitpid(one.pid, os.WNOHANG)


class ProcessTree:
    """Processes, their sessions' members, and their descendants.

    A member stays one when its parent ends, if it was seen before that. What forks
    twice and leaves its session, as daemons do, is not: so `mark`, a variable of the
    roots' environment that nobody can guess, and where it writes to, the directory of
    the mark, tell what came of them since. `spared` are pids that are no members,
    whoever their parents are; without `with_kin` there are none but the roots.
    """

    def __init__(
        self,
        roots: Iterable[Process],
        spared: Container[int] = (),
        mark: str = "",
        with_kin: bool = True,
    ) -> None:
        self._members = {one.identity: one for one in roots}
        self.ever = {**self._members}  # all that were members at some look
        self._mark = mark
        self.is_over = False  # a hook's that has failed: an orphan may be another's
        self.oldest = min((start for _, start in self._members), default=0.0)
        self._unmarked: set[tuple[int, float]] = set()
        self._sessions = {pid for pid, _ in self._members}
        self._spared = spared
        self._with_kin = with_kin
        self._left: ProcessTree | None = None
        self._since = self.oldest  # of those that are left out, too
        # Where its members were looked for last. What is older does not have them yet.
        self._seen = _SNAPSHOTS.newest
        self._has_looked = False

    def leave(self, processes: Iterable[Process]) -> None:
        """Count these, and all that descends from them, out of the tree."""
        if self._left is None:
            self._left = ProcessTree((), spared={pid for pid, _ in self._members})
        for one in processes:
            self._left._members[one.identity] = one
            self._left._sessions.add(one.pid)
            self._since = min(self._since, one.start)
        if self._has_looked:
            self._find_members(self._seen)

    def watch(self) -> None:
        """Look for new members, if it is time for another full look."""
        there = _SNAPSHOTS.recent(self._since)
        if there is not self._seen:
            self._find_members(there)

    def members(self) -> list[Process]:
        """Return the members of the newest look for them."""
        return list(self._members.values())

    def living(self) -> list[Process]:
        """Look at the whole table; return the members that live."""
        return self._find_members(_SNAPSHOTS.fresh(self._since))

    def _find_members(self, there: _Table) -> list[Process]:
        self._seen, self._has_looked = there, True
        left = self._left._find_members(there) if self._left else []
        out = {one.pid for one in left}
        # A member of which the kernel tells no more is still the one that it was.
        known = {one.pid: one for one in self.members()}
        candidates = [
            known.get(one.pid, one) if one.silent else one
            for one in there.values()
            if one.pid not in self._spared and one.pid not in out
        ]
        members = {
            one.identity: one
            for one in candidates
            if one.identity in self._members
            or self._is_marked(one)
            or self._is_adopted(one)
        }
        while kin := [one for one in candidates if self._is_kin(one, members, there)]:
            members.update({one.identity: one for one in kin})
        self._members = members
        self.ever.update(members)
        for one in left:
            self.ever.pop(one.identity, None)
        self._sessions |= {pid for pid, _ in members}
        return list(members.values())

    def _is_kin(
        self,
        one: Process,
        members: dict[tuple[int, float], Process],
        there: _Table,
    ) -> bool:
        if one.identity in members or not self._with_kin:
            return False
        parent, leader = there.get(one.parent), there.get(one.session)
        if parent is not None and parent.identity in members:
            return True
        # A session outlives its leader; but the leader's pid may have been reused.
        return one.session in self._sessions and (
            leader is None or leader.identity in members
        )

    def _is_marked(self, one: Process) -> bool:
        """Return whether it has the mark; a process without it is asked once."""
        known = one.start < self.oldest or one.identity in self._unmarked
        if known or not self._mark:
            return False
        directory = os.path.dirname(self._mark.partition("=")[2])
        try:
            if any(path.startswith(f"{directory}/") for path in table.outputs(one)):
                return True
            if self._mark in one.environment():
                return True
        except (Vanished, Unreadable):
            pass
        self._unmarked.add(one.identity)
        return False

    def _is_adopted(self, one: Process) -> bool:
        """Return whether it is an orphan of this hook's: of no other's, that is."""
        if not self._mark or not _is_orphan(one, self.oldest):
            return False
        return not any(
            tree.oldest <= one.start and tree._mark != self._mark and not tree.is_over
            for tree in _HOOKS
        )
