"""A hook's program at work: started, watched from look to look, ended when too late."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator
from typing import TypeVar

from viagralib.base.durations import spell
from viagralib.base.files import Descriptor
from viagralib.base.messages import reason, safe
from viagralib.hooks import child_process
from viagralib.hooks.environment import arguments, environment_of
from viagralib.hooks.outcome import Outcome, describe, outcome_of
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.matching import UNSURE
from viagralib.processes.table import told
from viagralib.processes.tree_end import end
from viagralib.processes.verdicts import DOWN, UP, Verdict
from viagralib.settings.configuration import Daemon
from viagralib.state.incidents import Incident
from viagralib.state.run_context import Run

HOLDING = 1.0  # seconds after which a hook that has become a parent will stay one
GRACE = 2.0  # seconds between TERM and KILL for a hook that is out of time
# What limits us when the system has no process or no descriptor for a hook.
_LIMITS = {
    errno.EAGAIN: " (no process left: see ulimit -u, pids.max, kernel.pid_max)",
    errno.EMFILE: " (see ulimit -n)",
    errno.ENFILE: " (see fs.file-max)",
}
_T = TypeVar("_T")
Task = Generator[None, Verdict, _T]  # waits with yield for the verdict of the next look


class Execution:
    """What the programs of one hook share: whose they are, and until when they may."""

    def __init__(
        self, run: Run, daemon: Daemon, incident: Incident, kind: str, seconds: float
    ) -> None:
        self.run = run
        self.daemon = daemon
        self.incident = incident
        self.kind = kind  # start.d, stop.d, fail.d
        self.deadline = time.monotonic() + seconds
        self.variables: dict[str, str] = {}
        self.children: list[child_process.Child] = []

    def is_over(self) -> bool:
        return time.monotonic() > self.deadline


def finish(
    execution: Execution, program: str, started: child_process.Child | Outcome
) -> Task[Outcome]:
    """Let what was launched execute, up to its end; return how it went."""
    outcome = started
    if isinstance(started, child_process.Child):
        started.release()
        execution.children.append(started)
        outcome = yield from _attend(execution, started, program)
        execution.incident.log.complete()
    assert isinstance(outcome, Outcome)
    if outcome.code == 127:  # most often, a shell did not find a program
        left_out = execution.run.observer.trust.left_out()
        outcome.words = "; ".join([outcome.words, *left_out])
    outcome.what = describe(execution.daemon, program, execution.kind)
    return outcome


def launch(execution: Execution, program: str) -> Task[child_process.Child | Outcome]:
    """Fork, again and again while the process table is full and there is time.

    The child is in the incident, and held: it has executed nothing. An outcome tells
    why there is none.
    """
    if execution.is_over():
        return Outcome(program, "not executed: no time was left", None)
    variables = {**execution.variables, "STEP": _step(execution, program)}
    gate = execution.run.gate
    environment = environment_of(execution.daemon.name, gate.search_path, variables)
    words = arguments(execution.daemon, execution.kind)
    while True:
        try:
            found = gate.hook(program)
            with Descriptor(execution.incident.log.open()) as log:
                child = child_process.start(gate, found, words, log, environment)
            if execution.kind != "fail.d":  # which starts nothing, and stops nothing
                execution.incident.note_hook(child.process)
            return child
        except OSError as error:
            why = f"{reason(error)}{_LIMITS.get(error.errno or 0, '')}"
        if execution.is_over():
            return Outcome(program, f"could not be started: {why}", None)
        yield


def _step(execution: Execution, program: str) -> str:
    hook = execution.daemon.hook(execution.kind)
    return os.path.basename(program) if program != hook else ""


def _attend(
    execution: Execution, child: child_process.Child, program: str
) -> Task[Outcome]:
    held_since = 0.0
    while not child.poll():
        verdict = yield
        execution.incident.log.watch()
        child.tree.watch()
        pids = {one.identity for one in verdict.processes()}
        if _suffices(execution, verdict) and child.process.identity in pids:
            text = f"became the daemon (pid {child.process.pid})"
            return Outcome(program, text, 0)
        if not _holds_the_daemon(execution, child, verdict):
            held_since = 0.0
        elif not held_since:
            held_since = time.monotonic()
        elif time.monotonic() - held_since > HOLDING:
            text = f"holds the daemon (pid {child.process.pid})"
            return Outcome(program, text, 0)
        if execution.is_over():
            return (yield from _out_of_time(execution, child, program, verdict))
    return outcome_of(child, program)


def _holds_the_daemon(
    execution: Execution, child: child_process.Child, verdict: Verdict
) -> bool:
    """Return whether the hook has become a parent of the daemon, such as viagra-run.

    As long as it is the hook's script that works, it may have more to do.
    """
    if not _suffices(execution, verdict):
        return False
    now = table.find(child.process.pid)
    if now is None or _is_script(execution, now):
        return False
    return any(
        above.parent == now.pid
        for one in verdict.processes()
        for above in table.ancestors(one.pid)
    )


def _out_of_time(
    execution: Execution, child: child_process.Child, program: str, verdict: Verdict
) -> Task[Outcome]:
    text = f"still at work after {spell(child.seconds())}"
    spares_daemon = execution.kind == "start.d"
    if spares_daemon and may_be_daemon(execution, child, verdict):
        return Outcome(program, f"{text}, left alone", 0)
    left = [one for one in child.tree.living() if not _is_script(execution, one)]
    rest = yield from end_children(execution, [child], spares_daemon)
    if rest is None:
        return Outcome(program, f"{text}, left alone", 0)
    text += f": ended{names_of(rest, ', but these cannot be ended')}"
    if left and not rest and spares_daemon:
        text += f"{names_of(left, ', with')}; {settling_fact(execution, left)}"
    return Outcome(program, text, None)


def _suffices(execution: Execution, verdict: Verdict) -> bool:
    """Return whether what is there may be all that one program was to start."""
    return verdict.word == UP or execution.daemon.facts.count_hook == "each"


def may_be_daemon(
    execution: Execution, child: child_process.Child, verdict: Verdict
) -> bool:
    """Return whether what a hook left running may be the daemon, or one of several."""
    if execution.daemon.facts.count_hook == "all":
        return verdict.word != DOWN
    those = (*verdict.processes(), *verdict.processes(UNSURE))
    own = {one.identity for one in child.tree.members()}
    return any(one.identity in own for one in those)


def _is_script(execution: Execution, process: Process) -> bool:
    """Return whether a process is the hook's script, or does its work for it."""
    observer, daemon = execution.run.observer, execution.daemon
    return told(lambda: observer.is_hook_at_work(process, daemon), True)


