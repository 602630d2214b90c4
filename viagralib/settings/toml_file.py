"""One TOML file: whatever lies there in its place is a fault, and does no harm."""

from __future__ import annotations

import os

from viagralib.base import answer_cache, guarded_files
from viagralib.base.messages import Fault, reason, safe

LARGEST = 1_000_000  # bytes: facts are a page, not a book


def read(path: str, subject: str) -> dict[str, object]:
    """Return what the file says, {} where there is none. Raises Fault on `subject`."""
    file = safe(os.path.basename(path))
    of_file = "" if subject == file else f"{file}: "
    try:
        text = _text(path)
        if text is None:
            return {}
        table = answer_cache.ask(("toml", text), lambda: _parse(text))
        return table if isinstance(table, dict) else {}
    except OSError as error:
        raise Fault(subject, f"could not read {file}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1}"
        raise Fault(subject, f"{of_file}is no UTF-8 text: {where}") from None
    except ValueError as error:
        raise Fault(subject, f"{of_file}{safe(str(error))[:300]}") from None
    except RecursionError:
        raise Fault(subject, f"{of_file}nested too deeply") from None


def _parse(text: str) -> dict[str, object]:
    import tomllib  # costs as much as Python's own start: only when it is needed

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"no valid TOML: {error}") from None


def _text(path: str) -> str | None:
    try:
        text = guarded_files.read(path, LARGEST + 1)
    except FileNotFoundError:
        return None
    if len(text) > LARGEST:
        raise ValueError(f"is larger than {LARGEST} bytes")
    return text.decode()
