"""What an incident's name says, 20261120T221003Z-apache: whose it is, and since when.

Apart from the incidents themselves, which a quiet run loads nothing of.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable


def daemon_of(incident_id: str) -> str:
    return incident_id.partition("-")[2]


def began_at(incident_id: str) -> float:
    """Return when it began, in seconds since 1970; 0.0 for a name that is none.

    By hand: the modules that know calendars cost more than all else here.
    """
    stamp = incident_id.partition("-")[0]
    if len(stamp) != 16 or not (stamp[:8] + stamp[9:15]).isdecimal():
        return 0.0
    year, month, day = int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8])
    if month < 3:  # the year begins in March, its leap day is the last one
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * month - 457) // 5 + day - 719469
    clock = 3600 * int(stamp[9:11]) + 60 * int(stamp[11:13]) + int(stamp[13:15])
    return 86400.0 * days + clock


def newest(incident_ids: Iterable[str]) -> dict[str, str]:
    """Return each daemon's newest incident, of ids in the order of their names."""
    return {daemon_of(one): one for one in incident_ids}
