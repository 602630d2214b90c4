"""A finding: what one health check says of a daemon."""

from __future__ import annotations

WELL = "well"
WARNS = "warns"  # well, with something that a person may want to know


class Finding:
    """What one check says, and why: WELL, WARNS, SICK, UNKNOWN; or UP: well, with
    something that people must be told."""

    def __init__(self, word: str, why: str = "") -> None:
        self.word = word
        self.why = why
