"""Files that others could have put there: none leads elsewhere, holds up or floods.

What a stranger makes is made by a process of that user, not only given to it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import COMPANIONS, HELPERS
from other_users import run_as, users_python
from world import (
    SETTINGS,
    SLEEP,
    World,
    absent,
    all_pids,
    arguments,
    comm,
    need,
    need_root,
    unique,
    until,
)

from viagralib.base import guarded_files, rotated_logs
from viagralib.state import incidents
from viagralib.state.directory import HOOK_LOG_CAP

STRANGER = 65534  # nobody: there is such an account on every system
SECRET = "for root's eyes only"
LINK = "is a link that others could change: name the file that it leads to"
HARD_LINK = "is a hard link that others could have made"
NO_FILE = "is no regular file"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that strangers may look into, with their own directory in it."""
    need_root()
    place = Path(tempfile.mkdtemp(prefix="viagra-test."))
    place.chmod(0o755)
    theirs = place / "theirs"
    theirs.mkdir()
    os.chown(theirs, STRANGER, STRANGER)
    private = place / "private"
    private.mkdir(mode=0o700)
    (private / "log").write_text(f"{SECRET}\n")
    (place / "shared").mkdir()
    (place / "shared").chmod(0o1777)
    yield place
    shutil.rmtree(place)


def as_stranger(script: str, *words: object) -> None:
    """Run a shell script as the stranger."""
    subprocess.run(
        ["sh", "-ec", script, "sh", *map(str, words)],
        check=True,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
    )


# What others can put in a file's place, and what is said of it: "" for nothing


def their_link(place: Path) -> Path:
    as_stranger('ln -s "$1" "$2"', place / "private/log", place / "theirs/log")
    return place / "theirs/log"


def their_directory_link(place: Path) -> Path:
    as_stranger('ln -s "$1" "$2"', place / "private", place / "theirs/dir")
    return place / "theirs/dir/log"


def their_link_in_a_sticky_directory(place: Path) -> Path:
    as_stranger('ln -s "$1" "$2"', place / "private", place / "shared/dir")
    return place / "shared/dir/log"


def roots_link_that_they_can_move(place: Path) -> Path:
    (place / "theirs/dir").symlink_to(place / "private")
    return place / "theirs/dir/log"


def roots_link_behind_their_directory(place: Path) -> Path:
    (place / "theirs/roots").mkdir()
    (place / "theirs/roots/dir").symlink_to(place / "private")
    return place / "theirs/roots/dir/log"


def hard_link(place: Path) -> Path:
    (place / "theirs/log").hardlink_to(place / "private/log")
    return place / "theirs/log"


def fifo(place: Path) -> Path:
    as_stranger('mkfifo "$1"', place / "theirs/log")
    return place / "theirs/log"


def socket_file(place: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(place / "theirs/log"))
    return place / "theirs/log"


def directory(place: Path) -> Path:
    return place / "private"


def device(place: Path) -> Path:
    (place / "current").symlink_to("/dev/zero")
    return place / "current"


def their_file(place: Path) -> Path:
    as_stranger('echo "$1" >"$2"', SECRET, place / "theirs/log")
    return place / "theirs/log"


def a_current_log(place: Path) -> Path:
    (place / "current").symlink_to("private/log")
    return place / "current"


def roots_links_on_the_way(place: Path) -> Path:
    (place / "first").symlink_to(place / "shared/../second")
    (place / "second").symlink_to("private")
    return place / "first/log"


CASES: list[tuple[Callable[[Path], Path], str]] = [
    (their_link, LINK),
    (their_directory_link, LINK),
    (their_link_in_a_sticky_directory, LINK),
    (roots_link_that_they_can_move, LINK),
    (roots_link_behind_their_directory, LINK),
    (hard_link, HARD_LINK),
    (fifo, NO_FILE),
    (socket_file, NO_FILE),
    (directory, NO_FILE),
    (device, NO_FILE),
    (their_file, ""),
    (a_current_log, ""),
    (roots_links_on_the_way, ""),
]

