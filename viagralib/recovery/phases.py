"""The phases of a recovery, from look to look.

    phase    what happens in it                           next, or how it ends
    confirm  down, or sick, at each look of `patience`    wait; came back, unknown
    wait     what `after` names is brought up first       stop; waits, and as above
    stop     what must not be there at the start ends     start; quit, failed, not now
    start    the hook's programs run, in order            settle; came back, not now,
                                                          unknown
    settle   up in one process for as long as `stays`     verify; failed, not now
    verify   its checks say that it is well               brought back, failed

The incident's record and `status` name a phase by the same word.
"""

from __future__ import annotations

import time

from viagralib.evidence.collector import Evidence
from viagralib.health.checkup import Checkup, is_of_age, too_young
from viagralib.hooks.child_process import Child
from viagralib.hooks.execution import Execution, Task, finish, launch, names_of
from viagralib.hooks.outcome import NOT_NOW, Outcome
from viagralib.processes.verdicts import DOWN, SICK, UNKNOWN, UP, missing
from viagralib.recovery import hooks_at_work
from viagralib.recovery.dependencies import wait_for_needed, wait_for_others
from viagralib.recovery.recovery import (
    BACK,
    CAME_BACK,
    CONFIRM,
    FAILED,
    LATE,
    PUT_OFF,
    QUIT,
    SETTLE,
    START,
    STOP,
    UNDECIDED,
    VERIFY,
    WAIT,
    WAITS,
    Recovery,
)
from viagralib.recovery.stopping import give_up, run_all, stop
from viagralib.state import announced

RECHECK = 0.2  # seconds between two checkups of a daemon that is not well yet


def steps(
    recovery: Recovery, others: dict[str, Recovery], evidence: Evidence
) -> Task[None]:
    """Bring the daemon back; driven by the looks at its table that it is sent."""
    if recovery.result:  # left alone: fail.d is all that it gets
        yield from recovery.next_look()
    else:
        began = time.time()
        yield from _bring_back(recovery, others, evidence)
        if recovery.result == FAILED and recovery.outcomes and recovery.unit:
            yield from _capture_journal(recovery, evidence, began)
    name, result, state = recovery.daemon.name, recovery.result, recovery.run.state
    calm = result in (BACK, CAME_BACK, PUT_OFF, WAITS, QUIT)
    # Once for what is open; and no oftener than a line is told of it.
    if not (calm or recovery.alarmed or announced.is_enough(state, name, result)):
        recovery.note_alarm()
        yield from run_all(recovery, "fail.d", recovery.daemon.facts.start_timeout)


def _bring_back(
    recovery: Recovery, others: dict[str, Recovery], evidence: Evidence
) -> Task[None]:
    recovery.enter(CONFIRM)
    if not (yield from _stays_down(recovery, evidence)):
        return
    evidence.share(recovery.incident.directory)  # a killed run must leave it there
    recovery.enter(WAIT)
    confirmed = recovery.verdict
    if not (yield from wait_for_needed(recovery, others)):
        return
    while True:
        yield from wait_for_others(recovery, others)
        if recovery.verdict is confirmed:
            break
        # A look was taken: it has waited, perhaps for long.
        if not (yield from _stays_down(recovery, evidence)):
            return
        confirmed = recovery.verdict
    recovery.enter(STOP)  # with no look in between: of two alike, one goes on
    if not (yield from _is_cleared(recovery)):
        return
    if process := hooks_at_work.of(recovery.daemon, recovery.run.observer, None):
        yield from recovery.next_look()  # what was stopped is gone
        recovery.put_off(f"being started by pid {process.pid}")
        return
    recovery.enter(START)
    yield from _start(recovery)


def _stays_down(recovery: Recovery, evidence: Evidence) -> Task[bool]:
    """Return whether it was down, or sick, at every look of its patience."""
    until = recovery.run.first_look + recovery.daemon.facts.patience
    while True:
        taken = evidence.poll()
        yield from _look(recovery, checked=recovery.why == SICK)
        verdict, daemon = recovery.verdict, recovery.daemon
        if verdict.word == SICK and not is_of_age(daemon, verdict):
            recovery.verdict = too_young(recovery.run, verdict)
        if recovery.is_wanted:
            if taken:
                return True
        elif recovery.verdict.word == UP:
            recovery.end(CAME_BACK)
            return False
        if recovery.verdict.word == UNKNOWN:
            recovery.end(UNDECIDED, recovery.verdict.reason)
            return False
        if taken and time.monotonic() >= until:
            return True


def _look(recovery: Recovery, checked: bool) -> Task[None]:
    """Look once more; when `checked`, until a checkup of its health is over."""
    yield from recovery.next_look()
    if not checked or recovery.verdict.word != UP or not recovery.daemon.has_health:
        return
    checkup = Checkup(recovery.run, recovery.daemon, recovery.verdict)
    try:
        while not checkup.is_over():
            yield from recovery.next_look()
            if recovery.verdict.word != UP:
                return
    finally:
        checkup.close()
    recovery.verdict = checkup.verdict()


