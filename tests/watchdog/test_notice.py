"""The notice: its form, what is in it, and that nobody else can forge or stop it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from world import SLEEP, World, missing, need, unique, until

from viagralib.base.printer import Printer

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
FULL = """\
[defaults]
patience = "0.1s"
start_timeout = "5s"
"""


def parts(notice: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the facts' keys, in order, and the lines of each titled part."""
    keys: list[str] = []
    titled: dict[str, list[str]] = {}
    title = ""
    for line in notice.splitlines()[2:]:
        if found := re.fullmatch(r"  (\w[\w ]*):", line):
            title = found[1]
            titled[title] = []
        elif title:
            assert line.startswith("    "), line
            titled[title].append(line[4:])
        else:
            found = re.fullmatch(r"  (\w+) +(.*)", line)
            assert found and line[12] != " " and line[11] == " ", line
            if found[1] != "missing" or found[2] in missing(notice):
                keys.append(found[1])
    return keys, titled


def test_form_of_a_restart(world: World) -> None:
    for program in ("ps", "w", "vmstat"):
        need(program)
    name = unique("food")
    world.settings(FULL)
    world.hook(name, f"echo one; echo two >&2\n{world.daemon(name)} {SLEEP} &")
    result = world.run()
    first, second, *rest = result.out.splitlines()
    assert first == f"Restarting {name}"
    assert re.fullmatch(DATE, second)
    keys, titled = parts(result.out)
    assert keys == ["host", "why", "cause", "hook", "now", "evidence"]
    assert f"\n  host      {os.uname().nodename}\n" in result.out
    assert list(titled) == ["hook output", "w", "vmstat", "busiest"]
    assert titled["hook output"] == ["one", "two"]
    assert "load average" in titled["w"][0]
    assert titled["vmstat"][0].startswith("procs ")
    assert titled["busiest"][0].split() == ["%CPU", "%MEM", "PID", "USER", "NAME"]
    assert 2 <= len(titled["busiest"]) <= 6
    assert max(map(len, result.out.splitlines())) <= 170


def test_date_is_when_the_recovery_began(world: World) -> None:
    name = unique("food")
    hook = world.place / "hook"
    program = f"{world.daemon(name)} {SLEEP}"
    world.hook(name, f"date +%s >{hook}\nsleep 2.2\n{program} &")
    began = int(time.time())
    result = world.run()
    told = time.mktime(
        time.strptime(re.sub(r" \S+ (\d{4})$", r" \1", second(result.out)))
    )
    assert began <= told <= int(hook.read_text())


def second(text: str) -> str:
    return text.splitlines()[1]


def test_form_of_a_failure(world: World) -> None:
    name = unique("food")
    world.hook(name, "exit 3")
    result = world.run()
    keys, _ = parts(result.out)
    assert keys == ["host", "why", "cause", "hook", "now", "next", "evidence"]
    assert f"viagra.py explain {name}" in result.out
    again = world.run()
    keys, _ = parts(again.out)
    more = ["before", "hook", "now", "series", "next", "evidence"]
    assert keys == ["host", "why", "cause", *more]


def test_missing_evidence_is_named_last(world: World) -> None:
    name = unique("food")
    world.settings(FULL + '[evidence]\ncommands = ["no-such-program", "ps auxww"]\n')
    world.watch(name)
    result = world.run()
    keys, titled = parts(result.out)
    assert keys == ["host", "why", "cause", "hook", "now", "evidence", "missing"]
    assert "busiest" in titled


def test_long_output_is_shortened_to_its_end(world: World) -> None:
    name = unique("food")
    world.hook(
        name,
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; done\n"
        "head -c 5000 /dev/zero | tr '\\0' x; echo; echo end\n"
        f"{world.daemon(name)} {SLEEP} &",
    )
    result = world.run()
    _, titled = parts(result.out)
    lines = titled["hook output"]
    assert len(lines) <= 21
    assert lines[-1] == "end"
    assert "line 500" in lines
    assert set(lines[-2]) == {"x"} and len(lines[-2]) == 500


def test_arguments_are_in_no_mail(world: World) -> None:
    """They may hold passwords. A ps of our own: the machine may be busy otherwise."""
    name = unique("food")
    ps = world.bin / "ps"
    world.settings(f'{FULL}[evidence]\ncommands = ["{ps} auxww"]\n')
    row = "root 4711 99.9 0.1 9 9 ? R 09:51 0:10 /usr/bin/busy --password=xyzzy"
    header = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"
    world.write(ps, f"#!/bin/sh\necho '{header}'\necho '{row}'\n", 0o755)
    world.watch(name)
    result = world.run()
    [incident] = world.incidents(name)
    assert "xyzzy" in (incident / "ps.txt").read_text()
    assert "xyzzy" not in result.out
    assert result.out.endswith("99.9   0.1    4711 root       busy\n")
    assert "while :" not in result.out


