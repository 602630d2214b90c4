"""A pidfile: the first word of a file says which process is the daemon."""

from __future__ import annotations

from viagralib.base import guarded_files
from viagralib.base.messages import Fault, reason, safe

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable

    from viagralib.settings.configuration import Daemon

_MOST = 64  # bytes; a pid has at most 10 digits


def read(path: str) -> int:
    """Return the pid that a pidfile holds; 0 when it holds none. Raises OSError.

    What stands behind it is the daemon's own: PostgreSQL writes six lines more.
    """
    words = guarded_files.read(path, _MOST).split()[:1]
    return int(words[0]) if words and words[0].isdigit() else 0


def find_faults(daemons: Iterable[Daemon]) -> list[Fault]:
    """Return which pidfiles can never be one; one that is not there yet can."""
    found = []
    for daemon in daemons:
        try:
            if path := daemon.facts.pidfile:
                guarded_files.read(path, 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            text = f"no pidfile: {reason(error)}: mend the fact pidfile"
            found.append(Fault(safe(daemon.name), text))
    return found
