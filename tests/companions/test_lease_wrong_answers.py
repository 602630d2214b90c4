"""Three keepers whose etcd answers with nonsense now and then: never two, and soon one.

test_etcd_answers.py has each odd answer by itself; here they come at random, between
keepers and a real member.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from companion_programs import Program, program
from world import need, until

pytestmark = pytest.mark.long

FOR = 40.0  # seconds
# A lock that the kernel gives to one command at a time, and its children.
ALONE = """
exec 9>>{lock}
flock -n 9 || echo two >>{lock}
echo start >>{lock}
exec sleep 1000
"""
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<welcome>"
OTHERS = (
    b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
    PAGE,
    PAGE.replace(b"<welcome>", b'{"ID":-1}'),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}",
    b"\x16\x03\x01",
)


class Liar:
    """A proxy before a member, that may put another answer in the place of its."""

    def __init__(self, port: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self._member = port
        self.part = 0.0  # of all answers, that are wrong
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one = self._door.accept()[0]
                other = socket.create_connection(("127.0.0.1", self._member))
                self._open += [one, other]
                threading.Thread(target=self._pass, args=(one, other, False)).start()
                threading.Thread(target=self._pass, args=(other, one, True)).start()

    def _pass(self, one: socket.socket, other: socket.socket, lies: bool) -> None:
        with contextlib.suppress(OSError):
            while text := one.recv(65536):
                if lies and self._draw.random() < self.part:
                    time.sleep(self._draw.choice((0, 0, 0.3, 2.0)))
                    cut = text[: self._draw.randrange(len(text))]
                    text = self._draw.choice((*OTHERS, cut, b"", text))
                    other.sendall(text)
                    break
                other.sendall(text)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        for one in (self._door, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def liars(tmp_path: Path) -> Iterator[list[Liar]]:
    """Give three proxies before one member of etcd."""
    need("flock")
    anywhere = ("127.0.0.1", 0)
    with socket.create_server(anywhere) as one, socket.create_server(anywhere) as two:
        client, peer = one.getsockname()[1], two.getsockname()[1]
    own, other = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    with (tmp_path / "etcd.log").open("wb") as log:
        member = subprocess.Popen(
            [
                *(need("etcd"), "--data-dir", str(tmp_path / "etcd")),
                *("--listen-client-urls", own, "--advertise-client-urls", own),
                *("--listen-peer-urls", other),
                *("--initial-advertise-peer-urls", other),
                *("--initial-cluster", f"default={other}", "--unsafe-no-fsync"),
            ],
            stdout=log,
            stderr=log,
        )
    made = [Liar(client, seed) for seed in range(3)]
    yield made
    for liar in made:
        liar.end()
    member.kill()
    member.wait()


def test_wrong_answers_at_random_make_never_two(
    liars: list[Liar], tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    places = [f"127.0.0.1:{liar.port}" for liar in liars]

    def told(word: str) -> int:
        return lock.read_text().split().count(word)

    with contextlib.ExitStack() as stack:
        keepers: list[Program] = []
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            made = program("viagra-lease", tmp_path / str(number))
            keepers.append(stack.enter_context(made))
            order = [places[number], *places[number + 1 :], *places[:number]]
            keepers[-1].environment["VIAGRA_LEASE"] = f"etcd://{','.join(order)}/wrong"
            script = ALONE.format(lock=lock)
            words = ("--ttl=3s", "--retry-after=1s", "food", "--", "sh", "-c", script)
            keepers[-1].start(*words)
        until(lambda: told("start"))
        for part in (0.05, 0.2, 0.5, 0.9):
            for liar in liars:
                liar.part = part
            end = time.monotonic() + FOR / 4
            while time.monotonic() < end:
                time.sleep(0.2)  # that they have their time is the test
                assert not told("two")
        for liar in liars:
            liar.part = 0.0
        assert told("start") > 1  # so some have lost it
        running = [one for one in keepers if one.runner.poll() is None]
        assert len(running) == 3  # none has died of it
        until(lambda: _holds(lock))
        assert not told("two")
        texts = "".join("".join(one.lines("stderr")) for one in keepers)
        assert "Traceback" not in texts
        for one in running:
            one.send(signal.SIGTERM)
        assert [one.end() for one in running] == [0, 0, 0]


def _holds(lock: Path) -> bool:
    """Return whether a command runs."""
    done = subprocess.call(["flock", "-n", str(lock), "true"], env=dict(os.environ))
    return done == 1