def test_w_is_without_arguments(world: World) -> None:
    name = unique("food")
    # A stand-in with a session in it: there may be no terminal where tests run.
    fake = world.bin / "w"
    world.write(
        fake,
        "#!/bin/sh\ncat <<'END'\n"
        " 22:10:03 up 1 day,  1 user,  load average: 0.00, 0.01, 0.05\n"
        "USER     TTY      FROM             LOGIN@   IDLE   JCPU   PCPU WHAT\n"
        "root     pts/0    192.0.2.7        21:55    4.00s  0.07s  0.02s sql -pxyzzy\n"
        "END\n",
        0o755,
    )
    world.settings(FULL + f'[evidence]\ncommands = ["{fake}"]\n')
    world.watch(name)
    result = world.run()
    assert "    root     pts/0" in result.out
    assert "0.02s sql\n" in result.out and "xyzzy" not in result.out


def test_the_machine_is_told_once_in_a_run_and_only_what_says_something(
    world: World,
) -> None:
    row = "root {} {} 0.1 9 9 ? R 09:51 0:10 /usr/bin/{}"
    texts = {
        "ps": [
            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            row.format(4711, "50.0", "busy"),
            row.format(4712, "0.4", "idle"),
        ],
        "w": [
            " 22:10:03 up 1 day,  0 user,  load average: 0.00, 0.01, 0.05",
            "USER     TTY      FROM             LOGIN@   IDLE   JCPU   PCPU WHAT",
        ],
        "vmstat": ["procs -----------memory----------", " r  b   swpd   free   buff"],
    }
    for tool, lines in texts.items():
        text = "#!/bin/sh\ncat <<'END'\n" + "\n".join([*lines, "END", ""])
        world.write(world.bin / tool, text, 0o755)
    commands = [str(world.bin / tool) for tool in texts]
    world.settings(f"{FULL}[evidence]\ncommands = {json.dumps(commands)}\n")
    names = [unique("food") for _ in range(2)]
    for name in names:
        world.watch(name)
    first, second = re.split(r"^(?=Restarting )", world.run().out, flags=re.M)[1:]
    _, titled = parts(first)
    assert titled["w"] == texts["w"][:1]
    header, busy = titled["busiest"]
    assert header.startswith(" %CPU") and busy.split()[-1] == "busy"
    assert "vmstat" not in titled
    assert not {"w", "vmstat", "busiest"} & set(parts(second)[1])
    for name in names:
        [incident] = world.incidents(name)
        for tool, lines in texts.items():
            assert (incident / f"{tool}.txt").read_text().splitlines() == lines


# Hostile texts

HOSTILE = {
    "escape": b"\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "forged": b"Restarting sshd\nFri Nov 20 22:10:03 UTC 2026\n  why       forged\n",
    "return": b"good\rRestarting sshd",
    "bytes": b"\xff\xfe\x80\xc3\x28",
    "marks": "\u202eevil\u2028line\u0085next\ufeff".encode(),
    "nul": b"a\0b\0\0c",
    "bell": b"\x07\x08\x08\x08\x7f\x9b31m",
}


