"""Known pids: where the last run found the daemons, so that the next one looks there.

A look judges what has these pids now before all others, and by the same rules. Whatever
the file lacks, or says wrongly, costs time and changes no verdict.
"""

from __future__ import annotations

from viagralib.base import guarded_files
from viagralib.processes.verdicts import Verdict
from viagralib.state.directory import State

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable

_LARGEST = 4096  # bytes: some hundred pids, far more than there are daemons


def read(state: State) -> list[int]:
    """Return the pids; [] where none are known."""
    try:
        words = guarded_files.read(_file(state), _LARGEST).split()
    except OSError:
        return []
    return [int(word) for word in words if word.isdigit() and len(word) < 10]


def note(state: State, known: list[int], verdicts: Iterable[Verdict]) -> None:
    """Keep where the daemons were found, if it is not what was known.

    Raises OSError when the state takes nothing.
    """
    found = [one.pid for verdict in verdicts for one in verdict.processes()]
    if set(found) == set(known):
        return
    text = " ".join(map(str, found)).encode()
    if len(text) > _LARGEST:
        return
    guarded_files.replace(_file(state), text)


def _file(state: State) -> str:
    return f"{state.path}/known-pids"
