"""What --help prints: of the whole program, and of each verb."""

from __future__ import annotations

from viagralib.settings.command_line import FLAGS, VALUES

# Of each verb: what follows it, in one line what it does, and what else to know.
VERB_TEXTS = {
    "run": ("[NAME ...]", "bring back what is down; silent when all is up"),
    "check": ("[NAME ...]", "look only: a line for each daemon that is not up"),
    "status": ("[NAME ...]", "every daemon: verdict, standing, pids, restarts"),
    "explain": ("NAME", "each process that may be the daemon, and why"),
    "restart": ("NAME ...", "stop it if it is up, and start it, now"),
    "pause": ("NAME ...", "leave it alone for a while, or until resumed"),
    "resume": ("NAME ...", "watch it again"),
    "history": ("[NAME ...]", "incidents, newest first; show ID: one of them, whole"),
    "test": ("", "every fault in hooks, facts and permissions"),
}
# Words that others have for a verb of ours.
MEANT = {
    "help": " (is --help meant?)",
    "start": " (is 'restart NAME' meant?)",
    "stop": " (is 'pause NAME' meant? then stop it as always)",
    "list": " (is 'status' meant?)",
    "log": " (is 'history' meant?)",
}
OPTIONS = {
    "--for": ("2h", "for how long: 30s, 10m, 2h, 7d"),
    "--until": ("TIME", "until 18:00 today, or 2026-12-24T18:00"),
    "--reason": ("TEXT", "why; it is shown wherever the daemon is"),
    "--since": ("7d", "how far back to look"),
    "--html": ("", "one HTML page"),
    "--all": ("", "pause, or resume, all daemons, also those of later hooks"),
    "--checks": ("", "run each check of check.d once, and say what it answers"),
    "--dry-run": ("", "say what run or restart would execute, and do nothing"),
    "--dir": ("DIR", "the home, with start.d in it"),
    "--state": ("DIR", "the state directory"),
    "--json": ("", "one JSON document"),
    "--verbose": ("", "say also what is up, left alone, or said before; -v"),
    "--version": ("", "the version; -V"),
    "--help": ("", "this; after a verb, that verb's; -h"),
}
_EXIT = """\
exit: 0 well, 1 a daemon is down, sick or unknown, 2 a fault to mend, 75 try later"""


def help_text(verb: str | None) -> str:
    """Return the help of one verb, or of the whole program."""
    verbs = [verb] if verb else [*VERB_TEXTS]
    lines = ["usage:"]
    for one in verbs:
        words, what = VERB_TEXTS[one]
        name = "[run]" if one == "run" else one
        lines.append(f"  {f'viagra.py {name} {words}':<30}  {what}".rstrip())
    if not verb:
        lines.append(f"  {'viagra.py VERB --help':<30}  the options of a verb")
    lines.append("options:")
    for option, (value, what) in OPTIONS.items():
        known = FLAGS[option] if option in FLAGS else VALUES[option][1]
        if not verb or verb in known:
            of_some = "" if verb or len(known) > 1 else f"{known[0]}: "
            lines.append(f"  {f'{option} {value}':<16}  {of_some}{what}")
    return "\n".join([*lines, _EXIT])
