"""Hostile text, in logs, checks, arguments, variables: it forges and hides nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from other_users import ORDINARY
from world import SLEEP, Result, World, need, unique, until

HOSTILE = {
    "escape": b"\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m",
    "forged": b"Restarting sshd\nFri Nov 20 22:10:03 UTC 2026\n  why       forged\n",
    "return": b"good\rRestarting sshd\x0bRestarting sshd\x85Restarting sshd",
    "bytes": b"\xff\xfe\x80\xc3\x28\0\0\x7f\x08\x08",
    "marks": "\u202eevil\u2028Restarting sshd\u0085next\ufeff".encode(),
    "long": b"x" * 300_000,
}


SOME = ["forged"]  # by default; the other ones in the long mode


WORDS = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in SOME else pytest.mark.long)
        for kind in HOSTILE
    ],
)


def assert_plain(result: Result) -> None:
    """Nothing moves the cursor, starts a line that seems to be ours, or is endless."""
    text = result.out + result.err
    assert "Traceback" not in text
    assert all(char == "\n" or char.isprintable() for char in text), repr(text)
    for line in text.splitlines():
        assert not line.startswith("Restarting sshd") and len(line) < 400, line[:400]


def own_lines(text: str) -> list[str]:
    """Return the lines of a notice that nothing indents: its name, and its date."""
    return [line for line in text.splitlines() if line[:1] not in ("", " ")]


@WORDS
def test_a_daemons_log_cannot_forge_or_hide(world: World, kind: str) -> None:
    name, log = unique("words"), world.place / "log"
    log.write_bytes(b"first\n" + HOSTILE[kind] + b"\nlast\n")
    world.watch(name, f'logs = ["{log}"]\n')
    result = world.run()
    assert result.code == 0 and len(own_lines(result.out)) == 2, result
    assert_plain(result)
    assert "    last\n" in result.out
    [incident] = world.incidents(name)
    assert_plain(world.run("history"))
    shown = world.run("history", "show", incident.name)
    assert all(char == "\n" or char.isprintable() for char in shown.out)
    assert len([line for line in shown.out.splitlines() if line == "last"]) == 1


@WORDS
def test_an_alarming_line_cannot_forge_or_hide(world: World, kind: str) -> None:
    name, log = unique("words"), world.place / "log"
    log.write_bytes(b"")
    facts = f'alarm = {{ file = "{log}", pattern = "PANIC" }}\nrecovery = "report"\n'
    world.watch(name, f'start_timeout = "1ms"\n{facts}')
    world.up(name)
    assert world.run().code == 0  # from now on its words count
    with log.open("ab") as file:
        file.write(b"PANIC " + HOSTILE[kind].replace(b"\n", b"\r") + b"\n")
    for verb in ("run", "check", "status"):
        result = world.run(verb)
        assert result.code == 1 and "PANIC" in result.out, result
        assert_plain(result)


@WORDS
def test_a_checks_words_cannot_forge_or_hide(world: World, kind: str) -> None:
    name, words = unique("words"), world.place / "words"
    words.write_bytes(HOSTILE[kind])
    world.watch(name, 'start_timeout = "1ms"\nrecovery = "report"\n')
    world.hook(name, f"cat {words}; exit 2", kind="check.d")
    world.up(name)
    for verb in ("run", "check", "status", "explain"):
        arguments = [verb, name] if verb == "explain" else [verb]
        result = world.run(*arguments)
        assert result.code == 1, result
        assert_plain(result)
    told = json.loads(world.run("check", "--json").out)
    assert told["daemons"][name]["verdict"] in ("sick", "unknown")


def stranger(world: World, name: str, *arguments: bytes) -> int:
    """Start a process of an ordinary user, with that name and these arguments."""
    shell = world.bin / name
    shutil.copy(need("dash"), shell)
    child = world.spawn(
        [os.fsencode(shell), b"-c", b"kill -STOP $$", *arguments],
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
    )
    path = Path(f"/proc/{child.pid}/cmdline")
    until(lambda: path.read_bytes().endswith(arguments[-1] + b"\0"))
    return child.pid


@WORDS
def test_a_command_line_cannot_forge_or_hide(public: World, kind: str) -> None:
    name, other = unique("words"), unique("down")
    text = HOSTILE[kind].replace(b"\0", b" ")[:100_000]
    pid = stranger(public, name, text)
    public.watch(name, 'command = "PANIC"\n')
    public.settings('[evidence]\ncommands = ["ps auxww", "w"]\n')
    for verb in (["check"], ["explain", name], ["status"]):
        result = public.run(*verb)
        assert result.code == 1, result
        assert_plain(result)
    (public.home / "start.d" / name).unlink()
    (public.home / "start.d" / f"{name}.toml").unlink()
    public.watch(other)
    result = public.run()
    assert result.code == 0 and len(own_lines(result.out)) == 2, result
    assert_plain(result)
    assert os.path.exists(f"/proc/{pid}")


def test_two_megabytes_of_arguments_change_nothing(public: World) -> None:
    """As many as the system takes, of a process that has the daemon's name."""
    name, sound = unique("words"), unique("sound")
    many = [b"Restarting sshd\n" * 8000] * 15
    pid = stranger(public, name, *many)
    assert len(Path(f"/proc/{pid}/cmdline").read_bytes()) > 1_900_000
    public.watch(name, 'command = "(a|aa)+$"\nstart_timeout = "1s"\n')
    public.watch(sound)
    public.settings(
        '[defaults]\npatience = "0s"\n[evidence]\ncommands = ["ps auxww"]\n'
    )
    result = public.run(timeout=300)
    assert f"Restarting {sound}\n" in result.out and public.starts(sound) == 1, result
    assert public.starts(name) == 1 or f"pid {pid}" in result.out, result
    assert_plain(result)
    assert_plain(public.run("explain", name))
    [incident] = public.incidents(sound)
    assert (incident / "ps.txt").stat().st_size <= 4_000_000


