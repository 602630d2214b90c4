"""viagra-wait: each condition, and the deadline, on real files, sockets and servers."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import CHECKOUT, copy_library
from companion_programs import (
    LONG,
    PYTHON,
    ROOT,
    Program,
    children,
    lives,
    program,
)
from world import need_root, until

from viagralib import VERSION

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes through /proc"
)
SHORT = ("--timeout", "100ms")
SOON = ("--timeout", f"{LONG:.0f}s")  # for what holds: it ends at once


@pytest.fixture
def wait(tmp_path: Path) -> Iterator[Program]:
    with program("viagra-wait", tmp_path) as made:
        yield made


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that nobody listens at, and nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers /CODE with that status."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(int(self.path.strip("/").partition("?")[0]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def check(wait: Program, condition: str, why: str | None) -> None:
    """Assert that `condition` holds (why is None), or fails saying `why`.

    And that its opposite fails or holds.
    """
    if why is None:
        assert (wait.run(*SOON, condition), wait.lines("stderr")) == (0, [])
    else:
        in_time(lambda limit: is_told(wait, limit, condition, why))
        assert wait.run(*SOON, "--not", condition) == 0
        return
    in_time(lambda limit: wait.run("--timeout", limit, "--not", condition) == 1)


def is_told(wait: Program, limit: str, condition: str, why: str) -> bool:
    """Return whether `condition` fails within `limit`, and says `why`."""
    wait.err.unlink(missing_ok=True)
    code, said = wait.run("--timeout", limit, condition), wait.lines("stderr")
    assert (code, len(said)) == (1, 1)
    return said[0].startswith(f"viagra-wait: {condition}: {why}")


def in_time(holds: Callable[[str], bool]) -> None:
    """Assert that something holds within a time that a server here may need."""
    assert any(holds(limit) for limit in ("100ms", "500ms", "5s", "30s"))


# Usage


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--timeout", "1s"],
        ["--timeout", "5", "path:/"],
        ["--timeout", "-1s", "path:/"],
        ["--every", "0s", "path:/"],
        ["--every", "x", "path:/"],
        ["--nonsense", "path:/"],
        ["path:/", "--"],
        ["--", "true"],
        ["path"],
        ["path:"],
        ["file:/"],
        ["/etc/passwd"],
        ["tcp:80"],
        ["tcp:localhost:0"],
        ["tcp:localhost:65536"],
        ["tcp:localhost:http"],
        ["tcp::80"],
        ["http:localhost"],
        ["http:ftp://localhost/"],
        ["http://"],
        ["http://localhost:x/"],
        ["http://localhost/a b"],
        ["fresh:/etc/passwd"],
        ["fresh:/etc/passwd:30"],
        ["fresh::30s"],
        ["delay:5"],
        ["path:/", "path"],
    ],
)
def test_bad_usage_is_2_and_one_line(wait: Program, argv: list[str]) -> None:
    command = [] if argv[-1:] == ["--"] or "--" in argv else ["--", "touch", "started"]
    assert wait.run(*argv, *command) == 2
    assert not (wait.directory / "started").exists()
    assert len(wait.lines("stderr")) == 1
    assert wait.lines("stderr")[0].startswith("viagra-wait: ")


# Conditions


def test_path_and_gone(wait: Program) -> None:
    there, absent = wait.directory / "there", wait.directory / "absent"
    there.touch()
    check(wait, f"path:{there}", None)
    wait.err.unlink()
    check(wait, f"path:{absent}", "No such file")
    wait.err.unlink()
    check(wait, f"gone:{absent}", None)
    wait.err.unlink()
    check(wait, f"gone:{there}", "is still there")


def test_a_link_to_nowhere_is_no_path_but_is_not_gone(wait: Program) -> None:
    link = wait.directory / "link"
    link.symlink_to("nowhere")
    check(wait, f"path:{link}", "No such file")
    assert wait.run(*SHORT, f"gone:{link}") == 1


def test_path_below_a_file_is_absent(wait: Program) -> None:
    (wait.directory / "file").touch()
    check(wait, f"path:{wait.directory}/file/below", "Not a directory")


def test_what_cannot_be_seen_holds_neither_way(wait: Program) -> None:
    # A loop of links can be followed by nobody, root included.
    loop = wait.directory / "loop"
    loop.symlink_to("loop")
    for options in ((), ("--not",)):
        assert wait.run(*SHORT, *options, f"path:{loop}/x") == 1
    assert wait.run(*SHORT, f"gone:{loop}/x") == 1
    assert "Too many levels" in wait.lines("stderr")[0]


@pytest.mark.parametrize("kind", ["STREAM", "DGRAM", "SEQPACKET"])
def test_socket_must_accept(wait: Program, kind: str) -> None:
    path = wait.directory / "sock"
    with socket.socket(socket.AF_UNIX, getattr(socket, f"SOCK_{kind}")) as server:
        server.bind(str(path))
        if kind != "DGRAM":
            server.listen()
        check(wait, f"socket:{path}", None)
    wait.err.unlink()
    check(wait, f"socket:{path}", "Connection refused")


def test_a_socket_with_a_full_queue_holds_neither_way(wait: Program) -> None:
    path = str(wait.directory / "sock")
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = ends.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        for options in ((), ("--not",)):
            assert wait.run(*SHORT, *options, f"socket:{path}") == 1


@pytest.mark.parametrize("condition", ["tcp:a..b:80", "http://a..b/"])
def test_a_host_that_can_be_no_name_holds_neither_way(
    wait: Program, condition: str
) -> None:
    for options in ((), ("--not",)):
        assert wait.run("--timeout", "0s", *options, condition) == 1
    assert "killed" not in "".join(wait.lines("stderr"))


def test_socket_must_be_one(wait: Program) -> None:
    (wait.directory / "file").touch()
    check(wait, f"socket:{wait.directory}/file", "is no socket")
    wait.err.unlink()
    check(wait, f"socket:{wait.directory}/absent", "No such file")


def test_tcp(wait: Program, listener: int, closed: int) -> None:
    check(wait, f"tcp:127.0.0.1:{listener}", None)
    wait.err.unlink()
    check(wait, f"tcp:127.0.0.1:{closed}", "Connection refused")


def test_tcp_with_brackets(wait: Program) -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert wait.run(*SOON, f"tcp:[::1]:{server.getsockname()[1]}") == 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/200", None),
        ("/204?x=1", None),
        ("/301", "status 301"),
        ("/404", "status 404"),
        ("/503", "status 503"),
    ],
)
def test_http_wants_success(
    wait: Program, web: str, path: str, why: str | None
) -> None:
    check(wait, f"http:{web}{path}", why)
    assert wait.run(*(SHORT if why else SOON), f"{web}{path}") == (1 if why else 0)


def test_http_without_server(wait: Program, closed: int) -> None:
    check(wait, f"http://127.0.0.1:{closed}/", "Connection refused")


def test_http_from_something_else(wait: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            while True:
                try:
                    with server.accept()[0] as client:
                        client.recv(1000)
                        client.sendall(b"\x1b[31mhello\r\n\r\n")
                except OSError:
                    return

        threading.Thread(target=talk, daemon=True).start()
        port = server.getsockname()[1]
        assert wait.run(*SHORT, f"http://127.0.0.1:{port}/") == 1
        assert "\x1b" not in wait.lines("stderr")[0]
        server.shutdown(socket.SHUT_RDWR)


@linux_only
def test_pid(wait: Program) -> None:
    file = wait.directory / "pid"
    check(wait, f"pid:{file}", "No such file")
    for text, why in (
        (f"{os.getpid()}\n", None),
        ("", "holds no pid"),
        ("0\n", "holds no pid"),
        ("-1\n", "holds no pid"),
        (f"{os.getpid()}\n/var/lib/postgresql/15/main\n", None),
        ("9999999\n", "9999999 does not run"),
    ):
        wait.err.unlink()
        file.write_text(text)
        check(wait, f"pid:{file}", why)


@linux_only
def test_pid_of_a_zombie_or_of_a_later_process(wait: Program) -> None:
    file = wait.directory / "pid"
    child = subprocess.Popen(["true"])
    until(lambda: not lives(child.pid))
    file.write_text(str(child.pid))
    check(wait, f"pid:{file}", f"{child.pid} does not run")
    child.wait()
    wait.err.unlink()
    file.write_text(str(os.getpid()))
    os.utime(file, (1e9, 1e9))
    check(wait, f"pid:{file}", f"{os.getpid()} is younger than the file")


def test_pid_does_not_wait_for_a_fifo(wait: Program) -> None:
    os.mkfifo(wait.directory / "pid")
    check(wait, f"pid:{wait.directory}/pid", "is no regular file")


def test_fresh(wait: Program) -> None:
    beat = wait.directory / "a:beat"
    beat.touch()
    check(wait, f"fresh:{beat}:1h", None)
    wait.err.unlink()
    old = time.time() - 7200
    os.utime(beat, (old, old))
    check(wait, f"fresh:{beat}:1h", "is 2 h")
    assert wait.run(*SOON, f"fresh:{beat}:3h") == 0
    ahead = time.time() + 7200
    os.utime(beat, (ahead, ahead))
    assert wait.run(*SHORT, f"fresh:{beat}:1h") == 1
    assert "from the future" in wait.lines("stderr")[-1]
    assert wait.run(*SHORT, f"fresh:{wait.directory}/absent:1h") == 1


def test_delay(wait: Program) -> None:
    began = time.monotonic()
    assert wait.run("delay:300ms") == 0
    assert time.monotonic() - began >= 0.3
    assert wait.run(*SHORT, "delay:1h") == 1


@linux_only
def test_mount(wait: Program) -> None:
    check(wait, "mount:/proc", None)
    wait.err.unlink()
    check(wait, f"mount:{wait.directory}", "is no mount point")
    wait.err.unlink()
    check(wait, f"mount:{wait.directory}/absent", "No such file")


@linux_only
@pytest.mark.parametrize("name", ["a point", "a\rpoint", "a\npoint"])
def test_mount_of_a_directory_onto_one_with_a_blank(wait: Program, name: str) -> None:
    # A bind mount is of the same device as its parent; only the table knows it.
    point = wait.directory / name
    point.mkdir()
    wait.mount(f"mount --bind '{point}' '{point}'")
    assert wait.run(*SOON, f"mount:{point}") == 0


@linux_only
def test_process(wait: Program) -> None:
    # Longer than the kernel's 15 bytes, also without its last one.
    name = f"w{os.getpid():07}x{time.monotonic_ns() % 10**12:012}"
    copy = wait.directory / name
    shutil.copy("/bin/sleep", copy)
    check(wait, f"process:{name}", f'no process named "{name}"')
    daemon = subprocess.Popen([str(copy), "1000"])
    try:
        wait.err.unlink()
        check(wait, f"process:{name}", None)
        wait.err.unlink()
        # The name, not a part of it, and not a text in some command line.
        check(wait, f"process:{name[:-1]}", "no process")
    finally:
        daemon.kill()
        daemon.wait()
    assert wait.run(*SHORT, f"process:{name}") == 1


@linux_only
def test_process_by_the_facts_of_a_hook_that_is_on(wait: Program) -> None:
    # Beside the program is the first place where a home is looked for.
    home = wait.directory / "home"
    library = copy_library(home)
    hook, facts = home / "start.d" / "food", home / "start.d" / "food.toml"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o700)
    seconds = str(10**9 + os.getpid())
    facts.write_text(f'process = "sleep"\ncommand = "^sleep {seconds}$"\n')
    wait.argv[-1] = str(library / "companions" / "viagra-wait")
    assert wait.run(*SHORT, "process:food") == 1
    daemon = subprocess.Popen(["sleep", seconds])
    try:
        assert wait.run(*SOON, "process:food") == 0
        facts.write_text("nonsense = 1")
        for options in ((), ("--not",)):
            assert wait.run(*SHORT, *options, "process:food") == 1
        assert "nonsense" in wait.lines("stderr")[-1]
        facts.unlink()
        hook.chmod(0o777)
        assert wait.run(*SHORT, "process:food") == 1
        assert "can be written by everybody" in wait.lines("stderr")[-1]
    finally:
        daemon.kill()
        daemon.wait()


# All, any, and the deadline


def test_all_must_hold_and_the_line_names_who_does_not(wait: Program) -> None:
    argv = [*SHORT, "path:/", "path:/absent1", "gone:/", "path:/absent2"]
    assert wait.run(*argv) == 1
    (line,) = wait.lines("stderr")
    assert "path:/absent1: No such file" in line
    assert "path:/absent2: No such file" in line
    assert "gone:/: is still there" in line
    assert "path:/:" not in line
    assert re.search(r"\(after \d+\.\d s\)", line)


def test_any_needs_one(wait: Program) -> None:
    assert wait.run("--any", "path:/absent", "path:/", "delay:1h") == 0
    assert wait.run(*SHORT, "--any", "path:/absent", "gone:/") == 1
    assert wait.run("--any", "--not", "path:/absent", "path:/") == 0
    assert wait.run(*SHORT, "--not", "path:/absent", "path:/") == 1


def test_options_may_follow(wait: Program) -> None:
    assert wait.run("path:/absent", "--timeout", "0s") == 1
    assert wait.run("path:/", "--", "sh", "-c", "exit 7", "--not") == 7


def test_goes_on_when_the_path_appears(wait: Program) -> None:
    path = wait.directory / "late"
    wait.start("--timeout", "1h", f"path:{path}")
    time.sleep(0.3)
    assert wait.runner.poll() is None
    path.touch()
    assert wait.end() == 0


def test_no_deadline_by_default(wait: Program) -> None:
    path = wait.directory / "late"
    wait.start(f"path:{path}")
    time.sleep(0.3)
    assert wait.runner.poll() is None
    path.touch()
    assert wait.end() == 0


def test_looks_at_least_once(wait: Program) -> None:
    assert wait.run("--timeout", "0s", "path:/") == 0
    assert wait.run("--timeout", "0s", "path:/absent") == 1


def test_not_before_the_deadline(wait: Program) -> None:
    began = time.monotonic()
    assert wait.run("--timeout", "400ms", "path:/absent") == 1
    assert time.monotonic() - began >= 0.4


@linux_only
@pytest.mark.parametrize(
    ("options", "least", "most"), [((), 5, 25), (("--every", "500ms"), 1, 3)]
)
def test_how_often_it_looks(
    wait: Program, options: tuple[str, ...], least: int, most: int
) -> None:
    # Each look makes a connection that the listener can count.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        port = server.getsockname()[1]
        server.settimeout(0)
        code = wait.run("--timeout", "1s", *options, "--not", f"tcp:127.0.0.1:{port}")
        assert code == 1
        looks = 0
        while True:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                break
            looks += 1
    assert least <= looks <= most


def test_server_that_says_nothing_does_not_hold_it_up(
    wait: Program, listener: int
) -> None:
    began = time.monotonic()
    assert wait.run("--timeout", "300ms", f"http://127.0.0.1:{listener}/") == 1
    assert time.monotonic() - began < LONG / 2
    assert "no answer in time" in wait.lines("stderr")[0]


def test_server_that_trickles_does_not_hold_it_up(wait: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            with server.accept()[0] as client:
                try:
                    client.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        client.sendall(b"X: y\r\n")
                        time.sleep(0.2)
                except OSError:
                    return

        threading.Thread(target=trickle, daemon=True).start()
        port = server.getsockname()[1]
        began = time.monotonic()
        assert wait.run("--timeout", "500ms", f"http://127.0.0.1:{port}/") == 1
        assert time.monotonic() - began < LONG / 2
        assert f"http://127.0.0.1:{port}/: no answer in time" in wait.lines("stderr")[0]


@linux_only
def test_checking_child_does_not_outlive_a_killed_wait(wait: Program) -> None:
    wait.start("--timeout", "1h", "path:/absent")
    until(lambda: children(wait.runner.pid))
    wait.send(signal.SIGKILL)
    wait.end()
    until(lambda: not wait.left())


# The command


@linux_only
def test_becomes_the_command(wait: Program) -> None:
    script = "echo $$; ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status"
    pid = wait.start("--timeout", "1h", "path:/", "--", "sh", "-c", script)
    assert wait.end() == 0
    said, *rest = wait.lines("stdout")
    assert said == str(pid)
    assert rest[:4] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    # The C library keeps two for itself, and make(1) leaves them ignored.
    kept = 1 << 31 | 1 << 32
    assert [int(line.split()[1], 16) & ~kept for line in rest[4:]] == [0, 0]


@pytest.mark.parametrize(
    ("command", "code"),
    [("no-such-program-anywhere", 127), ("/", 126), ("", 127)],
)
def test_command_that_cannot_be_run(wait: Program, command: str, code: int) -> None:
    assert wait.run("path:/", "--", command) == code
    assert len(wait.lines("stderr")) == 1


def test_command_is_not_run_when_time_is_over(wait: Program) -> None:
    assert wait.run(*SHORT, "path:/absent", "--", "touch", "started") == 1
    assert not (wait.directory / "started").exists()


def test_escapes_what_could_forge_a_line(wait: Program) -> None:
    assert wait.run(*SHORT, "path:/absent\nviagra-wait: all is well") == 1
    assert len(wait.lines("stderr")) == 1


def test_help_and_version(wait: Program) -> None:
    assert wait.run("--help") == 0
    assert wait.run("--version") == 0
    usage, *_, version = wait.lines("stdout")
    assert usage.startswith("usage: viagra-wait [--timeout duration]")
    assert version == f"viagra-wait {VERSION}"


def test_interrupt_ends_it_without_a_word(wait: Program) -> None:
    wait.start("--timeout", "1h", "path:/absent")
    until(lambda: children(wait.runner.pid))
    wait.send(signal.SIGINT)
    assert wait.end() == 130
    until(lambda: not wait.left())
    assert wait.lines("stderr") == []


@linux_only
def test_no_more_processes_is_one_line(wait: Program) -> None:
    need_root()
    text = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from viagralib.companions.wait import main as wait; import os, resource;"
        "os.setuid(65533); resource.setrlimit(resource.RLIMIT_NPROC, (0, 0));"
        "sys.exit(wait.main(sys.argv[2:]))"
    )
    wait.argv = [PYTHON, "-I", "-c", text, str(ROOT)]
    assert wait.run("--timeout", "1s", "path:/") == 1
    (line,) = wait.lines("stderr")
    assert line == "viagra-wait: could not go on: Resource temporarily unavailable"


def test_starts_without_the_heavy_modules() -> None:
    text = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules);"
        "import viagralib.companions.run.main, viagralib.companions.wait.main;"
        "print(*sorted({'psutil', 'subprocess', 'json', 'http', 'socket', 'argparse',"
        "'typing', 'dataclasses', 'urllib', 'ctypes'} & (set(sys.modules) - before)))"
    )
    root = str(CHECKOUT)
    argv = [PYTHON, "-I", "-c", text, root]
    assert subprocess.check_output(argv, text=True).strip() == ""
