"""What a start waits for: what the daemon needs, and a start of the same processes."""

from __future__ import annotations

from viagralib.base.messages import safe
from viagralib.health.checkup import Checkup
from viagralib.hooks.execution import Task
from viagralib.processes.overlaps import overlap
from viagralib.processes.verdicts import UP, judge
from viagralib.recovery.recovery import BACK, WAITS, Recovery
from viagralib.settings.configuration import Daemon


def wait_for_needed(recovery: Recovery, others: dict[str, Recovery]) -> Task[bool]:
    """Wait for the recoveries of what it needs; return whether that is up now."""
    for name in recovery.daemon.facts.after:
        while name in others and not others[name].result:
            yield from recovery.next_look()
        needed = recovery.run.daemon(name)
        if needed is None:
            continue  # it is off: nobody wants it up
        if name in others and others[name].result == BACK:
            word = UP
        elif name not in others and name in recovery.run.unwell:
            word = recovery.run.unwell[name]
        else:
            word = yield from _ask_after(recovery, needed)
        if word != UP:
            recovery.end(WAITS, f"for {safe(name)}, which is {word}")
            return False
    return True


def wait_for_others(recovery: Recovery, others: dict[str, Recovery]) -> Task[None]:
    """Wait while a daemon is being started whose facts fit the same processes.

    That start may be this one's, too: its own hook must not add another.
    """
    alike = [one for one in others.values() if overlap(one.daemon, recovery.daemon)]
    while any(one.is_starting for one in alike):
        yield from recovery.next_look()


def _ask_after(recovery: Recovery, needed: Daemon) -> Task[str]:
    """Return the verdict on what is needed; its youth is no excuse for being unwell."""
    run = recovery.run
    verdict = judge([needed], run.observer)[needed.name]
    if verdict.word != UP or not needed.has_health:
        return verdict.word
    checkup = Checkup(run, needed, verdict)
    try:
        while not checkup.is_over():
            yield from recovery.next_look()
    finally:
        checkup.close()
    word = checkup.verdict().word
    if word != UP:
        run.unwell[needed.name] = word
    return word