AT = {  # what it is about, where that has another name
    their_directory_link: "{}/theirs/dir",
    their_link_in_a_sticky_directory: "{}/shared/dir",
    roots_link_that_they_can_move: "{}/theirs/dir",
    roots_link_behind_their_directory: "{}/theirs/roots/dir",
    device: "/dev/zero",
}


@pytest.mark.parametrize("has_o_path", [True, False])
@pytest.mark.parametrize(
    ("make", "wanted"), CASES, ids=[make.__name__ for make, _ in CASES]
)
def test_a_file_is_opened_where_nobody_else_leads(
    place: Path,
    make: Callable[[Path], Path],
    wanted: str,
    has_o_path: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_o_path:  # as on other systems than Linux
        monkeypatch.delattr(os, "O_PATH")
    path = str(make(place))
    if not wanted:
        assert guarded_files.read(path, 1000).decode() == f"{SECRET}\n"
        assert guarded_files.read(path, 3).decode() == SECRET[:3]
        return
    with pytest.raises(OSError) as refused:
        guarded_files.read(path, 1000)
    link = AT[make].format(place) if make in AT else ""
    told = f"{path}, at {link}" if link else path
    assert (refused.value.strerror, refused.value.filename) == (wanted, told)


# Who opens the file waits until the lease is broken, for 45 s, and its holder is told.
LEASE = """\
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN if sys.argv[2:] else signal.SIG_DFL)
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
os.write(1, b"held")
signal.pause()
"""


def test_root_waits_for_nobodys_lease(place: Path, world: World) -> None:
    name = unique("leased")
    their = {"user": STRANGER, "group": STRANGER, "extra_groups": []}

    def lease(path: Path, *more: str) -> subprocess.Popen[bytes]:
        command = [users_python(), "-c", LEASE, str(path), *more]
        holder = world.spawn(command, stdout=subprocess.PIPE, **their)
        assert holder.stdout
        if holder.stdout.read(4) != b"held":
            absent("needs a file system with leases: fcntl(2)")
        return holder

    log, script = place / "theirs" / "log", place / "theirs" / "script"
    lease(log, "for good")
    holder = lease(script)
    waiter = place / "waiter"
    shutil.copy(need("dash"), waiter)
    words = [str(waiter), "-s", str(script), f"/{name}"]
    world.spawn(words, stdin=subprocess.PIPE, **their)
    world.watch(name, f'logs = ["{log}"]\n')
    result = world.run()
    assert result.code == 0 and f"log {log}: is held by a lease" in result.out, result
    assert holder.poll() is None  # what a stranger's arguments lead to is not opened


def test_what_is_no_file_is_not_opened_even_for_a_moment(
    place: Path, world: World
) -> None:
    path = fifo(place)
    # open(2) for writing returns once somebody has opened it for reading.
    writer = world.spawn(["sh", "-c", 'exec >"$1"; exec sleep 1000', "sh", path])
    until(lambda: Path(f"/proc/{writer.pid}/wchan").exists())
    name, dead = unique("food"), unique("dead")
    world.watch(name, f'pidfile = "{path}"\n')
    world.up(name)
    assert f"names no process: {NO_FILE}" in world.run("check", name).out
    alarm = f'alarm = {{ file = "{path}", pattern = "x" }}\n'
    world.watch(dead, f'start_timeout = "1s"\nlogs = ["{path}"]\n{alarm}')
    result = world.run(dead)
    assert f"log {path}: {NO_FILE}" in result.out, result
    wait = [sys.executable, "-I", str(COMPANIONS / "viagra-wait")]
    subprocess.run([*wait, "--timeout", "0s", f"pid:{path}"], check=False)
    assert comm(writer.pid) == "sh" and writer.poll() is None


def test_a_log_in_anothers_directory_shows_nothing_of_roots(
    place: Path, world: World
) -> None:
    log, current = their_directory_link(place), a_current_log(place)
    current.unlink()
    (place / "today").write_text("what it said last\n")
    current.symlink_to("today")
    name = unique("food")
    world.watch(name, f'logs = ["{log}", "{current}"]\n')
    result = world.run()
    assert result.code == 0 and f"log {log}: {LINK}" in result.out, result
    assert "what it said last" in result.out
    [incident] = world.incidents(name)
    kept = [file.read_text() for file in incident.iterdir()]
    alarm = f'alarm = {{ file = "{log}", pattern = "eyes" }}\n'
    world.facts(name, f'start_timeout = "1ms"\n{alarm}')
    told = world.run("check")
    assert told.code == 1 and f"alarm: could not read it: {LINK}" in told.out, told
    assert not any(SECRET in text for text in [result.out, told.out, *kept])


# What a daemon may do with the hook.log that it was started with


def test_a_hook_log_of_forty_gigabytes_is_shown_cut_and_paid_for_by_nobody(
    world: World,
) -> None:
    name, other = unique("big"), unique("other")
    world.watch(other)
    world.watch(name)
    assert world.run().code == 0
    [incident] = world.incidents(name)
    log = incident / "hook.log"
    with log.open("r+b", buffering=0) as inherited:
        inherited.write(b"its first line")
        os.truncate(inherited.fileno(), 40 << 30)
        limited = ["sh", "-c", 'ulimit -v 400000; exec "$@"', "sh"]
        show = world.command("history", "show", incident.name)
        shown = subprocess.run([*limited, *show], capture_output=True, check=False)
        assert shown.returncode == 0 and b"its first line" in shown.stdout
        assert b"bytes are not shown" in shown.stdout
        sizes = incidents.size(str(incident)), 2 * HOOK_LOG_CAP + 100_000
        assert sizes[0] <= sizes[1]
        # Room that is kept behind the end shows in no size.
        os.truncate(inherited.fileno(), 100)
        subprocess.run(
            ["fallocate", "-n", "-l", "8M", f"/proc/self/fd/{inherited.fileno()}"],
            pass_fds=[inherited.fileno()],
            check=True,
        )
        assert log.stat().st_blocks * 512 >= 8 << 20
        os.utime(world.state / "last-run", (0, 0))  # so the hour's first run is next
        assert world.run().code == 0
        assert log.stat().st_blocks * 512 <= 2 * HOOK_LOG_CAP
        log.unlink()
        os.mkfifo(log)  # as in a state that is not ours
        assert f"could not read it: {NO_FILE}" in world.run(*show[5:]).out


def test_who_holds_the_lock_of_a_hook_log_or_of_a_directory_holds_up_no_run(
    world: World,
) -> None:
    """Whoever changes what is held waits in a state that not even SIGKILL ends."""
    need_root()
    name, dead, public = unique("holds"), unique("dead"), world.place / "public"
    public.mkdir()
    world.settings(f'{SETTINGS}[run]\nmetrics = "{public}/viagra.prom"\n')
    holder = ["unshare", "--mount", sys.executable, "-I"]
    holder += [str(HELPERS / "hanging_exec.py"), str(STRANGER)]
    listed, written = world.place / "listed", world.place / "written"
    with listed.open("w") as told:
        with_it = ["sh", "-c", 'exec "$@" 3<"$0"', str(public), *holder]
        lists = world.spawn(with_it, stderr=told)
    until(lambda: listed.read_text() or lists.poll() is not None)
    if listed.read_text() != "held\n":
        pytest.skip(f"needs FUSE: {listed.read_text()}")
    world.watch(dead)
    world.hook(
        name,
        "yes | head -c 2200000\n"
        f"{shlex.join(holder)} 3>&1 2>{written} & echo $! >{written}.pid\n"
        f"until [ -s {written} ]; do sleep 0.05; done\n"
        f"{world.daemon(name)} {SLEEP} >/dev/null 2>&1 &",
    )

    def left() -> list[int]:
        return [pid for pid in all_pids() if str(world.state) in arguments(pid)]

    result = world.run(timeout=60)
    if written.read_text() != "held\n":  # as an overlay, which writes as another user
        pytest.skip(f"needs another file system: {written.read_text()}")
    assert world.starts(dead) == 1 and result.out.count("Restarting") == 2, result
    assert (
        "hook.log: not cut: who has it open keeps it from being changed" in result.out
    )
    assert "could not write" in result.err and result.code == 2, result
    assert len(left()) == 2
    os.utime(world.state / "last-run", (0, 0))  # so the hour's first run is next
    result = world.run(timeout=60)
    assert (result.code, result.out, result.err) == (2, "", ""), result
    assert len(left()) == 2
    for pid in (lists.pid, int(Path(f"{written}.pid").read_text())):
        world.kill(pid)
    until(lambda: not left())
    os.utime(world.state / "last-run", (0, 0))
    assert world.run().code == 0
    assert (public / "viagra.prom").stat().st_size
    assert (world.incidents(name)[0] / "hook.log").stat().st_size < 2 * HOOK_LOG_CAP


# viagra-run -L


def test_viagra_run_writes_through_nobodys_link(place: Path) -> None:
    path = their_directory_link(place).parent / "sudoers"
    run = [sys.executable, "-I", str(COMPANIONS / "viagra-run")]
    command = [*run, "-L", str(path), "--user", "nobody", "echo", "all is mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 124 and LINK in done.stderr, done
    assert [one.name for one in (place / "private").iterdir()] == ["log"]
    log = place / "theirs/log"
    command[command.index(str(path))] = str(log)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, log.read_text()) == (0, "all is mine\n"), done
    assert log.stat().st_uid == STRANGER  # opened with that user's rights
    own = place / "private/own"
    command[command.index(str(log))] = str(own)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, own.stat().st_uid) == (0, 0), done


