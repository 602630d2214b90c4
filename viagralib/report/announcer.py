"""What a run says, to whom, and the exit codes that its parts ask for."""

from __future__ import annotations

import os
from typing import NamedTuple

from viagralib.base.messages import BUSY, FAULTY, NOT_WELL, Fault, reason
from viagralib.base.printer import Printer
from viagralib.processes.verdicts import UNKNOWN, Verdict, judge
from viagralib.recovery.standing import FINISHED, HELD, NOT_NOW, PAUSED, Standing
from viagralib.report.verdict_lines import Overview, nothing_watched, sentence, written
from viagralib.settings.command_line import Options
from viagralib.state import announced
from viagralib.state.announced import FAULT
from viagralib.state.incidents import Incident
from viagralib.state.lock_file import Lock
from viagralib.state.run_context import Run

ANOTHER_RUN = "another run is at work on it"
UP_AGAIN = "up again"


class Notice(NamedTuple):
    """What people are told of a daemon ("": of none) and its `incident`, if known."""

    daemon: str
    result: str  # a recovery's, a verdict, a standing, UP_AGAIN or FAULT
    text: str
    incident: Incident | None


class Announcer:
    """What one run says. `codes` are exit codes, by daemon; "" is the run's own."""

    def __init__(self, run: Run, options: Options, out: Printer, err: Printer) -> None:
        self.run = run
        self.codes: dict[str, int] = {}
        self.standings: dict[str, Standing] = {}
        self.newest: dict[str, Verdict] = {}  # at the end of recoveries
        self.incidents: dict[str, str] = {}  # ids of those that it made, by daemon
        self._options = options
        self._out = out
        self._err = err
        self._said: list[str] = []
        self._faults: list[str] = []
        self._told: set[str] = set()  # of whom something was said
        self._notices: list[Notice] = []  # for notice.d, at the end

    def say(self, text: str) -> None:
        """Say something for people; with --json it becomes a part of the document."""
        if self._options.json:
            self._said.append(text)
        else:
            self._out.say(text)

    def notify(
        self, name: str, result: str, text: str, incident: Incident | None = None
    ) -> None:
        """Say what became of a daemon, here and to the programs of notice.d."""
        self.say(text)
        self._told.add(name)
        self._notices.append(Notice(name, result, text, incident))

    def pass_on(self) -> None:
        """Have the programs of notice.d pass on what was said; say who could not."""
        place = f"{self.run.settings.home}/notice.d"
        if self._notices and not self.run.is_unsafe and os.path.isdir(place):
            from viagralib.report import notice_programs

            for text in notice_programs.deliver(self.run, self._notices):
                self._err.say(f"viagra.py: {text}")

    def faults(self, faults: list[Fault]) -> None:
        """Say the faults that are new, or were not said for a day."""
        by_name: dict[str, list[str]] = {}
        for fault in faults:
            name = fault.subject if fault.subject in self.run.names else ""
            by_name.setdefault(name, []).append(str(fault))
        for name, texts in by_name.items():
            self.codes[name] = FAULTY
            key = name or announced.GENERAL
            self._faults += texts
            lines = [f"viagra.py: {text}" for text in texts]
            if news := self._is_news(key, FAULT, "\n".join(texts)):
                lines[-1] += self._if_last(key, FAULT)
                self._notices.append(Notice(name, FAULT, "\n".join(lines), None))
            if (news or self._options.verbose) and not self._options.json:
                self._err.say("\n".join(lines))

    def announce(self, name: str, word: str, text: str, code: int = NOT_WELL) -> None:
        """Say what a daemon is if that is new, has changed, or is a day old."""
        self.codes[name] = code
        if not self._say_if_new(name, word, text) and self._options.verbose:
            self.say(sentence(name, word, text))
            self._told.add(name)

    def leave_alone(self, name: str, why: Standing) -> None:
        """Note that a daemon is left alone; say why, if that is alarming and new."""
        if why.word == UNKNOWN:  # then that is the verdict
            before = self.newest.get(name)
            candidates = before.candidates if before else []
            self.newest[name] = Verdict(UNKNOWN, why.reason, candidates)
        else:
            self.standings[name] = why
        self.codes[name] = why.code
        # These are said once, then by `status` and the exit code alone.
        daily = why.word not in (HELD, FINISHED)
        if why.is_alarming or not daily:
            self._say_if_new(name, why.word, why.reason, daily=daily)

    def lock(self, name: str, word: str) -> Lock | None:
        """Take the lock of a daemon that is `word`; None when another run has it, or
        nobody can."""
        try:
            lock = self.run.state.lock(name, self.run.settings.home)
        except OSError as error:
            text = f"could not lock it, so nothing is done: {reason(error)}"
            self.announce(name, word, text)
            return None
        if lock is None:
            self.leave_alone(name, Standing(NOT_NOW, ANOTHER_RUN))
            self.codes[name] = BUSY
        return lock

    def conclude(self, verdicts: dict[str, Verdict]) -> None:
        """Say what is asked for with --verbose or --json, the paused included."""
        if not self._options.json | self._options.verbose:
            return
        paused = self.run.paused()
        known = [self.run.settings.daemons.get(name) for name in paused]
        verdicts |= judge([one for one in known if one], self.run.observer)
        for name, why in paused.items():
            self.standings.setdefault(name, Standing(PAUSED, why))
        found = Overview(self.run)
        found.standings = {name: str(one) for name, one in self.standings.items()}
        found.verdicts, found.codes, found.faults = verdicts, self.codes, self._faults
        if self._options.json:
            more = {"said": self._said, "incidents": self.incidents}
            self._out.say(written({**found.document(), **more}))
            return
        names = [name for name in self.run.names if name not in self._told]
        for line in found.lines(names):
            self._out.say(line)
        if not self.run.settings.daemons:
            self._out.say(nothing_watched(self.run))

    def _say_if_new(
        self, name: str, word: str, why: str, *, daily: bool = True
    ) -> bool:
        """Say what a daemon is, and why, if that is new; return whether it is."""
        news = self._is_news(name, word, why, daily=daily)
        if news:
            self.notify(
                name, word, sentence(name, word, why) + self._if_last(name, word)
            )
        return news

    def _is_news(self, name: str, word: str, text: str, *, daily: bool = True) -> bool:
        """Return whether this is new, as far as anything can be known to be old."""
        return self.run.is_state_unsafe or announced.announce(
            self.run.state, name, word, text, daily=daily
        )

    def _if_last(self, name: str, word: str) -> str:
        """Return what to say behind the last line of this word in a day, or ""."""
        is_last = not self.run.is_state_unsafe and announced.is_enough(
            self.run.state, name, word
        )
        return "; no more mail about this today: see viagra.py check" if is_last else ""
