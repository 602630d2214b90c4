"""Health: whether a daemon that runs is well, by its sockets, its beat, its check."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time

from viagralib import alarms, children
from viagralib.durations import spell
from viagralib.hooks import environment
from viagralib.messages import reason, safe
from viagralib.outputs import memory
from viagralib.processes import SICK, UNKNOWN, UP, Verdict
from viagralib.run import Run
from viagralib.settings import Daemon

WELL = "well"
LATE = 1.5  # heartbeats: sick when the last one is older than this many periods
_LONGEST_REASON = 200  # characters of a check's first line
_LARGEST_OUTPUT = 65536  # bytes that a check may print
_TICK = 0.005  # seconds between two looks at checks that are under way
# What a socket says when nobody answers; anything else is our own trouble.
_NOBODY = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT, errno.ETIMEDOUT)


class Finding:
    """What one check says: WELL, SICK or UNKNOWN, and why."""

    __slots__ = ("word", "why")

    def __init__(self, word: str, why: str = "") -> None:
        self.word = word
        self.why = why


def examine(run: Run, verdicts: dict[str, Verdict]) -> None:
    """Check all daemons that are up and old enough, side by side; amend verdicts."""
    checkups = {}
    for name, verdict in verdicts.items():
        daemon = run.settings.daemons[name]
        if verdict.word == UP and daemon.has_health and is_of_age(daemon, verdict):
            try:
                checkups[name] = Checkup(run, daemon, verdict)
            except OSError as error:
                why = f"could not be checked: {reason(error)}"
                verdicts[name] = Verdict(UNKNOWN, why, verdict.candidates)
    try:
        while not all([checkup.is_over() for checkup in checkups.values()]):
            time.sleep(_TICK)
    finally:
        for checkup in checkups.values():
            checkup.close()
    for name, checkup in checkups.items():
        verdicts[name] = checkup.verdict()


def is_of_age(daemon: Daemon, verdict: Verdict) -> bool:
    """Return whether it has had its start_timeout: younger, it is never sick."""
    age = max(process.age() for process in verdict.processes())
    return age >= daemon.facts.start_timeout


class Checkup:
    """All checks of one daemon, begun at once, and over by its check_timeout."""

    def __init__(self, run: Run, daemon: Daemon, verdict: Verdict) -> None:
        facts = daemon.facts
        self.daemon = daemon
        self._before = verdict
        self._deadline = time.monotonic() + facts.check_timeout
        self._findings: list[Finding] = []
        self._calls = [_Call(address) for address in facts.listens]
        self._checks = [_Check(run, daemon, p) for p in daemon.programs("check.d")]
        if facts.heartbeat:
            self._findings.append(_heartbeat(*facts.heartbeat, verdict))
        if facts.alarm:
            self._findings.append(_alarm(run, daemon, verdict))

    def is_over(self) -> bool:
        """Return whether every check has an answer, or its time is over."""
        late = time.monotonic() > self._deadline
        under_way: list[_Call | _Check] = [*self._calls, *self._checks]
        try:
            return all([one.is_over(late) for one in under_way])
        except OSError as error:
            why = f"could not be checked: {reason(error)}"
            self._findings.append(Finding(UNKNOWN, why))
            return True

    def close(self) -> None:
        """End the checks that are still at work: nobody waits for them."""
        for check in self._checks:
            check.close()

    def verdict(self) -> Verdict:
        """Return the verdict of before, amended by what was found."""
        found = [*self._findings, *(one.finding for one in self._calls)]
        found += [one.finding for one in self._checks]
        for word in (SICK, UNKNOWN):
            whys = [one.why for one in found if one.word == word]
            if whys:
                return Verdict(word, "; ".join(whys), self._before.candidates)
        return self._before


class _Call:
    """A connection to a socket that the daemon must listen on."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.finding = Finding(WELL)
        self._socket: socket.socket | None = None
        self._dial()

    def _dial(self) -> None:
        try:
            family, place = _place(self._address)
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            error = self._socket.connect_ex(place)
        except OSError as trouble:
            self._hang_up(trouble.errno or errno.EINVAL)
            return
        if error == errno.EAGAIN:  # a unix socket whose queue is full: dial again
            self._socket.close()
        elif error != errno.EINPROGRESS:
            self._hang_up(error)

    def is_over(self, late: bool) -> bool:
        """Return whether the finding stands."""
        if self._socket is None:
            return True
        if late:
            self._hang_up(errno.ETIMEDOUT)
        elif self._socket.fileno() < 0:
            self._dial()
        elif select.select([], [self._socket], [], 0)[1]:
            self._hang_up(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return self._socket is None

    def _hang_up(self, error: int) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if error:
            words = f"{self._address}: {os.strerror(error)}"
            self.finding = Finding(SICK if error in _NOBODY else UNKNOWN, words)


def _place(address: str) -> tuple[int, str | tuple[str, int]]:
    """Return the socket family and the address of a `listens` entry."""
    kind, _, place = address.partition(":")
    if kind == "unix":
        return socket.AF_UNIX, place
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    if host == "localhost":
        host = "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, (host, int(port))


class _Check:
    """The daemon's check.d hook: 0 and 1 well, 2 sick, 3 unknown, as plugins say it."""

    def __init__(self, run: Run, daemon: Daemon, program: str) -> None:
        self.finding = Finding(WELL)
        self._program = f"check.d/{os.path.basename(program)}"
        self._output = memory("check")
        self._child: children.Child | None = None
        variables = {"STATE": run.state.path}
        path = run.onlooker.trust.search_path()
        try:
            self._child = children.start(
                os.path.realpath(program),
                (),
                self._output,
                environment(daemon, path, variables),
            )
            self._child.release()
        except OSError as error:
            self._end(UNKNOWN, f"could not be started: {reason(error)}")

    def is_over(self, late: bool) -> bool:
        """Return whether the finding stands."""
        if self._child is None:
            return True
        if self._child.poll():
            self._judge(self._child)
        elif os.fstat(self._output).st_size > _LARGEST_OUTPUT:
            self._child.kill()
            self._end(UNKNOWN, f"printed more than {_LARGEST_OUTPUT} bytes")
        elif late:
            self._child.kill()
            spent = spell(self._child.seconds())
            self._end(SICK, f"gave no answer within {spent}")
        return self._child is None

    def close(self) -> None:
        """End the check, if it is still at work."""
        if self._child is not None:
            self._child.kill()
            self._end(UNKNOWN, "was not waited for")

    def _judge(self, child: children.Child) -> None:
        if child.failure or child.status not in (0, 1, 2, 3):
            how = child.failure or f"ended with {child.status}, which is no answer"
            self._end(UNKNOWN, how)
        else:
            word = {2: SICK, 3: UNKNOWN}.get(child.status, WELL)
            self._end(word, self._first_line() or f"exit {child.status}")

    def _first_line(self) -> str:
        text = os.pread(self._output, 4096, 0).decode(errors="surrogateescape")
        # What follows the bar is for machines (monitoring-plugins' guidelines).
        line = text.split("\n", 1)[0].split("|", 1)[0].strip()
        return safe(line)[:_LONGEST_REASON]

    def _end(self, word: str, why: str) -> None:
        self.finding = Finding(word, f"{self._program}: {why}")
        self._child = None
        os.close(self._output)


def _heartbeat(file: str, every: float, verdict: Verdict) -> Finding:
    """Judge a file that the daemon touches at least every `every` seconds."""
    limit = LATE * every
    if max(process.age() for process in verdict.processes()) <= limit:
        return Finding(WELL)
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return Finding(SICK, f"heartbeat {safe(file)}: there is none")
    except OSError as error:
        return Finding(UNKNOWN, f"could not look at its heartbeat: {reason(error)}")
    age = time.time() - status.st_mtime
    if age < -limit or not stat.S_ISREG(status.st_mode):
        what = "is of the future" if age < 0 else "is no file"
        return Finding(UNKNOWN, f"heartbeat {safe(file)} {what}")
    if age > limit:
        return Finding(SICK, f"heartbeat {safe(file)}: silent for {spell(age)}")
    return Finding(WELL)


def _alarm(run: Run, daemon: Daemon, verdict: Verdict) -> Finding:
    try:
        found = alarms.search(run.state, daemon, verdict.processes()[0])
    except alarms.CannotSearch as why:
        return Finding(UNKNOWN, f"alarm: {why}")
    return Finding(SICK, f"alarm: {found}") if found else Finding(WELL)