def is_plain(text: str) -> bool:
    """Return whether nothing in a text moves the cursor or starts a line."""
    return all(char == "\n" or char.isprintable() for char in text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hook_output_cannot_forge_or_hide(world: World, kind: str) -> None:
    name = unique("food")
    file = world.place / "hostile"
    file.write_bytes(HOSTILE[kind])
    world.hook(name, f"cat {file}; echo\n{world.daemon(name)} {SLEEP} &")
    result = world.run()
    assert result.code == 0, result
    assert is_plain(result.out), repr(result.out)
    starts = [line for line in result.out.splitlines() if line[:1] not in ("", " ")]
    assert len(starts) == 2  # the name and the date
    parts(result.out)
    [incident] = world.incidents(name)
    assert HOSTILE[kind] in (incident / "hook.log").read_bytes()
    assert is_plain((incident / "notice.txt").read_text())


@pytest.mark.parametrize("kind", ["escape", "forged", "bytes", "marks", "bell"])
def test_process_names_cannot_forge_or_hide(world: World, kind: str) -> None:
    name = unique("food")
    mark = f"{os.getpid():x}".encode()
    program = HOSTILE[kind][:60].replace(b"/", b"_") + mark
    shutil.copy(shutil.which("sleep") or "/bin/sleep", world.bin / os.fsdecode(program))
    world.hook(name, f'for p in {world.bin}/*{mark.decode()}; do "$p" {SLEEP} & done')
    world.facts(name, 'start_timeout = "0.5s"')
    result = world.run()
    assert result.code == 1, result  # ended, and named, as it is not the daemon
    assert is_plain(result.out), repr(result.out)
    assert is_plain(world.run("explain", name).out)
    starts = [line for line in result.out.splitlines() if line[:1] not in ("", " ")]
    assert len(starts) == 2


# Whoever does not listen


def started(world: World, name: str, redirection: str) -> subprocess.Popen[bytes]:
    shell = f'exec "$@" {redirection}'
    return world.spawn(["/bin/sh", "-c", shell, "sh", *world.command()])


@pytest.mark.parametrize(
    "redirection",
    [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-", ">/dev/full", "2>/dev/full"],
)
def test_closed_output_stops_no_restart(world: World, redirection: str) -> None:
    name, faulty = unique("food"), unique("food")
    world.watch(name)
    world.watch(faulty, "no_such_fact = 1")  # something for stderr
    run = started(world, name, redirection)
    assert run.wait(60) == 2
    assert (world.starts(name), len(world.pids(name))) == (1, 1)
    [incident] = world.incidents(name)
    assert (incident / "notice.txt").read_text().startswith(f"Restarting {name}\n")
    # What was said went into no file that happened to be opened as 1 or 2.
    told = f"Restarting {name}".encode()
    for path in world.state.rglob("*"):
        if path.is_file() and path.name != "notice.txt":
            assert told not in path.read_bytes(), path
            assert b"no_such_fact" not in path.read_bytes() or "open" in str(path)
    [pid] = world.pids(name)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_reader_that_has_gone_stops_no_restart(world: World) -> None:
    name, other = unique("food"), unique("food")
    world.watch(name)
    world.watch(other)
    read, write = os.pipe()
    os.close(read)
    run = world.spawn(world.command(), stdout=write, stderr=write)
    os.close(write)
    assert run.wait(60) == 0
    assert (world.starts(name), world.starts(other)) == (1, 1)


def test_full_pipe_that_nobody_reads_stops_no_restart(world: World) -> None:
    names = [unique("food") for _ in range(3)]
    for name in names:
        world.watch(name)
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x")
    except BlockingIOError:
        os.set_blocking(write, True)
    run = world.spawn(world.command(), stdout=write, stderr=write)
    os.close(write)
    for name in names:
        until(partial(world.pids, name))
    assert run.wait(60) == 0  # it waits for the reader, but not for ever
    os.close(read)
    for name in names:
        assert (world.incidents(name)[0] / "notice.txt").exists()
    lock = world.run()
    assert (lock.code, lock.out) == (0, "")


def test_slow_reader_gets_all_of_it(world: World) -> None:
    names = [unique("food") for _ in range(8)]
    for name in names:
        world.hook(
            name,
            f"seq 1000000 1000900; {world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
        )
    run = world.spawn(world.command(), stdout=subprocess.PIPE)
    assert run.stdout is not None
    text = b""
    while block := os.read(run.stdout.fileno(), 2000):
        text += block
        time.sleep(0.01)
    assert run.wait(60) == 0
    kept = b"".join(
        (world.incidents(name)[0] / "notice.txt").read_bytes() for name in names
    )
    assert sorted(text.splitlines()) == sorted(kept.splitlines())
    assert len(text) > 2000


def test_what_is_printed_costs_what_its_length_does() -> None:
    def cost(length: int) -> float:
        with open(os.devnull, "wb") as nowhere:
            began = time.process_time()
            Printer(nowhere.fileno()).say("x" * length)
            return time.process_time() - began

    few, many = (min(cost(size) for _ in range(3)) for size in (1 << 18, 1 << 22))
    assert many < few * 80, (few, many)  # sixteen times as much


def test_notices_of_two_are_not_mixed(world: World) -> None:
    names = [unique("food") for _ in range(4)]
    for name in names:
        world.hook(
            name,
            f"echo {name} a; sleep 0.1; echo {name} b\n{world.daemon(name)} {SLEEP} &",
        )
    result = world.run()
    for notice in re.split(r"^(?=Restarting )", result.out, flags=re.MULTILINE)[1:]:
        name = notice.split("\n")[0].removeprefix("Restarting ")
        _, titled = parts(notice)
        assert titled["hook output"] == [f"{name} a", f"{name} b"]


def test_colour_is_never_in_a_mail(world: World) -> None:
    name = unique("food")
    world.watch(name)
    assert "\x1b" not in world.run("--verbose").out
    assert Path(world.state).exists()
