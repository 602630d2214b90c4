"""viagra-wait: wait until conditions hold, with a deadline. See viagra-wait(1)."""

from __future__ import annotations

import getopt
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from viagralib.base import durations
from viagralib.base.messages import Fault, safe
from viagralib.companions.contract import spawn
from viagralib.companions.contract.companion import Companion, duration, say
from viagralib.companions.wait.conditions import Condition, parse

USAGE = (
    "usage: viagra-wait [--timeout duration] [--every duration] [--not] [--any]\n"
    "           condition ... [-- command [argument ...]]\n"
    "Wait until all conditions hold, or --any of them; --not: until they do not.\n"
    "All of it: man viagra-wait"
)
PROGRAM = "viagra-wait"
HOLDS, OUT_OF_TIME, BAD_USAGE = 0, 1, 2

FIRST_STEP = 0.05  # seconds between checks at first,
SAME_FOR = 2.0  # for so many seconds;
GROWTH = 1.25  # later each pause is so much longer than the one before,
LONGEST_STEP = 1.0  # up to this
ANSWER_LIMIT = 5.0  # seconds that a host or a server may take to answer
# Seconds after the deadline in which a check may still end by itself: on a busy machine
# even the first one may begin late. What depends on a server has ended by then.
GRACE = 2.0
HEED = 0.5  # seconds within which an interrupt is heeded
_NOTE_SIZE = 4096
_OPTIONS = ["timeout=", "every=", "not", "any"]


class Task:
    """What the command line asks for; `limit` and `every` in seconds, or None."""

    def __init__(self, options: dict[str, str], words: list[str]) -> None:
        """Raise Fault for what cannot be done."""
        conditions, self.command = words, []
        if "--" in words:
            at = words.index("--")
            conditions, self.command = words[:at], words[at + 1 :]
            if not self.command:
                raise Fault("", "no command after --")
        if not conditions:
            raise Fault("", "no condition; see viagra-wait --help")
        self.any = "--any" in options
        self.limit = _seconds(options, "--timeout")
        self.every = _seconds(options, "--every")
        if self.every == 0:
            raise Fault("--every", "must be longer than nothing")
        self.conditions = [_condition(text, "--not" in options) for text in conditions]


def entry() -> None:
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Wait as `argv` (without the program's name) says; return the exit code."""
    companion = Companion(
        PROGRAM, USAGE, BAD_USAGE, faulty=BAD_USAGE, failed=OUT_OF_TIME
    )
    return companion.run(argv, lambda words: Task(*_split(words)), _work)


def _work(task: Task) -> int:
    """Wait, and become the command if there is one; return the exit code."""
    lacking = _wait_watched(task)
    if lacking:
        say(PROGRAM, lacking)
        return OUT_OF_TIME
    if task.command:
        spawn.become(task.command)
    return HOLDS


def _split(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options, and the words that follow them (with the --)."""
    head = argv[: argv.index("--")] if "--" in argv else argv
    try:
        options, words = getopt.gnu_getopt(head, "", _OPTIONS)
    except getopt.GetoptError as error:
        raise Fault("", f"{error}; see viagra-wait --help") from None
    return dict(options), words + argv[len(head) :]


def _seconds(options: dict[str, str], name: str) -> float | None:
    return duration(name, options[name]) if name in options else None


def _condition(text: str, opposite: bool) -> Condition:
    try:
        return parse(text, opposite)
    except ValueError as error:
        raise Fault(text, str(error)) from None


def _wait_watched(task: Task) -> str | None:
    """Wait, in a child where there is a deadline; return what was lacking at its end.

    A file on a dead server or a name server that is silent holds up whoever asks, and
    cannot be interrupted. The deadline holds all the same: the child is left behind.
    """
    if task.limit is None:
        return _wait(task, None, None, time.sleep)
    deadline = time.monotonic() + task.limit
    note = mmap.mmap(-1, _NOTE_SIZE)  # shared with the child
    parent_lives, parent_end = os.pipe()
    child_lives, child_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_end)
        _be_child(task, deadline, note, parent_lives)
    os.close(parent_lives)
    os.close(child_end)
    has_ended = False
    while not has_ended and (left := deadline + GRACE - time.monotonic()) > 0:
        # End of file comes with the child's end. An interrupt that comes just before
        # the call does not end it: so it is never a long one.
        has_ended = bool(select.select([child_lives], [], [], min(left, HEED))[0])
    if not has_ended:
        os.kill(child, signal.SIGKILL)
        return f"{_read(note)}: no answer in time"
    os.close(child_lives)
    os.close(parent_end)
    _, status = os.waitpid(child, 0)
    if status:
        return f"{_read(note)}: the check was killed"
    return _read(note) or None


def _be_child(task: Task, deadline: float, note: mmap.mmap, parent_lives: int) -> None:
    """Wait, leave in `note` what is lacking, and exit. Never returns."""
    status = 1

    def sleep(seconds: float) -> None:
        if select.select([parent_lives], [], [], seconds)[0]:
            os._exit(status)  # the parent has ended: nobody wants the answer

    try:
        _write(note, _wait(task, deadline, note, sleep) or "")
        status = 0
    except KeyboardInterrupt:
        pass  # from a terminal, which interrupts the parent too
    finally:
        os._exit(status)


def _wait(
    task: Task,
    deadline: float | None,
    note: mmap.mmap | None,
    sleep: Callable[[float], None],
) -> str | None:
    """Check until enough holds, or the deadline; return what was lacking then."""
    began = time.monotonic()
    step = task.every or FIRST_STEP
    while True:
        lacking = _lacking(task, deadline, note)
        if not lacking:
            return None
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return f"{lacking} (after {durations.spell(now - began)})"
        sleep(step if deadline is None else min(step, deadline - now))
        if not task.every and now - began > SAME_FOR:
            step = min(step * GROWTH, LONGEST_STEP)


def _lacking(task: Task, deadline: float | None, note: mmap.mmap | None) -> str | None:
    """Check once; return what does not hold and why, or None when enough does."""
    lacking = []
    for condition in task.conditions:
        if note:
            _write(note, safe(condition.text))
        limit = ANSWER_LIMIT
        if deadline is not None:
            # Also at the deadline itself a server that is up has time to answer.
            limit = min(limit, max(deadline - time.monotonic(), FIRST_STEP))
        why = condition.missing(limit)
        if why is None and task.any:
            return None
        if why is not None:
            lacking.append(f"{safe(condition.text)}: {why}")
    return "; ".join(lacking) or None


def _write(note: mmap.mmap, text: str) -> None:
    data = text.encode(errors="replace")[: _NOTE_SIZE - 1]
    note[:] = data.ljust(_NOTE_SIZE, b"\0")


def _read(note: mmap.mmap) -> str:
    return note[:].rstrip(b"\0").decode(errors="replace")
