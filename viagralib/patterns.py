"""Patterns on texts that others wrote: bounded, since some take exponential time."""

from __future__ import annotations

import re
import signal


class TooLong(Exception):  # noqa: N818
    """The search took longer than it may."""


def search(pattern: str, texts: list[str], seconds: float) -> str:
    """Return the first of the texts that the pattern is found in, or "".

    Raises TooLong after `seconds`.
    """
    compiled = re.compile(pattern)
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return next((text for text in texts if compiled.search(text)), "")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_long(*_: object) -> None:
    raise TooLong
