"""Requests to one member of an etcd cluster, by its JSON gateway.

A request has one limit of time, from the name's look-up to the answer's last byte, and
one of bytes. A redirect, a compressed or cut answer, or one that is no JSON object, is
an error like any other.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from viagralib.base.clocks import boot_clock

if TYPE_CHECKING:
    import ssl

Answer = Mapping[str, Any]

_LARGEST_ANSWER = 4 << 20  # bytes; a keeper's entry takes some 300 of them
# What is raised where an answer that is not as it should be is read.
ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class RefusedError(Exception):
    """What a member says of a request: its words, and gRPC's code."""

    def __init__(self, text: str, code: object = None) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Request:
    """An `order` for the gateway's `path`, answered by `until` (boot clock)."""

    path: str
    order: Answer
    until: float
    token: str = ""

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError when none are."""
        left = self.until - boot_clock()
        if left <= 0:
            raise TimeoutError
        return left

    def text(self, host: str) -> bytes:
        body = json.dumps(self.order)
        lines = [
            f"POST /v3{self.path} HTTP/1.1",
            f"Host: {host}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([f"Authorization: {self.token}"] if self.token else []),
        ]
        return "\r\n".join([*lines, "", body]).encode()


class _Bytes(io.RawIOBase):
    """What a connection receives while a request has time."""

    def __init__(self, connection: socket.socket, request: Request) -> None:
        super().__init__()
        self._connection = connection
        self._request = request

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        self._connection.settimeout(self._request.left())
        return self._connection.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what http.client reads an answer from."""
        return io.BufferedReader(self)


class Stream:
    """An answer that goes on: of interest is only whether more of it has come."""

    def __init__(self, member: Member, connection: socket.socket) -> None:
        self.member = member
        self.is_open = True
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def has_more(self) -> bool:
        """Take what has come; return whether that was anything, its end included."""
        found = False
        self._connection.settimeout(0)
        try:
            while self._connection.recv(65536):
                found = True
        except (BlockingIOError, InterruptedError):
            return found
        except OSError as error:
            if type(error).__name__ == "SSLWantReadError":  # ssl need not be loaded
                return found
        self.is_open = False
        return True

    def close(self) -> None:
        self.is_open = False
        self._connection.close()


class Member:
    """One member: where it is, and a connection to it, which is kept.

    `post` and `stream` raise OSError, http.client.HTTPException, RefusedError and ODD.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.host = host
        self._port = port
        self._tls = tls
        self._kept: socket.socket | None = None
        self._places: list[tuple[Any, ...]] = []  # of getaddrinfo(3)
        self._resolver: threading.Thread | None = None

    def post(self, request: Request) -> Answer:
        """Return the answer to a request."""
        kept, self._kept = self._kept, None
        if kept is not None:
            # A member may have closed what was idle: that is no failure.
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
                return self._exchange(kept, request)
        return self._exchange(self._connect(request), request)

    def stream(self, request: Request) -> Stream:
        """Return an answer that goes on, after its first line."""
        connection = self._connect(request)
        try:
            answer = self._begin(connection, request)
            if "result" not in document(answer.readline(_LARGEST_ANSWER)):
                raise ValueError("no stream of changes")
        except BaseException:
            connection.close()
            raise
        return Stream(self, connection)

    def _exchange(self, connection: socket.socket, request: Request) -> Answer:
        is_whole = False
        try:
            answer = self._begin(connection, request)
            text = answer.read(_LARGEST_ANSWER + 1)
            if len(text) > _LARGEST_ANSWER:
                raise ValueError("it is too large")
            is_whole = answer.isclosed() and not answer.will_close
            return document(text)
        finally:
            if is_whole:
                self._kept = connection
            else:
                connection.close()

    def _begin(
        self, connection: socket.socket, request: Request
    ) -> http.client.HTTPResponse:
        """Send a request; return the answer once its head is there."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        connection.settimeout(request.left())
        connection.sendall(request.text(f"{host}:{self._port}"))
        source: Any = _Bytes(connection, request)
        answer = http.client.HTTPResponse(source, method="POST")
        answer.begin()
        if answer.getheader("Content-Encoding", "identity") != "identity":
            raise ValueError("it is compressed")
        if answer.status != http.client.OK:
            with contextlib.suppress(*ODD):
                document(answer.read(_LARGEST_ANSWER))  # raises what the member says
            raise RefusedError(f"HTTP status {answer.status}")
        return answer

    def _connect(self, request: Request) -> socket.socket:
        """Return a connection to the first of its addresses that takes one."""
        places = self._look_up(request)
        for later, (family, kind, protocol, _, place) in enumerate(
            places, -len(places)
        ):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(request.left() / -later)
                connection.connect(place)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is None:
                    return connection
                connection.settimeout(request.left())
                return self._tls.wrap_socket(connection, server_hostname=self.host)
            except BaseException as error:
                connection.close()
                if later == -1 or not isinstance(error, OSError):
                    raise
        raise OSError(None, "it has no address")

    def _look_up(self, request: Request) -> list[tuple[Any, ...]]:
        """Return its addresses: those known before, where none are told in time."""
        with contextlib.suppress(socket.gaierror):
            return self._ask_resolver(socket.AI_NUMERICHOST)
        failures: list[OSError] = []

        def ask() -> None:  # getaddrinfo(3) has no limit of time
            try:
                self._places = self._ask_resolver(0)
            except OSError as error:
                failures.append(error)

        if self._resolver is None or not self._resolver.is_alive():
            self._resolver = threading.Thread(target=ask, daemon=True)
            self._resolver.start()
        self._resolver.join(request.left() / 2)
        if not self._places:
            raise failures[0] if failures else OSError(None, "no name server answers")
        return self._places

    def _ask_resolver(self, flags: int) -> list[tuple[Any, ...]]:
        kind = socket.SOCK_STREAM
        return [*socket.getaddrinfo(self.host, self._port, 0, kind, 0, flags)]


def document(text: bytes) -> Answer:
    """Return the JSON object that an answer is. Raises RefusedError and ODD."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    if "error" in found:
        error = found["error"]
        if isinstance(error, dict):  # in a stream
            raise RefusedError(str(error.get("message")), error.get("grpc_code"))
        raise RefusedError(str(error), found.get("code"))
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")
