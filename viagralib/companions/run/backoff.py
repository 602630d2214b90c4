"""The pauses between restarts, which grow while a command dies soon."""

from __future__ import annotations


class Backoff:
    """How long to wait before each restart: twice as long as the last time."""

    def __init__(self, shortest: float, longest: float) -> None:
        """Both in seconds; an instance longer than `longest` starts this anew."""
        self._shortest = shortest
        self._longest = longest
        self._last = 0.0

    def next(self, lasted: float) -> float:
        """Return the seconds to wait after an instance that `lasted` so many."""
        if self._last == 0.0 or lasted > self._longest:
            self._last = self._shortest
        else:
            self._last = min(self._last * 2, self._longest)
        return self._last
