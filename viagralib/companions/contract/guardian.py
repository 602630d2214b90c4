"""The guardian: a small process above the holder of a contract.

`stand` splits this process in two. The one that keeps the pid that callers know
becomes the guardian: it passes signals on to the other, waits, and ends with its
exit status. The other one goes on as the holder. Both are reapers, one below the
other, and each notices the other's death:

    the holder dies     every member becomes the guardian's, which kills them all
    the guardian dies   the holder sees it (`Link.is_broken`) and ends its contract

So neither can be killed without the members dying too, in whatever session they are;
only killing both at the same instant escapes.

The holder may also owe a sign of life: after `Link.extend(deadline)` the guardian
kills holder and members once the boot clock has passed the last deadline it was
given, also when the holder is stopped (SIGSTOP) or hangs.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import struct

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import process_contract, signals
from viagralib.companions.contract.companion import say

_DEADLINE = struct.Struct("d")
# sigtimedwait(2) counts time awake, the deadline also counts sleep (suspend): while
# there is a deadline, the clock is looked at this often.
_LOOK_AT_CLOCK = 1.0


class Link:
    """The holder's end: the guardian's pid, and the pipes between the two."""

    def __init__(self, pid: int, from_guardian: int, to_guardian: int) -> None:
        self.pid = pid
        self._from_guardian = from_guardian
        self._to_guardian = to_guardian

    def extend(self, deadline: float) -> None:
        """Set the boot clock time at which the guardian ends everything; inf: never.

        A guardian that is gone is no error here: `is_broken` tells.
        """
        # A full pipe: stopped for so long that an older deadline will do.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._to_guardian, _DEADLINE.pack(deadline))

    def is_broken(self) -> bool:
        """Return whether the guardian is gone. SIGIO tells when to ask."""
        try:
            return os.read(self._from_guardian, 1) == b""
        except BlockingIOError:
            return False


def stand(program: str, killed: int, late: int) -> Link:
    """Split off the holder, which returns; the guardian never does.

    `program` begins the guardian's messages. It exits with the holder's status; with
    `killed` when the holder was killed, with `late` when a deadline has passed.
    Raises OSError (no more processes), and what `process_contract.hold` raises. The
    signals of `signals.collect` must be blocked already.
    """
    process_contract.hold()
    from_guardian, guardian_end = os.pipe()
    deadlines, to_guardian = os.pipe()
    guardian = os.getpid()
    holder = os.fork()
    if holder:
        os.close(from_guardian)
        os.close(to_guardian)
        _guard(program, holder, deadlines, killed, late)
    os.close(guardian_end)
    os.close(deadlines)
    process_contract.hold()
    os.set_blocking(to_guardian, False)
    signals.watch(from_guardian)
    return Link(guardian, from_guardian, to_guardian)


def _guard(program: str, holder: int, deadlines: int, killed: int, late: int) -> None:
    """Wait for the end of the holder or of its time; then exit."""
    wanted = signals.collect()
    signals.watch(deadlines)
    deadline: float | None = None
    while True:
        deadline = _last_deadline(deadlines, deadline)
        left = None if deadline is None else deadline - boot_clock()
        if is_over(left):
            # The holder first, so that it starts nothing new meanwhile.
            os.kill(holder, signal.SIGKILL)
            _leave(program, "out of time, ended all", late)
        status = _status_of(holder)
        if status is not None:
            if os.WIFEXITED(status):
                _leave(program, None, os.WEXITSTATUS(status))
            _leave(program, f"{holder} was killed, ended all", killed)
        arrival = signals.wait(wanted, left and min(left, _LOOK_AT_CLOCK))
        # What a terminal sends, it sends to the holder as well.
        if arrival and arrival.number in signals.PASSED_ON and not arrival.by_terminal:
            os.kill(holder, arrival.number)


def is_over(left: float | None) -> bool:
    """Return whether all has to end, for the seconds left to the deadline, if any."""
    return left is not None and left <= 0


def _last_deadline(deadlines: int, known: float | None) -> float | None:
    """Return the newest deadline in the pipe, or the one `known` so far."""
    try:
        # Whole records only: writes up to PIPE_BUF are not split (pipe(7)).
        while text := os.read(deadlines, 512 * _DEADLINE.size):
            known = _DEADLINE.unpack(text[-_DEADLINE.size :])[0]
    except BlockingIOError:
        pass
    return None if known == math.inf else known


def _status_of(holder: int) -> int | None:
    """Reap all that has ended; return the wait status of the holder if it has."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == holder:
            return status
        if pid == 0:
            return None
        process_contract.strangers.discard(pid)


def _leave(program: str, message: str | None, status: int) -> None:
    """End the members that are left, say so, and exit with `status`."""
    process_contract.end()
    left = process_contract.survivors()
    if left:
        pids = ", ".join(str(member.pid) for member in left)
        message = f"{message or 'left'}, but could not kill: {pids}"
    if message:
        say(program, f"guardian: {message}")
    os._exit(status)