def settling_fact(execution: Execution, left: list[Process]) -> str:
    """Return the fact to set if one of the processes that a hook left is the daemon."""
    inner = [one for one in left if one.name not in ("screen", "tmux: server")]
    name, file = safe((inner or left)[0].name), safe(execution.daemon.name)
    return f'if that is the daemon, set the fact process = "{name}" in {file}.toml'


def end_children(
    execution: Execution, ended: list[child_process.Child], spares_daemon: bool
) -> Task[list[Process] | None]:
    """End children with all that they left running; return what lives even so.

    None when it `spares_daemon` and that has come up at the last moment: then what is
    left may be it, and is left alone.
    """
    rest: list[Process] = []
    for child in ended:

        def may(verdict: Verdict, child: child_process.Child = child) -> bool:
            return not (spares_daemon and may_be_daemon(execution, child, verdict))

        living = yield from end(child.tree, "TERM", GRACE, may)
        if living is None:
            return None
        child.poll()
        rest += living
    return rest


def names_of(processes: list[Process], lead: str, most: int = 5) -> str:
    """Return `lead` and `most` processes for people; "" when there are none."""
    names = [f"{safe(one.name)} (pid {one.pid})" for one in processes[:most]]
    more = f" and {len(processes) - most} more" if len(processes) > most else ""
    return f"{lead}: {', '.join(names)}{more}" if names else ""
