"""The verbs pause and resume: daemons are taken out of the watch, and back."""

from __future__ import annotations

import time

from viagralib.base import durations
from viagralib.base.clocks import date
from viagralib.base.messages import WELL, Fault, reason, safe
from viagralib.base.printer import Printer
from viagralib.report.verdict_lines import why_not_watched, written
from viagralib.settings.command_line import Options
from viagralib.state import pauses
from viagralib.state.directory import PAUSE_OF_ALL
from viagralib.state.run_context import Run
from viagralib.verbs.check import look

_CLOCKS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def pause(run: Run, options: Options, out: Printer) -> int:
    """Take daemons out of the watch, for a while or until resumed."""
    until = _until(options)
    _check_state(run)
    for name in [PAUSE_OF_ALL] if options.all else run.names:
        try:
            pauses.pause(run.state, name, until, options.reason)
        except OSError as error:
            text = f"could not pause it: {reason(error)}"
            raise Fault(safe(name), text) from None
    said = [
        f"{safe(name)} is paused {_end(until, safe(name))}{_if_off(run, name)}"
        for name in run.names
    ]
    if options.all:
        said = [f"all daemons are paused {_end(until, '--all')}"]
    return _answer(run, options, out, said)


def resume(run: Run, options: Options, out: Printer) -> int:
    """Watch daemons again, and say how they are."""
    _check_state(run)
    was = {name: pauses.why_paused(run.state, name) for name in run.names}
    for name in run.state.names("paused") if options.all else run.names:
        pauses.resume(run.state, name)
    is_all = pauses.why_paused(run.state, PAUSE_OF_ALL)
    seen = look(run)
    said = []
    for name in run.names:
        text = f"{safe(name)} is {'watched again' if was[name] else 'not paused'}"
        if is_all:
            text = f"{safe(name)} is paused with all others: viagra.py resume --all"
        how = seen.lines([name], everything=False)
        said.append("; ".join([text, *how]))
    return _answer(run, options, out, said)


def _end(until: float | None, whose: str) -> str:
    """Return when a pause of `whose` ends, or by what."""
    return (
        f"until {date(until)}" if until else f"until resumed: viagra.py resume {whose}"
    )


def _if_off(run: Run, name: str) -> str:
    """Return that its hook is off, so that nothing is paused by this yet, or ""."""
    off = name in run.settings.set_aside
    return f"; {safe(name)} is {why_not_watched(run, name)}" if off else ""


def _answer(run: Run, options: Options, out: Printer, said: list[str]) -> int:
    """Say what was done, or print it as a document: the pauses that there are now."""
    if options.json:
        records = {name: run.state.read("paused", name) or None for name in run.names}
        whole = {"exit": WELL, "home": run.settings.home, "paused": records}
        said = [written({**whole, "said": said})]
    for text in said:
        out.say(text)
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
        if options.duration:
            raise Fault("--for", "is over at once: write how long, such as 2h")
        raise Fault("--until", f"{safe(options.until or '')} is past")
    return until


def _moment(text: str) -> float:
    """Return the moment that is meant by "18:00" (today), or a date with a time."""
    today = time.strftime("%Y-%m-%d")
    spaced = text[:10] + text[10:].replace("T", " ", 1)  # as ISO 8601 has it
    for attempt in (spaced, f"{today} {text}"):
        for form in _CLOCKS:
            try:
                return time.mktime(time.strptime(attempt, form))
            except (ValueError, OverflowError):
                continue
    raise Fault(
        "--until", f"{safe(text)} is no time: write 18:00 or '2026-12-24 18:00'"
    )
