"""Talking to the members of an etcd cluster: addresses, TLS, password, time limits."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from viagralib.base.messages import Fault, reason, safe, shown
from viagralib.companions.contract.guardian import boot_clock
from viagralib.companions.lease.engine import UnreachableError

if TYPE_CHECKING:
    import requests
    from etcd3gw.client import Etcd3Client

Answer = Mapping[str, Any]


# Since etcd 3.4. An older etcd3gw would call /v3alpha/, which is gone.
_API = "/v3/"
_PORT = 2379
_FILES = ("ca", "cert", "key", "password")


@dataclass(frozen=True)
class Address:
    """Where a cluster is, and what it wants to know of us; files are paths."""

    secure: bool
    members: tuple[tuple[str, int], ...]
    prefix: str
    user: str
    password: str
    files: Mapping[str, str]


def parse(url: str) -> Address:
    """Return what an etcd:// or etcds:// URL says. Raises Fault.

    etcds://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE
    and password=FILE, so that the password stands in no command line.
    """
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    files = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in files:
        if key not in _FILES:
            raise Fault(
                "--engine", f"unknown {shown(key)}: known are {', '.join(_FILES)}"
            )
    if ("cert" in files) != ("key" in files):
        raise Fault("--engine", "cert and key go together")
    secure = parts.scheme == "etcds"
    if not secure and files.keys() & {"ca", "cert", "key"}:
        raise Fault("--engine", "ca, cert and key need etcds://")
    prefix = parts.path.strip("/") or "viagra"
    members = tuple(_member(place) for place in places.split(","))
    return Address(
        secure, members, f"{prefix}/", unquote(user), unquote(password), files
    )


def _member(place: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or port == 0:
        raise Fault("--engine", f"{shown(place)} is not like HOST:{_PORT}")
    return host, port or _PORT


def _etcd3gw() -> ModuleType:
    """Import etcd3gw, the dearest of all imports, without what only its watches need.

    That is futurist, which takes asyncio and more with it: a third of a keeper's start.
    """
    idle = ModuleType("futurist")
    idle.__getattr__ = lambda name: object  # type: ignore[method-assign]
    sys.modules["futurist"] = idle
    with contextlib.suppress(Exception):
        importlib.import_module("etcd3gw")
    del sys.modules["futurist"]
    return importlib.import_module("etcd3gw")  # what is there, else with all


class Stream:
    """An answer that goes on: of interest is only whether more of it has come."""

    def __init__(self, member: Etcd3Client, answer: requests.Response) -> None:
        """Wait for the first line. Raises ValueError when there is none."""
        self.member = member
        self._answer = answer
        # Kept: at its end an iterator closes the connection.
        self._lines = answer.iter_lines(chunk_size=1)
        if not next(self._lines, None):
            raise ValueError("no stream of changes")

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        number: int = self._answer.raw.fileno()
        return number

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()


class Members:
    """The members of a cluster; the one that answered last is asked first."""

    def __init__(self, address: Address, limit: float) -> None:
        """`limit` is how many seconds each call may take."""
        self._address = address
        self._limit = limit
        self._clients: list[Etcd3Client] = []
        self._login: dict[str, str] | None = None

    def connect(self) -> None:
        """Import what talks to etcd, and read the files. Raises Fault."""
        if not importlib.util.find_spec("etcd3gw"):
            text = "etcd needs the Python package etcd3gw, which is not there"
            raise Fault("", f"{text}: make install EXTRAS=cluster")
        if self._address.secure:
            self._check_tls()
        self._login = self._read_login()
        etcd3gw = _etcd3gw()
        files = self._address.files
        for host, port in self._address.members:
            client = etcd3gw.client(
                host=host,
                port=port,
                protocol="https" if self._address.secure else "http",
                ca_cert=files.get("ca"),
                cert_cert=files.get("cert"),
                cert_key=files.get("key"),
                api_path=_API,
            )
            # No proxy, no .netrc, no other CA because of a variable or a file.
            client.session.trust_env = False
            self._clients.append(client)

    def ask(self, path: str, order: Answer, until: float = math.inf) -> Answer:
        """Return the answer of the first member that has one.

        Each has its time, and none is asked after `until` (boot clock). Raises
        UnreachableError with the last one's reason.
        """
        why = "no time left"
        for _ in range(len(self._clients)):
            limit = min(self._limit, until - boot_clock())
            if limit <= 0:
                break
            try:
                return self._ask_first(path, order, limit)
            except UnreachableError as error:
                why = str(error)
                self._clients.append(self._clients.pop(0))
        raise UnreachableError(why)

    def stream(self, path: str, order: Answer) -> Stream:
        """Return an answer that goes on, after its first line. Raises as `ask`."""
        client = self._clients[0]
        with _Failures(client):
            stream = client.session.post(
                client.get_url(path), json=order, stream=True, timeout=self._limit
            )
            return Stream(client, stream)

    def is_first(self, stream: Stream) -> bool:
        """Return whether the stream is from the member that is asked first now."""
        return stream.member is self._clients[0]

    def _ask_first(self, path: str, order: Answer, limit: float) -> Answer:
        client = self._clients[0]
        client.timeout = limit
        with _Failures(client):
            if self._login and "Authorization" not in client.session.headers:
                url = client.get_url("/auth/authenticate")
                token = client.post(url, json=self._login)["token"]
                client.session.headers["Authorization"] = token
            answer: Answer = client.post(client.get_url(path), json=order)
            if "error" in answer:
                raise ValueError(answer["error"])
            return answer

    def _check_tls(self) -> None:
        files = self._address.files
        try:
            context = ssl.create_default_context(cafile=files.get("ca"))
            if "cert" in files:
                context.load_cert_chain(files["cert"], files["key"])
        except ssl.SSLError as error:
            raise Fault("", f"ca, cert or key: {error.reason or error}") from None
        except OSError as error:
            raise Fault(
                "", f"could not read ca, cert or key: {reason(error)}"
            ) from None

    def _read_login(self) -> dict[str, str] | None:
        address = self._address
        password = address.password
        if "password" in address.files:
            try:
                with open(address.files["password"], encoding="utf-8") as file:
                    password = file.readline().rstrip("\n")
            except (OSError, ValueError) as error:
                text = reason(error) if isinstance(error, OSError) else str(error)
                raise Fault("", f"could not read the password: {text}") from None
        return {"name": address.user, "password": password} if address.user else None


class _Failures:
    """Turns whatever goes wrong with one member into UnreachableError."""

    def __init__(self, client: Etcd3Client) -> None:
        self._client = client

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        from etcd3gw.exceptions import Etcd3Exception
        from requests import RequestException

        known = Etcd3Exception, RequestException, OSError, ValueError, LookupError
        if isinstance(error, known):
            self._client.session.close()
            # It may have expired, or be another member's.
            self._client.session.headers.pop("Authorization", None)
            raise UnreachableError(f"{self._client.host}: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """Return the reason that lies deepest, in a few words."""
    detail = getattr(error, "detail_text", None)  # what the member itself said
    text = str(detail or error) or type(error).__name__
    if "timed out" in text.lower():
        text = "no answer in time"
    # urllib3 wraps the system's words in those of several objects.
    return safe(text.rpartition("] ")[2].rstrip("')\n"))[:200]
