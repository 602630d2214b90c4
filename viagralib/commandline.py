"""The command line: verbs, options, and the help. argparse costs half a quiet run."""

from __future__ import annotations

from viagralib.messages import Fault, safe

VERBS = ("run", "check", "explain", "test")
_FLAGS = ("--json", "--verbose", "--version", "--help")
_WITH_VALUE = ("--dir", "--state")
HELP = """\
usage: viagra.py [run] [NAME ...]      bring back what is down; silent when all is up
       viagra.py check [NAME ...]      look only: a line for each daemon that is not up
       viagra.py explain NAME          each candidate process, counted or not, and why
       viagra.py test                  every fault in hooks, facts and permissions
options:
  --dir DIR      the home, with start.d in it      --json     one JSON document
  --state DIR    the state directory               --verbose  say what is left alone
  --version, --help
exit: 0 well, 1 a daemon is down, sick or unknown, 2 a fault to mend, 75 try again later
"""


class Options:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.verb = "run"
        self.names: list[str] = []
        self.home: str | None = None
        self.state: str | None = None
        self.json = False
        self.verbose = False
        self.version = False
        self.help = False


def parse(arguments: list[str]) -> Options:
    """Return what the arguments ask for. Raises Fault when they make no sense."""
    options = Options()
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            words += rest
        elif name in _WITH_VALUE:
            value = value if equals else next(rest, "")
            if not value:
                raise Fault("", f"{name} needs a value: {name} /some/directory")
            setattr(options, "home" if name == "--dir" else "state", value)
        elif argument in _FLAGS:
            setattr(options, argument[2:], True)
        elif argument.startswith("-"):
            raise Fault("", f"no such option: {safe(argument)}; see viagra.py --help")
        else:
            words.append(argument)
    if words and words[0] in VERBS:
        options.verb = words.pop(0)
    options.names = list(dict.fromkeys(words))
    _check_names(options)
    return options


def _check_names(options: Options) -> None:
    if options.verb == "explain" and len(options.names) != 1:
        raise Fault("", "explain needs one NAME: viagra.py explain NAME")
    if options.verb == "test" and options.names:
        raise Fault("", "test takes no NAME: it looks at all of them")
