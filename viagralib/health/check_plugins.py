"""Checks: the daemon's hook in check.d, which speaks as monitoring plugins do."""

from __future__ import annotations

import os

from viagralib.base.durations import spell
from viagralib.base.messages import reason, safe
from viagralib.health.findings import WARNS, WELL, Finding
from viagralib.hooks import child_process
from viagralib.hooks.environment import arguments, environment_of
from viagralib.processes.verdicts import SICK, UNKNOWN
from viagralib.settings.configuration import Daemon
from viagralib.state.hook_log import memory
from viagralib.state.run_context import Run

_LONGEST_REASON = 200  # characters of a check's first line
_LARGEST_OUTPUT = 65536  # bytes that a check may print


class Check:
    """One program of the hook: 0 and 1 well, 2 sick, 3 unknown, as plugins say it."""

    def __init__(self, run: Run, daemon: Daemon, program: str) -> None:
        self.finding = Finding(WELL)
        self.has_answered = False  # by one of these exit codes
        self._program = f"check.d/{os.path.basename(program)}"
        self._output = memory("check")
        self._child: child_process.Child | None = None
        variables = {"STATE": run.state.path}
        try:
            self._child = child_process.start(
                run.gate,
                run.gate.hook(program),
                arguments(daemon, "check.d"),
                self._output,
                environment_of(daemon.name, run.gate.search_path, variables),
            )
            self._child.release()
        except OSError as error:
            self._end(UNKNOWN, f"could not be started: {reason(error)}")

    def is_over(self, late: bool) -> bool:
        """Return whether the finding stands; when it is `late`, it does."""
        if self._child is None:
            return True
        if self._child.poll():
            self._judge(self._child)
        elif os.fstat(self._output).st_size > _LARGEST_OUTPUT:
            self._child.kill()
            self._end(UNKNOWN, f"printed more than {_LARGEST_OUTPUT} bytes")
        elif late:
            self._child.kill()
            spent = spell(self._child.seconds())
            self._end(SICK, f"gave no answer within {spent}")
        return self._child is None

    def close(self) -> None:
        """End the check, if it is still at work: nobody waits for it."""
        if self._child is not None:
            self._child.kill()
            self._end(UNKNOWN, "was not waited for")

    def _judge(self, child: child_process.Child) -> None:
        if child.failure or child.status not in (0, 1, 2, 3):
            how = child.failure or f"ended with {child.status}, which is no answer"
            self._end(UNKNOWN, ": ".join(filter(None, (how, self._words()))))
            return
        self.has_answered = True
        why = self._words() or f"exit {child.status}"
        if child.status == 1:  # which is a command's plain no, and a crash of Python
            why = f"warns (exit 1; only 2 is sick): {self._words() or '-'}"
        self._end((WELL, WARNS, SICK, UNKNOWN)[child.status], why)

    def _words(self) -> str:
        """Return the line that tells most: the first, or what Python died of."""
        data = os.pread(self._output, _LARGEST_OUTPUT, 0)
        lines = data.decode(errors="surrogateescape").strip().split("\n")
        line = lines[-1 if lines[0].startswith("Traceback (most") else 0]
        # What follows the bar is for machines (monitoring-plugins' guidelines).
        return safe(line.split("|", 1)[0].strip())[:_LONGEST_REASON]

    def _end(self, word: str, why: str) -> None:
        self.finding = Finding(word, f"{self._program}: {why}")
        self._child = None
        os.close(self._output)
