"""Stopping a daemon, or what its hook left: whom to warn, whom to spare."""

from __future__ import annotations

import math

from viagralib.base.durations import spell
from viagralib.evidence import service_manager
from viagralib.hooks import execution as hooks
from viagralib.hooks.execution import Execution, Task, names_of
from viagralib.hooks.outcome import Outcome
from viagralib.processes import openrc, service_units, table
from viagralib.processes.linux import Process
from viagralib.processes.matching import LEFTOVER, cut
from viagralib.processes.tree import ProcessTree, orphans
from viagralib.processes.tree_end import end, until_gone
from viagralib.processes.verdicts import SICK, UNKNOWN, Verdict
from viagralib.recovery.recovery import FAILED, LATE, Recovery
from viagralib.state import death_records


def stop(recovery: Recovery) -> Task[list[Process]]:
    """Stop what must not be there at the start; return those that still live.

    All that descends from the daemon is stopped with it, but for what the fact
    `leftovers` leaves alone.
    """
    facts, verdict = recovery.daemon.facts, recovery.verdict
    matched = verdict.processes()
    leftovers = verdict.processes(LEFTOVER) if facts.leftovers == "stop" else []
    if not matched and not leftovers:
        return []
    # It would start anew what dies of a signal: it must end its command itself.
    runner = death_records.runner(recovery.run.state, recovery.daemon.name)
    runner = openrc.supervisor([*([runner] if runner else []), *matched]) or runner
    roots = [*([runner] if runner else []), *matched, *leftovers]
    warned = [runner] if runner else topmost(roots)
    spared = _ourselves(recovery.run.observer.pid, roots)
    is_alone = facts.leftovers == "leave-all" and not runner
    tree = ProcessTree(warned if is_alone else roots, spared, with_kin=not is_alone)
    if is_alone:
        left = {one.identity for one in roots} - {one.identity for one in warned}
        recovery.run.observer.left |= left
    rest = yield from _end(recovery, tree, warned)
    living = {one.identity for one in rest}
    ended = [one for one in tree.ever.values() if one.pid not in spared]
    ended = [one for one in ended if one.identity not in living]
    recovery.note_stopped(ended)
    return rest


def _end(
    recovery: Recovery, tree: ProcessTree, warned: list[Process]
) -> Task[list[Process]]:
    """End a tree by stop.d, else by signals; return those that still live.

    One that is to stay stopped is so for its manager as well, which would restart it.
    """
    facts = recovery.daemon.facts

    def leave_leftovers(verdict: Verdict) -> bool:
        if facts.leftovers != "stop":
            tree.leave(verdict.processes(LEFTOVER))
        return True

    leave_leftovers(recovery.verdict)
    if recovery.verdict.processes() and recovery.daemon.programs("stop.d"):
        yield from run_all(recovery, "stop.d", facts.stop_timeout)
        rest = yield from until_gone(tree, facts.stop_timeout, leave_leftovers)
    else:
        is_for_good = recovery.why == SICK and facts.recovery == "quit"
        unit = service_units.unit_of(recovery.verdict.processes())
        if is_for_good and unit and service_manager.is_there():
            service_manager.stop(unit, recovery.run.gate)
            yield from until_gone(tree, facts.stop_timeout, leave_leftovers)
        warning, patience = facts.warn_signal, facts.stop_timeout
        rest = yield from end(tree, warning, patience, leave_leftovers, warned)
    return rest or []


def run_all(recovery: Recovery, kind: str, seconds: float) -> Task[None]:
    """Run every program of the hook of `kind`, however each of them ends."""
    execution = recovery.execution(kind, seconds)
    for program in recovery.daemon.programs(kind):
        started = yield from hooks.launch(execution, program)
        outcome = yield from hooks.finish(execution, program, started)
        recovery.note_outcome(outcome)


def give_up(
    recovery: Recovery,
    execution: Execution,
    failed: Outcome | None,
    was_up: bool = False,
) -> Task[None]:
    """Out of time, or failed: end what the hook left, unless it may be the daemon."""
    facts = recovery.daemon.facts
    stays = f" for {spell(facts.stays)} in one process" if facts.stays > LATE else ""
    spelt = spell(facts.start_timeout)
    texts = [] if failed else [f"not up{stays} after {spelt}"]
    if was_up:
        texts = ["it was up, and died before it was well"]
    for child in execution.children:
        child.tree.is_over = True
    living = {child: child.tree.living() for child in execution.children}
    verdict = recovery.verdict
    ended = [one for one in living if not hooks.may_be_daemon(execution, one, verdict)]
    if left := [process for child in ended for process in living[child]]:
        if (
            yield from hooks.end_children(execution, ended, spares_daemon=True)
        ) is None:
            texts.append("but then: left alone")
        else:
            texts.append(names_of(left, "ended what its hook left running"))
            if not was_up:
                texts.append(hooks.settling_fact(execution, left))
    if others := _orphans_of_nobody(recovery, execution):
        texts.append(names_of(others, "left running by this or another hook"))
    if recovery.verdict.word == UNKNOWN:
        texts.append(recovery.verdict.reason)
    recovery.end(FAILED, "; ".join(texts))


def _orphans_of_nobody(recovery: Recovery, execution: Execution) -> list[Process]:
    """Return what a hook left running of which it is not known whose it is."""
    daemons = {cut(one.process) for one in recovery.run.observer.daemons}
    since = min((one.tree.oldest for one in execution.children), default=math.inf)
    return [one for one in orphans(since) if one.name not in daemons]


def topmost(processes: list[Process]) -> list[Process]:
    """Return those whose parent is none of them."""
    pids = {one.pid for one in processes}
    return [one for one in processes if one.parent not in pids]


def _ourselves(own_pid: int, ended: list[Process]) -> set[int]:
    """Return the pids of this run and of what it descends from, but for `ended`.

    Under cron, the daemon cron is an ancestor of ours: it may have to be ended, but
    not the job that we are part of.
    """
    pids = {own_pid, *(one.pid for one in table.ancestors(own_pid))}
    return pids - {1, *(one.pid for one in ended)}