def _is_cleared(recovery: Recovery) -> Task[bool]:
    """End what must not be there at the start; return whether it may be started."""
    facts, verdict = recovery.daemon.facts, recovery.verdict
    if verdict.word == SICK and not recovery.is_wanted and facts.recovery != "quit":
        recovery.is_short = bool(missing(recovery.daemon, verdict))
    if recovery.is_short:
        return True
    if rest := (yield from stop(recovery)):
        recovery.count_try()
        if recovery.is_wanted:
            yield from recovery.next_look()  # it may be that which lives, or not
        recovery.end(FAILED, names_of(rest, "not started, since these still live"))
        return False
    if recovery.why == SICK and facts.recovery == "quit":
        recovery.end(QUIT, "recovery = quit")
        return False
    return True


def _start(recovery: Recovery) -> Task[None]:
    """Run the start hook or its steps, and wait until the daemon is back."""
    execution = recovery.execution("start.d", recovery.daemon.facts.start_timeout)
    recovery.children = execution.children
    began = time.monotonic()
    failed = yield from _run_programs(recovery, execution)
    if recovery.result:
        return
    recovery.enter(SETTLE)
    now = time.monotonic()
    until = max(now + 2 * LATE, execution.deadline + LATE)
    if failed:
        until = min(until, now + recovery.daemon.facts.stays + LATE)
    up_at = yield from _settles(recovery, execution, until)
    if up_at:
        recovery.enter(VERIFY)
        if (yield from _gets_well(recovery, execution)):
            recovery.end_brought_back(up_at - began)
        elif recovery.verdict.word == DOWN:  # it has died since
            yield from give_up(recovery, execution, failed, was_up=True)
        else:
            recovery.end(FAILED, f"up, but not well: {recovery.verdict.reason}")
    elif failed and failed.code == NOT_NOW and not recovery.has_stopped_it:
        recovery.put_off(f"says {failed.what} (exit {failed.code})")
    else:
        yield from give_up(recovery, execution, failed)


def _capture_journal(
    recovery: Recovery, evidence: Evidence, since: float
) -> Task[None]:
    """Capture why the service manager could not start it, before anybody is told."""
    evidence.begin_after_start(recovery.unit, since)
    while not evidence.poll():
        yield from recovery.next_look()
    evidence.share(recovery.incident.directory)


def _run_programs(recovery: Recovery, execution: Execution) -> Task[Outcome | None]:
    """Run the programs in order; return the one that failed and ended it."""
    if recovery.daemon.facts.count_hook == "each":
        yield from recovery.next_look()  # what was to be stopped is gone
    times = max(1, missing(recovery.daemon, recovery.verdict))
    for program in recovery.daemon.programs() * times:
        is_first = not execution.children
        started = yield from launch(execution, program)
        if is_first and isinstance(started, Child):
            recovery.run.observer.forget_bearers()
            yield from recovery.next_look()
            recovery.note_log_position()
            if recovery.calls_off():
                started.abandon()
                return None
        if is_first:
            recovery.count_try()
        outcome = yield from finish(execution, program, started)
        recovery.note_outcome(outcome)
        if outcome.failed:
            return outcome
    return None


def _settles(recovery: Recovery, execution: Execution, until: float) -> Task[float]:
    """Return since when it is up in one process, if for as long as `stays`; 0.0: not.

    Its first process may be one that forks and ends, or that fails on its settings.
    What is up at the look that begins after `until` may still settle: where the machine
    is busy, that look may be a late one.
    """
    since, is_last_chance = 0.0, False
    ids: set[tuple[int, float]] = set()
    while True:
        asked = time.monotonic()
        yield from recovery.next_look()
        now = time.monotonic()
        recovery.incident.log.complete()
        for child in execution.children:
            child.poll()
            child.tree.watch()
        new = {one.identity for one in recovery.verdict.processes()}
        is_up = recovery.verdict.word == UP
        ids, since = (ids & new, since) if ids & new and is_up else (new, now)
        if is_up and now - since >= recovery.daemon.facts.stays:
            return since
        if asked > until:
            if not is_up or is_last_chance:
                return 0.0
            until, is_last_chance = now + LATE, True


def _gets_well(recovery: Recovery, execution: Execution) -> Task[bool]:
    """Wait until the checks of a daemon that is up say that it is well."""
    while True:
        yield from _look(recovery, checked=True)
        if recovery.verdict.word == UP:
            return True
        if execution.is_over():
            return False
        pause = time.monotonic() + RECHECK
        while time.monotonic() < pause:
            yield from recovery.next_look()
