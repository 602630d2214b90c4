"""The verbs for people: check, explain, test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from viagralib import incidents, listing, table
from viagralib.commandline import Options
from viagralib.durations import spell
from viagralib.matching import Onlooker
from viagralib.messages import FAULTY, NOT_WELL, WELL, Fault, exit_code, reason, safe
from viagralib.printing import Printer
from viagralib.processes import UP, Verdict, judge
from viagralib.procfs import Process, Unreadable, Vanished
from viagralib.report import FORMAT, document, line, lines
from viagralib.run import Run
from viagralib.settings import Daemon, load_facts
from viagralib.standing import hook_at_work, why_hook_blocks

_NEAR = 5  # processes shown whose name or command line only resembles the daemon's


def check(run: Run, options: Options, out: Printer) -> int:
    """Look only, change nothing: a line for each daemon that is not up."""
    faults = run.find_faults()
    verdicts = judge(run.sound(faults), run.onlooker)
    standings, codes = {}, {fault.subject: FAULTY for fault in faults}
    for name, verdict in verdicts.items():
        if verdict.word != UP:
            standings[name] = _standing(run.settings.daemons[name], run.onlooker)
            codes[name] = WELL if standings[name] else NOT_WELL
    if options.json:
        told = document(run, verdicts, standings, codes)
        out.say(json.dumps({**told, "faults": [str(fault) for fault in faults]}))
        return exit_code(codes.values())
    for fault in faults:
        out.say(f"viagra.py: {fault}")
    shown = {n: v for n, v in verdicts.items() if options.verbose or not v.is_well}
    for text in lines(run, shown, standings):
        out.say(text)
    return exit_code(codes.values())


def _standing(daemon: Daemon, onlooker: Onlooker) -> str:
    process = hook_at_work(daemon, onlooker, None)
    if process is None or why_hook_blocks(daemon, process):
        return ""
    return f"not now: being started by pid {process.pid}"


def explain(run: Run, options: Options, out: Printer) -> int:
    """Show each process that may be the daemon, counted or not, and why."""
    faults = run.find_faults()
    name = run.names[0]
    if name in run.settings.set_aside:
        out.say(f"{safe(name)} is off: {run.settings.set_aside[name]}")
        return FAULTY if faults else WELL
    daemon = run.settings.daemons[name]
    verdict = _full_look(daemon, run.onlooker)
    standing = "" if verdict.word == UP else _standing(daemon, run.onlooker)
    code = WELL if verdict.word == UP or standing else NOT_WELL
    code = FAULTY if faults else code
    if options.json:
        out.say(json.dumps(_explanation(run, verdict, standing, code), indent=1))
        return code
    for fault in faults:
        out.say(f"viagra.py: {fault}")
    out.say(line(name, verdict, standing))
    for candidate in verdict.candidates:
        process = candidate.process
        out.say(f"  pid {process.pid}, {candidate.kind}: {candidate.why}")
        out.say(f"    {_portrait(process)}")
    for process in _near(daemon, verdict):
        out.say(f'  pid {process.pid}, another name: "{safe(process.name)}"')
        out.say(f"    {_portrait(process)}")
    return code


def _full_look(daemon: Daemon, onlooker: Onlooker) -> Verdict:
    """Return a verdict that names every candidate, not the first that is enough."""
    low, high = daemon.facts.count
    daemon.facts.count = (low, high or 2**31)
    return judge([daemon], onlooker)[daemon.name]


def _explanation(
    run: Run, verdict: Verdict, standing: str, code: int
) -> dict[str, object]:
    name = run.names[0]
    told = document(run, {name: verdict}, {name: standing}, {name: code})
    told["candidates"] = [
        {"pid": one.process.pid, "counted": one.kind, "why": one.why}
        for one in verdict.candidates
    ]
    return told


def _portrait(process: Process) -> str:
    """Return who a process is, for root's eyes: user, age, command line."""
    from viagralib.accounts import user_name

    try:
        user = user_name(process.users()[1])
        command = " ".join(process.arguments()) or "(no command line)"
    except (Vanished, Unreadable) as why:
        return f"gone, or hidden: {why}"
    return f"user {user}, for {spell(process.age())}: {safe(command)[:200]}"


def _near(daemon: Daemon, verdict: Verdict) -> list[Process]:
    """Return some processes that somebody may have meant by the daemon's name."""
    seen = {one.process.pid for one in verdict.candidates}
    wanted = daemon.process.lower()
    near: list[Process] = []
    for process in table.look():
        name = process.name.lower()
        if process.pid in seen or len(near) == _NEAR or process.pid == table.own_pid():
            continue
        if wanted in name or (len(name) > 2 and name in wanted):
            near.append(process)
    return near


def test(run: Run, options: Options, out: Printer) -> int:
    """Show every fault, and every entry of start.d that is not watched, with why."""
    faults = [*run.find_faults(), *_faults_of_the_off(run), *_faults_of_machine(run)]
    if options.json:
        told = {
            "version": FORMAT,
            "exit": FAULTY if faults else WELL,
            "home": run.settings.home,
            "state": run.state.path,
            "watched": list(run.settings.daemons),
            "set_aside": run.settings.set_aside,
            "faults": [str(fault) for fault in faults],
        }
        out.say(json.dumps(told, indent=1))
        return FAULTY if faults else WELL
    out.say(f"home {safe(run.settings.home)}, state {safe(run.state.path)}")
    for name in run.settings.daemons:
        out.say(f"  {safe(name)}: watched")
    for name, why in run.settings.set_aside.items():
        out.say(f"  {safe(name)}: {why}")
    if not run.settings.daemons:
        out.say("  nothing is watched: chmod +x a hook in start.d, or put one in")
    for fault in faults:
        out.say(f"viagra.py: {fault}")
    out.say(f"{len(faults)} fault{'' if len(faults) == 1 else 's'}")
    return FAULTY if faults else WELL


def _faults_of_the_off(run: Run) -> list[Fault]:
    """Return what is wrong with the facts of hooks that are off."""
    found = []
    for name in run.settings.set_aside:
        if not listing.why_copy(name):
            found += load_facts(run.settings, name)
    return found


def _faults_of_machine(run: Run) -> list[Fault]:
    """Return what this machine lacks, and what of the state is damaged."""
    found = []
    path = run.onlooker.trust.search_path()
    programs = {words.split()[0] for words in run.settings.commands if words.split()}
    for program in sorted(programs):
        if not any(os.access(f"{p}/{program}", os.X_OK) for p in path.split(":")):
            text = f"not found in {path}: install it, or set [evidence] commands"
            found.append(Fault(safe(program), text))
    try:
        run.state.prepare()
    except OSError as error:
        found.append(Fault(safe(run.state.path), f"could not write: {reason(error)}"))
    for incident_id in run.state.names("incidents"):
        if incidents.load(run.state, incident_id) is None:
            text = "damaged, and ignored: remove it when you have seen it"
            found.append(Fault(f"incident {safe(incident_id)}", text))
    if not table.sees_all():
        found.append(Fault("/proc", "processes are hidden from us (hidepid?)"))
    return found


VERBS: dict[str, Callable[[Run, Options, Printer], int]] = {
    "check": check,
    "explain": explain,
    "test": test,
}
