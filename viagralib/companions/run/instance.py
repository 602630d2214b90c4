"""The instances of a command: the events of one, and its cause of death."""

from __future__ import annotations

import signal
from collections.abc import Collection

from viagralib.base.clocks import boot_clock
from viagralib.companions.contract import process_contract, spawn
from viagralib.companions.contract.process_contract import Death
from viagralib.companions.run.options import Options
from viagralib.companions.run.output_file import OutputFile
from viagralib.processes import table
from viagralib.state.death_records import now

# Signals whose default action dumps core (signal(7)). As on Solaris, such a death is
# a core event also where the size limit or a setting kept the file from being made.
_CORE = frozenset(
    getattr(signal, f"SIG{name}").value
    for name in ("QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "XCPU", "XFSZ")
) | {signal.SIGSYS.value}
# What the kernel sends for memory that failed; a cut off mapped file looks the same.
_HARDWARE = signal.SIGBUS.value


class Instance:
    """One instance of the command, from its start until the next one's."""

    def __init__(self, pid: int) -> None:
        found = table.find(pid)
        self.pid = pid
        self.start = found.start if found else 0
        self.began = boot_clock()
        self.began_at = now()
        self.ended: Death | None = None  # the command's own end
        self.fault: Death | None = None  # the fatal event
        self.last: Death | None = None  # the latest end of any member

    def cause(self) -> Death | None:
        """Return the death that tells why this instance is over."""
        if self.fault:
            return self.fault
        if self.ended and self.ended.code != 0:
            return self.ended
        return self.last or self.ended

    def is_fatal_exit(self, death: Death, is_last: bool, together: list[Death]) -> bool:
        """Return whether -f exit means this end, one of those collected `together`.

        The command's exit 0 that leaves others running is a daemon's way into the
        background; the end of its children is an everyday event. Of those that ended
        together with it, a daemon (in a session of its own) was left running; the
        others may as well have ended before it, as what a script kills does.
        """
        if death.pid != self.pid or death.code is None:
            return is_last and death.code is not None
        alone = all(one.session == death.session for one in together)
        return death.code != 0 or (alone and process_contract.is_empty())


def begin(options: Options, number: int, outfile: OutputFile | None) -> Instance:
    """Start instance `number` of the command. Raises as `spawn.start`."""
    environment = spawn.environment(options.user, number)
    output = outfile.entrance if outfile else None
    prepare = options.user.become if options.user else None
    return Instance(spawn.start(options.argv, environment, output, prepare))


def events_of(death: Death, own: Collection[int], is_last: bool) -> frozenset[str]:
    """Return the events of ctrun(1) that `death` is; `own` signals are none."""
    events = {"exit"}
    if is_last:
        events.add("empty")
    if death.signal and death.signal not in own:
        events.add("signal")
        if death.core or death.signal in _CORE:
            events.add("core")
        if death.signal == _HARDWARE:
            events.add("hwerr")
    return frozenset(events)
