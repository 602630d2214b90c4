"""The disk of the state directory: full, read-only, gone, or limited by a quota."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_world import (
    NO_MORE,
    Chamber,
    Watched,
    assert_kept,
    assert_quiet,
    quick,
    run_by,
    users_world,
)
from world import World, fill, missing, until

SETTINGS = """\
[defaults]
patience = "0.1s"
[evidence]
commands = ["ps auxww", "w"]
"""


class Disk:
    """The state directory on a small disk of its own, that only this test sees."""

    def __init__(self, world: World, options: str = "size=1m") -> None:
        world.state.mkdir(mode=0o700)
        self.options = f"-t tmpfs -o mode=700,{options} tmpfs {world.state}"
        self.chamber = Chamber(world, f"mount {self.options}")
        self.place = world.state  # as the program sees it
        self.run = self.chamber.run

    @property
    def seen(self) -> Path:
        """The state directory as the test sees it, whatever is mounted there now."""
        return self.chamber.see(self.place)

    def is_mended(self) -> None:
        """Runs after the fault find nothing to do, and all that was kept is whole."""
        assert_quiet(self.run(), self.run(), self.seen)
        assert_kept(self.seen)


FULL = {
    "from the start": ("size=1m", False),
    "since the last run": ("size=1m", True),
    "of files from the start": ("size=1m,nr_inodes=60", False),
    "of files since the last run": ("size=1m,nr_inodes=60", True),
}


@pytest.mark.parametrize("when", quick("since the last run", of=FULL))
def test_a_full_disk_stops_no_restart(world: World, when: str) -> None:
    options, ran_before = FULL[when]
    disk, daemon = Disk(world, options), Watched(world)
    world.settings(SETTINGS)
    said, nowhere = f"hook of {daemon.name} was here", Path("/hook.log")
    if ran_before:
        assert disk.run("check").code == 1
        assert disk.run().code == 0
        daemon.kill()
    if "files" in when:
        disk.chamber.shell(
            f"cd {disk.place}; while touch $((i += 1)).spare 2>&1; do :; done"
        )
    else:
        fill(disk.seen)
    for lives in (1 + ran_before, 2 + ran_before):
        result = disk.run()
        assert (result.code, result.err) == (0, ""), result
        assert result.out.startswith(f"Restarting {daemon.name}\n")
        assert any(NO_MORE in text for text in missing(result.out)), result
        assert not nowhere.exists() or said not in nowhere.read_text()
        # What found no place on the disk is told all the same.
        assert f"    {said}\n" in result.out
        assert "  busiest:\n" in result.out
        daemon.assert_back(lives)
        again = disk.run()
        assert (again.code, again.out, again.err) == (0, "", "")
        daemon.kill()
    disk.chamber.shell(f"cd {disk.place}; rm -f filling *.spare")
    healed = disk.run()
    assert healed.code == 0 and missing(healed.out) == [], healed
    disk.is_mended()
    daemon.assert_back(3 + ran_before)


@pytest.mark.long
def test_a_disk_that_the_hook_itself_fills(world: World) -> None:
    disk = Disk(world)
    daemon = Watched(world, before=f"cat /dev/zero >{disk.place}/filling")
    result = disk.run()
    assert (result.code, result.err) == (0, ""), result
    assert any(NO_MORE in text for text in missing(result.out)), result
    daemon.assert_back(1)
    assert_kept(disk.seen)  # begun before it was full
    disk.chamber.shell(f"rm {disk.place}/filling")
    disk.is_mended()


@pytest.mark.long
@pytest.mark.parametrize("pages", range(40))
def test_a_disk_that_fills_in_the_middle(world: World, pages: int) -> None:
    disk, daemon = Disk(world), Watched(world)
    assert disk.run("check").code == 1
    fill(disk.seen, leave=pages * 4096)
    result = disk.run()
    assert (result.code, result.err) == (0, ""), result
    assert result.out.startswith(f"Restarting {daemon.name}\n")
    daemon.assert_back(1)
    disk.chamber.shell(f"rm {disk.place}/filling")
    disk.is_mended()
    daemon.kill()
    assert disk.run().code == 0
    daemon.assert_back(2)


@pytest.mark.long
def test_full_disks_leave_nothing_that_is_never_pruned(world: World) -> None:
    disk, daemon = Disk(world), Watched(world)
    world.settings(
        '[defaults]\npatience = "0s"\nlimit = { restarts = 99, within = "1h" }\n'
        "[evidence]\ncommands = []\nkeep = 2\n"
    )
    assert disk.run("check").code == 1
    for number in range(3):
        fill(disk.seen, leave=2 * 4096)
        assert disk.run().code == 0
        daemon.assert_back(number + 1)
        disk.chamber.shell(f"rm {disk.place}/filling")
        daemon.kill()
    assert disk.run().code == 0
    assert len(list((disk.seen / "incidents").iterdir())) == 2
    disk.is_mended()


@pytest.mark.parametrize("ran_before", quick(True, of=[False, True]))
def test_a_read_only_disk_stops_no_restart(world: World, ran_before: bool) -> None:
    disk, daemon = Disk(world), Watched(world)
    if ran_before:
        assert disk.run().code == 0
        daemon.kill()
    disk.chamber.shell(f"mount -o remount,ro {disk.place}")
    result = disk.run()
    assert (result.code, result.err) == (0, ""), result
    assert "Read-only file system" in missing(result.out)[0]
    daemon.assert_back(1 + ran_before)
    many = [disk.chamber.start() for _ in range(4)]  # locked all the same
    assert {one.wait(60) for one in many} == {0}
    daemon.kill()
    many = [disk.chamber.start() for _ in range(4)]
    assert {one.wait(60) for one in many} <= {0, 75}
    daemon.assert_back(2 + ran_before)
    disk.chamber.shell(f"mount -o remount,rw {disk.place}")
    disk.is_mended()


@pytest.mark.parametrize(
    "how", quick("umount -l {0}", of=["umount -l {0}", "rm -rf {0}/*"])
)
def test_a_disk_that_is_gone_in_the_middle(world: World, how: str) -> None:
    disk = Disk(world)
    wait = f"until [ -e {world.place}/gone ]; do sleep 0.05; done"
    daemon = Watched(world, before=f"touch {world.place}/at-work; {wait}")
    run = disk.chamber.start()
    until((world.place / "at-work").exists)
    disk.chamber.shell(how.format(disk.place))
    (world.place / "gone").touch()
    out = run.communicate(timeout=180)[0].decode()
    assert run.returncode == 0 and "Traceback" not in out, out
    assert out.startswith(f"Restarting {daemon.name}\n") and missing(out), out
    daemon.assert_back(1)
    if "umount" in how:
        disk.chamber.shell(f"mount {disk.options}")
    assert_quiet(disk.run(), disk.run(), disk.seen)
    daemon.kill()
    result = disk.run()
    assert result.code == 0 and missing(result.out) == [], result
    daemon.assert_back(2)


def test_a_quota_on_the_size_of_files_is_no_matter_for_root(world: World) -> None:
    chamber, daemon = Chamber(world), Watched(world)
    result = chamber.run(through=["prlimit", "--fsize=0:", "--"])
    assert (result.code, result.err, missing(result.out)) == (0, "", []), result
    daemon.assert_back(1)
    assert_quiet(chamber.run(), chamber.run(), world.state)
    assert_kept(world.state)


@pytest.mark.parametrize("size", quick(4096, of=[512, 4096, 65536]))
def test_a_quota_on_the_size_of_a_users_files(program: Path, size: int) -> None:
    """The kernel's answer to whoever does not ask for it is SIGXFSZ."""
    with users_world(program) as (world, user):
        endless = world.bin / "endless"
        world.write(endless, "#!/bin/sh\nexec yes\n", 0o755)
        world.settings(
            '[defaults]\npatience = "0s"\nstart_timeout = "5s"\n'
            f'[evidence]\ntimeout = "2s"\ncommands = ["ps auxww", "{endless}"]\n'
        )
        daemon = Watched(world)
        result = run_by(world, user, "prlimit", f"--fsize={size}:{size}", "--")
        assert (result.code, result.err) == (0, ""), result
        daemon.assert_back(1)
        cut = "out of time after" if size < 4096 else f"cut at {size} bytes"
        assert f"endless: {cut}" in result.out, result
        second = run_by(world, user)
        assert_quiet(second, run_by(world, user), world.state)
        if size > 4096:
            assert f"    hook of {daemon.name} was here\n" in result.out
            assert_kept(world.state)
        daemon.kill()
        healed = run_by(world, user)
        assert healed.code == 0
        assert missing(healed.out) == ["endless: cut at 4000000 bytes"]
        daemon.assert_back(2)
