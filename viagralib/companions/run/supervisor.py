"""What viagra-run does: lives of a command in a contract, until it is to stay ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from viagralib.base.messages import reason
from viagralib.companions.contract import process_contract, signals, spawn
from viagralib.companions.contract.companion import say
from viagralib.companions.contract.guardian import GuardianGoneError, Link, boot_clock
from viagralib.companions.contract.process_contract import Death
from viagralib.companions.run.life_records import Ledger
from viagralib.companions.run.lives import Backoff, Life, events_of
from viagralib.companions.run.options import Plan
from viagralib.companions.run.output_file import Outfile
from viagralib.companions.run.passed_signals import Demands
from viagralib.state.death_records import Recorder, now

PROGRAM = "viagra-run"
ABNORMAL = 123  # the command was killed by a signal


class Runner:
    """Runs a plan to its end. This process must be the holder of a contract."""

    def __init__(
        self,
        plan: Plan,
        wanted: frozenset[int],
        link: Link | None,
        recorder: Recorder | None,
        outfile: Outfile | None,
    ) -> None:
        self._plan = plan
        self._wanted = wanted
        self._link = link
        self._ledger = Ledger(recorder, link.pid if link else os.getpid())
        self._outfile = outfile
        self._demands = Demands(plan.patience)
        self._backoff = Backoff(*plan.backoff) if plan.backoff else None
        self._life: Life

    def run(self) -> int:
        """Return the exit code. Raises NotStarted, GuardianGoneError, OSError."""
        while True:
            self._begin()
            self._live()
            if not self._is_to_restart():
                break
            self._ledger.restarts += 1
            self._pause()
            if self._demands.to_end:
                break
        return self._finish()

    def _begin(self) -> None:
        plan, instance = self._plan, self._ledger.instance
        environment = spawn.environment(plan.user, instance)
        output = self._outfile.entrance if self._outfile else None
        try:
            pid = spawn.start(plan.argv, environment, output, plan.user)
        except spawn.NotStarted:
            if self._ledger.restarts:
                self._record({"at": now(), "finished": False})
            if "noorphan" in plan.terms:
                process_contract.end()
            raise
        self._life = Life(pid)
        self._record()
        self._tell(f"started {pid}, instance {instance}")
        if "fork" in plan.told:
            self._say(f"event fork: {pid}")

    def _live(self) -> None:
        """Return when this life is over."""
        self._hear(None)
        while not self._is_over():
            self._hear(signals.wait(self._wanted, self._demands.left()))
        if self._life.ended is None:
            self._note_quietly(process_contract.reap())
        cause = self._life.cause()
        if cause:
            self._ledger.bury(self._life, cause)

    def _hear(self, arrival: signals.Arrival | None) -> None:
        """Do what a signal, or time, asks for."""
        self._copy_output()
        if self._link and self._link.is_broken():
            process_contract.end()
            raise GuardianGoneError
        if arrival and arrival.number == signal.SIGHUP and self._outfile:
            if trouble := self._outfile.reopen():
                self._say(f"{trouble}; the old file goes on")
        elif arrival and arrival.number in signals.PASSED_ON:
            self._pass_on(arrival)
        for death in process_contract.reap():
            self._note(death)
        if self._demands.is_out_of_time():
            self._kill_the_asked()

    def _copy_output(self) -> None:
        if self._outfile and (trouble := self._outfile.copy()):
            self._say(trouble)

    def _is_over(self) -> bool:
        life, plan = self._life, self._plan
        if life.fault and "pgrponly" not in plan.terms:
            return life.ended is not None or not plan.transfer
        if plan.lifetime == "child" and life.ended:
            return True
        demands = self._demands
        if demands.to_end and demands.are_met and "noorphan" not in plan.terms:
            return True
        return process_contract.is_empty()

    # What members do

    def _note(self, death: Death) -> None:
        """Take note of a member's end, and act on it if it is fatal."""
        life = self._life
        # What the holder itself sent is no event, as on Solaris.
        events = events_of(death, self._keep(death))
        life.last = death
        for event in sorted(events & self._plan.told):
            self._say(f"event {event}: {death.pid}: {death}")
        fatal = events & self._plan.fatal
        if "exit" in fatal and not self._is_fatal_exit(death):
            fatal -= {"exit"}
        if fatal and not self._demands.to_end and not life.fault:
            self._tell(f"fatal {', '.join(sorted(fatal))}: {death.pid}: {death}")
            self._end_members(death)
        if self._demands.to_end and "noorphan" in self._plan.terms and life.ended:
            self._demands.ask(member.pid for member in process_contract.adopted())

    def _is_fatal_exit(self, death: Death) -> bool:
        """Return whether -f exit means this end.

        The command's exit 0 that leaves others running is a daemon's way into the
        background; the end of its children is everyday life.
        """
        if death.code is None:
            return False
        return process_contract.is_empty() or (
            death.pid == self._life.pid and death.code != 0
        )

    def _end_members(self, fault: Death) -> None:
        """End what a fatal event ends: all, a process group, or the command alone."""
        life = self._life
        if "pgrponly" in self._plan.terms:
            self._note_quietly(process_contract.end(fault.group))
            return
        life.fault = fault
        if not (self._plan.transfer and self._is_to_restart()):
            self._end_all()
        elif life.ended is None:
            os.kill(life.pid, signal.SIGKILL)  # its zombie keeps the pid ours

    def _end_all(self) -> None:
        self._note_quietly(process_contract.end())
        for member in process_contract.survivors():
            self._say(f"{member.pid} does not die of KILL (state {member.state})")

    def _note_quietly(self, deaths: Iterable[Death]) -> None:
        """Take note of ends that we brought about: they are neither event nor cause."""
        for death in deaths:
            self._keep(death)

    def _keep(self, death: Death) -> set[int]:
        """Keep an end in mind; return the signals that were passed on to its pid."""
        if death.pid == self._life.pid:
            self._life.ended = death
        return self._demands.settle(death.pid)

    # What callers ask for

    def _pass_on(self, arrival: signals.Arrival) -> None:
        """Pass a signal on to the command; when it is gone, to those it left to us."""
        pids = [self._life.pid]
        if self._life.ended:
            pids = [member.pid for member in process_contract.adopted()]
        self._demands.pass_on(arrival, pids)
        self._tell(f"passed signal {arrival.number} on to {pids}")

    def _kill_the_asked(self) -> None:
        """End what was asked and did not: all of it under noorphan."""
        if "noorphan" in self._plan.terms:
            self._end_all()
        else:
            self._demands.kill()

    # Between lives, and after the last

    def _is_to_restart(self) -> bool:
        count = self._plan.restarts
        if not self._life.fault or self._demands.to_end or count is None:
            return False
        return count == 0 or self._ledger.restarts < count

    def _pause(self) -> None:
        """Wait as long as -b says, still listening."""
        if not self._backoff:
            return
        delay = self._backoff.next(boot_clock() - self._life.began)
        self._record()
        self._tell(f"starting again in {delay:g} s")
        until = boot_clock() + delay
        while not self._demands.to_end and (left := until - boot_clock()) > 0:
            self._hear(signals.wait(self._wanted, left))
        while not self._demands.are_met:  # what -t had kept for the next life
            self._hear(signals.wait(self._wanted, self._demands.left()))

    def _finish(self) -> int:
        if "noorphan" in self._plan.terms:
            self._end_all()
        self._copy_output()
        cause, ended = self._life.cause(), self._life.ended
        plain = cause is not None and cause.code == 0 and not self._demands.to_end
        self._record({"at": now(), "finished": plain})
        return ABNORMAL if ended is None or ended.code is None else ended.code

    # What others are told

    def _record(self, end: dict[str, object] | None = None) -> None:
        try:
            self._ledger.write(self._life, end)
        except OSError as error:
            self._say(f"could not record: {reason(error)}")

    def _tell(self, text: str) -> None:
        if self._plan.verbose:
            self._say(text)

    def _say(self, text: str) -> None:
        say(PROGRAM, text)
