"""What --dry-run says in place of a run or a restart: what would be executed."""

from __future__ import annotations

import shlex

from viagralib.base.durations import spell
from viagralib.base.messages import safe
from viagralib.base.printer import Printer
from viagralib.evidence.collector import DISKS, SOCKETS
from viagralib.hooks.execution import names_of
from viagralib.hooks.outcome import describe
from viagralib.processes.matching import LEFTOVER
from viagralib.processes.verdicts import SICK, UNKNOWN, UP, Verdict, judge, missing
from viagralib.recovery.stopping import topmost
from viagralib.report import notice_programs
from viagralib.report.verdict_lines import Overview, line, written
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import Daemon
from viagralib.state import death_records
from viagralib.state.run_context import Run
from viagralib.verbs.check import look


def dry_run(run: Run, options: Options, out: Printer) -> int:
    """Say what a run, or a restart, would execute, in order; execute nothing.

    What checks of check.d would say is not known then: they are no more than named.
    """
    run.executes_nothing = True
    run.gate.closed = "this run executes nothing"
    overview = look(run)
    wanted = options.verb == "restart"
    would = {
        name: _would(run, overview, name, wanted)
        for name in _in_order(run, list(overview.verdicts))
    }
    begun = [
        name for name, steps in would.items() if any("start.d" in x for x in steps)
    ]
    around = _around(run) if begun else []
    if options.json:
        out.say(written({**overview.document(), "would": would, "around": around}))
        return overview.code
    for fault in overview.faults:
        out.say(f"viagra.py: {fault}")
    for name, steps in would.items():
        if steps:
            standing = overview.standings.get(name, "")
            out.say(line(name, overview.verdicts[name], standing))
            for step in steps:
                out.say(f"  would {step}")
    for text in around:
        out.say(text)
    if not any(would.values()):
        out.say("nothing would be executed")
    return overview.code


def _in_order(run: Run, names: list[str]) -> list[str]:
    """Return the names, each behind those that its fact `after` names."""
    ordered: dict[str, None] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        for needed in run.settings.daemons[name].facts.after:
            if needed in names and needed not in above:  # a circle is a fault
                add(needed, (*above, name))
        ordered[name] = None

    for name in names:
        add(name, ())
    return list(ordered)


def _would(run: Run, overview: Overview, name: str, wanted: bool) -> list[str]:
    """Return what would be done for a daemon, step by step."""
    verdict, daemon = overview.verdicts[name], run.settings.daemons[name]
    checks = [] if wanted or verdict.word != UP else daemon.programs("check.d")
    asked = [f"ask {describe(daemon, one, 'check.d')} how it is" for one in checks]
    if verdict.word == UNKNOWN:
        return ["start nothing, since it cannot be judged", *_alarm(daemon)]
    if not wanted:
        if verdict.word == UP:
            return asked
        if standing := overview.standings.get(name):
            return [f"leave it alone: {safe(standing)}"]
        few = f"leave it alone: sick in {verdict.few}" if verdict.few else ""
        if few or daemon.facts.recovery == "report":
            return [few or "only report it (recovery = report)"]
    steps = _restarted(run, daemon, verdict, wanted)
    if verdict.word == SICK and daemon.facts.recovery == "quit" and not wanted:
        return [*_stopped(run, daemon, verdict), "leave it so (recovery = quit)"]
    for other in daemon.facts.resets:
        reset = run.daemon(other)
        if reset is not None:
            seen = judge([reset], run.observer)[other]
            more = (
                _restarted(run, reset, seen, True)
                if seen.word == UP
                else ["leave it alone"]
            )
            steps += [f"then, for {safe(other)} (resets): {step}" for step in more]
    return steps + _alarm(daemon)


def _restarted(run: Run, daemon: Daemon, verdict: Verdict, wanted: bool) -> list[str]:
    starts = [f"run {describe(daemon, one)}" for one in daemon.programs()]
    if daemon.facts.count_hook == "all":
        return _stopped(run, daemon, verdict) + starts
    is_short = verdict.word == SICK and missing(daemon, verdict) and not wanted
    times = missing(daemon, verdict) if is_short else daemon.facts.count[0]
    stops = [] if is_short else _stopped(run, daemon, verdict)
    return stops + starts * times


def _stopped(run: Run, daemon: Daemon, verdict: Verdict) -> list[str]:
    """Return how what is there of it would be stopped."""
    facts = daemon.facts
    matched = verdict.processes()
    if matched and (programs := daemon.programs("stop.d")):
        return [f"run {describe(daemon, one, 'stop.d')}" for one in programs]
    there = matched + (verdict.processes(LEFTOVER) if facts.leftovers == "stop" else [])
    if not there:
        return []
    patience = f", KILL after {spell(facts.stop_timeout)}"
    patience = "" if facts.warn_signal == "KILL" else patience
    runner = death_records.runner(run.state, daemon.name)  # it ends its command itself
    warned = names_of([runner] if runner else topmost(there), " to")
    return [f"send {facts.warn_signal}{warned}{patience}"]


def _alarm(daemon: Daemon) -> list[str]:
    programs = daemon.programs("fail.d")
    return [
        f"run {describe(daemon, one, 'fail.d')}, if it is not back" for one in programs
    ]


def _around(run: Run) -> list[str]:
    """Return what would be run before, and after, all that is done for daemons."""
    commands = [*run.settings.commands, DISKS[0], SOCKETS[0]]
    names = [safe(shlex.split(one)[0]) for one in commands]
    told = [f"before that, as evidence: {', '.join(names)}"]
    programs = [one.name for one in notice_programs.programs(run)[0]]
    return told + ([f"for each notice: {', '.join(programs)}"] if programs else [])
