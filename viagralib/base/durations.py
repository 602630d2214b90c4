"""Durations as people write them ("30s", "2h") and as programs use them (seconds)."""

from __future__ import annotations

from viagralib.base.messages import shown

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST = 100 * 365 * SECONDS["d"]


def parse(text: str) -> float:
    """Return the seconds that `text` means: a number and one of ms, s, m, h, d, w.

    Raises ValueError, with a reason for people, for anything else: a bare number
    says nothing of its unit, and a guess would be wrong by a factor of 60.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :]
    parts = number.split(".", 1)
    if not (number.isascii() and all(map(str.isdigit, parts))):
        raise ValueError(f"{shown(text)} is no duration: write it like 30s, 10m or 2h")
    if unit not in SECONDS:
        raise ValueError(f"{shown(text)} needs a unit, one of {', '.join(SECONDS)}")
    if len(number) > 18 or float(number) * SECONDS[unit] > LONGEST:
        raise ValueError(f"{shown(text)} is longer than 100 years")
    return float(number) * SECONDS[unit]


def spell(seconds: float) -> str:
    """Return `seconds` for people, in its two largest units: "1.4 s", "3 d 4 h"."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f} s"
    parts: list[str] = []
    rest = int(seconds)
    for unit in ("d", "h", "m", "s"):
        amount, rest = divmod(rest, int(SECONDS[unit]))
        if amount or parts:
            parts.append(f"{amount} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))
