"""The verb check: it looks, and changes nothing."""

from __future__ import annotations

from viagralib.base.messages import FAULTY, NOT_WELL
from viagralib.base.printer import Printer
from viagralib.evidence import service_manager
from viagralib.health.checkup import examine
from viagralib.processes import service_units
from viagralib.processes.verdicts import SICK, UNKNOWN, UP, Verdict, judge
from viagralib.recovery import hooks_at_work, standing
from viagralib.report.verdict_lines import Overview, written
from viagralib.settings.command_line import Options
from viagralib.state import incidents, sick_runs
from viagralib.state.run_context import Run


def look(run: Run) -> Overview:
    """Look at all that the run is about, health included; change nothing."""
    overview = Overview(run)
    run.only_looks = True
    faults = run.find_faults()
    overview.faults = [str(fault) for fault in faults]
    overview.codes = {fault.subject: FAULTY for fault in faults}
    hooks_at_work.prepare_one_look(run.observer)
    overview.verdicts = judge(run.sound(faults, True), run.observer)
    if run.is_ours:
        examine(run, overview.verdicts)
    for name, why in run.paused().items():
        overview.standings[name] = f"{standing.PAUSED}: {why}"
    for name, verdict in overview.verdicts.items():
        if verdict.word == UP:
            continue
        if run.observer.hooks_at_work is None:  # one look for all: there may be many
            run.observer.hooks_at_work = hooks_at_work.find_all(run.observer)
        daemon = run.settings.daemons[name]
        if verdict.word == SICK:
            verdict.few = sick_runs.count(run, daemon)
        last = incidents.last_of(run.state, name)
        verdict.phase = last.phase if last else ""
        found = None
        if verdict.word != UNKNOWN or name in overview.standings:  # paused
            found = standing.find(run, daemon, verdict.word, last)
        overview.codes[name] = found.code if found else NOT_WELL
        if found and found.word == UNKNOWN:
            unknown = Verdict(UNKNOWN, found.reason, verdict.candidates)
            overview.verdicts[name] = unknown
        elif found:
            overview.standings[name] = str(found)
    return overview


def note_owners(overview: Overview) -> None:
    """Note of each daemon which unit of the service manager owns it."""
    run, units = overview.run, {}
    for name, verdict in (
        overview.verdicts.items() if service_manager.is_there() else ()
    ):
        fact = run.settings.daemons[name].facts.unit
        unit = service_units.unit_of(verdict.processes())
        units[name] = unit or service_manager.known_unit(run.state, name, fact)
    known = {name: unit for name, unit in units.items() if unit}
    overview.owners = service_manager.tell_owners(known, run.gate)


def check(run: Run, options: Options, out: Printer) -> int:
    """Look only, change nothing: a line for each daemon that is not up."""
    overview = look(run)
    if options.json:
        out.say(written(overview.document()))
        return overview.code
    for fault in overview.faults:
        out.say(f"viagra.py: {fault}")
    for text in overview.lines(run.names, options.verbose):
        out.say(text)
    if run.settings.daemons and (options.verbose or run.is_by_hand()):
        out.say(_summary(run, overview))
    return overview.code


def _summary(run: Run, overview: Overview) -> str:
    """Return how many of the daemons are up, as a sentence."""
    number = sum(name in run.settings.daemons for name in run.names)
    up = sum(verdict.word == UP for verdict in overview.verdicts.values())
    if up != number:
        return f"up: {up} of {number}"
    return "1 daemon is up" if up == 1 else f"{up} daemons are up"
