"""The supervisor: instances of a command in a contract, until it is to stay ended."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable

from viagralib.base.clocks import boot_clock
from viagralib.base.messages import reason
from viagralib.companions.contract import process_contract, signals, spawn
from viagralib.companions.contract.companion import GuardianGoneError, say
from viagralib.companions.contract.guardian import Link
from viagralib.companions.contract.process_contract import Death
from viagralib.companions.run.backoff import Backoff
from viagralib.companions.run.instance import Instance, begin, events_of
from viagralib.companions.run.instance_record import InstanceRecord
from viagralib.companions.run.options import Options
from viagralib.companions.run.output_file import OutputFile
from viagralib.companions.run.termination import PassedSignals
from viagralib.state.death_records import Recorder, now

PROGRAM = "viagra-run"
ABNORMAL = 123  # the command was killed by a signal
_AGAIN = 1.0  # seconds until a restart that had no process to be had is tried again


class Supervisor:
    """Runs a command as the options say, until it is to stay ended.

    This process must be the holder of a contract.
    """

    def __init__(
        self,
        options: Options,
        wanted: frozenset[int],
        link: Link | None,
        recorder: Recorder | None,
        outfile: OutputFile | None,
    ) -> None:
        self._options = options
        self._wanted = wanted
        self._link = link
        self._records = InstanceRecord(recorder, link.pid if link else os.getpid())
        self._outfile = outfile
        self._passed = PassedSignals(options.patience)
        self._backoff = Backoff(*options.backoff) if options.backoff else None
        self._instance: Instance

    def run(self) -> int:
        """Return the exit code. Raises NotStarted, GuardianGoneError, OSError."""
        while self._begin():
            self._watch()
            if not self._is_to_restart():
                break
            self._pause()
            if self._passed.to_end:
                break
            self._records.restarts += 1
        return self._finish()

    def _begin(self) -> bool:
        """Start an instance; return whether nobody asked us to end before."""
        options, is_told, number = self._options, False, self._records.number
        while True:
            try:
                self._instance = begin(options, number, self._outfile)
                break
            except spawn.NotStarted:
                if self._records.restarts:
                    self._record({"at": now(), "finished": False})
                if "noorphan" in options.terms:
                    process_contract.end()
                raise
            except OSError as error:
                is_full = error.errno in (errno.EAGAIN, errno.ENOMEM)  # fork(2)
                if not (is_full and self._records.restarts):
                    raise
                if not is_told:
                    self._say(f"could not start it again yet: {reason(error)}")
                is_told = True
            self._wait(_AGAIN)
            if self._passed.to_end:
                self._records.restarts -= 1
                return False
        self._record()
        self._tell(f"started {self._instance.pid}, instance {number}")
        if "fork" in options.told:
            self._say(f"event fork: {self._instance.pid}")
        return True

    def _watch(self) -> None:
        """Return when this instance is over."""
        self._hear(None)
        while not self._is_over():
            self._hear(signals.wait(self._wanted, self._passed.left()))
        if self._instance.ended is None:
            self._note_quietly(process_contract.reap())
        cause = self._instance.cause()
        if cause:
            self._records.note_death(self._instance, cause)

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
        deaths = process_contract.reap()
        for death in deaths:
            self._note(death, deaths)
        if self._passed.is_out_of_time():
            self._kill_the_asked()

    def _copy_output(self) -> None:
        if self._outfile and (trouble := self._outfile.copy()):
            self._say(trouble)

    def _is_over(self) -> bool:
        instance, options = self._instance, self._options
        if instance.fault and "pgrponly" not in options.terms:
            return instance.ended is not None or not options.transfer
        if options.lifetime == "child" and instance.ended:
            return True
        passed = self._passed
        if passed.to_end and passed.are_met and "noorphan" not in options.terms:
            return True
        return process_contract.is_empty()

    # What members do

    def _note(self, death: Death, together: list[Death]) -> None:
        """Take note of a member's end, one of those that were collected `together`,
        and act on it if it is fatal."""
        instance = self._instance
        is_last = death is together[-1] and process_contract.is_empty()
        # What the holder itself sent is no event, as on Solaris.
        events = events_of(death, self._keep(death), is_last)
        instance.last = death
        for event in sorted(events & self._options.told):
            self._say(f"event {event}: {death.pid}: {death}")
        fatal = events & self._options.fatal
        if "exit" in fatal and not instance.is_fatal_exit(death, is_last, together):
            fatal -= {"exit"}
        if fatal and not self._passed.to_end and not instance.fault:
            self._tell(f"fatal {', '.join(sorted(fatal))}: {death.pid}: {death}")
            self._end_members(death)
        if self._passed.to_end and "noorphan" in self._options.terms and instance.ended:
            self._passed.ask(member.pid for member in process_contract.adopted())

    def _end_members(self, fault: Death) -> None:
        """End what a fatal event ends: all, a process group, or the command alone."""
        instance = self._instance
        if "pgrponly" in self._options.terms:
            self._note_quietly(process_contract.end(fault.group))
            return
        instance.fault = fault
        if not (self._options.transfer and self._is_to_restart()):
            self._end_all()
        elif instance.ended is None:
            os.kill(instance.pid, signal.SIGKILL)  # its zombie keeps the pid ours

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
        if death.pid == self._instance.pid:
            self._instance.ended = death
        return self._passed.settle(death.pid)

    # What callers ask for

    def _pass_on(self, arrival: signals.Arrival) -> None:
        """Pass a signal on to the command; when it is gone, to those it left to us."""
        pids = [self._instance.pid]
        if self._instance.ended:
            pids = [member.pid for member in process_contract.adopted()]
        self._passed.pass_on(arrival, pids)
        self._tell(f"passed signal {arrival.number} on to {pids}")

    def _kill_the_asked(self) -> None:
        """End what was asked and did not: all of it under noorphan."""
        if "noorphan" in self._options.terms:
            self._end_all()
        else:
            self._passed.kill()

    # Between instances, and after the last

    def _is_to_restart(self) -> bool:
        count = self._options.restarts
        if not self._instance.fault or self._passed.to_end or count is None:
            return False
        return count == 0 or self._records.restarts < count

    def _pause(self) -> None:
        """Wait as long as -b says, still listening."""
        if not self._backoff:
            return
        delay = self._backoff.next(boot_clock() - self._instance.began)
        self._record()
        self._tell(f"starting again in {delay:g} s")
        self._wait(delay)
        while not self._passed.are_met:  # what -t had kept for the next instance
            self._hear(signals.wait(self._wanted, self._passed.left()))

    def _wait(self, seconds: float) -> None:
        """Wait, still listening, unless we are asked to end."""
        until = boot_clock() + seconds
        while not self._passed.to_end and (left := until - boot_clock()) > 0:
            self._hear(signals.wait(self._wanted, left))

    def _finish(self) -> int:
        if "noorphan" in self._options.terms:
            self._end_all()
        self._copy_output()
        cause, ended = self._instance.cause(), self._instance.ended
        plain = cause is not None and cause.code == 0 and not self._passed.to_end
        self._record({"at": now(), "finished": plain})
        if ended is not None and ended.code is not None:
            return ended.code
        is_obedient = ended is not None and ended.signal == signal.SIGTERM
        return 0 if is_obedient and self._passed.by_manager else ABNORMAL

    # What others are told

    def _record(self, end: dict[str, object] | None = None) -> None:
        try:
            self._records.write(self._instance, end)
        except OSError as error:
            self._say(f"could not record: {reason(error)}")

    def _tell(self, text: str) -> None:
        if self._options.verbose:
            self._say(text)

    def _say(self, text: str) -> None:
        say(PROGRAM, text)
