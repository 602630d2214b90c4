"""Talking to an etcd cluster: which member is asked, for how long, and as whom."""

from __future__ import annotations

import http.client
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from viagralib.base import guarded_files
from viagralib.base.clocks import boot_clock
from viagralib.base.messages import Fault, reason, safe
from viagralib.companions.lease.engine import DeafError, UnreachableError
from viagralib.companions.lease.engine_url import Address
from viagralib.companions.lease.etcd_wire import (
    ODD,
    Answer,
    Member,
    RefusedError,
    Request,
    Stream,
)

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

_UNAUTHENTICATED = 16  # gRPC's code: the token has expired


class Members:
    """The members of a cluster; the one that answered last is asked first."""

    def __init__(self, address: Address, limit: float) -> None:
        """`limit` is how many seconds a member may take for one answer."""
        self._address = address
        self._limit = limit
        self._members: list[Member] = []
        self._login: dict[str, str] | None = None
        self._token = ""
        self.asked_at = 0.0  # boot clock: when what was answered last was sent

    def connect(self) -> None:
        """Read the files. Raises Fault."""
        tls = _tls(self._address) if self._address.secure else None
        self._login = _login(self._address)
        self._members = [Member(*place, tls) for place in self._address.members]

    def ask(
        self,
        path: str,
        order: Answer,
        read: Callable[[Answer], T],
        until: float = math.inf,
    ) -> T:
        """Return what `read` makes of the first answer of which it can make something.

        None is asked after `until` (boot clock), and each leaves the others their part
        of the time before it. Raises UnreachableError with the last one's reason.
        """
        why = "no time left"
        for number in range(len(self._members)):
            began = boot_clock()
            limit = fair_limit(until - began, len(self._members) - number, self._limit)
            if limit <= 0:
                break
            request = Request(path, order, began + limit)
            try:
                found = self._call(lambda member, now: read(member.post(now)), request)
                self.asked_at = began
                return found
            except UnreachableError as error:
                why = str(error)
                self._members.append(self._members.pop(0))
        raise UnreachableError(why)

    def stream(self, path: str, order: Answer) -> Stream:
        """Return an answer that goes on, of the member that is asked first.

        Raises DeafError; then another is asked first.
        """
        request = Request(path, order, boot_clock() + self._limit)
        try:
            return self._call(Member.stream, request)
        except UnreachableError as error:
            self._members.append(self._members.pop(0))
            raise DeafError(str(error)) from None

    def is_first(self, stream: Stream) -> bool:
        """Return whether the stream is from the member that is asked first now."""
        return stream.member is self._members[0]

    def _call(self, call: Callable[[Member, Request], T], request: Request) -> T:
        """Call the first member; a token that has expired is renewed, once.

        Raises UnreachableError.
        """
        member = self._members[0]
        try:
            try:
                return call(member, self._with_token(member, request))
            except RefusedError as error:
                if error.code != _UNAUTHENTICATED or not self._token:
                    raise
                self._token = ""
                return call(member, self._with_token(member, request))
        except TimeoutError:
            why = "no answer in time"
        except OSError as error:
            why = getattr(error, "verify_message", "") or reason(error)
        except RefusedError as error:
            why = str(error)
        except (http.client.HTTPException, *ODD) as error:
            why = f"an answer that makes no sense: {error or type(error).__name__}"
        raise UnreachableError(f"{safe(member.host)}: {safe(why)[:200]}")

    def _with_token(self, member: Member, request: Request) -> Request:
        if not self._login:
            return request
        if not self._token:
            order = Request("/auth/authenticate", self._login, request.until)
            token = member.post(order)["token"]
            if not (token.isascii() and token.isprintable()):
                raise ValueError("no token")
            self._token = token
        return Request(request.path, request.order, request.until, self._token)


def fair_limit(left: float, members: int, most: float) -> float:
    """Return how long the next of so many members may take when so much time is left.

    There is one part more than members: what follows the answer needs time as well.
    """
    return min(most, left / (members + 1))


def _tls(address: Address) -> ssl.SSLContext:
    import ssl  # some megabytes, and the system's certificates

    files = address.files
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"])
    except ssl.SSLError as error:
        raise Fault("", f"ca, cert or key: {error.reason or error}") from None
    except OSError as error:
        raise Fault("", f"could not read ca, cert or key: {reason(error)}") from None
    return context


def _login(address: Address) -> dict[str, str] | None:
    """Return what a token is asked for with; None where nobody logs in."""
    password = address.password
    if "password" in address.files:
        try:
            file = guarded_files.read(address.files["password"], 4096)
            password = file.partition(b"\n")[0].decode()
        except (OSError, ValueError) as error:
            text = reason(error) if isinstance(error, OSError) else str(error)
            raise Fault("", f"could not read the password: {text}") from None
    return {"name": address.user, "password": password} if address.user else None
