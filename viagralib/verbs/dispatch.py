"""The verbs for people, and where each of them is."""

from __future__ import annotations

from importlib import import_module

from viagralib.base.printer import Printer
from viagralib.report.verdict_lines import nothing_watched
from viagralib.settings.command_line import Options
from viagralib.state.run_context import Run

# A verb has a function of its name, in the module of its name, or in this one.
_MODULES = {"resume": "pause"}


def obey(run: Run, options: Options, out: Printer) -> int:
    """Do what the verb says; return the exit code.

    Its module alone is imported: who only looks loads nothing that starts daemons.
    """
    verb = "dry_run" if options.dry_run else options.verb
    module = import_module(f"viagralib.verbs.{_MODULES.get(verb, verb)}")
    for note in [] if options.json else run.notes:
        out.say(f"note: {note}")
    code = int(getattr(module, verb)(run, options, out))
    if not run.settings.daemons and not options.json and not options.show:
        out.say(nothing_watched(run))
    return code
