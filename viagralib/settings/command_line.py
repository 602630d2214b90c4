"""The command line: verbs and options. argparse costs half a quiet run."""

from __future__ import annotations

from viagralib.base.messages import Fault, resembling, safe

VERBS = (
    *("run", "check", "status", "explain", "restart", "pause", "resume"),
    *("history", "test"),
)
# Options without a value, and the verbs that know them.
FLAGS = {
    **dict.fromkeys(("--json", "--verbose", "--version", "--help"), VERBS),
    "--html": ("status",),
    "--dry-run": ("run", "restart"),
    "--all": ("pause", "resume"),
    "--checks": ("test",),
}
# Options with a value: the attribute that takes it, and the verbs that know it.
VALUES: dict[str, tuple[str, tuple[str, ...]]] = {
    "--dir": ("home", VERBS),
    "--state": ("state", VERBS),
    "--for": ("duration", ("pause",)),
    "--until": ("until", ("pause",)),
    "--reason": ("reason", ("pause",)),
    "--since": ("since", ("history",)),
}
_SHORT = {"-h": "--help", "-v": "--verbose", "-V": "--version"}


class Options:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.verb = "run"
        self.verb_given = False
        self.names: list[str] = []
        self.home: str | None = None
        self.state: str | None = None
        self.duration: str | None = None
        self.until: str | None = None
        self.reason = ""
        self.since: str | None = None
        self.show: str | None = None  # the incident that `history show` is to show
        self.json = False
        self.html = False
        self.dry_run = False
        self.all = False
        self.checks = False
        self.verbose = False
        self.version = False
        self.help = False


def parse(arguments: list[str]) -> Options:
    """Return what the arguments ask for. Raises Fault when they make no sense."""
    options = Options()
    words: list[str] = []
    given: list[str] = []
    rest = iter(arguments)
    for word in rest:
        argument = _SHORT.get(word, word)
        name, equals, value = argument.partition("=")
        if argument == "--":
            words += rest
        elif name in VALUES:
            value = value if equals else next(rest, "")
            if not value or (not equals and value.startswith("-")):
                raise Fault("", f"{name} needs a value; see viagra.py --help")
            given.append(name)
            setattr(options, VALUES[name][0], value)
        elif argument in FLAGS:
            given.append(argument)
            setattr(options, argument[2:].replace("-", "_"), True)
        elif argument.startswith("-"):
            near = resembling(name, [*FLAGS, *VALUES])
            text = f"no such option: {safe(argument)}{near}; see viagra.py --help"
            raise Fault("", text)
        else:
            words.append(argument)
    if words and words[0] in VERBS:
        options.verb = words.pop(0)
        options.verb_given = True
    if options.verb == "history" and words[:1] == ["show"] and not options.help:
        options.show = _only_word(words[1:])
        words = []
    each = list(dict.fromkeys(words))
    options.names = words if options.verb == "explain" else each  # which takes one
    if not options.help:
        _check(options, given)
    return options


def _only_word(words: list[str]) -> str:
    if len(words) != 1:
        raise Fault("", "history show needs one ID: see viagra.py history")
    return words[0]


def verbs_of(option: str) -> tuple[str, ...]:
    """Return the verbs that know an option."""
    return FLAGS[option] if option in FLAGS else VALUES[option][1]


def _check(options: Options, given: list[str]) -> None:
    """Raise Fault when verb, names and options do not go together."""
    verb = options.verb
    for name in given:
        if verb not in verbs_of(name):
            verbs = ", ".join(verbs_of(name))
            raise Fault("", f"{name} does not go with {verb}, only with {verbs}")
    if verb == "explain" and len(options.names) != 1:
        raise Fault("", "explain needs one NAME: viagra.py explain NAME")
    if verb in ("restart", "pause", "resume") and not (options.names or options.all):
        of_all = "" if verb == "restart" else ", or --all"
        raise Fault("", f"{verb} needs a NAME: viagra.py {verb} NAME ...{of_all}")
    if options.all and options.names:
        raise Fault("", "--all and NAME do not go together: give one of them")
    if verb == "test" and options.names:
        raise Fault("", "test takes no NAME: it looks at all of them")
    if options.duration and options.until:
        raise Fault("", "--for and --until say the same: give one of them")
    if options.json and options.html:
        raise Fault("", "--json and --html are two documents: ask for one of them")
