"""The verb restart: what is up is stopped, and all is started as in a run."""

from __future__ import annotations

from viagralib.base.messages import Fault, exit_code, safe
from viagralib.base.printer import Printer
from viagralib.base.resource_limits import widen
from viagralib.report.announcer import Announcer
from viagralib.report.verdict_lines import why_not_watched
from viagralib.settings.command_line import Options
from viagralib.state.run_context import Run
from viagralib.verbs.run import Response


def restart(run: Run, options: Options, out: Printer) -> int:
    """Stop the daemons if they are up, and start them by the same path as always."""
    options.verbose = True  # somebody waits for the answer
    widen()
    announcer = Announcer(run, options, out, out)
    faults = run.find_faults()
    announcer.faults(faults)
    faulty = {fault.subject for fault in faults}
    names = [] if run.is_unsafe else [n for n in run.names if n not in faulty]
    for name in names:
        if run.daemon(name) is None:
            raise Fault(safe(name), f"is {why_not_watched(run, name)}")
    response = Response(announcer)
    verdicts = response.restart(names)
    announcer.conclude(verdicts | announcer.newest)
    announcer.pass_on()
    response.prune()
    return exit_code(announcer.codes.values())
