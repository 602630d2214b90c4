"""The verbs for people, and where each of them is."""

from __future__ import annotations

from importlib import import_module

from viagralib.commandline import Options
from viagralib.printing import Printer
from viagralib.run import Run

# A verb has a module and, in it, a function of its name.
_MODULES = {
    "check": "looking",
    "explain": "looking",
    "status": "status",
    "history": "history",
    "restart": "orders",
    "pause": "orders",
    "resume": "orders",
    "test": "selftest",
}


def obey(run: Run, options: Options, out: Printer) -> int:
    """Do what the verb says; return the exit code.

    Its module alone is imported: who only looks loads nothing that starts daemons.
    """
    module = import_module(f"viagralib.{_MODULES[options.verb]}")
    return int(getattr(module, options.verb)(run, options, out))
