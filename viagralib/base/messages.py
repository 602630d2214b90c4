"""What is said to people: errors, exit codes, and text that is safe to print."""

from __future__ import annotations

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable


WELL = 0  # all is up, brought back, paused, off, finished, quit, stopped or not now
NOT_WELL = 1  # a daemon is down, sick or unknown
FAULTY = 2  # usage, facts or an unsafe file; everything else is still served
BUSY = 75  # all that is wrong is being worked on by another run (EX_TEMPFAIL)


# Letters, marks and symbols that show nothing: Default_Ignorable_Code_Point in
# DerivedCoreProperties.txt of Unicode, an empty Braille cell, a note without a head.
_BLANK = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0)),
    *((0x1D159, 0x1D159), (0xE0100, 0xE01EF)),
)
# Marks upon one letter: Vietnamese and Hebrew have two; a heap of them covers lines.
_MOST_MARKS = 2


class Fault(Exception):  # noqa: N818
    """Something that the user must mend: usage, facts, settings, an unsafe file.

    `subject` is what it is about (a daemon's name, or a file), `text` the rest of
    the message, with the next step where there is one.
    """

    def __init__(self, subject: str, text: str) -> None:
        super().__init__(f"{subject}: {text}" if subject else text)
        self.subject = subject
        self.text = text


class CannotTell(Exception):  # noqa: N818
    """Whether the condition holds cannot be seen, and why."""


def reason(error: OSError) -> str:
    """Return the system's own words for `error`, with the file that it is about."""
    words = error.strerror or type(error).__name__
    return f"{words} ({safe(str(error.filename))})" if error.filename else words


def trouble(error: BaseException) -> str:
    """Return in words what the machine is out of, or cannot read; "" for a mistake.

    An import that may not look at a file can leave a module without its contents;
    where there is no memory, Python may fail without knowing why: a SystemError.
    """
    if isinstance(error, OSError):
        return reason(error)
    if isinstance(error, SystemError):
        return f"Python itself failed: {safe(str(error))}"
    is_empty = isinstance(error, AttributeError) and hasattr(error.obj, "__spec__")
    if is_empty or isinstance(error, ImportError | EOFError | MemoryError):
        return safe(str(error) or type(error).__name__)
    return "a part of the program cannot be read" if _is_of_an_import(error) else ""


def _is_of_an_import(error: BaseException) -> bool:
    """Return whether Python's own import raised it: of a read that gave nothing."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code.co_filename.startswith(
        "<frozen importlib"
    )


def safe(text: str) -> str:
    """Return `text` on one line, with all that could forge or hide text escaped.

    For text that others chose: process names, command lines, hook output, logs.
    Bytes that are no UTF-8 arrive as surrogates (PEP 383) and leave as \\xNN.
    """
    if text.isascii() and text.isprintable():
        return text
    parts, marks = [], _MOST_MARKS  # none belongs to what we write before the text
    for character in text:
        is_mark = not character.isascii() and _is_mark(character)
        marks = marks + 1 if is_mark else 0
        is_stray = is_mark and marks > _MOST_MARKS
        parts.append(_escape(character) if is_stray else _safe_character(character))
    return "".join(parts)


def shown(text: str) -> str:
    """Return a text of the user's in quotes, and no more of it than tells which."""
    return repr(text) if len(text) < 80 else f"{text[:60]!r}..."


def signal_name(number: int | str) -> str:
    """Return a signal's number and its name: "11 (SIGSEGV)"."""
    import signal

    try:
        return f"{number} ({signal.Signals(int(number)).name})"
    except ValueError:
        return str(number)


def resembling(word: str, known: Iterable[str]) -> str:
    """Return a question for who may have meant one of the known words, or ""."""
    import difflib

    close = difflib.get_close_matches(word[:80], known, 1)
    return f" (is {close[0]!r} meant?)" if close else ""


def safe_lines(text: str) -> list[str]:
    """Return the lines of `text`, each of them safe to print; tabs become blanks."""
    return [safe(line.expandtabs()) for line in text.split("\n")]


def _safe_character(character: str) -> str:
    # What is not printable moves the cursor, starts a line, turns the direction of
    # text, takes no room, or is a character of nobody's: all can forge or hide text.
    if character.isprintable() and not _turns_or_hides(character):
        return character
    return _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    width = 2 if code < 0x100 else 4 if code < 0x10000 else 8
    return f"\\{'x' if width == 2 else 'u' if width == 4 else 'U'}{code:0{width}x}"


def _is_mark(character: str) -> bool:
    """Return whether it is drawn upon the letter before it."""
    from unicodedata import category

    return category(character) in ("Mn", "Me")


def _turns_or_hides(character: str) -> bool:
    """Return whether a letter is written from right to left, with what is beside it,
    shows nothing at all, or encloses what is before it."""
    from unicodedata import bidirectional, category  # few texts have such letters

    return (
        bidirectional(character) in ("R", "AL", "AN")
        or category(character) == "Me"
        or any(first <= ord(character) <= last for first, last in _BLANK)
    )


def exit_code(codes: Iterable[int]) -> int:
    """Return the exit code of a run from those that its parts ask for."""
    wrong = set(codes) - {WELL}
    if wrong == {BUSY}:
        return BUSY
    return max(wrong - {BUSY}, default=WELL)
