#!/usr/bin/env -S python3 -I
"""viagra.py: brings daemons back, and says why they were gone.

Cron runs it every few minutes. It looks once at the process table; for each watched
daemon that is down it takes evidence, runs the daemon's start hook, makes sure that
the daemon is back, and prints a notice, which cron mails. When all is well it prints
nothing. It keeps nothing running, and no state is essential.
"""

import gc
import os
import sys

gc.disable()  # a run that finds all well ends before there is anything to collect
# Nobody else may write the bytecode that Python keeps of our parts.
os.umask(os.umask(0o022) | 0o022)
# Under -I, Python leaves our own directory out of its search path too.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

try:
    from viagralib import VERSION
    from viagralib.base import module_loader

    module_loader.use()
    from viagralib.base.messages import (
        FAULTY,
        NOT_WELL,
        WELL,
        Fault,
        exit_code,
        trouble,
    )
    from viagralib.base.printer import Printer
    from viagralib.processes.verdicts import SICK, judge
    from viagralib.settings.command_line import Options, parse
    from viagralib.settings.configuration import load
    from viagralib.settings.homes import find_home, find_state, owner
    from viagralib.state.directory import State
    from viagralib.state.run_context import Run
    from viagralib.trust.programs import ProgramTrust
except (
    *(OSError, ImportError, EOFError, MemoryError),
    *(AttributeError, TypeError, SystemError),  # of an import that could not read
) as why:
    sys.exit(f"viagra.py: could not load its parts: {why or type(why).__name__}")


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    out, err = Printer(1), Printer(2)
    try:
        if sys.argv[1:2] == ["--complete"]:  # what the shells' completions ask
            from viagralib.verbs.completion import complete

            complete(sys.argv[2:], out)
            return WELL
        code = act(parse(sys.argv[1:]), out, err)
    except Fault as fault:
        if "--json" in sys.argv:
            from viagralib.report.verdict_lines import fault_document

            out.say(fault_document(fault))
        else:
            err.say(f"viagra.py: {fault}")
        code = FAULTY
    except Exception as error:
        what = trouble(error)
        if not what:
            raise
        error.__traceback__ = None  # it holds all the memory that words may need
        err.say(f"viagra.py: could not go on: {what}; the next run tries again")
        code = NOT_WELL
    except KeyboardInterrupt:
        err.say("viagra.py: interrupted: the next run sees what was begun")
        code = 128 + 2  # as a shell says that SIGINT ended it
    err.finish()
    out.finish()
    return code


def act(options: Options, out: Printer, err: Printer) -> int:
    """Read the settings and do what the verb says; return the exit code."""
    if options.help or options.version:
        from viagralib.settings.help_texts import help_text

        verb = options.verb if options.verb_given else None
        out.say(help_text(verb) if options.help else f"viagra.py {VERSION}")
        return WELL
    home, user = find_home(options.home), os.geteuid()
    if user and not (options.home and options.state) and owner(home) != user:
        from viagralib.verbs.another_users_home import look_at_it  # who forgot sudo

        return look_at_it(home, options, out)
    state = State(find_state(options.state))
    trust = ProgramTrust(user)
    state.recall_answers(trust)
    run = Run(load(home), state, options.names, trust)
    if options.verb != "history":  # which has those of hooks that have gone, too
        run.require_hooks()
    if options.verb == "run" and not options.dry_run:
        options.verbose = options.verbose or run.is_by_hand()
        return watch(run, options, out, err)
    gc.enable()
    from viagralib.verbs.dispatch import obey

    out.patience = 86400.0  # seconds: a person, or a pager, reads at leisure
    return obey(run, options, out)


def watch(run: Run, options: Options, out: Printer, err: Printer) -> int:
    """One run: look, bring back what is not up, say it; return the exit code."""
    faults = run.find_faults(quick=not run.is_first_of_hour)
    verdicts = judge(run.sound(faults), run.observer, first=run.known_pids())
    if any(
        run.settings.daemons[name].has_health or one.word == SICK or one.in_wait()
        for name, one in verdicts.items()
    ):
        from viagralib.health.checkup import examine  # sockets, and programs to start

        examine(run, verdicts)
    run.note(verdicts)
    unwritten: list[Fault] = []
    if run.settings.metrics:
        from viagralib.report.metrics import write

        unwritten = write(run, verdicts, {}, faults)
    pauses = run.overdue_pauses()
    well = (
        not faults
        and not unwritten
        and not pauses
        and all(verdict.is_well for verdict in verdicts.values())
    )
    if well and not run.state.names("open") and not options.verbose | options.json:
        return WELL
    gc.enable()
    faults = run.find_faults() + unwritten  # with all parts that it will load
    from viagralib.base.resource_limits import widen
    from viagralib.recovery.standing import PAUSED
    from viagralib.report.announcer import Announcer
    from viagralib.report.up_again import close  # what only a bad day needs
    from viagralib.verbs.run import Response

    widen()
    announcer = Announcer(run, options, out, err)
    announcer.faults(faults)
    for name, text in pauses.items():
        announcer.notify(name, PAUSED, text)
    close(announcer, verdicts)
    response = Response(announcer)
    response.bring_back(verdicts)
    verdicts |= announcer.newest
    announcer.conclude(verdicts)
    if run.settings.metrics:
        standings = {name: one.word for name, one in announcer.standings.items()}
        write(run, verdicts, standings, faults)
    announcer.pass_on()
    response.prune()
    return exit_code(announcer.codes.values())


if __name__ == "__main__":
    sys.exit(main())
