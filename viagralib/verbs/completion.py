"""What may stand at the end of a command line: asked for by the shells' completions.

`viagra.py --complete WORD ...` is theirs alone; the last WORD may be begun, or empty.
"""

from __future__ import annotations

from glob import escape, glob

from viagralib.base.messages import Fault
from viagralib.base.printer import Printer
from viagralib.settings import command_line
from viagralib.settings.configuration import load
from viagralib.settings.help_texts import OPTIONS, VERB_TEXTS
from viagralib.settings.homes import find_home, find_state
from viagralib.state.directory import State
from viagralib.state.incident_ids import daemon_of

_EXAMPLES = {"--for": ("30m", "2h", "1d"), "--since": ("1d", "7d", "30d")}


def complete(words: list[str], out: Printer) -> None:
    """Print a line for each word that fits; behind a tab is what it means, if that is
    more than the word says."""
    *before, last = words or [""]
    value_of = before[-1] if before else ""
    if value_of in ("--dir", "--state"):
        found = dict.fromkeys(sorted(glob(f"{escape(last)}*/")), "")
    elif value_of in command_line.VALUES:
        found = dict.fromkeys(_EXAMPLES.get(value_of, ()), "")
    else:
        found = _words(before, last)
    for word, meaning in found.items():
        if word.startswith(last) and word.isprintable():  # for a terminal
            out.say(f"{word}\t{meaning}" if meaning else word)


def _words(before: list[str], last: str) -> dict[str, str]:
    """Return the options, verbs and names that may follow, with their meaning."""
    try:
        options = command_line.parse([*before, "--help"])  # which asks for no sense
    except Fault:
        return {}
    verb = options.verb
    if last.startswith("-"):
        return {
            one: meaning
            for one, (_, meaning) in OPTIONS.items()
            if one not in before
            and (verb in command_line.verbs_of(one) or not options.verb_given)
        }
    given = options.names
    verbs = {}
    if not options.verb_given and not given:
        verbs = {one: meaning for one, (_, meaning) in VERB_TEXTS.items()}
    if verb == "history" and not given:
        verbs = {"show": "one incident, whole"}
    if options.all or verb == "test" or (verb == "explain" and given):
        return {}
    names = _names(options)
    return verbs | dict.fromkeys([name for name in names if name not in given], "")


def _names(options: command_line.Options) -> list[str]:
    """Return the daemons, or after `history show` the incidents, that fit the verb."""
    state = State(find_state(options.state))
    incidents = state.names("incidents")[::-1]
    if options.verb == "history":
        is_shown = options.names[:1] == ["show"]
        daemons = sorted({daemon_of(one) for one in incidents})
        return daemons if not is_shown else incidents if not options.names[1:] else []
    watched = [*load(find_home(options.home)).daemons]
    paused = state.names("paused")
    if options.verb == "pause":
        return [name for name in watched if name not in paused]
    # Who may not see the state, such as a user who types sudo, gets them all.
    wanted = paused if options.verb == "resume" else []
    return [name for name in watched if name in wanted] or watched
