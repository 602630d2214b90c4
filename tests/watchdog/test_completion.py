"""Completion: what may follow, and that bash, zsh and fish put it into their line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import subprocess
import sys
import termios

import pytest
from checkout import CHECKOUT
from world import World, environment, need, unique, until

from viagralib.settings.command_line import VERBS

ASK = "/usr/local/sbin/viagra.py"  # as the shells' parts name it
OLDER, NEWER = "20261120T221003Z-gone", "20261121T000000Z-gone"


def asking(world: World) -> list[str]:
    places = ["--dir", str(world.home), "--state", str(world.state)]
    return [sys.executable, "-I", str(world.program), "--complete", *places]


def offered(world: World, *words: str) -> list[str]:
    """Return what may stand for the last of the words."""
    done = subprocess.run(
        [*asking(world), *words],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=world.place,
        check=True,
    )
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_what_may_follow_is_what_fits_the_verb(world: World) -> None:
    one, paused = unique("a b"), unique("paused")
    for name in (one, paused):
        world.hook(name, "exit 1")
    world.hook(unique("off"), "exit 1", mode=0o644)
    world.hook(unique("\033[2"), "exit 1")  # what moves the cursor is not offered
    world.run("pause", paused)
    for incident in (OLDER, NEWER):
        (world.state / "incidents" / incident).mkdir(parents=True)
    for words, expected in (
        ([""], [*VERBS, one, paused]),
        (["re"], ["restart", "resume"]),
        (["status", one, ""], [paused]),
        (["pause", ""], [one]),
        (["resume", "--all", ""], []),
        (["resume", ""], [paused]),
        (["explain", one, ""], []),
        (["history", ""], ["show", "gone"]),
        (["history", "show", ""], [NEWER, OLDER]),
        (["restart", one, "--d"], ["--dry-run"]),
        (["pause", "--u"], ["--until"]),
        (["pause", one, "--for", ""], ["30m", "2h", "1d"]),
        (["check", "--dir", "ho"], ["home/"]),
        (["check", "--dir", "/no/such/"], []),
        (["--no-such", ""], []),
    ):
        assert offered(world, *words) == expected, words


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes(shell: str, world: World) -> None:
    need(shell)
    name = f"a`id`;*(\"\\$:' {unique('b')}"
    world.hook(name, "exit 1")
    (world.state / "incidents" / OLDER).mkdir(parents=True)
    ask = world.hook("ask", f'shift; exec {" ".join(asking(world))} "$@"', "bin")
    # What the completed line runs: it notes its words.
    told = world.place / "told"
    world.hook("viagra.py", f'printf "%s|" "$@" >>{told}; echo >>{told}', "bin")
    part = world.place / "completions" / "_viagra.py"
    part.parent.mkdir()
    text = (CHECKOUT / "completions" / f"viagra.py.{shell}").read_text()
    assert ASK in text
    part.write_text(text.replace(ASK, str(ask)))
    begin = f"source {part}"
    if shell == "zsh":
        begin = f"fpath=({part.parent} $fpath); autoload -Uz compinit; compinit -uD"
    typed = "viagra.py hist\tsh\t2026\t\nviagra.py paus\ta\t--fo\t2\t\nexit\n"
    seen = type_into(world, shell, f"{begin}\n{typed}")
    words = ["history", "show", OLDER], ["pause", name, "--for", "2h"]
    assert told.read_text() == "".join("|".join([*one, "\n"]) for one in words), seen


def type_into(world: World, shell: str, keys: str) -> bytes:
    """Type on a terminal of a shell until that has ended; return what it shows."""
    ours, theirs = pty.openpty()
    path = f"{world.home}/bin:{os.environ['PATH']}"
    more = {"TERM": "dumb", "HOME": str(world.place), "LANG": "C.UTF-8"}
    more["XDG_RUNTIME_DIR"] = str(world.place)  # else fish has a directory in /tmp
    child = world.spawn(
        SHELLS[shell],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": path, **more},
        cwd=world.place,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # its own terminal
    )
    os.set_blocking(ours, False)
    os.write(ours, keys.encode())
    seen = b""

    def has_ended() -> bool:
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(ours, 65536)
        return child.poll() is not None

    until(has_ended)
    os.close(ours)
    os.close(theirs)
    return seen
