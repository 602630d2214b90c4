"""notice.d: the programs that pass on each notice to where people are.

They run one by one in the order of their names, when all that the run does for its
daemons is done. What fails is said, and costs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import time

from viagralib.base import files, records
from viagralib.base.durations import spell
from viagralib.base.messages import Fault, reason, safe
from viagralib.hooks.child_process import Child, start
from viagralib.hooks.environment import environment_of
from viagralib.hooks.execution import GRACE
from viagralib.hooks.outcome import outcome_of
from viagralib.processes.tree_end import end
from viagralib.processes.verdicts import UNKNOWN
from viagralib.recovery.recovery import BACK, FAILED, QUIT
from viagralib.recovery.standing import HELD
from viagralib.report.announcer import UP_AGAIN, Notice
from viagralib.report.verdict_lines import FORMAT
from viagralib.settings import hook_files
from viagralib.state import incidents
from viagralib.state.announced import FAULT
from viagralib.state.hook_log import memory
from viagralib.state.run_context import Run
from viagralib.trust.gate import Gate

TICK = 0.02  # seconds between two looks at a program at work
_LARGEST_OUTPUT = 1_000_000  # bytes that a program may print
_SUBJECTS = {
    BACK: "was brought back",
    FAILED: "could not be brought back",
    QUIT: "was stopped, and left so",
    UP_AGAIN: "is up again",
    HELD: "is held",
    UNKNOWN: "cannot be judged",
    FAULT: "has a fault to mend",
}


class Program:
    """One program of notice.d: what it is called, and how it failed in this run."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = f"notice.d/{safe(os.path.basename(path))}"
        self.failures: list[str] = []
        self.is_spent = False  # it had to be ended: it is run no more in this run

    def why_not(self, run: Run) -> str:
        """Return who else could change it, or the settings beside it; or ""."""
        trust, settings = run.observer.trust, f"{os.path.realpath(self.path)}.conf"
        why = trust.why_not_program(self.path)
        return why or (trust.why_not(settings) if os.path.lexists(settings) else "")

    def pass_on(
        self, gate: Gate, text: str, environment: dict[str, str], seconds: float
    ) -> None:
        """Run it to its end, for at most so long, with the text on its stdin."""
        output, stdin = memory("output"), memory("notice")
        try:
            files.write(stdin, f"{text}\n".encode(errors="backslashreplace"))
            os.lseek(stdin, 0, os.SEEK_SET)
            found = gate.hook(self.path)
            child = start(gate, found, (), output, environment, stdin=stdin)
            child.release()
            if why := self._attend(child, output, seconds):
                self.failures.append(why)
        except OSError as error:
            self.failures.append(reason(error))
        finally:
            os.close(output)
            os.close(stdin)

    def _attend(self, child: Child, output: int, seconds: float) -> str:
        """Wait for its end, or end it when it is late or loud; return how it failed."""
        while not child.poll():
            late = child.seconds() > seconds
            if late or os.fstat(output).st_size > _LARGEST_OUTPUT:
                self.is_spent = True
                why = f"still at work after {spell(child.seconds())}"
                for _ in end(child.tree, "TERM", GRACE):
                    time.sleep(TICK)
                child.poll()
                return (
                    f"{why if late else f'printed over {_LARGEST_OUTPUT} bytes'}: ended"
                )
            time.sleep(TICK)
        if child.status == 0 and not child.failure:
            return ""
        said = os.pread(output, 4096, max(0, os.fstat(output).st_size - 4096))
        last = safe(said.decode(errors="surrogateescape").strip().split("\n")[-1])[:300]
        words = outcome_of(child, child.path).words
        return f"{words}: {last}" if last else words


def programs(run: Run) -> tuple[list[Program], list[Fault]]:
    """Return what would be run, in order, and why others would not be."""
    found = []
    if run.is_unsafe:
        return [], []  # nothing is executed at all
    try:
        found = [
            Program(one) for one in hook_files.steps(f"{run.settings.home}/notice.d")
        ]
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [Fault("notice.d", f"could not read it: {reason(error)}")]
    whys = {one: one.why_not(run) for one in found}
    faults = [Fault(one.name, f"refused: {why}") for one, why in whys.items() if why]
    return [one for one, why in whys.items() if not why], faults


def deliver(run: Run, notices: list[Notice]) -> list[str]:
    """Run each program for each notice; return what there is to say of failures."""
    found, faults = programs(run)
    said = [str(fault) for fault in faults]
    file = f"{run.state.path}/.notice.{os.getpid()}.json"
    for notice in notices if found else ():
        document = _document(run, notice)
        variables = {"RESULT": notice.result, "SUBJECT": str(document["subject"])}
        try:
            records.write(file, document)
            variables["JSON"] = file
        except OSError as error:
            said.append(f"notice.d: no VIAGRA_JSON: {reason(error)}")
        environment = environment_of(notice.daemon, run.gate.search_path, variables)
        for program in found:
            if not program.is_spent:
                seconds = run.settings.notice_timeout
                program.pass_on(run.gate, notice.text, environment, seconds)
    with contextlib.suppress(OSError):
        os.unlink(file)
    for program in found:
        if program.failures:
            some = f"{len(program.failures)} of {len(notices)} notices: "
            why = f"{some if len(notices) > 1 else ''}{program.failures[0]}"
            said.append(f"{program.name}: could not pass it on: {why}")
    return [*dict.fromkeys(said)]


def _document(run: Run, notice: Notice) -> dict[str, object]:
    """Return the notice as a document, with the record of its incident."""
    incident = notice.incident
    if incident is None and notice.daemon:
        incident = incidents.last_of(run.state, notice.daemon)
    host = os.uname().nodename
    said = _SUBJECTS.get(notice.result, f"is {notice.result}")
    return {
        "version": FORMAT,
        "host": host,
        "daemon": notice.daemon,
        "result": notice.result,
        "subject": f"{host}: {safe(notice.daemon or 'viagra.py')} {said}",
        "notice": notice.text,
        "incident": incident.record if incident else None,
    }
