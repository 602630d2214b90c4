"""What is said to people: errors, exit codes, and text that is safe to print."""

from __future__ import annotations

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable


WELL = 0  # all is up, brought back, paused, off, finished, quit or not now
NOT_WELL = 1  # a daemon is down, sick or unknown
FAULTY = 2  # usage, facts or an unsafe file; everything else is still served
BUSY = 75  # all that is wrong is being worked on by another run (EX_TEMPFAIL)

# What moves the cursor, starts a line or turns the direction of text may forge
# a line of a notice: controls (Cc), line separators, bidirectional marks.
_UNSAFE_MARKS = "\u2028\u2029\u200e\u200f\u061c\ufeff" + "".join(
    map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)


class Fault(Exception):  # noqa: N818
    """Something that the user must mend: usage, facts, settings, an unsafe file.

    `subject` is what it is about (a daemon's name, or a file), `text` the rest of
    the message, with the next step where there is one.
    """

    def __init__(self, subject: str, text: str) -> None:
        super().__init__(f"{subject}: {text}" if subject else text)
        self.subject = subject
        self.text = text


def reason(error: OSError) -> str:
    """Return the system's own words for `error`, with the file that it is about."""
    words = error.strerror or type(error).__name__
    return f"{words} ({safe(str(error.filename))})" if error.filename else words


def safe(text: str) -> str:
    """Return `text` on one line, with all that could forge or hide text escaped.

    For text that others chose: process names, command lines, hook output, logs.
    Bytes that are no UTF-8 arrive as surrogates (PEP 383) and leave as \\xNN.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe_character(character) for character in text)


def safe_lines(text: str) -> list[str]:
    """Return the lines of `text`, each of them safe to print; tabs become blanks."""
    return [safe(line.expandtabs()) for line in text.split("\n")]


def _safe_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or 0x7F <= code <= 0x9F:
        return f"\\x{code:02x}"
    if character in _UNSAFE_MARKS or 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return character


def exit_code(codes: Iterable[int]) -> int:
    """Return the exit code of a run from those that its parts ask for."""
    wrong = set(codes) - {WELL}
    if wrong == {BUSY}:
        return BUSY
    return max(wrong - {BUSY}, default=WELL)
