"""The limit, pauses, and what the machine itself is busy with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import CHECKOUT
from other_users import with_mounts
from world import SETTINGS, World, need, need_directory, need_root, unique, until

from viagralib.processes.table import boot_id

BOOT_ID = "/proc/sys/kernel/random/boot_id"
LIMIT = 'limit = { restarts = 2, within = "1h" }\n'


def age_counts(world: World, name: str, seconds: float) -> None:
    """Let the tries of a daemon be older by that much."""
    path = world.state / "counts" / name
    text = path.read_text()
    at = float(text.partition('"tried_at": ')[2].split(",")[0].split("\n")[0])
    path.write_text(
        text.replace(f'"tried_at": {at!r}', f'"tried_at": {at - seconds!r}')
    )


def die(world: World, name: str) -> None:
    for pid in world.pids(name):
        world.kill(pid)


def test_held_after_its_tries_then_one_try_each_within(world: World) -> None:
    name = unique("held")
    world.watch(name, LIMIT)
    world.hook(name, f"touch {world.place}/told", kind="fail.d")
    for tries in (1, 2):
        result = world.run()
        assert result.code == 0 and world.starts(name) == tries
        assert ("\n  series    " in result.out) == (tries > 1)
        die(world, name)
    assert (
        "series    try 2 since" in result.out
        and "the next one not before " in result.out
    )
    assert not (world.place / "told").exists()
    first = world.run()
    assert first.code == 1 and f"{name} is held: tried 2 times" in first.out
    assert f"viagra.py restart {name}" in first.out
    assert (world.place / "told").exists()
    (world.place / "told").unlink()
    for _ in range(2):
        again = world.run()
        assert (again.code, again.out, again.err) == (1, "", "")
    assert world.starts(name) == 2
    assert not (world.place / "told").exists()
    assert "held" in world.run("status").out
    age_counts(world, name, 3700)
    assert world.run().code == 0 and world.starts(name) == 3
    die(world, name)
    assert world.run().code == 1 and world.starts(name) == 3
    age_counts(world, name, 2 * 3600)  # a quiet time: all is forgotten
    for tries in (4, 5):
        assert world.run().code == 0 and world.starts(name) == tries
        die(world, name)
    assert world.run().code == 1


def test_the_last_try_says_that_the_next_run_holds_it(world: World) -> None:
    name = unique("last")
    world.hook(name, "exit 3")
    world.facts(name, LIMIT.replace("2", "3"))
    assert "  next      the next run tries again" in world.run().out
    second = world.run().out
    told = re.search(
        r"^  series    try 2 since (.*); after try 3 it is held", second, re.M
    )
    assert told and time.strptime(told[1], "%a %b %d %H:%M:%S %Z %Y")
    third = world.run().out
    assert f"try 3 since {told[1]}; the next one not before " in third
    assert "  next      held: tried 3 times" in third
    assert f"{name} is held: tried 3 times" in world.run().out


def test_the_state_may_be_deleted(world: World) -> None:
    name = unique("forget")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    die(world, name)
    assert world.run().code == 1
    subprocess.run(["rm", "-rf", str(world.state)], check=True)
    assert world.run().code == 0 and world.starts(name) == 2


def test_restart_by_hand_does_not_count_and_is_not_held(world: World) -> None:
    name = unique("manual")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    pid = world.pids(name)[0]
    for starts in (2, 3):
        result = world.run("restart", name)
        assert result.code == 0, result
        assert result.out.startswith(f"Restarting {name}\n")
        assert "  why       restarted by hand\n" in result.out
        assert world.starts(name) == starts and len(world.pids(name)) == 1
    assert world.run("history").out.count("; restarted by hand\n") == 2
    assert world.pids(name) != [pid]


def test_a_clock_set_back_holds_nobody(world: World) -> None:
    name = unique("clock")
    world.watch(name, 'limit = { restarts = 1, within = "1h" }\n')
    world.run()
    die(world, name)
    age_counts(world, name, -86400)
    assert world.run().code == 0 and world.starts(name) == 2


# Pauses


def test_paused_is_left_alone_until_resumed(world: World) -> None:
    name = unique("pause")
    world.watch(name)
    result = world.run("pause", name, "--reason", "new disk")
    assert result.code == 0 and f"{name} is paused until viagra.py resume" in result.out
    quiet = world.run()
    assert (quiet.code, quiet.out) == (0, "") and world.starts(name) == 0
    assert "paused: until resumed: new disk" in world.run("status").out
    assert "paused" in world.run("check", name).out
    assert world.run("resume", name).code == 0
    assert world.run().code == 0 and world.starts(name) == 1


@pytest.mark.parametrize("whose", ["NAME", "--all"])
def test_a_pause_without_an_end_is_recalled_once_a_day(
    world: World, whose: str
) -> None:
    name = unique("pause")
    world.watch(name)
    end = f", until resumed; to end that: viagra.py resume {whose}\n"
    end = end.replace("NAME", name)
    for arguments, told in (([], end), (["--for", "2h"], "")):
        world.run("pause", whose.replace("NAME", name), *arguments)
        assert world.run().out == ""
        [record] = (world.state / "paused").iterdir()
        for age, said in ((86390, ""), (86410, told), (None, "")):
            if age is not None:
                os.utime(record, (time.time() - age,) * 2)
            done = world.run()
            assert (done.code, done.err, world.starts(name)) == (0, "", 0)
            assert done.out.endswith(said) and bool(done.out) == bool(said), done


def test_a_pause_ends_by_itself(world: World) -> None:
    name = unique("pause")
    world.watch(name)
    world.run("pause", name, "--for", "4s")
    assert world.run().out == ""
    time.sleep(3)
    until(lambda: world.run().out != "")
    assert world.starts(name) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--for", "0s"], "is over at once"),
        (["--until", "2001-01-01"], "is past"),
        (["--until", "soon"], "is no time"),
        (["--for", "2"], "needs a unit"),
        (["--for", "1h", "--until", "18:00"], "give one of them"),
    ],
)
def test_a_pause_that_makes_no_sense(
    world: World, arguments: list[str], text: str
) -> None:
    name = unique("pause")
    world.watch(name)
    result = world.run("pause", name, *arguments)
    assert result.code == 2 and text in result.err and result.err.count("\n") == 1
    assert world.run("status").out.count("paused") == 0


def test_a_pause_of_nobody_is_an_error(world: World) -> None:
    result = world.run("pause", "nobody")
    assert result.code == 2 and "no such hook" in result.err


# Not now


def test_nothing_is_started_while_the_machine_boots(world: World) -> None:
    name = unique("boot")
    world.watch(name)
    world.settings('[run]\nboot = "50w"\n[defaults]\npatience = "0.1s"\n')
    result = world.run()
    assert (result.code, result.out) == (0, "") and world.starts(name) == 0
    said = world.run("--verbose")
    assert "not now: the machine is up for" in said.out, said
    assert "not now" in world.run("explain", name).out


HOLD = """
import fcntl, os, struct, subprocess, sys
# As dpkg and apt lock it: fcntl(2), the whole file, for writing.
with open("/var/lib/dpkg/lock-frontend", "wb") as file:
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(file, fcntl.F_SETLKW, request)
    print(os.getpid(), flush=True)
    sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


