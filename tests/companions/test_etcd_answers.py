"""What a member of etcd may answer: what makes no sense is no answer, whatever it is.

The members here are sockets that answer as they are told; test_lease_cluster.py has
real ones.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from viagralib.base.clocks import boot_clock
from viagralib.companions.lease.engine import (
    DeafError,
    Entry,
    Snapshot,
    UnreachableError,
)
from viagralib.companions.lease.engine_url import open_engine
from viagralib.companions.lease.etcd_client import fair_limit
from viagralib.companions.lease.etcd_engine import EtcdEngine

LONG = 30.0  # seconds; only a machine that hangs takes this long
TTL = 20.0  # seconds: a member has a fifth of it, more than a busy machine takes
SHORT, MIDDLE = 2.0, 5.0  # where that time is waited for
HEADER = {"member_id": "15985099378392235387", "raft_term": "2"}
Answers = Callable[[socket.socket, bytes], None]


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def entry(key: str, value: str = "{}", **more: object) -> dict[str, object]:
    numbers = {"create_revision": "7", "mod_revision": "8"}
    return {"key": coded(f"p/food/{key}"), "value": coded(value), **numbers, **more}


SOUND = {"header": HEADER, "kvs": [entry("primary", '{"node": "sound"}')]}


def text_of(body: object, head: str = "200 OK", *lines: str) -> bytes:
    """Return an HTTP answer; what is no bytes is made JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {head}", *lines, f"Content-Length: {len(content)}", "", "")
    return "\r\n".join(lines).encode() + content


def says(text: bytes) -> Answers:
    return lambda connection, request: connection.sendall(text)


def closes(text: bytes) -> Answers:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_RDWR)

    return answer


