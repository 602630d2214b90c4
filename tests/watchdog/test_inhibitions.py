"""What the machine itself is busy with, so that nothing is started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import CHECKOUT
from other_users import with_mounts
from world import SETTINGS, World, need, need_directory, need_root, unique

# Not now


def test_nothing_is_started_while_the_machine_boots(world: World) -> None:
    name = unique("boot")
    world.watch(name)
    world.settings('[run]\nboot = "50w"\n[defaults]\npatience = "0.1s"\n')
    result = world.run()
    assert (result.code, result.out) == (0, "") and world.starts(name) == 0
    said = world.run("--verbose")
    assert "not now: the machine booted" in said.out, said
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
    assert done.returncode == 0 and "the machine booted " in done.stdout, done
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