PACKAGES = '[run]\npackages = "1h"\n[defaults]\npatience = "0.1s"\n'  # as by default


def test_nothing_is_started_during_a_package_transaction(world: World) -> None:
    """In a mount namespace: the real lock is the machine's."""
    need_root()
    name = unique("apt")
    world.watch(name)
    world.settings(PACKAGES)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        shell = "mount -t tmpfs tmpfs /var/lib/dpkg"
        holder = [sys.executable, "-c", HOLD, *world.command(*arguments)]
        return subprocess.run(
            [*with_mounts(shell), *holder],
            capture_output=True,
            text=True,
            check=False,
        )

    quiet = run()
    assert quiet.returncode == 0 and quiet.stdout.split() == [quiet.stdout.strip()]
    said = run("--verbose")
    holder = said.stdout.split("\n")[0]
    assert f"not now: packages are being installed (pid {holder}" in said.stdout, said
    assert world.starts(name) == 0
    world.settings(PACKAGES.replace("1h", "0s"))
    assert run().returncode == 0 and world.starts(name) == 1


# Each in a private /var, /usr/lib/sysimage or /lib/apk: the holder locks that file.
LOCKS = [
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
]


def locked(
    world: World, path: str, *wrapper: str, on: str = "tmpfs"
) -> subprocess.CompletedProcess[str]:
    """Run while a package manager of root's holds this lock, which it alone sees."""
    place, leaf = world.place / "locks", Path(path).parent
    top = next(one for one in ("/var/lib", "/usr/lib", "/lib") if path.startswith(one))
    place.mkdir()
    over = f"lowerdir={top},upperdir={place}/up,workdir={place}/work"
    shell = (
        f"mount -t tmpfs tmpfs {place}; mkdir {place}/up {place}/work\n"
        f"mount -t overlay -o {over} overlay {top}; mkdir -p {leaf}\n"
        + (f"mount -t tmpfs tmpfs {leaf}" if on == "tmpfs" else f"rm -f {path}")
    )
    hold = HOLD.replace("/var/lib/dpkg/lock-frontend", path)
    command = [sys.executable, "-c", hold, *wrapper, *world.command("--verbose")]
    return subprocess.run(
        [*with_mounts(shell), *command],
        capture_output=True,
        text=True,
        check=False,
    )