def drips(connection: socket.socket, request: bytes) -> None:
    """Send a byte now and then, for as long as anybody listens."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        if connection.recv(1, socket.MSG_PEEK) == b"":
            return


class Member:
    """Something that listens, and answers each request in the same way."""

    def __init__(self, answer: Answers, family: int = socket.AF_INET) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self._door = socket.socket(family)
        self._door.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._door.listen()
        self.port = self._door.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._door.accept()[0]
                connection.settimeout(0.02 if self.answer is drips else LONG)
                self._connections.append(connection)
                threading.Thread(target=self._talk, args=(connection,)).start()

    def _talk(self, connection: socket.socket) -> None:
        pending = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                pending += part
                head, end, body = pending.partition(b"\r\n\r\n")
                size = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
                if end and len(body) >= int(size or 0):
                    self.requests.append(pending)
                    pending = b""
                    self._answer(connection, self.requests[-1])

    def _answer(self, connection: socket.socket, request: bytes) -> None:
        while True:
            try:
                return self.answer(connection, request)
            except TimeoutError:
                continue

    def end(self) -> None:
        for one in (self._door, *self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join()


Make = Callable[..., Member]


@pytest.fixture
def member() -> Iterator[Make]:
    made: list[Member] = []

    def make(*arguments: object) -> Member:
        made.append(Member(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.end()


def engine(*members: Member, login: str = "", ttl: float = TTL) -> EtcdEngine:
    places = ",".join(f"127.0.0.1:{one.port}" for one in members)
    return connected(f"etcd://{login}{places}/p", ttl)


def connected(url: str, ttl: float = TTL) -> EtcdEngine:
    made = open_engine(url, "food", ttl, Entry("here"))
    assert isinstance(made, EtcdEngine)
    made.connect()
    return made


def node(snapshot: Snapshot) -> str:
    return snapshot.primary.node if snapshot.primary else ""


def kvs(**changed: object) -> bytes:
    return text_of({"header": HEADER, "kvs": [{**entry("primary"), **changed}]})


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ODD: dict[str, Answers] = {
    "nothing, and stays": lambda connection, request: None,
    "nothing, and goes": closes(b""),
    "no HTTP": closes(b"220 mail ready\r\n"),
    "half a head": closes(b"HTTP/1.1 200 OK\r\nContent-"),
    "a head without end": closes(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200),
    "cut": closes(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"),
    "cut in a chunk": closes(CHUNKED + b"ffff\r\n{"),
    "no chunks": closes(CHUNKED + b"what?\r\n{}"),
    "a byte now and then": drips,
    "too large": closes(text_of({**SOUND, "more": "x" * (5 << 20)})),
    "a page": says(text_of(b"<html>Welcome</html>")),
    "not found": says(text_of(b"404 page", "404 Not Found")),
    "an error": says(text_of({"error": "no leader", "code": 14}, "503 Unavailable")),
    "an error that is none": says(text_of({"error": 5}, "500 Oops")),
    "compressed": says(text_of(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip")),
    "no UTF-8": says(text_of(b'{"header": "\xff"}')),
    "deep": says(text_of(b"[" * 200_000)),
    "NaN": says(text_of(b'{"header": NaN, "kvs": []}')),
    "infinite": says(text_of(b'{"header": -Infinity}')),
    "a list": says(text_of([])),
    "null": says(text_of(None)),
    "a number": says(text_of(5)),
    "empty": says(text_of({})),
    "no head": says(text_of({"kvs": []})),
    "a head that is none": says(text_of({"header": 5})),
    "an odd term": says(text_of({"header": {**HEADER, "raft_term": "x"}})),
    "keys null": says(text_of({"header": HEADER, "kvs": None})),
    "keys of null": says(text_of({"header": HEADER, "kvs": [None]})),
    "a key that is a number": says(kvs(key=5)),
    "a key that is not coded": says(kvs(key="%%%%a")),
    "no revision": says(kvs(create_revision=None)),
    "a fraction": says(kvs(create_revision=7.5)),
    "true": says(kvs(create_revision=True)),
    "negative": says(kvs(create_revision=-7)),
    "a long number": says(kvs(create_revision="9" * 5000)),
    "an odd lease": says(kvs(lease="x")),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_an_odd_answer_is_none_and_the_next_member_is_asked(
    member: Make, answer: Answers
) -> None:
    odd, sound = member(answer), member(says(text_of(SOUND)))
    began = boot_clock()
    with pytest.raises(UnreachableError, match=r"^127\.0\.0\.1: \w"):
        engine(odd, ttl=SHORT).stand_by()
    assert boot_clock() - began < 4 * LONG  # to its end, it would take longer
    is_slow = answer in (drips, ODD["nothing, and stays"])
    both = engine(odd, sound, ttl=MIDDLE if is_slow else TTL)
    assert node(both._look()) == "sound"
    assert node(both._look()) == "sound"
    assert len(sound.requests) == 2
    assert len(odd.requests) <= 3  # the one that answered goes first from now on


def granted(path: bytes, odd: object) -> Answers:
    """Answer `odd` to a path, and sensibly to all others."""

    def answer(connection: socket.socket, request: bytes) -> None:
        grant = {"header": HEADER, "ID": "5", "TTL": "2"}
        is_it = request.startswith(b"POST /v3" + path)
        connection.sendall(text_of(odd if is_it else grant))

    return answer


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        (b"/lease/grant", {"header": HEADER}),
        (b"/lease/grant", {"header": HEADER, "ID": "0"}),
        (b"/lease/grant", {"header": HEADER, "ID": [5]}),
        (b"/kv/txn", {"header": HEADER, "succeeded": True}),
        (b"/kv/txn", {"header": HEADER, "responses": []}),
        (b"/kv/txn", {"header": HEADER, "responses": [{"response_range": 5}]}),
    ],
    ids=str,
)
def test_an_odd_answer_takes_no_lease(member: Make, path: bytes, odd: object) -> None:
    with pytest.raises(UnreachableError):
        engine(member(granted(path, odd))).take()


def test_a_standby_that_could_not_be_put_is_put_again(member: Make) -> None:
    etcd = member(granted(b"/kv/put", {"error": "no leader", "code": 14}))
    keeper = engine(etcd)
    with pytest.raises(UnreachableError, match="no leader"):
        keeper.stand_by()
    etcd.answer = cluster("2")
    keeper.stand_by()
    keeper.stand_by()
    assert len(orders(etcd, b"/kv/put")) == 2


def test_a_stream_that_is_refused_is_asked_of_the_next_member(member: Make) -> None:
    """It is no renewal that failed."""
    deaf = member(granted(b"/watch", {"error": "no streams", "code": 12}))
    sound = member(says(text_of({"result": {"created": True}})))
    asked = engine(deaf, sound)
    with pytest.raises(DeafError, match="no streams"):
        asked.watch(as_primary=True)
    assert asked.watch(as_primary=True)
    assert not asked.watch(as_primary=True)
    assert (len(deaf.requests), len(sound.requests)) == (1, 1)


def test_poisoned_values_are_no_orders(member: Make) -> None:
    deep = entry("primary", "[" * 100_000)
    values = [entry("yield", "9" * 5000), entry("last", '{"node": 1}'), deep]
    snapshot = engine(member(says(text_of({"header": HEADER, "kvs": values}))))._look()
    assert (snapshot.asked, snapshot.uncertain, node(snapshot)) == (0, None, "?")


def test_a_redirect_is_not_followed_with_the_password(member: Make) -> None:
    thief = member(says(text_of({"token": "t"})))
    place = f"Location: http://127.0.0.1:{thief.port}/v3/auth/authenticate"
    sender = member(says(text_of(b"", "307 Temporary Redirect", place)))
    with pytest.raises(UnreachableError, match="HTTP status 307"):
        engine(sender, login="me:secret@")._look()
    assert thief.requests == []


def test_a_token_that_has_expired_is_renewed(member: Make) -> None:
    tokens: list[str] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST /v3/auth/authenticate"):
            assert json.loads(request.partition(b"\r\n\r\n")[2])["password"] == "secret"
            tokens.append(f"token{len(tokens)}")
            connection.sendall(text_of({"header": HEADER, "token": tokens[-1]}))
        elif f"Authorization: {tokens[-1]}\r\n".encode() in request:
            connection.sendall(text_of(SOUND))
        else:
            error = {"error": "etcdserver: invalid auth token", "code": 16}
            connection.sendall(text_of(error, "401 Unauthorized"))

    asked = engine(member(answer), login="me:secret@")
    assert node(asked._look()) == "sound"
    tokens.append("another")
    assert node(asked._look()) == "sound"
    assert len(tokens) == 3


def test_the_connection_is_kept_and_its_end_is_no_failure(member: Make) -> None:
    """A member closes what is idle: then the request is sent again, on a new one."""
    sound = member(says(text_of(SOUND)))
    asked = engine(sound)
    for _ in range(3):
        asked._look()
    assert len(sound._connections) == 1
    sound.answer = closes(text_of(SOUND))
    asked._look()
    assert node(asked._look()) == "sound"
    assert len(sound._connections) == 2


def test_a_member_has_an_address_of_six(member: Make) -> None:
    try:
        sound = member(says(text_of(SOUND)), socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    assert node(connected(f"etcd://[::1]:{sound.port}/p")._look()) == "sound"
    assert b"Host: [::1]:" in sound.requests[0]


def test_a_name_that_is_looked_up_for_too_long_is_no_answer(
    member: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    find = socket.getaddrinfo

    def hangs(*arguments: object) -> object:
        if arguments[0] == "hangs.test" and not arguments[-1]:
            over.wait(LONG)
        return find(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    sound = member(says(text_of(SOUND)))
    asked = connected(f"etcd://hangs.test:1,127.0.0.1:{sound.port}/p", MIDDLE)
    assert node(asked._look()) == "sound"
    over.set()
    with pytest.raises(UnreachableError, match="no name server answers"):
        over.clear()
        try:
            connected("etcd://hangs.test:1/p", SHORT)._look()
        finally:
            over.set()


def test_each_member_leaves_the_others_their_part_of_the_time() -> None:
    """And what follows the answer: a call of its own, with as many members."""
    left, members = 4.0, 3
    for number in range(members):
        left -= fair_limit(left, members - number, 9.0)
    assert left == pytest.approx(1.0)
    assert fair_limit(4.0, 1, 0.5) == 0.5


def cluster(term: str, kept: str = "60") -> Answers:
    """Answer as etcd, renewals for `kept` seconds in term 2, and all else in `term`."""

    def answer(connection: socket.socket, request: bytes) -> None:
        looked = {"response_range": {"kvs": [entry("primary", lease="5")]}}
        head = {**HEADER, "raft_term": term}
        found: dict[str, object] = {"header": head, "ID": "5", "responses": [looked]}
        if request.startswith(b"POST /v3/lease/keepalive"):
            found = {"result": {"header": HEADER, "TTL": kept}}
        connection.sendall(text_of(found))

    return answer


def orders(member: Member, path: bytes) -> list[dict[str, Any]]:
    """Return what was asked for by a path."""
    found = [text for text in member.requests if text.startswith(b"POST /v3" + path)]
    return [json.loads(text.partition(b"\r\n\r\n")[2]) for text in found]


def test_all_that_is_put_is_put_on_its_condition(member: Make) -> None:
    """That the key is its own; of a lost lease, that its own start is the last one."""
    etcd = member(cluster("2"))
    keeper = engine(etcd)
    lease = keeper.take()
    assert lease
    keeper.note_start(lease)
    keeper.renew(lease, math.inf)
    etcd.answer = cluster("2", kept="0")
    keeper.renew(lease, math.inf)
    keeper.give_up(lease, ended=True, is_lost=True)
    took, noted, renewed, again, told = orders(etcd, b"/kv/txn")
    own, last = coded("p/food/primary"), coded("p/food/last")
    created = {"key": own, "target": "CREATE"}
    assert took["compare"] == [{**created, "create_revision": 0}]
    for order in (noted, renewed):
        assert order["compare"] == [{**created, "create_revision": 7}]
    starts = noted["success"][0]["request_put"]
    assert starts["key"] == last
    assert renewed["success"][0]["request_put"] == starts
    note = {"key": last, "target": "VALUE", "value": starts["value"]}
    assert again["compare"] == [*took["compare"], note]
    assert again["success"][1]["request_put"] == starts
    assert told["compare"] == [note]
    assert told["success"][0]["request_put"]["key"] == last


@pytest.mark.parametrize("kept", ["60", "0"])
def test_the_time_counts_from_before_the_renewal(member: Make, kept: str) -> None:
    """Of a lease that was revoked, and is taken again, as well."""
    answer = cluster("2", kept)
    came: list[float] = []

    def notes(connection: socket.socket, request: bytes) -> None:
        came.append(boot_clock())
        answer(connection, request)

    keeper = engine(member(notes))
    lease = keeper.take()
    assert lease
    keeper.note_start(lease)
    came.clear()
    deadline = keeper.renew(lease, math.inf).deadline
    assert deadline <= came[-2] + TTL  # all but the last request are before it


def test_what_a_deposed_leader_renews_does_not_count(member: Make) -> None:
    """It renews in term 2, and the read that a majority has to confirm is of 3."""
    keeper = engine(member(cluster("3")))
    lease = keeper.take()
    assert lease
    with pytest.raises(UnreachableError, match="changes its leader"):
        keeper.renew(lease, math.inf)
