"""Sockets that a daemon must listen on: connections made without waiting for them.

They are the system's own, as Python's `_socket` has them. What its `socket` adds to
them, enumerations and selectors, costs as much as half of Python's start.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import select

from viagralib.health.findings import WELL, Finding
from viagralib.health.socket_owners import why_not_its
from viagralib.processes.linux import Process
from viagralib.processes.verdicts import SICK, UNKNOWN

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    _Place = tuple[int, str | tuple[str, int]]  # the family, and where in it

# What a socket says when nobody answers; anything else is our own trouble.
# ENOTCONN: no more, when it was asked who that is.
_NOBODY = (
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT, errno.ETIMEDOUT),
    errno.ENOTCONN,
)
# Both are localhost (RFC 6761, 6.3), and no name server has to be asked for them.
_LOCALHOST = ("127.0.0.1", "::1")


class Connection:
    """A connection to a socket that the daemon must listen on."""

    def __init__(self, address: str, processes: list[Process]) -> None:
        """`processes` are the daemon's."""
        self._address = address
        self._processes = processes
        self._places = _places(address)  # still to be tried, the first one being so
        self._failure: Finding | None = None  # of the first that was tried
        self._socket: socket.socket | None = None
        self.finding = Finding(WELL)
        self._connect()

    def is_over(self, late: bool) -> bool:
        """Return whether the finding stands; when it is `late`, it does."""
        if self._socket is None:
            return True
        if late:
            self._places = self._places[:1]
            self._finish(errno.ETIMEDOUT)
        elif self._socket.fileno() < 0:
            self._connect()
        elif select.select([], [self._socket], [], 0)[1]:
            self._finish(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return self._socket is None

    def close(self) -> None:
        """Give up, if nobody has answered yet."""
        self.is_over(late=True)

    def _connect(self) -> None:
        family, place = self._places[0]
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            error = _connect(self._socket, place)
        except OSError as trouble:
            self._finish(trouble.errno or errno.EINVAL, trouble.strerror)
            return
        if error == errno.EAGAIN:  # a unix socket whose queue is full: connect again
            self._socket.close()
        elif error != errno.EINPROGRESS:
            self._finish(error)

    def _finish(self, error: int, what: str | None = None) -> None:
        """End this try: well, or on to the next place, or the first one's failure."""
        why = ""
        if self._socket is not None:
            try:
                why = "" if error else why_not_its(self._socket, self._processes)
            except OSError as trouble:
                error = trouble.errno or errno.EINVAL
            self._socket.close()
            self._socket = None
        if not error and not why:
            self.finding = Finding(WELL)
            return
        words = f"{self._address}: {why or what or os.strerror(error)}"
        failure = Finding(SICK if why or error in _NOBODY else UNKNOWN, words)
        self.finding = self._failure = self._failure or failure
        self._places = self._places[1:]
        if self._places:
            self._connect()


def _connect(connection: socket.socket, place: str | tuple[str, int]) -> int:
    """Connect, and return the number of the error; root is led to no other socket."""
    if isinstance(place, tuple):
        return connection.connect_ex(place)
    from viagralib.base.guarded_sockets import reach

    return reach(place, connection.connect_ex)


def _places(address: str) -> list[_Place]:
    """Return each socket family and address that a `listens` entry stands for."""
    kind, _, place = address.partition(":")
    if kind == "unix":
        return [(socket.AF_UNIX, place)]
    host, _, port = place.rpartition(":")
    hosts = _LOCALHOST if host == "localhost" else (host.strip("[]"),)
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, (one, int(port)))
        for one in hosts
    ]
