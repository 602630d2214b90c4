"""What companions have in common: help, messages, and an exit code for each trouble."""

from __future__ import annotations

import contextlib
import signal
import sys

from viagralib import VERSION
from viagralib.base import durations
from viagralib.base.messages import Fault, reason, safe
from viagralib.companions.contract.spawn import NotStarted

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Task = TypeVar("_Task")


class GuardianGoneError(Exception):
    """The guardian was killed; the contract was ended, as it would have done."""


class Companion:
    """A program's name, what --help prints, and the exit codes of its own.

    `misused` is for an invalid command line, `faulty` for what else its
    user must mend (settings), `failed` for what the system refuses.
    """

    def __init__(
        self, name: str, usage: str, misused: int, faulty: int, failed: int
    ) -> None:
        self.name = name
        self._usage = usage
        self._misused = misused
        self._faulty = faulty
        self._failed = failed

    def run(
        self,
        argv: list[str],
        parse: Callable[[list[str]], _Task],
        work: Callable[[_Task], int],
    ) -> int:
        """Do what `argv` (without the program's name) asks for; return the exit code.

        `parse` makes a task of it, and raises Fault; `work` does the task. Nothing is
        done unless all of `argv` makes sense.
        """
        if argv[:1] == ["--help"]:
            return show(self._usage)
        if argv[:1] == ["--version"]:
            return show(f"{self.name} {VERSION}")
        try:
            task = parse(argv)
        except Fault as fault:
            say(self.name, safe(str(fault)))
            return self._misused
        return self._work(task, work)

    def _work(self, task: _Task, work: Callable[[_Task], int]) -> int:
        try:
            return work(task)
        except Fault as fault:
            say(self.name, safe(str(fault)))
            return self._faulty
        except NotStarted as failure:
            say(self.name, str(failure))
            return failure.code
        except GuardianGoneError:
            say(self.name, "the guardian was killed, ended all")
            return self._failed
        except OSError as error:
            say(self.name, f"could not go on: {reason(error)}")
            return self._failed
        except KeyboardInterrupt:
            return 128 + signal.SIGINT  # as a shell says it


def say(program: str, text: str) -> None:
    """Tell people, on stderr; that it is closed or nobody reads it does not matter."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{program}: {text}\n")
        sys.stderr.flush()


def duration(option: str, value: str) -> float:
    """Return the seconds that an option's value stands for. Raises Fault."""
    try:
        return durations.parse(value)
    except ValueError as error:
        raise Fault(option, str(error)) from None


def show(text: str) -> int:
    """Print what was asked for; return the exit code. Closed does not matter."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    return 0
