"""The verb test: every fault, and every entry of start.d that is not watched."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable

from viagralib.base import guarded_files
from viagralib.base.messages import FAULTY, WELL, Fault, reason, safe, shown
from viagralib.base.printer import Printer
from viagralib.evidence import service_manager
from viagralib.evidence.collector import DISKS, SOCKETS
from viagralib.health.checkup import checks
from viagralib.processes import openrc, overlaps, pidfile, table
from viagralib.processes.verdicts import UP, judge
from viagralib.report import notice_programs
from viagralib.report.verdict_lines import written
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import Daemon, load_facts
from viagralib.settings.viagra_toml import Settings
from viagralib.state import death_records, incidents, pauses
from viagralib.state.directory import State
from viagralib.state.run_context import Run

# What runs execute besides, where it is there.
_OTHER_PROGRAMS = [one.split()[0] for one in (*DISKS, *SOCKETS)]
_OTHER_PROGRAMS += ["dmesg", "journalctl", "less", "runlevel", "systemctl"]
_SETTING = "set [evidence] commands"


def test(run: Run, options: Options, out: Printer) -> int:
    """Show every fault, and every entry of start.d that is not watched, with why."""
    notes: list[str] = []
    faults = [
        *run.find_faults(),
        *run.faults_of_environment(),
    ]
    off = _off(run, faults)
    faults += [*_faults_of_machine(run), *_missing_programs(run, notes)]
    faults += _faults_of_service_manager(run)
    faults += overlaps.find_faults(run.observer)
    faults += pidfile.find_faults(run.settings.daemons.values())
    notes += run.observer.trust.left_out()
    notes += _easy_to_pass_for(run)
    answers = _answers_of_checks(run, faults) if options.checks else []
    programs, refused = notice_programs.programs(run)
    faults += refused
    if options.json:
        told = {
            "exit": FAULTY if faults else WELL,
            "home": run.settings.home,
            "state": run.state.path,
            "watched": list(run.settings.daemons),
            "set_aside": run.settings.set_aside,
            "notice_programs": [one.name for one in programs],
            "faults": [str(fault) for fault in faults],
            "notes": notes,
            "checks": answers,
            "runs_here": [one.name for one in _running(run, off)],
        }
        out.say(written(told))
        return FAULTY if faults else WELL
    out.say(f"home {safe(run.settings.home)}, state {safe(run.state.path)}")
    faulty = {fault.subject for fault in faults}
    for name in run.settings.daemons:
        out.say(f"  {safe(name)}: watched{', with a fault below' * (name in faulty)}")
    for name, why in run.settings.set_aside.items():
        out.say(f"  {safe(name)}: {why}")
    for program in programs:
        out.say(f"  {program.name}: run for every notice")
    for answer in answers:
        out.say(f"  {answer}")
    for note in notes:
        out.say(f"note: {note}")
    for fault in faults:
        out.say(f"viagra.py: {fault}")
    out.say(f"{len(faults)} fault{'' if len(faults) == 1 else 's'}")
    for daemon in _running(run, off):
        out.say(f"{safe(daemon.name)} runs here, and is not watched: {_switch(daemon)}")
    return FAULTY if faults else WELL


def _damaged(state: State) -> list[str]:
    """Return which records of the state cannot be used, half-written ones included."""
    is_damaged: dict[str, Callable[[str], bool]] = {
        "incidents": lambda name: incidents.load(state, name) is None,
        "open": lambda name: not state.read("open", name),
        "counts": lambda name: not state.read("counts", name),
        "paused": lambda name: pauses.is_damaged(state, name),
        "deaths": lambda name: not death_records.read(state.path, name),
    }
    return [
        f"incident {name}" if kind == "incidents" else f"{state.path}/{kind}/{name}"
        for kind, is_one in is_damaged.items()
        for name in state.names(kind)
        if is_one(name)
    ]


def _off(run: Run, faults: list[Fault]) -> list[Daemon]:
    """Return what hooks that are off would watch; add the faults of their facts."""
    daemons = []
    for name, why in [*run.settings.set_aside.items()]:
        if why.startswith("off"):
            daemon = Daemon(name, run.settings.home, run.settings.defaults)
            found = load_facts(run.settings, daemon)
            faults += found
            daemons += [] if found else [daemon]
    return daemons


def _running(run: Run, off: list[Daemon]) -> list[Daemon]:
    """Return those that are up, and are not what another hook watches."""
    watched = judge(run.settings.daemons.values(), run.observer, every=True).values()
    taken = {one.pid for verdict in watched for one in verdict.processes()}
    verdicts = judge(off, run.observer)
    return [
        daemon
        for daemon in off
        if verdicts[daemon.name].word == UP
        and taken.isdisjoint(one.pid for one in verdicts[daemon.name].processes())
    ]


def _switch(daemon: Daemon) -> str:
    """Return the command that has a daemon watched, and stopped by its hook."""
    hooks = [daemon.hook(kind) for kind in ("start.d", "stop.d")]
    there = [one for one in hooks if os.path.exists(one)]
    paths = [shlex.quote(one) + "/*" * os.path.isdir(one) for one in there]
    return safe(f"chmod +x {' '.join(paths)}")


def _answers_of_checks(run: Run, faults: list[Fault]) -> list[str]:
    """Run each check of a daemon without faults once, up or not; return what it says.

    One that does not answer as plugins do is a fault.
    """
    begun = time.monotonic()
    answers = []
    sound = [] if run.is_unsafe else run.sound(faults, and_paused=True)
    for daemon, check in [(one, check) for one in sound for check in checks(run, one)]:
        while not check.is_over(time.monotonic() - begun > daemon.facts.check_timeout):
            time.sleep(0.005)
        answers.append(f"{check.finding.why} ({check.finding.word})")
        if not check.has_answered:
            text = (
                "exit 0 is well, 1 a warning, 2 sick, 3 unknown; within check_timeout"
            )
            faults.append(Fault(safe(daemon.name), f"{check.finding.why}: {text}"))
    return answers


def _faults_of_machine(run: Run) -> list[Fault]:
    """Return what the state cannot take, what of it is damaged, and what is hidden."""
    found = []
    try:
        if not run.is_state_unsafe:
            run.state.prepare()
    except OSError as error:
        found.append(Fault(safe(run.state.path), f"could not write: {reason(error)}"))
    found += [
        Fault(safe(what), "damaged, and ignored: remove it when you have seen it")
        for what in _damaged(run.state)
    ]
    if not table.sees_all():
        found.append(Fault("/proc", "processes are hidden from us (hidepid?)"))
    return found


def _faults_of_service_manager(run: Run) -> list[Fault]:
    """Return which units systemd does not know, and which hooks it makes useless.

    Where there is no systemd, what no service manager tells.
    """
    daemons = run.settings.daemons.values()
    if not service_manager.is_there():
        text = (
            "on_purpose: who stopped it is known here only of a service of OpenRC's "
            "own kind: use viagra.py pause instead"
        )
        return [
            Fault(safe(one.name), text)
            for one in daemons
            if one.facts.on_purpose == "leave"
            and not openrc.services(one, run.observer)
        ]
    found = []
    for name, unit in [(one.name, one.facts.unit) for one in daemons]:
        if unit and service_manager.look(unit, run.gate).is_missing:
            text = f"systemd knows no unit {shown(unit)}: mend the fact unit"
            found.append(Fault(safe(name), text))
    for daemon in daemons:
        for path in map(os.path.realpath, daemon.programs()):
            if os.path.dirname(path) == "/etc/init.d" and _is_passed_on(path):
                service = safe(os.path.basename(path))
                text = (
                    f"{safe(path)} asks systemd, which does nothing for what it takes "
                    f"for started: write a hook that calls service_start {service}, as "
                    "the ready ones do"
                )
                found.append(Fault(safe(daemon.name), text))
    return found


def _is_passed_on(script: str) -> bool:
    """Return whether an init.d script has systemd do its work: Debian's do."""
    try:
        text = guarded_files.read(script, 1_000_000)
    except OSError:
        return False
    return b"/lib/lsb/init-functions" in text or b"/init-d-script" in text