@pytest.mark.parametrize("who", ["listens", "viagra-wait"])
def test_a_link_leads_root_to_no_other_socket(
    place: Path, world: World, who: str
) -> None:
    path, name = place / "private/socket", unique("food")
    links = [place / "theirs/socket", place / "own"]
    as_stranger('ln -s "$1" "$2"', path, links[0])
    links[1].symlink_to(path)  # root's own is followed
    world.watch(name)
    world.up(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.setblocking(False)
        for link in links:
            world.facts(name, f'start_timeout = "1ms"\nlistens = ["unix:{link}"]\n')
            wait = [sys.executable, "-I", str(COMPANIONS / who), "--timeout", "1s"]
            look = world.command("check")
            told = run_as(look if who == "listens" else [*wait, f"socket:{link}"])
            if link == links[0]:
                assert told.code and LINK in told.out + told.err, told
                with pytest.raises(BlockingIOError):
                    server.accept()
        assert told.code == 0, told
        server.accept()[0].close()


def test_viagra_run_is_led_nowhere_when_its_output_is_opened_anew(
    place: Path, world: World
) -> None:
    log, other = place / "theirs/dir/log", place / "theirs/other"
    as_stranger('mkdir "$1"', log.parent)
    told = world.place / "told"
    run = [sys.executable, "-I", str(COMPANIONS / "viagra-run"), "-L", str(log)]
    command = [*run, "-o", "noorphan", "--user", "nobody", "sh", "-c"]
    command += [f"echo one; exec sleep 1000 # {world.place}"]
    with told.open("w") as stderr:
        child = world.spawn(command, stderr=stderr)
    until(lambda: log.exists() and log.read_text() == "one\n")
    as_stranger('mv "$1" "$2"; ln -s "$3" "$1"', log.parent, other, place / "private")
    (place / "private/log").unlink()
    child.send_signal(signal.SIGHUP)
    until(lambda: LINK in told.read_text())
    assert list((place / "private").iterdir()) == []
    child.terminate()
    child.wait()


def test_a_whole_path_needs_no_directory_to_stand_in(world: World) -> None:
    """Whoever may remove the one where root stands makes no daemon unknown."""
    name, gone = unique("food"), world.place / "gone"
    world.watch(name)
    gone.mkdir()
    script = f"rmdir {gone}; exec {' '.join(world.command())}"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=gone,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0 and world.starts(name) == 1, done


def test_a_directory_of_too_many_names_is_not_read_to_its_end(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"food-{number}.log").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotated_logs, "_MOST", 2)
        with pytest.raises(OSError, match="more than 2 entries: move old ones"):
            rotated_logs.newest(f"{tmp_path}/food-*.log")
        assert rotated_logs.former(f"{tmp_path}/food-3.log", 1) == ""
    assert rotated_logs.newest(f"{tmp_path}/food-*.log").startswith(f"{tmp_path}/food-")
