"""The response: what a run does about the daemons that are not up and well."""

from __future__ import annotations

import time

from viagralib.base.clocks import date
from viagralib.base.messages import BUSY, NOT_WELL, WELL, reason
from viagralib.base.records import Record
from viagralib.evidence import log_tails
from viagralib.evidence.collector import Evidence
from viagralib.processes.verdicts import DOWN, SICK, UNKNOWN, UP, Verdict, judge
from viagralib.recovery import cause_of_death, hooks_at_work, standing
from viagralib.recovery.recovery import BACK, MANUAL, RESET, Recovery
from viagralib.recovery.scheduler import Scheduler
from viagralib.recovery.standing import Standing
from viagralib.report import notice, recovery_results, syslog
from viagralib.report.announcer import ANOTHER_RUN, Announcer
from viagralib.state import announced, incidents, sick_runs
from viagralib.state.incidents import CLOSED, OPEN, Incident
from viagralib.state.lock_file import Lock

_BY_HAND = "restarted by hand"
_LONGEST_WAIT = 600.0  # seconds that `restart` waits for another run


class Response:
    def __init__(self, announcer: Announcer) -> None:
        self.announcer = announcer
        self.run = announcer.run
        self._taken: dict[str, str] = {}  # incidents of this run, by daemon

    def bring_back(self, verdicts: dict[str, Verdict]) -> None:
        """Bring back what is down or sick, and say what cannot be judged."""
        recoveries = []
        for name, verdict in verdicts.items():
            try:
                if not verdict.is_well and not self._is_only_said(name, verdict):
                    recovery = self._take_on(name, verdict)
                    recoveries += [recovery] if recovery else []
            except OSError as error:  # of this one alone: the others are served
                text = f"{verdict.reason}; not started: {reason(error)}"
                self.announcer.announce(name, verdict.word, text)
        self._recover(recoveries)

    def restart(self, names: list[str]) -> dict[str, Verdict]:
        """Restart daemons now, up or not; return their verdicts of before."""
        # In one order: two that restart the same must not wait for each other.
        daemons = [self.run.settings.daemons[name] for name in sorted(names)]
        verdicts = judge(daemons, self.run.observer)
        recoveries = []
        for name, verdict in verdicts.items():
            if verdict.word == UNKNOWN:
                self.announcer.announce(name, UNKNOWN, verdict.reason)
            elif recovery := self._restart(name, verdict.word):
                recoveries.append(recovery)
        self._recover(recoveries)
        return verdicts

    def _is_only_said(self, name: str, verdict: Verdict) -> bool:
        """Say what calls for words alone; return whether that was all."""
        word, why, tell = verdict.word, verdict.reason, self.announcer.announce
        if self.run.is_unsafe and word != UNKNOWN:
            tell(name, word, f"{why}; not started: what would start it is unsafe")
        elif word == UP:
            tell(name, word, why, WELL)
        elif word == SICK and self._is_counted(name, verdict):
            pass  # the same is told with names, and by `status`: a dip is no mail
        elif word == UNKNOWN and not self._wants_alarm(name, word):
            tell(name, word, why)
        else:
            return False
        return True

    def _is_counted(self, name: str, verdict: Verdict) -> bool:
        """Return whether too few runs in a row found it sick, this one counted."""
        daemon = self.run.settings.daemons[name]
        if daemon.facts.sick_after == 1:
            return False
        lock = self.announcer.lock(name, verdict.word)
        if lock is not None:
            verdict.few = sick_runs.count(self.run, daemon)
            lock.release()
            if not verdict.few:
                return False
            self.announcer.codes[name] = NOT_WELL
        return True

    def _recover(self, recoveries: list[Recovery]) -> None:
        if not recoveries:
            return
        run = self.run
        directory = next((r.incident.directory for r in recoveries), "")
        evidence = Evidence(run.settings, run.gate, directory)
        begun = [recovery for recovery in recoveries if not recovery.result]
        if begun:
            units = dict.fromkeys(one.unit for one in begun if one.unit)
            evidence.begin(units, cause_of_death.find_cores(begun))
        for recovery in begun:
            logs = log_tails.take(recovery.daemon, recovery.incident)
            recovery.note_evidence(cause_of_death.recorded(recovery), logs)
        scheduler = Scheduler(run.observer, evidence)
        for recovery in recoveries:
            scheduler.add(recovery)
        for recovery in scheduler.run():
            for reset in self._finish(recovery, evidence):
                scheduler.add(reset)
        evidence.finish()

    def prune(self) -> None:
        """Remove old incidents, if there are new ones: when all is said."""
        if self._taken:
            keep, most = self.run.settings.keep, self.run.settings.keep_bytes
            incidents.prune(self.run.state, keep, most, self._taken.values())

    def _take_on(self, name: str, verdict: Verdict) -> Recovery | None:
        """Return the recovery of a daemon that is ours to bring back now.

        One that is left alone gets a recovery as well when fail.d must hear of it.
        """
        lock = self.announcer.lock(name, verdict.word)
        if lock is None:
            return None
        last = incidents.last_of(self.run.state, name)
        why = self._why_left_alone(name, verdict, last)
        if why and not (why.is_alarming and self._wants_alarm(name, why.word)):
            lock.release()
            self.announcer.leave_alone(name, why)
            return None
        if not why and self.run.settings.daemons[name].facts.recovery == "report":
            lock.release()
            text = f"{verdict.reason}; only reported (recovery = report)"
            self.announcer.announce(name, verdict.word, text)
            return None
        recovery = self._begin(name, verdict.word, verdict, verdict.reason, lock)
        if why:
            recovery.end(why.word, why.reason)
        return recovery

    def _why_left_alone(
        self, name: str, verdict: Verdict, last: Incident | None
    ) -> Standing | None:
        if verdict.word == UNKNOWN:
            return Standing(UNKNOWN, verdict.reason)
        return standing.find(
            self.run, self.run.settings.daemons[name], verdict.word, last
        )

    def _restart(self, name: str, word: str) -> Recovery | None:
        """Return a restart that somebody wants now; wait for another run's end."""
        deadline = time.monotonic() + _LONGEST_WAIT
        while (lock := self.announcer.lock(name, word)) is None:
            if self.announcer.codes[name] != BUSY or time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        self.announcer.standings.pop(name, None)
        daemon = self.run.settings.daemons[name]
        verdict = judge([daemon], self.run.observer)[name]
        last = incidents.last_of(self.run.state, name)
        process = hooks_at_work.of(daemon, self.run.observer, last)
        if process is not None:
            lock.release()
            blocks = hooks_at_work.why_blocked(daemon, process)
            why = blocks or f"being started by pid {process.pid}"
            self.announcer.announce(name, verdict.word, f"not restarted: {why}")
            return None
        why = f"{_BY_HAND}; {verdict.reason}" if verdict.reason else _BY_HAND
        return self._begin(name, MANUAL, verdict, why, lock)

    def _begin(  # noqa: PLR0913, PLR0917
        self, name: str, why: str, verdict: Verdict, reason: str, lock: Lock
    ) -> Recovery:
        """Open an incident for a daemon; return its recovery."""
        state, earlier = self.run.state, announced.of(self.run.state, name)
        last = incidents.last_of(state, name)
        facts: Record = {"verdict": verdict.word, "reason": reason}
        facts["home"] = self.run.settings.home  # for viagra-wait in a hook
        if last is not None and last.record.get("status") == OPEN:
            facts["before"] = _before(last)
            last.update(status=CLOSED)
        incident = incidents.prepare(state, name, facts)
        # Of a run that is killed before it tells how this ended, the next one tells.
        more = {"incident": incident.id, "sick_runs": 0, "told": True}
        announced.note(state, name, verdict.word, **more)
        incident.publish()
        self._taken[name] = incident.id
        return Recovery(self.run, why, verdict, incident, lock, earlier)

    def _wants_alarm(self, name: str, word: str) -> bool:
        """Return whether fail.d has still to be told of what is open."""
        state = self.run.state
        known = announced.of(state, name).get("alarmed")
        has_one = bool(self.run.settings.daemons[name].programs("fail.d"))
        return has_one and not known and not announced.is_enough(state, name, word)

    def _finish(self, recovery: Recovery, evidence: Evidence) -> list[Recovery]:
        """Write down how a recovery ended, free its lock, say it; return its resets."""
        incident = recovery.incident
        evidence.share(incident.directory)
        if recovery.why == DOWN or recovery.is_short:  # the others did not die
            recovery.note_cause(*cause_of_death.find(recovery, evidence))
        resets = self._resets(recovery) if recovery.result == BACK else []
        text = notice.write(recovery, evidence)
        recovery_results.write_down(recovery, text, evidence)
        recovery.lock.release()
        recovery_results.tell(self.announcer, recovery, text)
        syslog.log(recovery)
        return resets

    def _resets(self, recovery: Recovery) -> list[Recovery]:
        """Return the restarts that this one makes necessary, once each in a run."""
        resets = []
        for name in recovery.daemon.facts.resets:
            why_not = self._why_not_reset(name)
            lock = None if why_not else self.announcer.lock(name, UP)
            if lock is None:
                why_not = why_not or ANOTHER_RUN
                recovery.resets.append(f"{name} skipped ({why_not})")
                continue
            recovery.resets.append(name)
            why, up = f"{recovery.daemon.name} was restarted", Verdict(UP, "", [])
            resets.append(self._begin(name, RESET, up, why, lock))
        return resets

    def _why_not_reset(self, name: str) -> str:
        daemon = self.run.daemon(name)
        if daemon is None:
            return "off"
        if name in self._taken:
            return "restarted by this run already"
        if self.run.is_faulty(daemon):
            return "faulty"
        word = judge([daemon], self.run.observer)[name].word
        if word != UP:
            return word
        return str(standing.find(self.run, daemon, UP, None) or "")


def _before(last: Incident) -> str:
    """Return what the notice says of the daemon's last incident, still open."""
    began = date(last.record.get("began"))
    if "result" not in last.record:
        return f"the run of {began} did not finish: {last.directory}"
    return f"{last.record['result']} at {began}: {last.directory}"
