"""The verb explain: which processes may be the daemon, and why they count or not."""

from __future__ import annotations

from viagralib.base.durations import spell
from viagralib.base.messages import safe
from viagralib.base.printer import Printer
from viagralib.base.users import user_name
from viagralib.processes import aliases, table
from viagralib.processes.linux import Process, Unreadable, Vanished
from viagralib.processes.verdicts import Candidate, judge
from viagralib.report.verdict_lines import written
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import Daemon
from viagralib.state.run_context import Run
from viagralib.verbs.check import look, note_owners

_NEAR = 5  # processes shown whose name or command line only resembles the daemon's


def explain(run: Run, options: Options, out: Printer) -> int:
    """Show each process that may be the daemon, counted or not, and why."""
    overview = look(run)
    note_owners(overview)
    name = run.names[0]
    candidates = []
    if daemon := run.daemon(name):
        candidates = judge([daemon], run.observer, every=True)[name].candidates
    if options.json:
        out.say(written({**overview.document(), "candidates": _told(candidates)}))
        return overview.code
    for fault in overview.faults:
        out.say(f"viagra.py: {fault}")
    for text in overview.lines(run.names):
        out.say(text)
    if owner := overview.owners.get(name):
        out.say(f"  owned by {safe(owner)}")
    for one in candidates:
        out.say(f"  pid {one.process.pid}, {one.kind}: {one.why}")
        out.say(f"    {_description(one.process)}")
    for process in _near(run, daemon, candidates) if daemon else []:
        out.say(f'  pid {process.pid}, another name: "{safe(process.name)}"')
        out.say(f"    {_description(process)}")
    return overview.code


def _told(candidates: list[Candidate]) -> list[dict[str, object]]:
    return [
        {"pid": one.process.pid, "counted": one.kind, "why": one.why}
        for one in candidates
    ]


def _description(process: Process) -> str:
    """Return who a process is, for root's eyes: user, age, command line."""
    try:
        real, effective, *_ = process.users()
        by = f", started by {user_name(real)}" if real != effective else ""
        user = f"{user_name(effective)}{by}"
        command = " ".join(process.arguments()) or "(no command line)"
    except (Vanished, Unreadable) as why:
        return f"gone, or hidden: {why}"
    return f"user {user}, for {spell(process.age())}: {safe(command)[:200]}"


def _near(run: Run, daemon: Daemon, candidates: list[Candidate]) -> list[Process]:
    """Return some processes that somebody may have meant by the daemon's name."""
    seen = {one.process.pid for one in candidates}
    wanted = daemon.process.lower()
    near: list[Process] = []
    for process in table.look():
        name = process.name.lower()
        if process.pid in seen or len(near) == _NEAR or process.pid == table.own_pid():
            continue
        is_near = wanted in name or (len(name) > 2 and name in wanted)
        if is_near or aliases.is_named(process, daemon.process, run.observer):
            near.append(process)
    return near
