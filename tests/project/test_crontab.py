"""crontab.example and docs/cron.md: cron takes each line, and it does what it says."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import CHECKOUT
from world import World, need, unique

CRONTAB = (CHECKOUT / "crontab.example").read_text()
PAGE = (CHECKOUT / "docs" / "cron.md").read_text()
PROGRAM = "/usr/local/sbin/viagra.py"
PING = "https://ping.example.org/your-own-key"


def jobs() -> list[str]:
    """Return the example's lines that are jobs, those behind a # included."""
    return re.findall(r"^#?([*0-9].*)$", CRONTAB, re.MULTILINE)


def jobs_of_page() -> list[str]:
    """Return the page's lines that are jobs."""
    return re.findall(r"^    ([*0-9].*)$", PAGE, re.MULTILINE)


def settings_of_page() -> str:
    """Return what the page has cron set for all jobs."""
    lines: list[str] = re.findall(r"^    ([A-Z_]+=.*)$", PAGE, re.MULTILINE)
    return "".join(f"{line}\n" for line in lines)


def job_with(some: str) -> str:
    """Return the first job of the page with this in it."""
    return next(job for job in jobs_of_page() if some in job)


def test_crontab_has_all_that_it_should() -> None:
    assert len(jobs()) >= 6
    assert "\n*/10 * * * * /usr/local/sbin/viagra.py\n" in CRONTAB
    both = [*jobs(), *jobs_of_page()]
    assert not [job for job in both if "%" in job]  # cron makes a new line of it


WHOLE = [CRONTAB, *(CRONTAB.replace(f"#{job}", job) for job in jobs())]
WHOLE.append(settings_of_page() + "".join(f"{job}\n" for job in jobs_of_page()))


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_crontab_is_taken_by_cron(number: int, tmp_path: Path) -> None:
    crontab = need("crontab")
    asked = subprocess.run([crontab, "-h"], capture_output=True, text=True, check=False)
    usage = asked.stdout + asked.stderr
    options = [one for one in ("-n", "-T") if f"{one}]" in usage or f"{one}\t" in usage]
    if not options:
        pytest.skip("this machine's crontab cannot check without installing")
    file = tmp_path / "crontab"
    file.write_text(WHOLE[number])
    done = subprocess.run([crontab, options[0], file], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    # That it looks at all:
    file.write_text(f"{WHOLE[number]}*/10 * * viagra.py\n")
    done = subprocess.run([crontab, options[0], file], capture_output=True, check=False)
    assert done.returncode != 0


@pytest.fixture
def pings() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Give a web server's address, and the list of what it was asked for and sent."""
    asked: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            size = int(self.headers.get("Content-Length", 0))
            asked.append((self.path, self.rfile.read(size).decode()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/key", asked
        server.shutdown()
        thread.join()


def cron(world: World, job: str) -> str:
    """Run a line as cron does, with what a test has in the place of what it names.

    Return what would be mailed.
    """
    ours = world.hook("viagra.py", f'exec {" ".join(world.command())} "$@"', "bin")
    command = job.split(maxsplit=5)[5].replace(PROGRAM, str(ours))
    path = re.findall(r"^PATH=(.*)", CRONTAB, re.MULTILINE)[0]
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={
            "PATH": f"{world.home}/bin:{path}",
            "SHELL": "/bin/sh",
            "HOME": str(world.place),
            "LOGNAME": "root",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


PINGING = {
    "alone": next(job for job in jobs() if PING in job),
    "with the notice": job_with(PING),
}


@pytest.mark.parametrize("what", PINGING)
def test_ping_carries_the_exit_code(
    what: str, world: World, pings: tuple[str, list[tuple[str, str]]]
) -> None:
    need("curl")
    address, asked = pings
    job = PINGING[what].replace(PING, address)
    assert cron(world, job) == ""
    name = unique("ping")
    world.hook(name, "echo cannot; exit 1")
    told = [cron(world, job)]
    assert told[0].startswith(f"Restarting {name}\n")
    assert "OK" not in told[0].splitlines()
    world.facts(name, 'patience = "soon"')
    told.append(cron(world, job))
    assert "soon" in told[1]
    bodies = ["", *told] if what == "with the notice" else [""] * 3
    assert asked == [(f"/key/{code}", bodies[code]) for code in range(3)]


def paused(world: World) -> dict[str, Any]:
    """Return the pauses that there are."""
    told: dict[str, Any] = json.loads(world.run("check", "--json").out)
    return dict(told["standings"])


def test_windows_begin_and_end_by_themselves(world: World) -> None:
    for name in ("mariadb", unique("food")):
        world.hook(name, "exit 1")
    assert cron(world, job_with("weekly dump")) == ""
    assert [*paused(world)] == ["mariadb"]
    assert ": weekly dump" in paused(world)["mariadb"]
    world.run("resume", "mariadb")
    assert cron(world, job_with("--all")) == ""
    assert len(paused(world)) == 2
    world.run("resume", "--all")
    dump = world.hook("dump", f"ls {world.state}/paused", "bin")
    job = job_with("/root/dump").replace("/root/dump", str(dump))
    assert cron(world, job) == "mariadb\n"
    assert [one for one in paused(world).values() if "paused" in one] == []


def test_hosts_come_at_different_seconds(world: World) -> None:
    world.hook("sleep", f"echo $1 >>{world.place}/waited", "bin")
    for host in ("web1", "web2", "web1"):
        world.hook("hostname", f"echo {host}", "bin")
        assert cron(world, job_with("hostname")) == ""
    first, second, again = (world.place / "waited").read_text().split()
    assert first == again != second
    assert all(re.fullmatch(r"\d\d", one) for one in (first, second))


@pytest.mark.long
def test_cron_is_quiet_where_programs_mail_and_chronic_swallows(world: World) -> None:
    need("chronic")
    name = unique("food")
    world.hook("mail", f"cat >>{world.place}/mailed", "notice.d")
    world.watch(name)
    job = job_with(">/dev/null")
    assert cron(world, job) == ""
    mailed = world.place / "mailed"
    assert mailed.read_text().startswith(f"Restarting {name}\n")
    world.hook("mail", "echo no mailer >&2; exit 1", "notice.d")
    for run, told in ((job, "no mailer"), (f"* * * * * chronic {PROGRAM}", "")):
        world.kill(world.pids(name)[0])
        if not told:
            world.write(world.home / "notice.d" / "mail", "", 0o644)
        assert told in cron(world, run) and "Restarting" not in cron(world, run)
        assert world.pids(name)


def test_systemd_takes_the_spread_of_the_page(tmp_path: Path) -> None:
    analyze = need("systemd-analyze")
    drop_in = tmp_path / "viagra.timer.d" / "spread.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(re.sub("(?m)^    ", "", PAGE[PAGE.index("    [Timer]") :]))
    for unit in ("viagra.timer", "viagra.service"):
        text = (CHECKOUT / "systemd" / unit).read_text()
        (tmp_path / unit).write_text(text.replace(PROGRAM, sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / "viagra.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "viagra" in line]
    assert (done.returncode, told) == (0, [])
