"""Health: whether a daemon that runs is well, by its sockets, URLs, beat and check."""

from __future__ import annotations

import time

from viagralib.base.durations import spell
from viagralib.base.messages import reason
from viagralib.health.findings import WARNS, Finding
from viagralib.processes import table
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import SICK, UNKNOWN, UP, Verdict, judge
from viagralib.settings.configuration import Daemon
from viagralib.state.run_context import Run

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from viagralib.health.check_plugins import Check
    from viagralib.health.listening_sockets import Connection
    from viagralib.health.web_answers import Request

_NOT_ASKED = "it runs, but its health is not looked at: what is refused comes first"
_LONGEST_HALT = 1.0  # seconds that a debugger may take
_LONGEST_TRANSFER = 3.0  # seconds that a busy disk may take
_PAUSE = 0.05  # seconds between two looks at who waits for a device
_TICK = 0.005  # seconds between two looks at checks that are under way


def examine(run: Run, verdicts: dict[str, Verdict]) -> None:
    """Check all daemons that are up and old enough, side by side; amend verdicts.

    One that is too young to have all of its processes is not sick for want of them.
    """
    checkups: dict[str, Checkup] = {}
    for name, before in verdicts.items():
        daemon = run.settings.daemons[name]
        verdict = verdicts[name] = _by_processes(run, daemon, before)
        if verdict.word == UP and daemon.has_health:
            if run.is_unsafe:
                verdicts[name] = Verdict(UNKNOWN, _NOT_ASKED, verdict.candidates)
                continue
            try:
                checkups |= _begin(run, daemon, verdict)
            except OSError as error:
                why = f"could not be checked: {reason(error)}"
                verdicts[name] = Verdict(UNKNOWN, why, verdict.candidates)
    try:
        # A list, not a generator: each of them goes on by being asked.
        while not all([checkup.is_over() for checkup in checkups.values()]):
            time.sleep(_TICK)
    finally:
        for checkup in checkups.values():
            checkup.close()
    for name, checkup in checkups.items():
        verdicts[name] = _outcome(run, checkup)
        if verdicts[name].word != UP:
            run.unwell[name] = verdicts[name].word


def _by_processes(run: Run, daemon: Daemon, verdict: Verdict) -> Verdict:
    """Return the verdict by how many there are, and what they do."""
    halted = [one for one in verdict.processes() if one.state == "T"]
    if verdict.word == SICK and halted and not _stays(run, halted):
        verdict = judge([daemon], run.observer)[daemon.name]
    if verdict.word == SICK and not is_of_age(daemon, verdict):
        return too_young(run, verdict)
    if verdict.word == UP and (why := _why_in_wait(run, daemon, verdict)):
        run.unwell[daemon.name] = UNKNOWN
        return Verdict(UNKNOWN, why, verdict.candidates)
    return verdict


def _why_in_wait(run: Run, daemon: Daemon, verdict: Verdict) -> str:
    """Return that too few of its processes do not wait for a device, or "".

    That is so for moments wherever files are read: not for all of its patience.
    """
    seconds = max(daemon.facts.patience, _LONGEST_TRANSFER)
    until = run.first_look + seconds
    waiting, number = verdict.in_wait(), len(verdict.processes())
    while number - len(waiting) < daemon.facts.count[0]:
        if time.monotonic() > until:
            pid = waiting[0].pid
            return (
                f"pid {pid} waits for a device (state D), for over {spell(seconds)}: "
                f"no signal ends that; to see for which: cat /proc/{pid}/stack"
            )
        time.sleep(_PAUSE)
        waiting = [one for one in waiting if _is_unchanged(one)]
    return ""


def _stays(run: Run, halted: list[Process]) -> bool:
    """Return whether none of these goes on, as after a debugger's look at it."""
    while all(map(_is_unchanged, halted)):
        if time.monotonic() > run.first_look + _LONGEST_HALT:
            return True
        time.sleep(_PAUSE)
    return False


def _is_unchanged(process: Process) -> bool:
    now = table.find(process.pid)
    same = (process.identity, process.state)
    return now is not None and (now.identity, now.state) == same


def _begin(run: Run, daemon: Daemon, verdict: Verdict) -> dict[str, Checkup]:
    """Return its checks, begun, if it is old enough to be sick, or only looked at."""
    if is_of_age(daemon, verdict) or run.only_looks:
        return {daemon.name: Checkup(run, daemon, verdict)}
    if daemon.facts.alarm:
        _alarm(run, daemon, verdict)  # to know from where on to read
    return {}