# On an overlay, as in containers, a lock is on another device than stat(2) names.
@pytest.mark.parametrize(
    ("path", "on"), [*((path, "tmpfs") for path in LOCKS), (LOCKS[0], "overlay")]
)
def test_the_lock_of_each_package_manager_puts_off(
    world: World, path: str, on: str
) -> None:
    need_root()
    name = unique("lock")
    world.watch(name)
    world.settings(PACKAGES)
    said = locked(world, path, on=on)
    assert "not now: packages are being installed (pid " in said.stdout, said
    assert said.returncode == 0 and world.starts(name) == 0


def test_apk_at_work_puts_off(world: World) -> None:
    """Its lock is one of flock(2): nobody tells who holds that."""
    need_root()
    name, place = unique("apk"), world.place / "apk"
    world.watch(name)
    world.settings(PACKAGES)
    world.up("apk")
    place.mkdir()
    over = f"lowerdir=/usr/lib,upperdir={place}/up,workdir={place}/work"
    shell = (
        f"mount -t tmpfs tmpfs {place}; mkdir {place}/up {place}/work\n"
        f"mount -t overlay -o {over} overlay /usr/lib; mkdir -p /usr/lib/apk/db\n"
        ">/usr/lib/apk/db/lock"
    )
    done = subprocess.run(
        [*with_mounts(shell), *world.command("--verbose")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and world.starts(name) == 0, done
    assert "packages are being installed (pid " in done.stdout, done


def test_a_transaction_of_over_an_hour_puts_nothing_off(world: World) -> None:
    """faketime lets the boot clock be years ahead, so that its holder seems as old."""
    need_root()
    name = unique("hour")
    world.watch(name)
    world.settings(PACKAGES)
    done = locked(world, LOCKS[0], need("faketime"), "-f", "+0s")
    assert world.starts(name) == 1 and "not now" not in done.stdout, done


@pytest.mark.parametrize(("age", "starts"), [(60, 0), (3700, 1)])
def test_the_mark_of_pacman_puts_off_for_an_hour(
    world: World, age: int, starts: int
) -> None:
    need_root()
    name = unique("mark")
    world.watch(name)
    world.settings(PACKAGES)
    mark = "/var/lib/pacman/db.lck"
    shell = (
        "mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/pacman && "
        f'touch -d "{age} seconds ago" {mark}'
    )
    done = subprocess.run(
        [*with_mounts(shell), *world.command("--verbose")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and world.starts(name) == starts, done
    assert (f"({mark} is there)" in done.stdout) == (starts == 0)


def test_the_real_dpkg_is_seen_at_work(world: World, tmp_path: Path) -> None:
    """dpkg itself, in a root directory of its own, installing a package that waits."""
    need_root()
    dpkg_deb = need("dpkg-deb")
    name = unique("dpkg")
    world.watch(name)
    world.settings(PACKAGES)
    package, root = tmp_path / "package", tmp_path / "root"
    (package / "DEBIAN").mkdir(parents=True, mode=0o755)
    (root / "info").mkdir(parents=True)
    (root / "updates").mkdir()
    world.write(root / "status", "")
    control = "Package: waits\nVersion: 1\nArchitecture: all\nMaintainer: nobody\n"
    world.write(package / "DEBIAN/control", control + "Description: waits\n")
    begun = tmp_path / "in"
    script = f"#!/bin/sh\ntouch {begun}\nwhile [ -e {begun} ]; do sleep .1; done\n"
    world.write(package / "DEBIAN/preinst", script, 0o755)
    subprocess.run([dpkg_deb, "--build", str(package)], check=True, capture_output=True)
    shell = (
        f"mount --bind {root} /var/lib/dpkg && "
        f"dpkg --force-depends --log=/dev/null -i {package}.deb & "
        f"while ! [ -e {tmp_path}/in ]; do sleep 0.1; done; "
        '"$@"; code=$?; rm '
        f"{tmp_path}/in; wait; exit $code"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell, "sh", *world.command("--verbose")],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    # The shell's background list mounts for itself; the program sees the same mount.
    assert "packages are being installed" in done.stdout, done
    assert done.returncode == 0 and world.starts(name) == 0


SYSTEMD_SAYS = {
    "stopping": "the machine is shutting down",
    "starting": "systemd is still starting the machine's units",
    "initializing": "systemd is still starting the machine's units",
    "running": "",
    "degraded": "",
}


@pytest.mark.parametrize("state", SYSTEMD_SAYS)
def test_systemd_is_not_disturbed(world: World, tmp_path: Path, state: str) -> None:
    """In a mount namespace where systemd is there, and among processes of its own."""
    need_root()
    name = unique("halt")
    world.watch(name)
    world.settings(f'{SETTINGS}[run]\nboot = "0.001s"\n')
    tools = tmp_path / "tools"
    tools.mkdir()
    world.write(tools / "systemctl", f"#!/bin/sh\necho {state}\nexit 1\n", 0o755)
    script = (
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && "
        f"mount --bind {tools} /usr/local/sbin && mount -t proc proc /proc && sleep 0.1"
    )
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child"]
        + [*with_mounts(script), *world.command("--verbose")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    if SYSTEMD_SAYS[state]:
        assert SYSTEMD_SAYS[state] in done.stdout, done
    assert world.starts(name) == (0 if SYSTEMD_SAYS[state] else 1)


def test_a_container_is_as_old_as_its_process_1(world: World) -> None:
    need_root()
    name = unique("boot")
    world.watch(name)
    world.settings(f'{SETTINGS}[run]\nboot = "1m"\n')
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        + world.command("--verbose"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "the machine is up for " in done.stdout, done
    assert world.starts(name) == 0


def test_a_container_has_a_boot_of_its_own() -> None:
    need_root()
    tell = "from viagralib.processes.table import boot_id; print(boot_id())"
    command = [sys.executable, "-c", tell]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    boots = [
        subprocess.run([*argv, *command], capture_output=True, check=True, cwd=CHECKOUT)
        for argv in ([], [], alone)
    ]
    assert boots[0].stdout == boots[1].stdout != boots[2].stdout


SHUTDOWNS = {
    "halt": "echo 'echo 2 0' >>{tools}/runlevel",
    "reboot": "echo 'echo 5 6' >>{tools}/runlevel",
    "nologin": "touch /run/nologin; {tools}/shutdown 1000 >/dev/null 2>&1 &\n"
    "until grep -qx shutdown /proc/$!/comm; do sleep 0.02; done",
    "nologin alone": "touch /run/nologin",
    "multi-user": "echo 'echo N 2' >>{tools}/runlevel",
    "runlevel": "mount --bind {tools} /etc/init.d; /etc/init.d/rc 2 &\n"
    "until grep -qx rc /proc/$!/comm; do sleep 0.02; done",
}


@pytest.mark.parametrize("how", SHUTDOWNS)
def test_a_shutdown_without_systemd(world: World, how: str) -> None:
    """By sysvinit's runlevel, or a shutdown at work under /run/nologin.

    What goes to another runlevel starts and stops services by itself.

    Among processes of its own: a shutdown that another test pretends is not seen.
    """
    need_root()
    if how == "runlevel":
        need_directory("/etc/init.d")
    name, tools = unique("halt"), world.place / "tools"
    tools.mkdir()
    world.write(tools / "runlevel", "#!/bin/sh\n", 0o755)
    world.write(tools / "rc", "#!/bin/sh\nsleep 1000\n", 0o755)
    shutil.copy(need("sleep"), tools / "shutdown")
    world.settings(f'{SETTINGS}[run]\nboot = "0.001s"\n')
    world.watch(name)
    script = (
        "mount -t tmpfs tmpfs /run && mount --bind {tools} /usr/local/sbin\n"
        + SHUTDOWNS[how]
    ).format(tools=tools)
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*alone, *with_mounts(script), *world.command("--verbose")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    goes_on = how in {"nologin alone", "multi-user"}
    assert done.returncode == 0 and world.starts(name) == goes_on, done
    why = "the machine " + ("starts and" if how == "runlevel" else "is shutting down")
    assert (why in done.stdout) != goes_on, done


def test_a_pause_survives_a_reboot_and_quit_does_not(world: World) -> None:
    """A boot is known by the kernel's boot_id, here by another one in its place."""
    need_root()
    paused, stopped = unique("paused"), unique("quit")
    for name in (paused, stopped):
        world.watch(name)
    world.run("pause", paused, "--until", "2099-12-24 18:00")
    boot = boot_id()
    world.write(world.state / "open" / stopped, f'{{"quit": "{boot}"}}')
    assert world.run().out == "" and world.starts(stopped) == 0
    (world.place / "boot_id").write_text("another\n")
    shell = f"mount --bind {world.place}/boot_id {BOOT_ID}"
    done = subprocess.run(
        [*with_mounts(shell), *world.command()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert (world.starts(paused), world.starts(stopped)) == (0, 1)
    assert "paused: until Thu Dec 24 18:00:00" in world.run("status").out


# What depends on what


def test_resets_go_over_several_levels_and_skip_who_is_not_up(world: World) -> None:
    base, network, inetd, off, gone = (unique(f"r{i}") for i in range(5))
    world.watch(base, f'resets = ["{network}", "{off}", "{gone}"]\n')
    world.watch(network, f'resets = ["{inetd}"]\n')
    world.watch(inetd)
    world.watch(gone, 'recovery = "report"\n')
    world.hook(off, "exit 1", mode=0o644)
    before = world.up(network).pid, world.up(inetd).pid
    result = world.run()
    assert world.starts(base) == world.starts(network) == world.starts(inetd) == 1
    assert result.out.count("Restarting ") == 3
    assert (
        f"resets    {network}, {off} skipped (off), {gone} skipped (down)" in result.out
    )
    assert f"why       {base} was restarted" in result.out
    assert world.pids(network) != [before[0]] and len(world.pids(network)) == 1
    assert world.pids(inetd) != [before[1]] and len(world.pids(inetd)) == 1
    assert world.run().out == ""


def test_a_reset_reaches_beyond_the_names(world: World) -> None:
    base, other, third = (unique(f"b{i}") for i in range(3))
    world.watch(base, f'resets = ["{other}"]\n')
    world.watch(other)
    world.watch(third)
    world.up(other)
    assert world.run(base).code == 0
    assert (world.starts(base), world.starts(other), world.starts(third)) == (1, 1, 0)


def test_circles_are_faults_that_name_them(world: World) -> None:
    a, b = unique("circle"), unique("circle")
    world.watch(a, f'resets = ["{b}"]\n')
    world.watch(b, f'resets = ["{a}"]\n')
    result = world.run()
    assert result.code == 2
    assert f"resets goes in a circle: {a} resets {b} resets {a}" in result.err
