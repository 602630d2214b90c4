"""The response: what a run does when not all is well, and what it says of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import time

from viagralib import announcements, cause, incidents, notice
from viagralib.commandline import Options
from viagralib.evidence import Evidence
from viagralib.incidents import CLOSED, OPEN, Incident
from viagralib.messages import BUSY, FAULTY, NOT_WELL, WELL, Fault, reason, safe
from viagralib.printing import Printer
from viagralib.processes import DOWN, UNKNOWN, UP, Verdict
from viagralib.recovery import (
    BACK,
    CAME_BACK,
    FAILED,
    PUT_OFF,
    UNDECIDED,
    WAITS,
    Recovery,
    side_by_side,
)
from viagralib.report import document, lines
from viagralib.run import Run
from viagralib.standing import hook_at_work, why_hook_blocks
from viagralib.state import Lock, Record

_WELL = (BACK, CAME_BACK, PUT_OFF)
_FAULTY = "faulty"  # what announcements call a daemon that is refused


class Response:
    """One run's response. `codes` are the exit codes that its parts ask for."""

    def __init__(self, run: Run, options: Options, out: Printer, err: Printer) -> None:
        self.run = run
        self.codes: dict[str, int] = {}
        self.standings: dict[str, str] = {}  # who is left alone for now, and why
        self._options = options
        self._out = out
        self._err = err
        self._said: list[str] = []

    def tell(self, faults: list[Fault]) -> None:
        """Say the faults that are new, or were not said for a day."""
        by_name: dict[str, list[str]] = {}
        for fault in faults:
            name = fault.subject if fault.subject in self.run.names else ""
            by_name.setdefault(name, []).append(str(fault))
        for name, texts in by_name.items():
            self.codes[name] = FAULTY
            key = name or announcements.GENERAL
            if self._is_news(key, _FAULTY, "\n".join(texts)):
                for text in texts:
                    self._err.say(f"viagra.py: {text}")

    def close(self, verdicts: dict[str, Verdict]) -> None:
        """Close what is open for the daemons that are up, and say so once."""
        for name in self.run.state.names("open"):
            watched = self.run.daemon(name) is not None
            if name in verdicts and verdicts[name].is_well:
                self._close(name)
            elif name == announcements.GENERAL:
                if "" not in self.codes:
                    self.run.state.remove("open", name)
            elif not watched and name not in self.codes:
                self.run.state.remove("open", name)

    def bring_back(self, verdicts: dict[str, Verdict]) -> None:
        """Bring back what is down or sick, and say what cannot be judged."""
        recoveries = []
        for name, verdict in verdicts.items():
            if verdict.is_well:
                continue
            if self.run.is_unsafe:
                self._announce(name, verdict.word, f"{verdict.reason}; not started")
            elif verdict.word == UP:
                self._announce(name, verdict.word, verdict.reason)
                self.codes[name] = WELL
            elif verdict.word == UNKNOWN and not self._wants_alarm(name):
                self._announce(name, UNKNOWN, verdict.reason)
            elif recovery := self._take_on(name, verdict):
                recoveries.append(recovery)
        if recoveries:
            self._recover(recoveries)

    def conclude(self, verdicts: dict[str, Verdict]) -> None:
        """Say what is asked for with --verbose or --json."""
        if self._options.json:
            told = document(self.run, verdicts, self.standings, self.codes)
            self._out.say(json.dumps({**told, "said": self._said}, indent=1))
        elif self._options.verbose:
            for line in lines(self.run, verdicts, self.standings):
                self._out.say(line)

    def _say(self, text: str) -> None:
        if self._options.json:
            self._said.append(text)
        else:
            self._out.say(text)

    def _is_news(self, name: str, word: str, text: str) -> bool:
        """Return whether to say this now: with --verbose, always."""
        news = announcements.announce(self.run.state, name, word, text)
        return news or self._options.verbose

    def _announce(self, name: str, word: str, text: str) -> None:
        self.codes[name] = NOT_WELL
        if self._is_news(name, word, text):
            self._say(f"{safe(name)} is {word}: {safe(text)}")

    def _recover(self, recoveries: list[Recovery]) -> None:
        run = self.run
        run.search_path = run.onlooker.trust.search_path()
        directory = next((r.incident.directory for r in recoveries), "")
        evidence = Evidence(run.settings, run.search_path, directory)
        if any(recovery.why != UNKNOWN for recovery in recoveries):
            evidence.begin()
        side_by_side(recoveries, evidence, lambda one: self._ended(one, evidence))
        evidence.finish()
        incidents.prune(run.state, run.settings.keep, run.settings.keep_bytes)

    def _lock(self, name: str) -> Lock | None:
        """Take a daemon's lock; None, with the exit code noted, when we cannot."""
        try:
            lock = self.run.state.lock(name)
        except OSError as error:
            self._announce(name, DOWN, f"could not lock it: {reason(error)}")
            return None
        if lock is None:
            self.codes[name] = BUSY
            self.standings[name] = "another run is at work on it"
        return lock

    def _close(self, name: str) -> None:
        lock = self._lock(name)
        if lock is None:
            self.codes[name] = WELL  # it is up; the other run says how that went
            return
        record = announcements.of(self.run.state, name)
        self.run.state.remove("open", name)
        line = announcements.up_again(name, record)
        incident = incidents.load(self.run.state, str(record.get("incident")))
        if incident is not None and incident.record.get("status") == OPEN:
            line += self._close_incident(incident)
        lock.release()
        if record.get("word") not in (_FAULTY, UP, None):
            self._say(line)

    def _close_incident(self, incident: Incident) -> str:
        unfinished = "result" not in incident.record
        if unfinished and "hook" in incident.record:
            with contextlib.suppress(OSError):
                self.run.state.count_up(incident.daemon)
        incident.update(status=CLOSED, up_again=self.run.began)
        text = (
            "; the run that was bringing it back did not finish" if unfinished else ""
        )
        return f"{text}\n  evidence  {incident.directory}"

    def _take_on(self, name: str, verdict: Verdict) -> Recovery | None:
        """Return the recovery of a daemon that is ours to bring back now."""
        lock = self._lock(name)
        if lock is None:
            return None
        record = announcements.of(self.run.state, name)
        last = incidents.load(self.run.state, str(record.get("incident")))
        if verdict.word != UNKNOWN and self._is_being_started(name, last):
            lock.release()
            return None
        incident = self._open(name, verdict, last)
        return Recovery(self.run, verdict, incident, lock, record)

    def _is_being_started(self, name: str, last: Incident | None) -> bool:
        daemon = self.run.settings.daemons[name]
        process = hook_at_work(daemon, self.run.onlooker, last)
        if process is None:
            return False
        if blocks := why_hook_blocks(daemon, process):
            self._announce(name, UNKNOWN, blocks)
        else:
            self._put_off(name, f"being started by pid {process.pid}")
        return True

    def _open(self, name: str, verdict: Verdict, last: Incident | None) -> Incident:
        facts: Record = {"verdict": verdict.word, "reason": verdict.reason}
        if last is not None and last.record.get("status") == OPEN:
            facts["before"] = _before(last)
            last.update(status=CLOSED)
        incident = incidents.begin(self.run.state, name, facts)
        announcements.note(self.run.state, name, verdict.word, incident=incident.id)
        return incident

    def _put_off(self, name: str, why: str) -> None:
        """Note that a daemon is left alone for now, which is nobody's fault."""
        self.codes[name] = WELL
        self.standings[name] = f"not now: {why}"

    def _wants_alarm(self, name: str) -> bool:
        """Return whether fail.d has still to be told that it cannot be judged."""
        known = announcements.of(self.run.state, name).get("alarmed")
        return not known and bool(self.run.settings.daemons[name].programs("fail.d"))

    def _ended(self, recovery: Recovery, evidence: Evidence) -> None:
        """Write down how a recovery ended, free its lock, and say it."""
        name = recovery.daemon.name
        evidence.share(recovery.incident.directory)
        recovery.cause = cause.find(recovery, evidence.kernel_log)
        text = notice.write(recovery, evidence)
        self._write_down(recovery, text)
        recovery.lock.release()
        self.codes[name] = WELL if recovery.result in _WELL else NOT_WELL
        if recovery.result in (BACK, FAILED):
            self._say(text)
        elif recovery.result == PUT_OFF:
            self._put_off(name, recovery.remark)
        elif recovery.result == CAME_BACK and recovery.earlier:
            self._say(announcements.up_again(name, recovery.earlier))
        elif recovery.result == WAITS:
            remark = f"{recovery.verdict.reason}; waits {recovery.remark}"
            self._announce(name, recovery.verdict.word, remark)
        elif recovery.result == UNDECIDED:
            self._announce(name, UNKNOWN, recovery.remark)

    def _write_down(self, recovery: Recovery, text: str) -> None:
        state, name, incident = self.run.state, recovery.daemon.name, recovery.incident
        well = recovery.result in _WELL
        incident.write("notice.txt", text + "\n")
        incident.update(
            status=CLOSED if well else OPEN,
            result=recovery.result,
            remark=recovery.remark,
            cause=recovery.cause,
            pids=[one.pid for one in recovery.verdict.processes()],
            seconds=round(recovery.seconds, 3),
            ended=time.time(),
        )
        if recovery.result in (WAITS, PUT_OFF):  # nothing was done
            shutil.rmtree(incident.directory, ignore_errors=True)
            incident.directory = ""
        if recovery.result == PUT_OFF and recovery.earlier:
            announcements.put_back(state, name, recovery.earlier)
        elif well:
            state.remove("open", name)
        else:
            word, alarmed = recovery.verdict.word, recovery.alarmed
            announcements.note(state, name, word, incident=incident.id, alarmed=alarmed)


def _before(last: Incident) -> str:
    """Return what the notice says of the daemon's last incident, still open."""
    began = announcements.date(last.record.get("began"))
    if "result" not in last.record:
        return f"the run of {began} did not finish: {last.directory}"
    return f"{last.record['result']} at {began}: {last.directory}"
