"""notice.d: each notice reaches its programs, and no program reaches the recovery.

Those that lie ready are tried against a listener, and a mailer, of the real kind.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest
from checkout import CHECKOUT
from ready_machine import Machine
from world import SETTINGS, SLEEP, World, absent, alive, need, need_root, unique, until

READY = CHECKOUT / "notice.d"
HOSTILE = 'a "quoted" \\back\\slash & <tag> ``` @everyone \u00fc $(id) `id`'


def program(world: World, name: str, text: str, mode: int = 0o755) -> Path:
    """Put a program into notice.d."""
    return world.hook(name, text, "notice.d", mode)


def told(world: World) -> list[list[str]]:
    """Return the words of each line that programs of a test have noted."""
    file = world.place / "told"
    return [line.split("|") for line in file.read_text().splitlines()]


def test_every_notice_is_carried_in_order_when_all_is_over(world: World) -> None:
    name = unique("food")
    lock = world.state / "locks" / name
    program(
        world,
        "20-note",
        f'flock -n {lock} true || exit 1\nread first\nset -- "$VIAGRA_JSON"\n'
        f'echo "20|$VIAGRA_DAEMON|$VIAGRA_RESULT|$VIAGRA_SUBJECT|$first|$PWD" '
        f'>>{world.place}/told\ncat "$1" >{world.place}/document\n'
        f"ls /proc/self/fd >{world.place}/open; env >{world.place}/environment\n",
    )
    program(world, "10-first", f"echo 10 >>{world.place}/told")
    program(world, "30-off", f"echo 30 >>{world.place}/told", mode=0o644)
    program(world, "20-note.dpkg-old", f"echo old >>{world.place}/told")
    world.hook(name, "exit 3")
    host = os.uname().nodename

    result = world.run()
    assert (result.code, result.err) == (1, "")
    first, second = told(world)
    assert first == ["10"]
    assert second[1:3] == [name, "not brought back"]
    assert second[3] == f"{host}: {name} could not be brought back"
    assert second[4:] == [f"Restarting {name}", "/"]
    document = json.loads((world.place / "document").read_text())
    [incident] = world.incidents(name)
    assert document["incident"] == world.record(incident)
    assert document["notice"] + "\n" == (incident / "notice.txt").read_text()
    assert (document["host"], document["result"]) == (host, "not brought back")
    # Its own and ls's: nothing of ours is open in it.
    assert (world.place / "open").read_text().split() == ["0", "1", "2", "3"]
    environment = (world.place / "environment").read_text()
    keys = {line.partition("=")[0] for line in environment.splitlines()}
    assert keys - {"PWD", "_", "SHLVL", "OLDPWD"} == {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "VIAGRA_DAEMON"),
        *("VIAGRA_RESULT", "VIAGRA_SUBJECT", "VIAGRA_JSON"),
    }

    world.up(name)
    world.run()
    assert [words[2] for words in told(world)[3::2]] == ["up again"]
    assert world.run().code == 0
    world.kill(world.pids(name)[0])
    world.watch(name)
    world.run()
    assert [words[2] for words in told(world)[5::2]] == ["brought back"]
    assert list(world.state.glob(".notice*")) == []


def test_what_is_no_news_is_carried_once_whatever_is_asked_for(world: World) -> None:
    name = unique("food")
    world.watch(name, 'recovery = "report"')
    program(world, "note", f'echo "$VIAGRA_RESULT" >>{world.place}/told')
    for arguments in ((), (), ("--verbose",), ("--json",)):
        assert world.run(*arguments).code == 1
    world.facts(name, "no_such_fact = 1")
    assert world.run().code == world.run().code == 2
    assert told(world) == [["down"], ["faulty"]]


BAD = {
    "10-fails": ("echo no network >&2; exit 22", " s: no network"),
    "20-floods": ("echo $$ >PLACE/pid; exec cat /dev/zero", "printed over 1000000"),
    "30-deaf": ("exec <&-", ""),
    "40-alien": ("#!/no/such/shell\n", "names '/no/such/shell', which does not exist"),
}


def test_programs_that_fail_cost_nothing_else(world: World) -> None:
    names = [unique("food"), unique("food")]
    world.settings(f'{SETTINGS}[run]\nnotice_timeout = "60s"\n')
    for name, (text, _) in BAD.items():
        program(world, name, text.replace("PLACE", str(world.place)))
    program(world, "50-good", f'echo "$VIAGRA_DAEMON" >>{world.place}/told')
    for name in names:
        world.watch(name)
    result = world.run()
    assert result.code == 0, result
    assert [len(world.pids(name)) for name in names] == [1, 1]
    said = result.err.splitlines()
    assert len(said) == 3, said
    for name, (_, why) in BAD.items():
        lines = [
            line for line in said if line.startswith(f"viagra.py: notice.d/{name}")
        ]
        assert len(lines) == bool(why) and why in "".join(lines)
    assert "10-fails: could not pass it on: 2 of 2 notices: " in result.err
    assert sorted(told(world)) == sorted([name] for name in names)
    assert not alive(int((world.place / "pid").read_text()))


def test_a_program_that_hangs_is_ended_and_waited_for_once(world: World) -> None:
    name, other = unique("food"), unique("food")
    world.settings(f'{SETTINGS}[run]\nnotice_timeout = "0.5s"\n')
    hang = f"sleep {SLEEP} & echo $$ $! >>{world.place}/pids; exec sleep {SLEEP}"
    program(world, "hangs", hang)
    world.watch(name)
    world.watch(other)
    result = world.run()
    assert (result.code, len(world.pids(name)), len(world.pids(other))) == (0, 1, 1)
    [line] = result.err.splitlines()
    assert "1 of 2 notices: still at work after 0." in line and line.endswith(": ended")
    pids = world.place / "pids"
    if pids.exists():  # on a loaded machine its time may be over before it begins
        assert not [pid for pid in pids.read_text().split() if alive(int(pid))]


@pytest.mark.parametrize("what", ["program", "settings", "directory"])
def test_what_others_could_change_is_not_run(world: World, what: str) -> None:
    name = unique("food")
    file = program(world, "note", f"touch {world.place}/ran")
    world.write(world.home / "notice.d" / "note.conf", "X=1\n")
    unsafe = {"program": file, "settings": Path(f"{file}.conf")}.get(what, file.parent)
    unsafe.chmod(0o666 if what == "settings" else 0o777)
    world.watch(name)
    result = world.run()
    assert (result.code, len(world.pids(name))) == (0, 1)
    assert result.err.startswith("viagra.py: notice.d/note: refused: ")
    assert len(result.err.splitlines()) == 1 and f"chmod o-w {unsafe}" in result.err
    assert not (world.place / "ran").exists()
    test = world.run("test")
    assert test.code == 2 and f"chmod o-w {unsafe}" in test.out
    unsafe.chmod(0o644 if what == "settings" else 0o755)
    assert "  notice.d/note: run for every notice\n" in world.run("test").out


# Those that lie ready


class Asked:
    """One request that the listener got."""

    def __init__(self, path: str, headers: dict[str, str], body: str) -> None:
        self.path = path
        self.headers = headers
        self.body = body


@pytest.fixture
def listener() -> Iterator[tuple[str, list[Asked]]]:
    """Give the address of a web service, and the list of what it was asked."""
    asked: list[Asked] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {key.lower(): value for key, value in self.headers.items()}
            asked.append(Asked(self.path, headers, body))
            self.send_response(403 if "refuse" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def execute(
    place: Path, name: str, conf: str, result: str, notice: str
) -> subprocess.CompletedProcess[str]:
    """Execute a ready program as a run would."""
    copy = place / name
    shutil.copy(READY / name, copy)
    (place / f"{name}.conf").write_text(conf)
    (place / "json").write_text(json.dumps({"notice": notice}))
    return subprocess.run(
        ["/bin/sh", copy],
        input=f"{notice}\n",
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "VIAGRA_DAEMON": "food",
            "VIAGRA_RESULT": result,
            "VIAGRA_SUBJECT": 'web3: "food" was',
            "VIAGRA_JSON": str(place / "json"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def text_of(kind: str, body: str) -> tuple[str, int]:
    """Return what people read of a request, and how many characters it may have."""
    if kind == "ntfy":
        return body, 4096
    told = json.loads(body)
    if kind == "discord":
        assert told["allowed_mentions"] == {"parse": []}
        return told["content"], 2000
    if kind == "teams":
        [message] = told["attachments"]
        return "".join(one["text"] for one in message["content"]["body"]), 28_000
    return told["notice" if kind == "json" else "text"], 16_383


@pytest.mark.parametrize(
    "kind", ["slack", "mattermost", "discord", "teams", "ntfy", "json"]
)
def test_webhook_speaks_as_each_service_wants(
    tmp_path: Path, listener: tuple[str, list[Asked]], kind: str
) -> None:
    need("curl")
    address, asked = listener
    conf = f"KIND={kind} URL='{address}/key' TOKEN=secret\n"
    rest = "" if kind == "json" else "\n" + "x\u00fc" * 40
    notice = f"Restarting food\n  why       {HOSTILE}" + rest * 700
    done = execute(tmp_path, "webhook", conf, "brought back", notice)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    [one] = asked
    assert one.path == "/key" and one.headers["authorization"] == "Bearer secret"
    text, most = text_of(kind, one.body)
    assert len(text) <= most and len(one.body.encode()) < 28_000
    hostile = HOSTILE
    if kind in ("slack", "mattermost", "discord"):
        assert text.count("```") == 2 and text.endswith("```")
        hostile = hostile.replace("```", "'''")
    if kind == "slack":
        hostile = hostile.replace("&", "&amp;").replace("<", "&lt;")
        hostile = hostile.replace(">", "&gt;")
    assert f"  why       {hostile}" in text.splitlines()
    if kind == "ntfy":
        assert one.headers["title"] == 'web3: "food" was'
        assert one.headers["priority"] == "default"
    elif kind != "json":
        assert one.headers["content-type"] == "application/json"
        assert 'web3: "food" was' in text


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ("KIND=json URL=ADDRESS/refuse", "403"),
        ("KIND=irc URL=ADDRESS", "slack, mattermost"),
        ("", "no URL: set it in "),
    ],
)
def test_webhook_says_why_not(
    tmp_path: Path, listener: tuple[str, list[Asked]], conf: str, why: str
) -> None:
    need("curl")
    conf = conf.replace("ADDRESS", listener[0])
    done = execute(tmp_path, "webhook", conf, "held", "held")
    assert done.returncode != 0 and why in done.stderr.splitlines()[-1]


def test_pager_opens_and_closes_one_alert(
    tmp_path: Path, listener: tuple[str, list[Asked]]
) -> None:
    need("curl")
    address, asked = listener
    for result in ("not brought back", "paused", "up again"):  # a reminder is none
        for kind in ("pagerduty", "opsgenie"):
            conf = f"KIND={kind} KEY=k URL={address}/{kind}\n"
            done = execute(tmp_path, "pager", conf, result, HOSTILE)
            assert (done.returncode, done.stderr) == (0, "")
    opened, created, closed, ended = asked
    first, last = json.loads(opened.body), json.loads(closed.body)
    assert (first["event_action"], last["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == last["dedup_key"]
    assert first["payload"]["custom_details"]["notice"] == HOSTILE
    alert = json.loads(created.body)["alias"]
    assert json.loads(created.body)["description"] == HOSTILE
    assert ended.path == f"/opsgenie/{alert}/close?identifierType=alias"
    assert ended.headers["authorization"] == "GenieKey k"


def test_mail_says_in_its_subject_what_became_of_what(
    tmp_path: Path, program: Path
) -> None:
    need_root()
    for needed in ("unshare", "nsenter", "postfix"):
        need(needed)
    try:
        machine = Machine(tmp_path / "machine")
    except OSError as error:
        absent(str(error))
    try:
        machine.shell(
            "rm -rf /etc/viagra && mkdir -p /etc/viagra/start.d /etc/viagra/notice.d;"
            f"cd /etc/viagra && cp {READY}/mail notice.d && hostname web3;"
            "printf '#!/bin/sh\\necho .; echo ünd; exit 3\\n' >start.d/food;"
            "chmod 755 start.d/food notice.d/mail;"
            "printf '[run]\\nboot = \"0s\"\\n' >viagra.toml"
        )
        machine.shell(": >/var/mail/root; exec postfix start", check=False)
        done = machine.run(str(program), check=False)
        assert done.returncode == 1 and "viagra.py:" not in done.stdout
        until(lambda: machine.holds("grep -q ^Subject: /var/mail/root"))
        mail = message_from_string(machine.shell("cat /var/mail/root"))
        assert mail["Subject"] == "web3: food could not be brought back"
        assert mail["To"].startswith("root")
        text = str(mail.get_payload())
        assert text.startswith("Restarting food\n") and "    ünd\n" in text
    finally:
        machine.end()


def test_ready_programs_pass_shellcheck() -> None:
    done = subprocess.run(
        [need("shellcheck"), READY / "mail", READY / "webhook", READY / "pager"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
