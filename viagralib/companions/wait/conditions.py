"""What viagra-wait can wait for: one function for each kind of condition.

Each takes what stands after the colon, and the seconds it may take, and returns None
when the condition holds, else the reason why it does not. It raises CannotTell when
neither can be said: then the opposite (--not) does not hold either.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from viagralib.base import durations, files, guarded_files
from viagralib.base.messages import CannotTell, reason, safe
from viagralib.processes import pidfile, table

# Seconds by which a process may seem to have begun later than its pid file: start times
# are whole ticks, and the clock may be corrected meanwhile.
_CLOCK_SLACK = 2.0


class Condition:
    """One condition as it was written, and whether its opposite is wanted."""

    def __init__(
        self, text: str, check: Callable[[float], str | None], opposite: bool
    ) -> None:
        self.text = text
        self._check = check
        self._opposite = opposite

    def missing(self, seconds: float) -> str | None:
        """Return why the condition does not hold now; None when it holds.

        What depends on others (a host, a server) is given up after `seconds`.
        """
        try:
            found = self._check(seconds)
        except CannotTell as error:
            return str(error)
        if self._opposite:
            return "holds" if found is None else None
        return found


def parse(text: str, opposite: bool = False) -> Condition:
    """Return the condition that `text` (KIND:WHAT) stands for.

    Raises ValueError, with a reason for people, when it stands for none.
    """
    kind, colon, what = text.partition(":")
    if kind in ("http", "https") and what.startswith("//"):
        kind, what = "http", text
    if kind not in _KINDS:
        raise ValueError(f"a condition is one of {', '.join(_KINDS)}, with a colon")
    if not colon or not what or "\0" in what:
        raise ValueError(f"{kind}: needs something after the colon")
    return Condition(text, _KINDS[kind](what), opposite)


def _of_file(check: Callable[[str], str | None]) -> Callable[[str], _Check]:
    """Make the maker of a condition on a file out of a function of its path."""

    def make(path: str) -> _Check:
        def check_path(seconds: float) -> str | None:
            try:
                return check(path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return reason(OSError(error.errno, error.strerror))
                raise CannotTell(error.strerror) from None

        return check_path

    return make


def _path(path: str) -> str | None:
    os.stat(path)
    return None


def _gone(path: str) -> str | None:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    return "is still there"


def _socket(path: str) -> str | None:
    from viagralib.base.guarded_sockets import reach  # only where asked for

    return reach(path, _why_not_listening)


def _why_not_listening(path: str) -> str | None:
    import socket

    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return "is no socket"
    answer = ""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as end:
            end.setblocking(False)
            try:
                end.connect(path)
            except OSError as error:
                answer = reason(OSError(error.errno, error.strerror))
                if error.errno == errno.EPROTOTYPE:
                    continue  # a socket, of another kind
                if error.errno == errno.EACCES:
                    raise
                if error.errno == errno.EAGAIN:
                    raise CannotTell("its queue of connections is full") from None
                return answer
        return None
    return answer


def _fresh(what: str) -> _Check:
    path, colon, age = what.rpartition(":")
    if not colon or not path:
        raise ValueError("fresh: is written fresh:FILE:AGE, for example fresh:/x:30s")
    limit = durations.parse(age)

    def check(path: str) -> str | None:
        past = time.time() - os.stat(path).st_mtime
        if past < -max(limit, 1.0):
            return f"is from the future, by {durations.spell(-past)}"
        return None if past <= limit else f"is {durations.spell(past)} old"

    return _of_file(check)(path)


def _delay(what: str) -> _Check:
    until = time.monotonic() + durations.parse(what)

    def check(seconds: float) -> str | None:
        left = until - time.monotonic()
        return None if left <= 0 else f"{durations.spell(left)} left"

    return check


def _mount(path: str) -> str | None:
    real = os.path.realpath(path, strict=True)
    try:
        mounts = files.read("/proc/self/mountinfo")  # proc(5)
    except OSError:
        return None if os.path.ismount(real) else "is no mount point"
    for line in mounts.removesuffix(b"\n").split(b"\n"):
        before, _, after = line.partition(b" - ")
        point = before.split(b" ")[4].decode("unicode_escape").encode("latin-1")
        # autofs alone is only the promise of a mount.
        if point == os.fsencode(real) and not after.startswith(b"autofs "):
            return None
    return "is no mount point"


def _pid(path: str) -> str | None:
    try:
        pid = pidfile.read(path)
    except guarded_files.Refused as refused:
        return refused.strerror
    if pid < 1:
        return "holds no pid"
    written = guarded_files.status(path).st_mtime
    process = table.find(pid)
    if process is None or process.zombie:
        return f"{pid} does not run"
    if time.time() - process.age() > written + _CLOCK_SLACK:
        return f"{pid} is younger than the file: another process"
    return None


def _process(name: str) -> _Check:
    from viagralib.companions.wait.daemon_up import (
        Watched,  # much of viagra.py, only where asked for
    )

    watched = Watched(name)
    return lambda seconds: watched.missing()


def _tcp(what: str) -> _Check:
    host, colon, port = what.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ValueError("tcp: is written tcp:HOST:PORT, PORT from 1 to 65535")

    def check(seconds: float) -> str | None:
        import socket  # only where asked for

        try:
            with socket.create_connection((host, int(port)), timeout=seconds):
                return None
        except socket.gaierror as error:
            raise CannotTell(_without_file(error)) from None
        except UnicodeError as error:  # of a host that can be no name
            raise CannotTell(safe(str(error))) from None
        except OSError as error:
            return _without_file(error)

    return check


def _http(what: str) -> _Check:
    from viagralib.base import http_answer  # 10 megabytes, only where asked for

    address = http_answer.parse(what)

    def check(seconds: float) -> str | None:
        try:
            return http_answer.why_not(address, seconds)
        except OSError as error:
            import socket

            why = safe(_without_file(error))
            is_name = isinstance(error, socket.gaierror) or error.errno is None
            if is_name:  # which is not known, or can be none
                raise CannotTell(why) from None
            return why

    return check


def _without_file(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) or type(error).__name__


_Check = Callable[[float], "str | None"]
_KINDS: dict[str, Callable[[str], _Check]] = {
    "path": _of_file(_path),
    "socket": _of_file(_socket),
    "tcp": _tcp,
    "http": _http,
    "process": _process,
    "pid": _of_file(_pid),
    "fresh": _fresh,
    "delay": _delay,
    "mount": _of_file(_mount),
    "gone": _of_file(_gone),
}
