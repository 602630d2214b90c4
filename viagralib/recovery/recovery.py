"""A recovery: what a run knows of one daemon that it brings back, and how it went."""

from __future__ import annotations

import contextlib

from viagralib.base.records import Record
from viagralib.evidence.service_manager import known_unit
from viagralib.health import log_alarms
from viagralib.hooks.child_process import Child
from viagralib.hooks.execution import Execution, Task, names_of
from viagralib.hooks.outcome import Outcome
from viagralib.processes import service_units
from viagralib.processes.linux import Process
from viagralib.processes.matching import OTHER
from viagralib.processes.verdicts import DOWN, UNKNOWN, UP, Verdict, missing
from viagralib.state.incidents import Incident
from viagralib.state.lock_file import Lock
from viagralib.state.pauses import why_paused
from viagralib.state.restart_limit import note_try, take_back
from viagralib.state.run_context import Run

# Its phases: see phases.py.
CONFIRM, WAIT, STOP, START, SETTLE, VERIFY = (
    *("confirm", "wait", "stop", "start", "settle", "verify"),
)
# How a recovery ends.
BACK = "brought back"
CAME_BACK = "came back by itself"
FAILED = "not brought back"
PUT_OFF = "not now"
WAITS = "waits"
UNDECIDED = UNKNOWN
QUIT = "stopped, and left so"
TOLD = (BACK, FAILED, QUIT)  # by a notice; of the others, a line does
# Why a daemon that is up is restarted all the same: VIAGRA_REASON.
RESET, MANUAL = "reset", "manual"
LATE = 0.3  # seconds by which the look after a deadline may be late
_NAMED = 20  # processes stopped that a notice names; the incident's record has them all


