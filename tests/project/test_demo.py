"""`make demo`: as root, as an ordinary user, interrupted, and with a broken program."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import CHECKOUT, NO_BYTECODE
from world import until

ROOT = CHECKOUT
ORDINARY = 64321  # a uid that no user of the machine has
STEPS = ("A daemon is up", "Now it dies", "The next run", "It is back", "Silent again")


def lacking(what: str) -> None:
    """Skip the test for want of something; under CI it is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")


class Demo:
    """A checkout of its own, and the demo run in it."""

    def __init__(self, place: Path) -> None:
        self.checkout = place / "a checkout"  # with a blank in its name
        for part in ("viagralib", "tests"):
            shutil.copytree(ROOT / part, self.checkout / part, ignore=NO_BYTECODE)
        for file in ("viagra.py", "Makefile", "install.sh"):
            shutil.copy(ROOT / file, self.checkout)
        self.user = os.geteuid()
        self.enter: list[str] = []  # a command before it

    def owned_by(self, user: int) -> None:
        for path in [self.checkout, *self.checkout.rglob("*")]:
            os.chown(path, user, user)

    def start(self, python: str = "") -> subprocess.Popen[str]:
        """Start `make demo` in a session of its own, as on a terminal of its own."""
        command = ["make", "demo", f"PYTHON={python or self._python()}"]
        if self.user != os.geteuid():
            ids = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        return subprocess.Popen(
            [*self.enter, *command],
            cwd=self.checkout,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, python: str = "") -> tuple[int, str]:
        """Run it to its end; return its exit code and what it printed."""
        demo = self.start(python)
        text, _ = demo.communicate(timeout=180)
        return demo.returncode, text

    def _python(self) -> str:
        """Return a Python that the demo's user may execute."""
        for python in (sys.executable, "/usr/bin/python3"):
            real = Path(os.path.realpath(python))
            if self.user == os.geteuid() or all(
                place.stat().st_mode & 0o001 for place in [real, *real.parents]
            ):
                return str(real)
        lacking("a python3 that every user may execute")
        return ""


@pytest.fixture
def demo() -> Iterator[Demo]:
    # Not pytest's own directory, which is closed to other users.
    with tempfile.TemporaryDirectory(prefix="demo-") as place:
        Path(place).chmod(0o755)
        yield Demo(Path(place))


def room_of(text: str) -> str:
    [room] = re.findall(r"makes here, is in (.+)\.$", text, re.MULTILINE)
    return str(room)


def processes_in(room: str) -> list[int]:
    """Return the processes that have the room in their command line."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(room) in command:
            found.append(int(pid))
    return found


def check_all_is_gone(text: str) -> None:
    room = room_of(text)
    assert not os.path.exists(room)
    until(lambda: not processes_in(room))


def check_all_was_shown(code: int, text: str) -> None:
    assert code == 0, text
    places = [text.find(f"== {step}") for step in STEPS]
    assert -1 not in places and places == sorted(places), text
    assert re.search(r"\| Restarting food\d+\n", text)
    assert len(re.findall("exit 0, and not a word", text)) == 2
    check_all_is_gone(text)


def test_demo_of_the_user_who_runs_the_tests(demo: Demo) -> None:
    check_all_was_shown(*demo.run())


@pytest.mark.parametrize("runner", ["root", "user"])
def test_demo_in_a_checkout_that_belongs_to_another(demo: Demo, runner: str) -> None:
    if os.geteuid() != 0:
        lacking("root's rights")
    if not shutil.which("setpriv"):
        lacking("setpriv")
    young = ["unshare", "--pid", "--fork", "--mount-proc"]  # booted at this moment
    if runner == "root" and not subprocess.call([*young, "true"]):
        demo.enter = young
    demo.owned_by(ORDINARY if runner == "root" else 0)
    demo.user = 0 if runner == "root" else ORDINARY
    check_all_was_shown(*demo.run())


@pytest.mark.parametrize("step", ["A daemon is up", "The next run"])
def test_interrupted_demo_leaves_nothing(demo: Demo, step: str) -> None:
    child = demo.start()
    assert child.stdout
    text = ""
    for line in child.stdout:
        text += line
        if line.startswith(f"== {step}"):
            break
    os.killpg(child.pid, signal.SIGINT)  # what a terminal does at Ctrl-C
    text += child.communicate(timeout=30)[0]
    assert child.returncode != 0
    assert "Silent again" not in text
    check_all_is_gone(text)


@pytest.mark.parametrize(
    "broken",
    ["import sys", "print('hello')", "import sys; sys.exit(1)"],
    ids=["silent", "talks", "fails"],
)
def test_demo_of_a_broken_program_fails(demo: Demo, broken: str) -> None:
    (demo.checkout / "viagra.py").write_text(f"{broken}\n")
    code, text = demo.run()
    assert code != 0
    assert re.search(r"^demo: ", text, re.MULTILINE)
    check_all_is_gone(text)


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("/nonexistent/python3", "no /nonexistent"),
        ("/bin/false", "/bin/false does not run"),
        ("OLD", "is older than 3.11"),
    ],
)
def test_demo_without_a_fit_python_says_so(demo: Demo, python: str, told: str) -> None:
    if python == "OLD":
        fake = demo.checkout.parent / "python"
        lie = "import sys; sys.version_info = (3, 9); sys.executable = sys.argv[1]"
        fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{lie}\n$2" "$0"\n')
        fake.chmod(0o755)
        python = str(fake)
    code, text = demo.run(python)
    assert code != 0
    [line] = [line for line in text.splitlines() if not line.startswith("make")]
    assert line.startswith("demo: ") and told in line
    assert "make demo PYTHON=/path/to" in line
