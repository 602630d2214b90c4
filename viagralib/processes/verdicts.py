"""The process table: which process is a daemon, which only looks like one, verdicts."""

from __future__ import annotations

from viagralib.base.messages import reason, safe
from viagralib.base.users import user_id
from viagralib.processes import table
from viagralib.processes.linux import Process, Unreadable, Vanished
from viagralib.processes.matching import COUNTED, LEFTOVER, UNSURE, classify, cut
from viagralib.processes.observer import Observer
from viagralib.settings.configuration import Daemon

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterable

UP, DOWN, SICK, UNKNOWN = "up", "down", "sick", "unknown"


class Candidate:
    """A process with a daemon's name: what it is to the daemon, and why."""

    def __init__(self, process: Process, kind: str, why: str) -> None:
        self.process = process
        self.kind = kind
        self.why = why


class Verdict:
    """What one look says of one daemon: `word`, its `reason`, and the candidates.

    `few` is "1 of 3 runs" while that many have found it sick, and more must. `remark`
    is for whoever asks how it is, and changes nothing. `phase` is that of a recovery
    which has begun and not ended.
    """

    def __init__(self, word: str, reason: str, candidates: list[Candidate]) -> None:
        self.word = word
        self.reason = reason
        self.candidates = candidates
        self.few = ""
        self.remark = ""
        self.phase = ""

    def in_wait(self) -> list[Process]:
        """Return those that count and wait for a device (state D), at this look."""
        return [one for one in self.processes() if one.state == "D"]

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do and nothing to say."""
        return self.word == UP and not self.reason

    def processes(self, kind: str = COUNTED) -> list[Process]:
        """Return the candidates of this kind, the lowest pid first."""
        return [one.process for one in self.candidates if one.kind == kind]

    def oldest(self) -> Process:
        """Return the oldest process that counts; there must be one."""
        return min(self.processes(), key=lambda process: process.start)


def missing(daemon: Daemon, verdict: Verdict) -> int:
    """Return how many processes a hook that starts one of them is to add."""
    lacking = daemon.facts.count[0] - len(verdict.processes())
    return max(0, lacking) if daemon.facts.count_hook == "each" else 0


def judge(
    daemons: Iterable[Daemon],
    observer: Observer,
    every: bool = False,
    first: Iterable[int] = (),
) -> dict[str, Verdict]:
    """Look once at the process table; return each daemon's verdict by its name.

    Reads no more of the table than it takes to find all of them, unless `every` one
    of their candidates is wanted: to end them, or to show them. Looks at the pids
    `first` before all others, which changes no verdict.
    """
    matchers = {daemon.name: _Matcher(daemon, observer) for daemon in daemons}
    try:
        _look(list(matchers.values()), observer, every, first)
        return {name: matcher.verdict() for name, matcher in matchers.items()}
    except OSError as error:
        text = f"the process table cannot be read: {reason(error)}"
        return {name: Verdict(UNKNOWN, text, []) for name in matchers}


def _look(
    matchers: list[_Matcher], observer: Observer, every: bool, first: Iterable[int]
) -> None:
    wanted: dict[str, list[_Matcher]] = {name: [] for name in observer.script_names}
    scripts = []
    hidden: list[int] = []
    for matcher in matchers:
        matcher.hidden = hidden
        for name in {matcher.daemon.process, cut(matcher.daemon.process)}:
            wanted.setdefault(name, []).append(matcher)
    missing = len(matchers)
    for process in table.look(wanted, hidden, first):
        for matcher in wanted[process.name]:
            missing -= matcher.see(process)
        if process.name in observer.script_names:
            scripts.append(process)
        if not missing and not every:
            return
    observer.scripts_seen = scripts
    if lacking := [matcher for matcher in matchers if matcher.lacks()]:
        _look_for_aliases(lacking, observer)


def _look_for_aliases(lacking: list[_Matcher], observer: Observer) -> None:
    """Look once more, at all arguments: who has a missing name and shows another?"""
    for pid in observer.bearers([matcher.daemon.process for matcher in lacking]):
        if process := table.find(pid):
            for matcher in lacking:
                matcher.see_alias(process)


class _Matcher:
    """What one look at the table finds of one daemon."""

    def __init__(self, daemon: Daemon, observer: Observer) -> None:
        self.daemon = daemon
        self.observer = observer
        self.candidates: list[Candidate] = []
        self.hidden: list[int] = []  # pids that the look came upon and may not read
        self.pidfile = daemon.facts.pidfile
        if self.pidfile:
            self.pid, self.pidfile_says = _read_pidfile(self.pidfile)
        self._enough = False

    def see(self, process: Process) -> bool:
        """Take note of a process of that name; True when it is the last one needed."""
        try:
            self.candidates.append(self._candidate(process))
        except Vanished:
            return False
        low, high = self.daemon.facts.count
        was_enough = self._enough
        self._enough = high is None and self._count() >= low
        return self._enough and not was_enough

    def see_alias(self, process: Process) -> None:
        """Take note of a process that has its name, but calls itself otherwise.

        One that has just executed the daemon may be read half as before, half as after.
        """
        from viagralib.processes.aliases import why_unsure

        if any(process.pid == one.process.pid for one in self.candidates):
            return
        try:
            why = why_unsure(self.daemon, process, self.observer)
        except Vanished:
            return
        now = table.find(process.pid) if why else None
        if now is None or now.identity != process.identity:
            return
        if now.name in (self.daemon.process, cut(self.daemon.process)):
            self.see(now)  # started since the look at the names
        elif now.name == process.name:
            self.candidates.append(Candidate(now, UNSURE, why))

    def lacks(self) -> bool:
        """Return whether there are fewer than needed, with all that may count."""
        kinds = [one.kind in {COUNTED, UNSURE} for one in self.candidates]
        return sum(kinds) < self.daemon.facts.count[0]

    def _count(self) -> int:
        return sum(one.kind == COUNTED for one in self.candidates) - len(self._halted())

    def _halted(self) -> list[int]:
        """Return the pids of those that count and do not run: kill -STOP."""
        return [
            one.process.pid
            for one in self.candidates
            if one.process.state == "T" and one.kind == COUNTED
        ]

    def _candidate(self, process: Process) -> Candidate:
        try:
            kind, why = classify(self.daemon, process, self.observer)
        except Unreadable as hidden:
            return Candidate(process, UNSURE, f"could not read {hidden}")
        if kind == COUNTED and self.pidfile and process.pid != self.pid:
            text = f"{safe(self.pidfile)} {self.pidfile_says}"
            return Candidate(process, UNSURE, text)
        return Candidate(process, kind, why)

    def verdict(self) -> Verdict:
        """Return the verdict, once the look is over."""
        # In one order, wherever the look began: the same state gives the same words.
        self.candidates.sort(key=lambda one: one.process.pid)
        word, why = self._word()
        return Verdict(word, why, self.candidates)

    def _word(self) -> tuple[str, str]:
        number = self._count()
        low, high = self.daemon.facts.count
        if number >= low:
            many = high is not None and number > high
            return UP, f"{number} processes, more than {high}" if many else ""
        unsure = [one for one in self.candidates if one.kind == UNSURE]
        if number + len(unsure) >= low:
            return UNKNOWN, _list(unsure)
        if why := self._why_hidden():
            return UNKNOWN, why
        halted = self._halted()
        if number or halted:
            few = f"{number} of at least {low} processes"
            texts = [
                f"pid {pid} is stopped (state T): kill -CONT {pid}" for pid in halted
            ]
            return SICK, "; ".join([few] if not halted else texts[:3])
        return (UNKNOWN, _list(unsure)) if unsure else (DOWN, self._why_down())

    def _why_hidden(self) -> str:
        """Return why there may be a process that we do not see, or ""."""
        user, users = self.observer.user, self.daemon.facts.user
        if table.find(self.observer.pid) is None:
            return "the process table shows not even this run: is /proc mounted?"
        # A user's own processes are not hidden from that user.
        own = user != 0 and (not users or user in map(user_id, users))
        if own or (not self.hidden and table.sees_all()):
            return ""
        return (
            "processes are hidden from us (/proc with hidepid, or a sandboxed "
            "cron): run viagra.py where it sees all of them"
        )

    def _why_down(self) -> str:
        text = f'no process named "{safe(self.daemon.process)}"'
        leftovers = [one for one in self.candidates if one.kind == LEFTOVER]
        if leftovers:
            text += f" that fits, but {len(leftovers)} leftover"
            text += "s" if len(leftovers) > 1 else ""
        elif self.candidates:
            text += f" counts: {_list(self.candidates)}"
        return text


def _read_pidfile(path: str) -> tuple[int, str]:
    """Return the pid that a pidfile holds, and what it names in words."""
    from viagralib.processes import pidfile

    try:
        pid = pidfile.read(path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return 0, "names no process" + ("" if missing else f": {error.strerror}")
    return pid, f"names {pid or 'no process'}"


def _list(candidates: list[Candidate]) -> str:
    """Return up to three candidates and why they do not count, for people."""
    texts = [f"pid {one.process.pid}: {one.why}" for one in candidates[:3]]
    more = len(candidates) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")
