"""viagra-run: a command in a process contract, after ctrun(1). See viagra-run(1)."""

from __future__ import annotations

import sys

from viagralib.base.messages import Fault
from viagralib.companions.contract import guardian, process_contract, signals, spawn
from viagralib.companions.contract.companion import Companion, say
from viagralib.companions.run.instance_record import first_instance
from viagralib.companions.run.options import USAGE, Options, parse
from viagralib.companions.run.output_file import OutputFile
from viagralib.companions.run.supervisor import PROGRAM, Supervisor
from viagralib.state import death_records

BAD_USAGE = 125
INTERNAL = 124


def entry() -> None:
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run what `argv` (without the program's name) asks for; return the exit code."""
    companion = Companion(PROGRAM, USAGE, BAD_USAGE, faulty=INTERNAL, failed=INTERNAL)
    return companion.run(argv, parse, _work)


def _work(options: Options) -> int:
    return _start(options) if options.lifetime == "none" else _hold(options)


def _start(options: Options) -> int:
    """Start the command, leave it to itself, and say that all is well."""
    signals.collect()
    environment = spawn.environment(options.user, first_instance())
    prepare = options.user.become if options.user else None
    pid = spawn.start(options.argv, environment, prepare=prepare)
    if options.verbose:
        say(PROGRAM, f"started {pid}")
    return 0


def _hold(options: Options) -> int:
    """Hold a contract until its end; return the exit code."""
    wanted = signals.collect()
    link = None
    if "noorphan" in options.terms:
        link = guardian.stand(PROGRAM, killed=INTERNAL, late=INTERNAL)
    else:
        process_contract.hold()
    outfile = OutputFile(options.output, options.user) if options.output else None
    return Supervisor(options, wanted, link, _recorder(options), outfile).run()


def _recorder(options: Options) -> death_records.Recorder | None:
    """Return what writes the record; without one, say what that costs and go on."""
    if options.name is None:
        return None
    try:
        return death_records.Recorder(options.name)
    except Fault as fault:
        say(PROGRAM, f"deaths are not recorded: {fault}")
        return None
