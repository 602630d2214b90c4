"""Answers that were found before, kept between runs: what costs a quiet run the most.

An answer belongs to a question that holds all that it depends on: the text of a TOML
file, a pattern, a pattern and a command line; of a process its pid, start and parent,
which another one has only in another boot, and hardly ever. So none grows stale, and
without them, or with a file that is damaged, the same is only found anew. Whoever could
write the file could answer in our place: `load` is told whether it is safe.
"""

from __future__ import annotations

import marshal
import sys
import zlib

from viagralib import VERSION
from viagralib.base import guarded_files

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LARGEST_QUESTION = 65_536  # characters, of a text that is asked about
_LARGEST = 1_000_000  # bytes
_room = _LARGEST // 2  # characters of new questions: a daemon's user writes some
_HEADER = f"answers {VERSION} {sys.hexversion} ".encode()  # marshal is Python's own

_before: dict[tuple[str, ...], bytes] = {}
_now: dict[tuple[str, ...], bytes] = {}  # those that this run has asked for


def ask(question: tuple[str, ...], find: Callable[[], Any]) -> object:
    """Return the answer of before; where there is none, what `find` returns.

    What `find` raises is no answer, and is not kept.
    """
    global _room  # noqa: PLW0603
    kept = _now.get(question, _before.get(question))
    if kept is not None:
        _now[question] = kept
        return marshal.loads(kept)
    answer = find()
    size = sum(map(len, question))
    if size <= min(LARGEST_QUESTION, _room):
        try:
            _now[question] = marshal.dumps(answer)
            _room -= size
        except ValueError:
            pass  # TOML has dates, which marshal has not
    return answer


def load(path: str) -> None:
    """Read the answers of before; whatever is no file of ours is as if none."""
    try:
        content = guarded_files.read(path, _LARGEST)
        header, check, body = content.partition(b"\n")
        if header == _header(body):
            _before.update(marshal.loads(body))
    except (OSError, EOFError, ValueError, TypeError):
        _before.clear()


def save(path: str) -> None:
    """Keep what this run has asked for, if it is not what was known. Raises OSError."""
    if _now.keys() == _before.keys():
        return
    body = marshal.dumps(_now)
    if len(body) < _LARGEST - 100:
        guarded_files.replace(path, _header(body) + b"\n" + body)


def _header(body: bytes) -> bytes:
    return _HEADER + b"%08x" % zlib.crc32(body)
