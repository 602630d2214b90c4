"""The verbs for people, and where each of them is."""

from __future__ import annotations

from collections.abc import Callable

from viagralib import history, looking, orders, selftest, status
from viagralib.commandline import Options
from viagralib.printing import Printer
from viagralib.run import Run

VERBS: dict[str, Callable[[Run, Options, Printer], int]] = {
    "check": looking.check,
    "explain": looking.explain,
    "status": status.status,
    "history": history.history,
    "restart": orders.restart,
    "pause": orders.pause,
    "resume": orders.resume,
    "test": selftest.test,
}