def _outcome(run: Run, checkup: Checkup) -> Verdict:
    verdict = checkup.verdict()
    if verdict.word == UP or is_of_age(checkup.daemon, verdict):
        return verdict
    return too_young(run, verdict)


def too_young(run: Run, verdict: Verdict) -> Verdict:
    """Return what a young one is: up. Whoever only looks sees what comes of it."""
    why = f"too young to be {verdict.word}: {verdict.reason}"
    is_told = run.only_looks
    return Verdict(UP, why if is_told else "", verdict.candidates)


def is_of_age(daemon: Daemon, verdict: Verdict) -> bool:
    """Return whether it has had its start_timeout: younger, it is never sick."""
    age = max(process.age() for process in verdict.processes())
    return age >= daemon.facts.start_timeout


class Checkup:
    """All checks of one daemon, begun at once, each with check_timeout to answer."""

    def __init__(self, run: Run, daemon: Daemon, verdict: Verdict) -> None:
        facts = daemon.facts
        self.daemon = daemon
        self._before = verdict
        self._findings: list[Finding] = []
        self._under_way: list[Connection | Request | Check] = [
            *_connections(daemon, verdict),
            *_requests(daemon, verdict),
            *checks(run, daemon),
        ]
        # From here on: to begin them can take long where many want the processor.
        self._deadline = time.monotonic() + facts.check_timeout
        if facts.heartbeat:
            self._findings.append(_heartbeat(run, *facts.heartbeat, verdict))
        if facts.alarm:
            self._findings.append(_alarm(run, daemon, verdict))

    def is_over(self) -> bool:
        """Return whether every check has an answer, or its time is over."""
        late = time.monotonic() > self._deadline
        try:
            # A list: each goes on by being asked.
            return all([one.is_over(late) for one in self._under_way])
        except OSError as error:
            why = f"could not be checked: {reason(error)}"
            self._findings.append(Finding(UNKNOWN, why))
            return True

    def close(self) -> None:
        """End the checks that are still at work: nobody waits for them."""
        for one in self._under_way:
            one.close()

    def verdict(self) -> Verdict:
        """Return the verdict of before, amended by what was found."""
        found = [*self._findings, *(one.finding for one in self._under_way)]
        whys = {
            word: "; ".join(one.why for one in found if one.word == word)
            for word in (SICK, UNKNOWN, UP, WARNS)
        }
        for word in (SICK, UNKNOWN):
            if whys[word]:
                return Verdict(word, whys[word], self._before.candidates)
        self._before.remark = whys[WARNS]
        before = self._before.reason
        self._before.reason = "; ".join(filter(None, (before, whys[UP])))
        return self._before


# What a kind of check needs is loaded for those who have one.


def _connections(daemon: Daemon, verdict: Verdict) -> list[Connection]:
    if not daemon.facts.listens:
        return []
    from viagralib.health.listening_sockets import Connection

    processes = verdict.processes()
    return [Connection(address, processes) for address in daemon.facts.listens]


def _requests(daemon: Daemon, verdict: Verdict) -> list[Request]:
    if not daemon.facts.answers:
        return []
    from viagralib.health.web_answers import Request

    seconds, processes = daemon.facts.check_timeout, verdict.processes()
    return [Request(url, seconds, processes) for url in daemon.facts.answers]


def checks(run: Run, daemon: Daemon) -> list[Check]:
    """Return the programs of its hook in check.d, begun."""
    programs = daemon.programs("check.d") if daemon.has("check.d") else []
    if not programs or run.executes_nothing:
        return []
    from viagralib.health.check_plugins import Check

    return [Check(run, daemon, program) for program in programs]


def _heartbeat(run: Run, file: str, every: float, verdict: Verdict) -> Finding:
    from viagralib.health.heartbeat import heartbeat
    from viagralib.state import clock_changes

    set_at = (
        0.0 if run.is_state_unsafe else clock_changes.set_at(run.state, run.only_looks)
    )
    return heartbeat(file, every, verdict.processes(), set_at)


def _alarm(run: Run, daemon: Daemon, verdict: Verdict) -> Finding:
    from viagralib.health import log_alarms

    return log_alarms.find(run, daemon, verdict.oldest())