class Recovery:
    """One daemon's recovery: what is known of it, and how it went."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        run: Run,
        why: str,
        verdict: Verdict,
        incident: Incident,
        lock: Lock,
        earlier: Record,
    ) -> None:
        daemon = run.settings.daemons[incident.daemon]
        self.run = run
        self.daemon = daemon
        self.why = why  # VIAGRA_REASON: the verdict's word, or RESET, or MANUAL
        self.verdict = verdict  # of the newest look
        self.phase = ""  # one of the words above, once it has begun
        self.incident = incident
        self.lock = lock
        self.children: list[Child] = []  # that its start hook's programs are
        self.outcomes: list[Outcome] = []
        self.is_short = False  # some live, and only what is missing is started
        self.result = ""  # one of the words above, once it has ended
        self.stopped = ""  # what was stopped before the start, for people
        # The service manager's: of a dead one, what its leftovers belong to.
        seen = [one.process for one in verdict.candidates if one.kind != OTHER]
        unit = daemon.facts.unit or service_units.unit_of(seen)
        self.unit = known_unit(run.state, daemon.name, unit)
        self.logs: dict[str, list[str]] = {}  # the last lines of its log files
        self.log_position: Record = {}  # where its alarms begin
        self.resets: list[str] = []  # who is restarted because this one was
        self.remark = ""  # what there is to say of the result
        self.recorded_death = ""  # what viagra-run says of it
        self.cause = ""  # of death, for people
        self.earlier = earlier  # what was open for the daemon before this
        self.alarmed = bool(earlier.get("alarmed"))  # whether fail.d has had its turn
        self._tries: Record | None = None  # of its limit, before this one was counted
        self.seconds = 0.0  # from the start of the hook until the daemon was up

    @property
    def is_wanted(self) -> bool:
        """Whether it is restarted because somebody wants it, up or not."""
        return self.why in (RESET, MANUAL)

    @property
    def has_stopped_it(self) -> bool:
        """Whether this run has ended it: to put its start off is to leave it down."""
        return bool(self.stopped) and self.why != DOWN

    @property
    def is_starting(self) -> bool:
        """Whether it is being started, or stopped for that."""
        return not self.result and self.phase in (STOP, START, SETTLE, VERIFY)

    @property
    def stage(self) -> tuple[str, int]:
        """How far it has come: its phase, and how many programs it has started."""
        return self.phase, len(self.children)

    def where(self) -> list[int]:
        """Return the pids that are most likely to be the daemon that is started."""
        trees = [one.pid for child in self.children for one in child.tree.members()]
        return [*(one.pid for one in self.verdict.processes()), *trees]

    def enter(self, phase: str) -> None:
        """Begin a phase, and let others know."""
        self.phase = phase
        self.incident.update(phase=phase)

    def next_look(self) -> Task[Verdict]:
        """Wait for the next look, and return its verdict."""
        self.verdict = yield
        return self.verdict

    def note_evidence(self, death: str, logs: dict[str, list[str]]) -> None:
        """Keep what viagra-run says of the death, and the ends of logs, of before."""
        self.recorded_death, self.logs = death, logs

    def note_cause(self, cause: str, killed_pid: int | None) -> None:
        """Keep the cause of death, and whose death the kernel's log told."""
        self.cause = cause
        if killed_pid is not None:
            self.incident.update(killed_pid=killed_pid)

    def note_stopped(self, ended: list[Process]) -> None:
        """Keep what was ended before the start; the incident's record has it all."""
        self.stopped = names_of(ended, "", _NAMED).removeprefix(": ")
        self.incident.update(stopped=[[one.pid, one.name] for one in ended])

    def note_outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        told = [f"{one.what}: {one.words}" for one in self.outcomes]
        self.incident.update(hooks=told)

    def note_log_position(self) -> None:
        """Keep where the log of the daemon that starts now begins."""
        self.log_position = log_alarms.position(self.daemon)

    def note_alarm(self) -> None:
        """Note that fail.d has its turn: it is told once of what is open."""
        self.alarmed = True

    def end(self, result: str, remark: str = "") -> None:
        """End it with one of the results above, and what there is to say of it."""
        self.result = result
        self.remark = remark

    def count_try(self) -> None:
        """Count it for the limit, unless somebody wants it."""
        if not self.is_wanted:
            with contextlib.suppress(OSError):
                self._tries = note_try(self.run.state, self.daemon)

    def put_off(self, remark: str) -> None:
        """End it without a start, nor a try; as a failure, if this run stopped it."""
        self.end(FAILED if self.has_stopped_it else PUT_OFF, remark)
        if self._tries is not None and self.result == PUT_OFF:
            with contextlib.suppress(OSError):
                take_back(self.run.state, self.daemon, self._tries)

    def end_brought_back(self, seconds: float) -> None:
        """End it with success: the daemon was up so long after its hook's start."""
        self.seconds = seconds
        self.end(BACK)
        with contextlib.suppress(OSError):
            unit = service_units.unit_of(self.verdict.processes())
            self.run.state.count_up(self.daemon.name, unit)

    def execution(self, kind: str, seconds: float) -> Execution:
        """Return what the programs of its hook of `kind` share."""
        execution = Execution(self.run, self.daemon, self.incident, kind, seconds)
        execution.variables = {
            "REASON": self.why,
            "INSTANCE": str(self.run.state.count(self.daemon.name) + 1),
            "INCIDENT": self.incident.directory,
            "MARK": self.incident.mark,
            "STATE": self.run.state.path,
        }
        return execution

    def calls_off(self) -> bool:
        """End it if the last look before the start says so; return whether it did."""
        # Somebody may have done that since this run began.
        paused = why_paused(self.run.state, self.daemon.name)
        if self.verdict.word == UP:
            self.end(CAME_BACK)
        elif self.verdict.word != DOWN and not missing(self.daemon, self.verdict):
            self.end(UNDECIDED, self.verdict.reason)
        elif paused and not self.is_wanted:
            self.put_off(f"paused {paused}")
        return bool(self.result)
