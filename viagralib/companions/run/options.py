"""What viagra-run is asked for: the options of its command line, viagra-run(1)."""

from __future__ import annotations

import getopt
from collections.abc import Callable

from viagralib.base.messages import Fault, shown
from viagralib.companions.contract import spawn
from viagralib.companions.contract.companion import duration
from viagralib.settings.hook_files import why_no_name

USAGE = (
    "usage: viagra-run [-f events] [-i events] [-l contract | child | none]\n"
    "           [-o terms] [-r count [-t]] [-v] [-n name] [-b min:max]\n"
    "           [-w duration] [-L file] [--user name] [--] command [argument ...]\n"
    "  -f  events that are fatal: core, signal, hwerr, exit, none\n"
    "  -r  restart so often; 0: without end       -b  pauses between restarts: 1s:1m\n"
    "  -n  the daemon's name, for viagra.py       -L  a file for what it prints\n"
    "  -v  tell what happens                      -w  from TERM to KILL: 10s\n"
    "A command in a process contract. All of it: man viagra-run"
)
_FATAL = ("core", "signal", "hwerr", "exit")  # in the order in which ctrun looks
_EVENTS = ("core", "signal", "hwerr", "empty", "fork", "exit")
_TERMS = ("noorphan", "pgrponly", "regent")
_LIFETIMES = ("contract", "child", "none")
_LARGEST_COUNT = 2**31 - 1


class Options:
    """What the command line asks for."""

    def __init__(self, argv: list[str]) -> None:
        """Begin with the defaults of ctrun(1) for the command `argv`."""
        self.argv = argv
        self.fatal: frozenset[str] = frozenset({"hwerr"})
        self.told: frozenset[str] = frozenset()
        self.lifetime = "contract"
        self.terms: frozenset[str] = frozenset()  # noorphan, pgrponly, regent
        self.restarts: int | None = None  # None: never; 0: without end
        self.transfer = False
        self.verbose = False
        self.name: str | None = None
        self.backoff: tuple[float, float] | None = None  # seconds: shortest, longest
        self.patience = 10.0  # seconds between TERM and KILL
        self.user: spawn.User | None = None
        self.output: str | None = None


def parse(argv: list[str]) -> Options:
    """Return what `argv` asks for; raises Fault for anything that cannot be done."""
    try:
        pairs, command = getopt.getopt(argv, "f:i:l:o:r:tvn:b:w:L:", ["user="])
    except getopt.GetoptError as error:
        raise Fault("", f"{error}; see viagra-run --help") from None
    if not command:
        raise Fault("", "no command; see viagra-run --help")
    options = Options(command)
    given = dict(pairs)
    for option, value in pairs:
        attribute, read = _READERS[option]
        setattr(options, attribute, read(value))
    _check(options, given)
    return options


def _check(options: Options, given: dict[str, str]) -> None:
    """Raise Fault for options that contradict each other; the first four: ctrun(1)."""
    none = options.lifetime == "none"
    rules = (
        (none and "noorphan" in options.terms, "no -o noorphan with -l none"),
        ("-r" in given and options.lifetime != "contract", "-r needs -l contract"),
        ("-r" in given and "pgrponly" in options.terms, "no -r with -o pgrponly"),
        ("-t" in given and "-r" not in given, "-t needs -r"),
        ("-b" in given and "-r" not in given, "-b needs -r"),
        (none and "-n" in given, "no -n with -l none"),
        (none and "-L" in given, "no -L with -l none"),
    )
    for broken, text in rules:
        if broken:
            raise Fault("", text)
    if options.verbose and "-i" not in given:
        options.told = frozenset({"core"})


def _words(option: str, value: str, known: tuple[str, ...]) -> frozenset[str]:
    """Return the words of a list, each of which may be shortened; "none" is empty.

    As in ctrun, commas or blanks separate, and the first of `known` that fits counts.
    """
    words = value.replace(" ", ",").split(",")
    found = [_expand(option, word, (*known, "none")) for word in words if word]
    if not found:
        raise Fault(option, f"needs one or more of {', '.join(known)}, or none")
    if "none" in found and set(found) != {"none"}:
        raise Fault(option, "none goes with nothing else")
    return frozenset(found) - {"none"}


def _expand(option: str, word: str, known: tuple[str, ...]) -> str:
    for name in known:
        if name.startswith(word):
            return name
    raise Fault(option, f"{word!r} is none of {', '.join(known)}")


def _lifetime(value: str) -> str:
    if value not in _LIFETIMES:
        raise Fault("-l", f"{value!r} is none of {', '.join(_LIFETIMES)}")
    return value


def _name(value: str) -> str:
    if why := why_no_name(value):
        raise Fault("-n", f"{shown(value)} cannot be a daemon's name: {why}")
    return value


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value[:12]) <= _LARGEST_COUNT):
        raise Fault("-r", f"{value!r} is no number from 0 to {_LARGEST_COUNT}")
    return int(value)


def _backoff(value: str) -> tuple[float, float]:
    shortest, colon, longest = value.partition(":")
    if not colon:
        raise Fault("-b", f"{value!r} is not like 1s:1m")
    low, high = duration("-b", shortest), duration("-b", longest)
    if not 0 < low <= high:
        raise Fault("-b", f"{value!r}: 0 < min <= max must hold")
    return low, high


# Of each option: the attribute that takes it, and what reads its value.
_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "-f": ("fatal", lambda value: _words("-f", value, _FATAL)),
    "-i": ("told", lambda value: _words("-i", value, _EVENTS)),
    "-l": ("lifetime", _lifetime),
    "-o": ("terms", lambda value: _words("-o", value, _TERMS)),
    "-r": ("restarts", _count),
    "-t": ("transfer", lambda _: True),
    "-v": ("verbose", lambda _: True),
    # Those that ctrun does not have.
    "-n": ("name", _name),
    "-b": ("backoff", _backoff),
    "-w": ("patience", lambda value: duration("-w", value)),
    "-L": ("output", str),
    "--user": ("user", spawn.User),
}
