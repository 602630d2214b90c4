"""What a run says, to whom, and the exit codes that its parts ask for."""

from __future__ import annotations

import json

from viagralib import announcements
from viagralib.commandline import Options
from viagralib.messages import FAULTY, NOT_WELL, Fault, safe
from viagralib.printing import Printer
from viagralib.processes import Verdict
from viagralib.report import document, lines
from viagralib.run import Run
from viagralib.standing import PAUSED, Standing

FAULT = "faulty"  # what an announcement calls a daemon that is refused


class Telling:
    """One run's words. `codes` are exit codes, by daemon; "" is the run's own."""

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
            key = name or announcements.GENERAL
            if self._is_news(key, FAULT, "\n".join(texts)):
                for text in texts:
                    self._err.say(f"viagra.py: {text}")

    def announce(self, name: str, word: str, text: str, code: int = NOT_WELL) -> None:
        """Say what a daemon is if that is new, has changed, or is a day old."""
        self.codes[name] = code
        if self._is_news(name, word, text):
            self.say(f"{safe(name)} is {word}: {safe(text)}")

    def announce_once(self, name: str, word: str, text: str) -> None:
        """Say what a daemon is if that is new or has changed; not again daily."""
        self.codes[name] = NOT_WELL
        if self._is_news(name, word, text, daily=False):
            self.say(f"{safe(name)} is {word}: {safe(text)}")

    def leave_alone(self, name: str, standing: Standing) -> None:
        """Note that a daemon is left alone, and why."""
        self.codes[name] = standing.code
        self.standings[name] = standing

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
        news = announcements.announce(state, name, word, text, daily=daily)
        return news or self._options.verbose