def _easy_to_pass_for(run: Run) -> list[str]:
    """Return for which daemons a process of any service account could pass.

    A name, a command line and a program are anybody's choice; the user is not, and who
    is named in a pidfile that root alone can write.
    """
    return [
        f"{safe(daemon.name)}: a process of any service account could pass for it: "
        f"set the fact user in start.d/{safe(daemon.name)}.toml"
        for daemon in run.settings.daemons.values()
        if run.user == 0 and not daemon.facts.user
        if not daemon.facts.pidfile or run.observer.trust.why_not(daemon.facts.pidfile)
    ]


def _missing_programs(run: Run, notes: list[str]) -> list[Fault]:
    """Return a Fault for each program that viagra.toml wants for evidence in vain, or
    that somebody else could change.

    One that nobody has asked for is noted: a machine may do without it.
    """
    if run.is_unsafe:
        return []  # nothing is executed at all
    wanted = {shlex.split(one)[0] for one in run.settings.commands}
    missing, refused = [], []
    for program in sorted({*wanted, *_OTHER_PROGRAMS}):
        try:
            run.gate.find(program)
        except FileNotFoundError:
            where = "" if "/" in program else f" in {run.gate.search_path}"
            text = f"not found{where}: install it, or {_SETTING}"
            missing += [Fault(safe(program), text)] if program in wanted else []
        except OSError as error:
            refused.append(Fault(safe(program), reason(error)))
    if run.settings.commands != Settings("").commands:
        return missing + refused
    notes += [f"{fault}; notices do without it" for fault in missing]
    return refused