def hostile_variables(world: World) -> dict[str, str]:
    """Return an environment in which each variable leads to something that runs."""
    evil = world.place / "evil"
    evil.mkdir()
    text = f"open({str(world.place / 'executed')!r}, 'a')\n"
    for module in ("json", "tomllib", "psutil", "sitecustomize", "usercustomize"):
        (evil / f"{module}.py").write_text(text)
    script = f"#!/bin/sh\necho $0 >> {world.place}/executed\n"
    for program in ("ps", "df", "ss", "sh", "bash", "systemctl", "runlevel", "evil"):
        world.write(evil / program, script, 0o755)
    everywhere = ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH", "HOME", "TMPDIR", "CDPATH")
    files = ("PYTHONSTARTUP", "BASH_ENV", "ENV", "SHELL", "PAGER", "LESSOPEN", "EDITOR")
    return {
        **dict.fromkeys(everywhere, str(evil)),
        **dict.fromkeys(files, str(evil / "evil")),
        "PYTHONHOME": "/nowhere",
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "os.abort",
        "PYTHONVERBOSE": "1",
        "PYTHONUSERBASE": str(evil),
        "LD_PRELOAD": "/nowhere/evil.so",
        "IFS": "/etu",
        "PS4": f"$(touch {world.place}/executed)",
        "SHELLOPTS": "xtrace",
        "BASH_FUNC_echo%%": f"() {{ touch {world.place}/executed; }}",
        "TZ": "\x1b[2J\nRestarting sshd",
        "LANG": "\x1b[31m",
        "LC_ALL": "xx_YY.evil",
        "LANGUAGE": "../../evil",
        "LOCPATH": str(evil),
        "NLSPATH": f"{evil}/%N",
        "TERM": "../evil",
        "COLUMNS": "1",
        "PS_FORMAT": "pid",
        "XDG_STATE_HOME": str(evil),
        "VIAGRA_STATE": str(evil),
        "VIAGRA_DAEMON": "evil",
    }


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_variables_of_the_crontab_reach_nothing(world: World, shell: str) -> None:
    name, ill = unique("vars"), unique("vars")
    world.settings(
        '[defaults]\npatience = "0s"\n[evidence]\ncommands = ["ps auxww", "w"]\n'
    )
    start = f"#!{need(shell)}\necho one two\n{world.daemon(name)} {SLEEP} &\n"
    world.hook(name, start)
    world.watch(ill, 'start_timeout = "1ms"\nrecovery = "report"\n')
    world.hook(ill, f"#!{need(shell)}\necho well enough\nexit 2\n", kind="check.d")
    world.up(ill)
    done = subprocess.run(
        world.command(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=hostile_variables(world),
        timeout=180,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    # The interpreter's own loader says that it has no such object: in its one line.
    err = "".join(line for line in err.splitlines(True) if "ld.so: object" not in line)
    result = Result(done.returncode, out, err)
    assert (result.code, result.err) == (1, ""), result
    assert_plain(result)
    assert f"Restarting {name}\n" in out
    assert f"{ill} is sick: check.d/{ill}: well enough" in out
    assert not (world.place / "executed").exists()
    [incident] = world.incidents(name)
    assert (incident / "hook.log").read_text() == "one two\n"
    told = (incident / "ps.txt").read_text()
    assert told.startswith("USER ") and str(world.program) in told
    assert "ld.so" not in told + (incident / "w.txt").read_text()
    assert sorted(path.name for path in (world.place / "evil").glob("*")) == sorted(
        path.name for path in (world.place / "evil").iterdir() if path.is_file()
    )
