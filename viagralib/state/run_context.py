"""One run: what its parts share, which daemons it is about, and what is faulty."""

from __future__ import annotations

import os
import sys
import time

from viagralib.base import records
from viagralib.base.messages import Fault, resembling, safe
from viagralib.processes import table
from viagralib.processes.observer import Observer
from viagralib.processes.verdicts import SICK, UP, Verdict
from viagralib.settings.command_line import VERBS
from viagralib.settings.configuration import HOOK_KINDS, Daemon
from viagralib.settings.homes import PROGRAM
from viagralib.settings.viagra_toml import Settings
from viagralib.state import known_pids
from viagralib.state.directory import HOOK_LOG_CAP, PAUSE_OF_ALL, State
from viagralib.trust.programs import own_environment

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from viagralib.trust.gate import Gate
    from viagralib.trust.programs import ProgramTrust

_HOUR = 3600.0  # seconds
_CRONS = ("cron", "crond", "CROND", "fcron", "bcron-exec", "busybox")


class Run:
    """One execution of viagra.py: on which home, with which state, for which names."""

    def __init__(
        self, settings: Settings, state: State, names: list[str], trust: ProgramTrust
    ) -> None:
        """No names: all that are on.

        `trust` is of the user whose home it is, and with whose eyes to look.
        """
        self.settings = settings
        self.state = state
        daemons = settings.daemons.values()
        self.user = trust.user
        self.is_ours = self.user == os.geteuid()  # else only what all may see
        self.observer = Observer(daemons, trust, table.own_pid())
        self.names = names or list(settings.daemons)
        self.is_narrowed = bool(names)
        self.began = time.time()  # seconds since 1970
        self.first_look = time.monotonic()
        # Before this run notes itself; of all daemons, and by their names.
        self._last_runs = {name: state.last_run(name) for name in ("", *names)}
        last = max(self._last_runs.values())
        self.is_first_of_hour = self.began // _HOUR != last // _HOUR
        self.why_not_now: str | None = None  # the machine's reason; None: not asked yet
        self.is_state_unsafe = False  # the state is not ours alone: write nothing
        self.unwell: dict[str, str] = {}  # verdicts of whom it has found unwell
        self.stopped_at: dict[str, float] = {}  # by an order to systemd
        self.stopped_service: dict[str, str] = {}  # by an order to OpenRC
        self.pids_before: list[int] = []  # where daemons were found last
        self._pauses: list[str] = []  # whose records there were at the last look
        self.only_looks = False  # for a verb that changes nothing
        self.notes: list[str] = []  # what people should know of what they are shown
        self.executes_nothing = False  # not even to look, as --dry-run has it
        self.is_unsafe = False  # somebody else could change what is ours: run nothing
        self._gate: Gate | None = None
        self._general: list[Fault] | None = None  # what concerns every daemon
        self._is_quick = False  # of our parts, only those were judged that are in use

    def require_hooks(self) -> None:
        """Raise Fault when a name is no hook's, with what may have been meant."""
        for name in self.names:
            if name not in self._all_names():
                text = f"start.d in {self.settings.home} has no such hook"
                words = [*self._all_names(), *VERBS]
                from viagralib.settings.help_texts import MEANT

                near = MEANT.get(name) or resembling(name, words)
                hint = "viagra.py test lists them, viagra.py --help the verbs"
                raise Fault(safe(name), f"{text}{near}: {hint}")

    def daemon(self, name: str) -> Daemon | None:
        return self.settings.daemons.get(name)

    @property
    def gate(self) -> Gate:
        """What all that it executes goes through; closed where anything is unsafe."""
        if self._gate is None:
            from viagralib.trust.gate import Gate

            faults = self._general_faults()
            closed = faults[0].text if self.is_unsafe else ""
            path = self.observer.trust.search_path()
            self._gate = Gate(self.observer.user, path, closed)
        return self._gate

    def find_faults(self, quick: bool = False) -> list[Fault]:
        """Return all that its user has to mend, for the names that it is about.

        `quick`: of our own parts only those that are loaded. That is for a run which
        finds all well: whatever else it does, all of them must be judged before.
        """
        found = [*self._general_faults(quick)]
        for fault in self.settings.faults:
            if fault.subject in self.names or fault.subject not in self._all_names():
                found.append(fault)
        if not self.is_unsafe:
            for name in self.names:
                if name in self.settings.daemons:
                    found += self.observer.trust.faults(self.settings.daemons[name])
        told = {fault.text for fault in found}
        return found + [one for one in self._held_kinds() if one.text not in told]

    def _held_kinds(self) -> list[Fault]:
        """Return which directories of hooks others could change, beside start.d's.

        Of those, the gate executes nothing; who has no hook in them needs none of it.
        """
        kinds = [f"{self.settings.home}/{kind}" for kind in HOOK_KINDS[1:]]
        whys = [why for kind in kinds for why in self.observer.trust.whys(kind)]
        return [Fault("", f"refused: {why}") for why in dict.fromkeys(whys)]

    def _general_faults(self, quick: bool = False) -> list[Fault]:
        """Return what concerns every daemon: others could change the state, or us."""
        if self._general is None or (self._is_quick and not quick):
            self._is_quick = quick
            trust = self.observer.trust
            places = self.state.places() if self.is_ours else []
            state = [why for place in places for why in trust.whys(place)]
            home = self.settings.home  # what a run is made of, beside the library
            files = [f"{PROGRAM}/viagra.py", f"{home}/start.d", f"{home}/viagra.toml"]
            parts = [why for file in files for why in trust.whys(file)]
            judge_ours = trust.whys_loaded if quick else trust.whys_below
            ours = judge_ours(f"{PROGRAM}/viagralib")
            ours += [why for part in own_environment() for why in trust.whys(part)]
            whys = dict.fromkeys([*state, *parts, *ours])
            self.is_state_unsafe, self.is_unsafe = bool(state), bool(whys)
            if whys:
                self.settings.metrics = ""  # root's file, where others wanted one
            self._general = [Fault("", f"refused: {why}") for why in whys]
        return self._general

    def faults_of_environment(self) -> list[Fault]:
        """Return what others could change of our own Python's packages, all of them."""
        if not own_environment() or self.is_unsafe:
            return []
        whys = self.observer.trust.whys_below(sys.prefix)
        return [Fault("", f"refused: {why}") for why in whys]

    def is_by_hand(self) -> bool:
        """Return whether a person waits for an answer: on a terminal, or with names.

        Names in a crontab make no person of cron.
        """
        return os.isatty(1) or (self.is_narrowed and not _is_of_cron())

    def sound(self, faults: list[Fault], and_paused: bool = False) -> list[Daemon]:
        """Return the daemons that it is about, without the faulty and the paused."""
        left_out = {fault.subject for fault in faults}
        left_out |= set() if and_paused else set(self.paused())
        daemons = self.settings.daemons
        return [daemons[n] for n in self.names if n in daemons and n not in left_out]

    def is_faulty(self, daemon: Daemon) -> bool:
        """Return whether a daemon that the run came upon must not be touched."""
        known = any(fault.subject == daemon.name for fault in self.settings.faults)
        return known or bool(self.observer.trust.faults(daemon))

    def paused(self) -> dict[str, str]:
        """Return until when and why some of its daemons are paused, by their names."""
        known = self._pauses = self.state.names("paused")
        watched = self.settings.daemons if PAUSE_OF_ALL in known else known
        names = [name for name in self.names if name in watched or name in known]
        if not names or self.is_state_unsafe:
            return {}
        from viagralib.state.pauses import why_paused

        whys = {name: why_paused(self.state, name) for name in names}
        return {name: why for name, why in whys.items() if why}

    def overdue_pauses(self) -> dict[str, str]:
        """Return what is to be said now of the pauses of before without an end, by
        daemon; "": of all."""
        known = [] if self.is_state_unsafe else self._pauses
        if not known:
            return {}
        from viagralib.state.pauses import recall

        about = [one for one in known if one in self.names or one == PAUSE_OF_ALL]
        return {
            "" if one == PAUSE_OF_ALL else one: text
            for one in about
            if (text := recall(self.state, one))
        }

    def last_look(self, name: str = "") -> float:
        """Return when a run before this one looked at it (epoch seconds), or 0.0."""
        by_name = self._last_runs.get(name)
        if by_name is None:
            by_name = self.state.last_run(name)
        return max(self._last_runs[""], by_name)

    def known_pids(self) -> list[int]:
        """Return where the daemons were found last, for a look to begin with."""
        if not self.is_state_unsafe:
            self.pids_before = known_pids.read(self.state)
        return self.pids_before

    def note(self, verdicts: dict[str, Verdict]) -> None:
        """Note that it was, and where the daemons are; a state directory that takes
        nothing shows in `test`."""
        if self.is_state_unsafe:
            return
        self._forget_finished(verdicts)
        try:
            self.state.note_run(self.names if self.is_narrowed else [])
            if not self.is_narrowed:
                known_pids.note(self.state, self.pids_before, verdicts.values())
                self.state.keep_answers()
        except OSError:
            pass
        if self.is_first_of_hour:
            self._cut_logs()

    def _forget_finished(self, verdicts: dict[str, Verdict]) -> None:
        """Forget of those that run that they ended well under viagra-run, before."""
        for name in self.state.names("deaths"):
            if name not in verdicts or verdicts[name].word not in (UP, SICK):
                continue
            end = records.inner(self.state.read("deaths", name), "end")
            if end.get("finished"):
                from viagralib.state import death_records  # hardly ever

                death_records.forget_finished(self.state, name, self.began)

    def _cut_logs(self) -> None:
        """Cut what daemons have written into a hook.log that they hold open.

        In the first run of an hour alone: a quiet run must not look at all of them.
        """
        for name in self.state.names("incidents"):
            log = f"{self.state.path}/incidents/{name}/hook.log"
            try:
                status = os.lstat(log)
            except OSError:
                continue
            if max(status.st_size, status.st_blocks * 512) > 2 * HOOK_LOG_CAP:
                from viagralib.state.hook_log import cut_log  # hardly ever

                cut_log(log)

    def _all_names(self) -> set[str]:
        return {*self.settings.daemons, *self.settings.set_aside}


def _is_of_cron() -> bool:
    """Return whether a cron is among the processes that we come from."""
    return any(one.name in _CRONS for one in table.ancestors(os.getppid()))
