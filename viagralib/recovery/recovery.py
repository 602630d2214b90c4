"""A recovery: what a run knows of one daemon that it brings back, and how it ended."""

from __future__ import annotations

from viagralib.base.records import Record
from viagralib.health import log_patterns
from viagralib.hooks import hook_call
from viagralib.hooks.execution import Execution
from viagralib.processes import service_units
from viagralib.processes.matching import OTHER
from viagralib.processes.verdicts import DOWN, UNKNOWN, UP, Verdict
from viagralib.state.incidents import Incident
from viagralib.state.lock_file import Lock
from viagralib.state.pauses import why_paused
from viagralib.state.run_context import Run

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


class Recovery:
    """One daemon's recovery: what is known of it, and how it went."""

    def __init__(
        self,
        run: Run,
        verdict: Verdict,
        incident: Incident,
        lock: Lock,
        earlier: Record,
    ) -> None:
        daemon = run.settings.daemons[incident.daemon]
        self.run = run
        self.daemon = daemon
        self.why = verdict.word  # VIAGRA_REASON: that, or RESET, or MANUAL
        self.verdict = verdict  # of the newest look
        self.incident = incident
        self.lock = lock
        self.outcomes: list[hook_call.Outcome] = []
        self.is_starting = False  # or being stopped for that
        self.result = ""  # one of the words above, once it has ended
        self.stopped = ""  # what was stopped before the start, for people
        # The service manager's: of a dead one, what its leftovers belong to.
        seen = [one.process for one in verdict.candidates if one.kind != OTHER]
        self.unit = daemon.facts.unit or service_units.unit_of(seen)
        self.logs: dict[str, list[str]] = {}  # the last lines of its log files
        self.log_position: Record = {}  # where its alarms begin
        self.resets: list[str] = []  # who is restarted because this one was
        self.remark = ""  # what there is to say of the result
        self.recorded_death = ""  # what viagra-run says of it
        self.cause = ""  # of death, for people
        self.earlier = earlier  # what was open for the daemon before this
        self.alarmed = bool(earlier.get("alarmed"))  # whether fail.d has had its turn
        self.seconds = 0.0  # from the start of the hook until the daemon was up

    @property
    def is_wanted(self) -> bool:
        """Whether it is restarted because somebody wants it, up or not."""
        return self.why in (RESET, MANUAL)

    def fail(self, remark: str) -> None:
        """End it as failed."""
        self.end(FAILED, remark)

    def end(self, result: str, remark: str) -> None:
        """End it with one of the results above, and what there is to say of it."""
        self.result = result
        self.remark = remark

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

    def is_still_down(self, verdict: Verdict) -> bool:
        """Return whether the last look before the start says so; it is kept."""
        self.verdict = verdict
        self.log_position = log_patterns.position(self.daemon)
        return verdict.word == DOWN and not self._paused()

    def why_not_begun(self) -> tuple[str, str]:
        """Return with which result, and remark, a start ends that was called off."""
        if self.verdict.word == UP:
            return CAME_BACK, ""
        if self.verdict.word == DOWN:
            return PUT_OFF, self._paused()
        return UNDECIDED, self.verdict.reason

    def _paused(self) -> str:
        """Return why it is paused, if somebody did that since this run began."""
        if self.is_wanted:
            return ""
        paused = why_paused(self.run.state, self.daemon.name)
        return f"paused {paused}" if paused else ""
