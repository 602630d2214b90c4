"""viagra-lease with certificates and passwords, as docs/two-machines.md sets it up.

Three members of etcd, all on the loopback device: the CA, certificates, settings and
users are made by the very lines of that page, with other places in them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from checkout import CHECKOUT
from companion_programs import Program, lives, program
from world import need, until

pytestmark = pytest.mark.long

PAGE = CHECKOUT / "docs/two-machines.md"
PLACES = "/etc/viagra/tls|/root/food-ca"  # on the page
STAYS = "echo $$ $VIAGRA_TOKEN >>out; exec sleep 1000"
NAMES = "abc"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.socket()) for _ in range(count)]
        for door in doors:
            door.bind(("127.0.0.1", 0))
        return [door.getsockname()[1] for door in doors]


class Secured:
    """A cluster as the page makes it; `url` is its engine."""

    def __init__(self, place: Path) -> None:
        page = PAGE.read_text().partition("\n## Certificates and passwords\n")[2]
        blocks = re.findall(r"(?:^    .*\n)+", page.partition("\n## ")[0], re.MULTILINE)
        certificates, _, self._settings, users, hook = map(self._moved, blocks)
        self.tls = place / "tls"
        self.place = place
        ports = free_ports(2 * len(NAMES))
        self._clients = dict(zip(NAMES, ports, strict=False))
        self._peers = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self._run(certificates)
        self._run("cd /root/food-ca; openssl verify -x509_strict -CAfile ca.pem ?.pem")
        for kind in ("pem", "key"):
            shutil.copy(self.tls / f"a.{kind}", self.tls / f"own.{kind}")
        for name in NAMES:
            self.start(name)
        self._users = users
        places = ",".join(f"127.0.0.1:{port}" for port in self._clients.values())
        (url,) = re.findall(r"--engine '(.+)'", hook)
        self.url = self._text(url).replace(",".join(["127.0.0.1"] * 3), places)

    @staticmethod
    def _moved(block: str) -> str:
        return re.sub("^    ", "", block, flags=re.MULTILINE)

    def _text(self, text: str) -> str:
        text = text.replace("10.0.0.1:2379", f"127.0.0.1:{self._clients['a']}")
        text = re.sub(r"10\.0\.0\.[123]", "127.0.0.1", text)
        return re.sub(PLACES, str(self.tls), text)

    def _run(self, script: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", self._text(script)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.place)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done

    def add_users(self) -> None:
        """Wait for the cluster, and switch passwords on."""
        until(lambda: self._ctl("endpoint", "health") == 0)
        self._run(self._users)

    def _ctl(self, *words: str) -> int:
        files = [f"--cacert={self.tls}/ca.pem"]
        files += [f"--{kind}={self.tls}/a.{end}" for kind, end in OWN]
        at = f"--endpoints=127.0.0.1:{self._clients['a']}"
        return subprocess.call(
            ["etcdctl", at, *files, *words],
            env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self, name: str) -> None:
        """Start a member, with the page's settings."""
        own = f"https://127.0.0.1:{self._clients[name]}"
        peer = f"https://127.0.0.1:{self._peers[name]}"
        cluster = [f"{n}=https://127.0.0.1:{port}" for n, port in self._peers.items()]
        settings = self._text(self._settings).replace("/own.", f"/{name}.")
        with (self.place / f"{name}.log").open("ab") as log:
            self.members[name] = subprocess.Popen(
                ["etcd"],
                stdout=log,
                stderr=log,
                env={
                    "PATH": os.environ["PATH"],
                    "ETCD_NAME": name,
                    "ETCD_DATA_DIR": str(self.place / name),
                    "ETCD_LISTEN_CLIENT_URLS": own,
                    "ETCD_ADVERTISE_CLIENT_URLS": own,
                    "ETCD_LISTEN_PEER_URLS": peer,
                    "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
                    "ETCD_INITIAL_CLUSTER": ",".join(cluster),
                    **dict(line.split("=", 1) for line in settings.splitlines()),
                },
            )

    def kill(self, name: str) -> None:
        self.members[name].kill()
        self.members[name].wait()

    def end(self) -> None:
        for name in self.members:
            self.kill(name)


OWN = (("cert", "pem"), ("key", "key"))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    for name in ("etcd", "etcdctl", "openssl"):
        need(name)
    made = Secured(tmp_path)
    try:
        made.add_users()
        yield made
    finally:
        made.end()


def keep(keeper: Program, url: str, *options: str) -> None:
    keeper.environment["VIAGRA_LEASE"] = url
    keeper.start("--ttl=6s", *options, "food", "--", "sh", "-c", STAYS)


def running(keeper: Program) -> tuple[int, int]:
    until(keeper.lines)
    pid, token = keeper.lines()[0].split()
    return int(pid), int(token)


def test_the_page_followed_word_by_word(secured: Secured, tmp_path: Path) -> None:
    """Logins are forgotten by a member that is started anew: they are renewed."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        program("viagra-lease", tmp_path / "one") as one,
        program("viagra-lease", tmp_path / "two") as two,
    ):
        keep(one, secured.url)
        pid, token = running(one)
        keep(two, secured.url)
        for name in NAMES:
            secured.kill(name)
            secured.start(name)
            until(lambda: secured._ctl("endpoint", "health") == 0)
        assert lives(pid)
        assert two.lines() == []
        one.send(signal.SIGTERM)
        assert one.end() == 0
        assert running(two)[1] > token
        assert not lives(pid)
        two.send(signal.SIGTERM)
        assert two.end() == 0


def test_who_lacks_one_of_them_gets_no_lease(secured: Secured, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("no\n")
    wrong.chmod(0o600)
    no_user = secured.url.replace("food@", "").partition("&password")[0]
    cases = [
        # TLS has no one word for it
        (re.sub("&cert=[^&]*&key=[^&]*", "", secured.url), "no engine answers"),
        (secured.url.replace("etcds:", "etcd:").partition("?")[0], "no engine answers"),
        (re.sub("password=.*", f"password={wrong}", secured.url), "failed"),
        (no_user, "denied"),
        (secured.url.replace("/viagra?", "/other?"), "permission denied"),
    ]
    for number, (url, text) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        with program("viagra-lease", tmp_path / str(number)) as keeper:
            keep(keeper, url, "--wait-for-engine=1s")
            assert keeper.end() == 69
            assert keeper.lines() == []
            assert text in "".join(keeper.lines("stderr")), (url, text)
