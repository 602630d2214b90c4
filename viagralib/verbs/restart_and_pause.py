"""The verbs restart, pause and resume: what an administrator wants done."""

from __future__ import annotations

import time

from viagralib.base import durations
from viagralib.base.messages import WELL, Fault, exit_code, reason, safe
from viagralib.base.printer import Printer
from viagralib.base.resource_limits import widen
from viagralib.report.announcer import Announcer
from viagralib.settings.command_line import Options
from viagralib.state import pauses
from viagralib.state.announced import date
from viagralib.state.run_context import Run
from viagralib.verbs.run import Response

_CLOCKS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


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
            raise Fault(safe(name), f"is {safe(run.settings.set_aside[name])}")
    verdicts = Response(announcer).restart(names)
    if options.json:
        announcer.conclude(verdicts)
    announcer.pass_on()
    return exit_code(announcer.codes.values())


def pause(run: Run, options: Options, out: Printer) -> int:
    """Take daemons out of the watch, for a while or until resumed."""
    until = _until(options)
    _check_state(run)
    for name in run.names:
        try:
            pauses.pause(run.state, name, until, options.reason)
        except OSError as error:
            text = f"could not pause it: {reason(error)}"
            raise Fault(safe(name), text) from None
        ends = f"until {date(until)}" if until else "until viagra.py resume"
        out.say(f"{safe(name)} is paused {ends}")
    return WELL


def resume(run: Run, options: Options, out: Printer) -> int:
    """Watch daemons again."""
    _check_state(run)
    for name in run.names:
        was = pauses.why_paused(run.state, name)
        pauses.resume(run.state, name)
        out.say(f"{safe(name)} is {'watched again' if was else 'not paused'}")
    return WELL


def _check_state(run: Run) -> None:
    """Raise Fault when somebody else could change the state."""
    for fault in run.find_faults():
        if not fault.subject:
            raise fault


def _until(options: Options) -> float | None:
    """Return when a pause ends, in seconds since 1970; None: when resumed.

    Raises Fault for a moment that is past, or no moment at all.
    """
    if options.duration:
        try:
            seconds = durations.parse(options.duration)
        except ValueError as error:
            raise Fault("--for", str(error)) from None
        until = time.time() + seconds
    elif options.until:
        until = _moment(options.until)
    else:
        return None
    if until <= time.time():
        text = f"{safe(options.until or options.duration or '')} is past"
        raise Fault("--for" if options.duration else "--until", text)
    return until


def _moment(text: str) -> float:
    """Return the moment that is meant by "18:00" (today), or a date with a time."""
    today = time.strftime("%Y-%m-%d")
    for attempt in (text, f"{today} {text}"):
        for form in _CLOCKS:
            try:
                return time.mktime(time.strptime(attempt, form))
            except (ValueError, OverflowError):
                continue
    raise Fault(
        "--until", f"{safe(text)} is no time: write 18:00 or '2026-12-24 18:00'"
    )
