"""Socket owners: whether a socket that answers for a daemon is the daemon's own.

Whoever has an account may listen on a port once the daemon no longer does. So the
socket must be root's, or of a user that the daemon runs as; else the daemon, or what it
has started, must have it open. Linux only, as proc(5) tells of sockets.
"""

from __future__ import annotations

import _socket as socket
import os

from viagralib.base import files
from viagralib.base.users import is_hidden, user_name
from viagralib.processes.linux import Process, Unreadable, Vanished

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_FOR_ALL = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_LISTEN = "0A"  # TCP_LISTEN of the kernel's tcp_states.h; these come first in the table


class _Row:
    """One line of /proc/net/tcp: a socket, whose it is, and its inode."""

    def __init__(self, line: str) -> None:
        words = line.split()
        self.local, self.remote = words[1:3]
        self.user = int(words[7])
        self.inode = words[9]


def why_not_its(connection: socket.socket, processes: list[Process]) -> str:
    """Return who else has the socket that `connection` was made to, or "".

    Raises OSError, as the connection itself does, when that has been reset.
    """
    if connection.family == socket.AF_UNIX:
        return _why_not_peer(connection, processes)
    host, port = connection.getpeername()[:2]
    if not os.path.exists("/proc/net/tcp") or port < _first_for_all():
        return ""
    listeners = _listeners(host, port)
    if not listeners:
        return _why_no_listener(connection)
    users = _users(processes)
    strange = [
        one for one in listeners if not (one.user in users or is_hidden(one.user))
    ]
    if not strange or {one.inode for one in strange} <= _inodes(processes):
        return ""
    return f"user {user_name(strange[0].user)} listens there, not the daemon"


def _why_not_peer(connection: socket.socket, processes: list[Process]) -> str:
    """Return who else made a unix socket: unix(7), SO_PEERCRED."""
    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, user, _ = memoryview(credentials).cast("i")  # struct ucred
    if user in _users(processes) or is_hidden(user):
        return ""
    if pid in {one.pid for one in _family(processes)}:
        return ""
    return f"user {user_name(user)} listens there, not the daemon"


def _why_no_listener(connection: socket.socket) -> str:
    """Return that whoever took the connection has left at once, or "".

    Where this machine has no other end of it, it leads elsewhere: to a container, say.
    """
    ours, theirs = connection.getsockname(), connection.getpeername()
    ends = {*_spellings(*theirs[:2])}, {*_spellings(*ours[:2])}
    for row in _rows(*theirs[:2]):
        if row.local in ends[0] and row.remote in ends[1]:
            return "whoever answered does not listen there any more"
    if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
    return ""


def _listeners(host: str, port: int) -> list[_Row]:
    """Return the sockets that take connections to an address: the nearest of them."""
    found: dict[str, list[_Row]] = {}
    for row in _rows(host, port, _LISTEN):
        found.setdefault(row.local, []).append(row)
    wildcards = ["::"] if ":" in host else ["0.0.0.0", "::"]
    for one in (host, *wildcards):
        near = [row for text in _spellings(one, port) for row in found.get(text, [])]
        if near:
            return near
    return []


def _spellings(host: str, port: int) -> list[str]:
    """Return an address as the tables of TCP have it; IPv4's is one of IPv6, too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mapped = [f"::ffff:{host}"] if family == socket.AF_INET else []
    packed = [socket.inet_pton(family, host)]
    packed += [socket.inet_pton(socket.AF_INET6, one) for one in mapped]
    return [
        "".join(f"{word:08X}" for word in memoryview(address).cast("I"))
        + f":{port:04X}"
        for address in packed
    ]


def _rows(host: str, port: int, state: str = "") -> Iterator[_Row]:
    """Yield the sockets of TCP that have this port, and may have the host: all of them,
    or those of a state, which come first in each table.

    Others can have any number of sockets, so no part of a table is enough.
    """
    ending = f":{port:04X}"
    for file in ("tcp6",) if ":" in host else ("tcp", "tcp6"):
        try:
            lines = files.lines(f"/proc/net/{file}")
            next(lines, "")  # the heads of the columns
            for line in lines:
                _, local, _, at, _ = line.split(None, 4)
                if state and at != state:
                    break
                if local.endswith(ending):
                    yield _Row(line)
        except FileNotFoundError:
            continue  # a kernel without IPv6


def _first_for_all() -> int:
    """Return the lowest port that anybody may listen on: ip(7)."""
    try:
        return int(files.read(_FIRST_FOR_ALL, 16))
    except (OSError, ValueError):
        return 1024


def _users(processes: list[Process]) -> set[int]:
    """Return root, and the users that the daemon runs as."""
    found = {0}
    for process in processes:
        try:
            found.update(process.users())
        except (Vanished, Unreadable):
            continue
    return found


def _family(processes: list[Process]) -> list[Process]:
    """Return the daemon's processes, and what descends from them."""
    from viagralib.processes.tree import ProcessTree  # hardly ever

    return ProcessTree(processes).living()


def _inodes(processes: list[Process]) -> set[str]:
    """Return the sockets that they, and what descends from them, have open."""
    found = set()
    for process in _family(processes):
        try:
            targets = process.ask("fd", _links)
        except (OSError, Vanished, Unreadable):
            continue  # gone, or not ours to see
        found |= {one[8:-1] for one in targets if one.startswith("socket:[")}
    return found


def _links(place: str) -> list[str]:
    return [os.readlink(f"{place}/{name}") for name in os.listdir(place)]
