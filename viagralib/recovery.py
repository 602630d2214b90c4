"""Recovery: one daemon on its way back, and all of them side by side."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from viagralib import hooks, table
from viagralib.durations import spell
from viagralib.evidence import Evidence
from viagralib.family import Family, end
from viagralib.incidents import Incident
from viagralib.matching import LEFTOVER
from viagralib.messages import safe
from viagralib.performing import (
    Looks,
    Stage,
    end_children,
    names_of,
    perform,
    watch_log,
)
from viagralib.processes import DOWN, SICK, UNKNOWN, UP, Verdict, judge
from viagralib.procfs import Process
from viagralib.run import Run
from viagralib.standing import hook_at_work
from viagralib.state import Lock, Record

TICK = 0.02  # seconds between two looks, when a look costs less than that
# Seconds that a daemon must have been up in one and the same process to be back: its
# first process may be one that forks and ends, or that fails on its settings.
SETTLE = 0.3

# How a recovery ends.
BACK = "brought back"
CAME_BACK = "came back by itself"
FAILED = "not brought back"
PUT_OFF = "not now"
WAITS = "waits"
UNDECIDED = "cannot be judged"


class Recovery:
    """One daemon's recovery: what is known of it, and how it went."""

    def __init__(
        self,
        run: Run,
        verdict: Verdict,
        incident: Incident,
        lock: Lock,
        earlier: Record,
    ) -> None:
        daemon = run.settings.daemons[incident.daemon]
        self.run = run
        self.daemon = daemon
        self.why = verdict.word  # VIAGRA_REASON
        self.verdict = verdict  # of the newest look
        self.incident = incident
        self.lock = lock
        self.outcomes: list[hooks.Outcome] = []
        self.result = ""  # one of the words above, once it has ended
        self.remark = ""  # what there is to say of the result
        self.cause = ""  # of death, for people
        self.earlier = earlier  # what was open for the daemon before this
        self.alarmed = bool(earlier.get("alarmed"))  # whether fail.d has had its turn
        self.seconds = 0.0  # from the start of the hook until the daemon was up

    def steps(self, others: dict[str, Recovery], evidence: Evidence) -> Looks[None]:
        """Bring the daemon back; driven by the looks at its table that it is sent."""
        if self.why == UNKNOWN:
            self._end(UNDECIDED, self.verdict.reason)
        else:
            yield from self._bring_back(others, evidence)
        if self.result in (FAILED, UNDECIDED) and not self.alarmed:
            self.alarmed = True
            yield from self._run_all("fail.d", self.daemon.facts.start_timeout)

    def _bring_back(
        self, others: dict[str, Recovery], evidence: Evidence
    ) -> Looks[None]:
        if not (yield from self._stays_down(evidence)):
            return
        if not (yield from self._waits_for_needed(others)):
            return
        if not (yield from self._is_cleared()):
            return
        if process := hook_at_work(self.daemon, self.run.onlooker, None):
            self._end(PUT_OFF, f"being started by pid {process.pid}")
            return
        yield from self._start()

    def _end(self, result: str, remark: str) -> None:
        self.result = result
        self.remark = remark

    def _stays_down(self, evidence: Evidence) -> Looks[bool]:
        """Return whether it was down at every look of its patience."""
        until = self.run.first_look + self.daemon.facts.patience
        while True:
            taken = evidence.poll()
            self.verdict = yield
            if self.verdict.word == UP:
                self._end(CAME_BACK, "")
                return False
            if self.verdict.word == UNKNOWN:
                self._end(UNDECIDED, self.verdict.reason)
                return False
            if taken and time.monotonic() >= until:
                return True

    def _waits_for_needed(self, others: dict[str, Recovery]) -> Looks[bool]:
        """Wait for the recoveries of what it needs; return whether that is up now."""
        for name in self.daemon.facts.after:
            while name in others and not others[name].result:
                self.verdict = yield
            if self.verdict.word == UP:
                self._end(CAME_BACK, "")
                return False
            needed = self.run.daemon(name)
            if needed is None:
                continue  # it is off: nobody wants it up
            verdict = judge([needed], self.run.onlooker)[name]
            if verdict.word != UP:
                self._end(WAITS, f"for {safe(name)}, which is {verdict.word}")
                return False
        return True

    def _is_cleared(self) -> Looks[bool]:
        """End what must not be there at the start; return whether all of it is gone."""
        processes = self.verdict.processes()
        if self.daemon.facts.leftovers == "stop":
            processes += self.verdict.processes(LEFTOVER)
        if not processes:
            return True
        if self.verdict.word == SICK:
            yield from self._run_all("stop.d", self.daemon.facts.stop_timeout)
        family = Family(processes, _ourselves(self.run, processes))
        try:
            rest = yield from end(
                family,
                _topmost(processes),
                self.daemon.facts.warn_signal,
                self.daemon.facts.stop_timeout,
            )
        except PermissionError:
            rest = family.living()
        if rest:
            self._end(FAILED, names_of(rest, "not started, since these still live"))
        return not rest

    def _run_all(self, kind: str, seconds: float) -> Looks[None]:
        """Run every program of the hook of `kind`, however each of them ends."""
        stage = self._stage(kind, seconds)
        for program in self.daemon.programs(kind):
            outcome = yield from perform(stage, program, _always)
            if outcome is not None:
                self.outcomes.append(outcome)

    def _stage(self, kind: str, seconds: float) -> Stage:
        stage = Stage(self.run, self.daemon, self.incident, kind, seconds)
        stage.variables = {
            "REASON": self.why,
            "INSTANCE": str(self.run.state.count(self.daemon.name) + 1),
            "INCIDENT": self.incident.directory,
            "STATE": self.run.state.path,
        }
        return stage

    def _start(self) -> Looks[None]:
        """Run the start hook or its steps, and wait until the daemon is back."""
        stage = self._stage("start.d", self.daemon.facts.start_timeout)
        began = time.monotonic()
        failed = yield from self._run_programs(stage)
        if self.result:
            return
        until = time.monotonic() + 2 * SETTLE if failed else stage.deadline + SETTLE
        up_at = yield from self._settles(stage, until)
        if up_at:
            self.seconds = up_at - began
            self._end(BACK, "")
            with contextlib.suppress(OSError):
                self.run.state.count_up(self.daemon.name)
        elif failed and failed.code == hooks.NOT_NOW:
            self._end(PUT_OFF, f"says {failed.what} (exit {failed.code})")
        elif failed:
            self._end(FAILED, "")
        else:
            yield from self._give_up(stage)

    def _run_programs(self, stage: Stage) -> Looks[hooks.Outcome | None]:
        """Run the programs in order; return the one that failed and ended it."""
        for program in self.daemon.programs():
            may_begin = _always if stage.children else self._is_still_down
            outcome = yield from perform(stage, program, may_begin)
            if outcome is None:
                up = self.verdict.word == UP
                self._end(CAME_BACK if up else UNDECIDED, self.verdict.reason)
                return None
            self.outcomes.append(outcome)
            told = [f"{one.what}: {one.words}" for one in self.outcomes]
            self.incident.update(hooks=told)
            if outcome.failed:
                return outcome
        return None

    def _is_still_down(self, verdict: Verdict) -> bool:
        self.verdict = verdict
        return verdict.word == DOWN

    def _settles(self, stage: Stage, until: float) -> Looks[float]:
        """Return since when it is up in one process for SETTLE seconds; 0.0: not."""
        since, ids = 0.0, set()  # type: float, set[tuple[int, float]]
        while True:
            self.verdict = yield
            now = time.monotonic()
            watch_log(stage)
            for child in stage.children:
                child.poll()
                child.family.watch()
            new = {one.identity for one in self.verdict.processes()}
            ids, since = (ids & new, since) if ids & new else (new, now)
            if self.verdict.word == UP and now - since >= SETTLE:
                return since
            if now > until:
                return 0.0

    def _give_up(self, stage: Stage) -> Looks[None]:
        """Out of time: end what the hook left, unless it may be the daemon."""
        text = f"not up after {spell(self.daemon.facts.start_timeout)}"
        left = [one for child in stage.children for one in child.family.living()]
        if left and self.verdict.word == DOWN:
            yield from end_children(stage.children)
            text += names_of(left, ", ended what its hook left running")
            text += "; if that is the daemon, set the fact process to its name"
        self._end(FAILED, text)


