"""Who reads what a run prints, and who does not: closed, full, and a mailer that hangs.

The restart happens, the run ends in bounded time, and the incident holds the notice.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cron_machine import cron_machine, start_cron, write
from fault_world import Watched, assert_kept, assert_quiet, quick
from ready_machine import Machine
from world import World, need

__all__ = ["cron_machine"]  # the private machine of the tests with cron
PATIENCE = 10.0  # seconds that a run waits, for each of stdout and stderr
STRAYS = 1500  # facts without a hook, each of which is a line on stderr


OUTPUTS = (">&- 2>&-", ">/dev/full 2>&1", "full pipe")


@pytest.mark.parametrize("output", quick(OUTPUTS[0], of=OUTPUTS))
def test_nobody_who_reads_stops_no_restart(world: World, output: str) -> None:
    daemon = Watched(world)
    world.facts("stray", "")  # a fault, for stderr
    pipes: dict[str, int | None] = {"stdout": None, "stderr": None}
    if output == "full pipe":
        read, write_end = os.pipe()
        os.set_blocking(write_end, False)
        try:
            while os.write(write_end, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(write_end, True)
        pipes = {"stdout": write_end, "stderr": write_end}
        output = ""
    began = time.monotonic()
    run = world.spawn(
        ["/bin/sh", "-c", f'exec "$@" {output}', "sh", *world.command()], **pipes
    )
    assert run.wait(90) == 2
    assert time.monotonic() - began < 2 * PATIENCE + 30
    daemon.assert_back(1)
    [incident] = assert_kept(world.state)
    notice = (incident / "notice.txt").read_text()
    assert notice.startswith(f"Restarting {daemon.name}\n")
    assert "  now       up, pid " in notice
    (world.home / "start.d" / "stray.toml").unlink()
    assert_quiet(world.run(), world.run(), world.state)
    daemon.assert_back(1)


@pytest.mark.long
@pytest.mark.xdist_group("cron")
def test_a_mailer_that_reads_nothing(machine: Machine, program: Path) -> None:
    """Debian's cron, and a sendmail that hangs; what is said is longer than a pipe."""
    need("cron")
    machine.shell("mkdir -p /var/food && cp /bin/sleep /var/food/food")
    write(machine, "/var/food/sendmail", "#!/bin/sh\nexec sleep 600\n", "755")
    mailer = machine.shell("readlink -f /usr/sbin/sendmail").strip()
    machine.shell(f"mount --bind /var/food/sendmail {mailer}")
    write(
        machine,
        "/etc/viagra/start.d/food",
        "#!/bin/sh\necho life >>/var/food/lives\n/var/food/food 1000 &\n",
        "755",
    )
    machine.shell(
        "cd /etc/viagra/start.d; i=0;"
        f"while [ $((i += 1)) -le {STRAYS} ]; do"
        "  : >a-hook-that-was-removed-and-left-its-facts-behind-$i.toml; done"
    )
    write(
        machine,
        "/etc/cron.d/viagra",
        "MAILTO=root\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"* * * * * root {program} --verbose; echo $? >>/var/food/codes\n",
    )
    machine.shell("rm -f /etc/cron.d/e2scrub_all /etc/cron.d/php")
    began = time.monotonic()
    minute = start_cron(machine)
    machine.await_that("pgrep -x food", 75)
    machine.await_that("[ -s /var/food/codes ]", 90)
    assert time.monotonic() - began < minute + 2 * PATIENCE + 60
    assert machine.shell("cat /var/food/codes").split()[0] == "2"  # the strays
    notice = machine.shell("cat /var/lib/viagra/incidents/*-food/notice.txt")
    assert notice.startswith("Restarting food\n") and "  now       up, pid " in notice
    assert machine.holds("pgrep -f sendmail")  # it hangs as it should
    machine.shell("rm /etc/viagra/start.d/a-hook-*")
    machine.await_that("[ $(wc -l </var/food/codes) -ge 2 ]", 90)
    done = machine.run(str(program), "--verbose", check=False)
    assert done.returncode == 0 and done.stdout.startswith("food is up: "), done
    assert machine.shell("cat /var/food/lives").split() == ["life"]
