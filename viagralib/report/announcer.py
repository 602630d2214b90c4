"""What a run says, to whom, and the exit codes that its parts ask for."""

from __future__ import annotations

import json

from viagralib.base.messages import BUSY, FAULTY, NOT_WELL, Fault, reason, safe
from viagralib.base.printer import Printer
from viagralib.processes.verdicts import DOWN, UNKNOWN, Verdict
from viagralib.recovery.standing import HELD, NOT_NOW, PAUSED, Standing
from viagralib.report.verdict_lines import document, lines
from viagralib.settings.command_line import Options
from viagralib.state import announced
from viagralib.state.directory import Lock
from viagralib.state.run_context import Run

ANOTHER_RUN = "another run is at work on it"
FAULT = "faulty"  # what an announcement calls a daemon that is refused


class Announcer:
    """What one run says. `codes` are exit codes, by daemon; "" is the run's own."""

    def __init__(self, run: Run, options: Options, out: Printer, err: Printer) -> None:
        self.run = run
        self.codes: dict[str, int] = {}
        self.standings: dict[str, Standing] = {}
        self._options = options
        self._out = out
        self._err = err
        self._said: list[str] = []

    def say(self, text: str) -> None:
        """Say something for people; with --json it becomes a part of the document."""
        if self._options.json:
            self._said.append(text)
        else:
            self._out.say(text)

    def faults(self, faults: list[Fault]) -> None:
        """Say the faults that are new, or were not said for a day."""
        by_name: dict[str, list[str]] = {}
        for fault in faults:
            name = fault.subject if fault.subject in self.run.names else ""
            by_name.setdefault(name, []).append(str(fault))
        for name, texts in by_name.items():
            self.codes[name] = FAULTY
            key = name or announced.GENERAL
            if self._is_news(key, FAULT, "\n".join(texts)):
                for text in texts:
                    self._err.say(f"viagra.py: {text}")

    def announce(self, name: str, word: str, text: str, code: int = NOT_WELL) -> None:
        """Say what a daemon is if that is new, has changed, or is a day old."""
        self.codes[name] = code
        if self._is_news(name, word, text):
            self.say(f"{safe(name)} is {word}: {safe(text)}")

    def leave_alone(self, name: str, why: Standing) -> None:
        """Note that a daemon is left alone; say why, if that is alarming and new."""
        if why.word != UNKNOWN:
            self.standings[name] = why
        self.codes[name] = why.code
        # Held is said once, then by `status` and the exit code alone.
        daily = why.word != HELD
        if why.is_alarming and self._is_news(name, why.word, why.reason, daily=daily):
            self.say(f"{safe(name)} is {why.word}: {safe(why.reason)}")

    def lock(self, name: str) -> Lock | None:
        """Take a daemon's lock; None when another run has it, or nobody can."""
        try:
            lock = self.run.state.lock(name)
        except OSError as error:
            text = f"not started: could not lock it: {reason(error)}"
            self.announce(name, DOWN, text)
            return None
        if lock is None:
            self.leave_alone(name, Standing(NOT_NOW, ANOTHER_RUN))
            self.codes[name] = BUSY
        return lock

    def conclude(self, verdicts: dict[str, Verdict]) -> None:
        """Say what is asked for with --verbose or --json."""
        for name, why in self.run.paused().items():
            self.standings.setdefault(name, Standing(PAUSED, why))
        standings = {name: str(one) for name, one in self.standings.items()}
        if self._options.json:
            told = document(self.run, verdicts, standings, self.codes)
            self._out.say(json.dumps({**told, "said": self._said}, indent=1))
        elif self._options.verbose:
            for line in lines(self.run, verdicts, standings, everything=True):
                self._out.say(line)

    def _is_news(self, name: str, word: str, text: str, *, daily: bool = True) -> bool:
        """Return whether to say this now: with --verbose, always."""
        state = self.run.state
        if (
            self.run.is_state_unsafe
        ):  # nothing is written then, so nothing is known to be old
            return True
        news = announced.announce(state, name, word, text, daily=daily)
        return news or self._options.verbose