def side_by_side(
    recoveries: list[Recovery], evidence: Evidence, ended: Callable[[Recovery], None]
) -> None:
    """Drive the recoveries from look to look; call `ended` with each at its end."""
    if not recoveries:
        return
    run = recoveries[0].run
    named = {recovery.daemon.name: recovery for recovery in recoveries}
    active = {name: one.steps(named, evidence) for name, one in named.items()}
    for steps in active.values():
        next(steps)
    while active:
        began = time.monotonic()
        verdicts = judge([named[name].daemon for name in active], run.onlooker)
        for name, verdict in verdicts.items():
            try:
                active[name].send(verdict)
            except StopIteration:
                del active[name]
                ended(named[name])
        # A look that is dear must not become all that this run does.
        time.sleep(max(TICK, time.monotonic() - began) if active else 0)


def _always(_: Verdict) -> bool:
    return True


def _topmost(processes: list[Process]) -> list[Process]:
    """Return those whose parent is none of them."""
    pids = {one.pid for one in processes}
    return [one for one in processes if one.parent not in pids]


def _ourselves(run: Run, ended: list[Process]) -> set[int]:
    """Return the pids of this run and of what it descends from, but for `ended`.

    Under cron, the daemon cron is an ancestor of ours: it may have to be ended, but
    not the job that we are part of.
    """
    pids: set[int] = set()
    pid = run.onlooker.pid
    while pid > 1 and pid not in pids:
        pids.add(pid)
        process = table.find(pid)
        pid = process.parent if process else 0
    return pids - {one.pid for one in ended}
