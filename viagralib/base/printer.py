"""Printing in bounded time: a mailer that reads nothing stops no restart."""

from __future__ import annotations

import errno
import os
import select
import time

PATIENCE = 10.0  # seconds in all for a reader that does not read
# What a pipe takes at once when it takes anything (PIPE_BUF, at least 512).
_CHUNK = 512


class Printer:
    """Writes to a descriptor what it takes at once, and the rest at the end."""

    def __init__(self, descriptor: int) -> None:
        self.patience = PATIENCE
        self._descriptor = descriptor
        self._waiting = bytearray()
        self.broken = False  # nobody reads: what was said is in the incidents alone
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno == errno.EBADF:
                self._occupy()

    def say(self, text: str) -> None:
        """Print lines; never waits."""
        self._waiting += (text + "\n").encode(errors="backslashreplace")
        self._write(0.0)

    def finish(self) -> None:
        """Wait until all is read, or `patience` is over, in seconds."""
        self._write(self.patience)
        self.broken = self.broken or bool(self._waiting)

    def _occupy(self) -> None:
        """Fill the place of a closed descriptor.

        Else the next file that is opened, such as a lock, would get what we say.
        """
        self.broken = True
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            if null != self._descriptor:
                os.dup2(null, self._descriptor)
                os.close(null)
        except OSError:
            pass  # no descriptor to be had for this: hardly for anything else

    def _write(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self._waiting and not self.broken:
            try:
                left = max(0.0, deadline - time.monotonic())
                if not select.select([], [self._descriptor], [], left)[1]:
                    return
                written = os.write(self._descriptor, self._waiting[:_CHUNK])
                del self._waiting[:written]
            except (OSError, ValueError):  # closed, or its reader has gone
                self.broken = True
