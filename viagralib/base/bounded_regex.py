"""Patterns on texts that others wrote: bounded, since some take exponential time."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable


class TooLong(Exception):  # noqa: N818
    """The search took longer than it may."""


def search(pattern: str, texts: Iterable[str], seconds: float) -> str | None:
    """Return the first of the texts that the pattern is found in, or None.

    Raises TooLong after `seconds` of our own work, however busy the machine is.
    """
    compiled = re.compile(pattern)
    previous = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return next((text for text in texts if compiled.search(text)), None)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def _too_long(*_: object) -> None:
    raise TooLong
