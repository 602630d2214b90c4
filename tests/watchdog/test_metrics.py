"""Metrics: what is in the file, that real readers take it, and where it may lie."""

from __future__ import annotations

import calendar
import json
import os
import random
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from checkout import CHECKOUT
from fault_world import Chamber
from world import SETTINGS, World, fill, need_root, unique, until

from viagralib.processes import table
from viagralib.report.metrics import _METRICS, _text
from viagralib.state.incident_ids import began_at

ALERTS = CHECKOUT / "prometheus" / "alerts.yml"


def metrics(world: World, place: Path) -> Path:
    """Have metrics written below a directory; return the file."""
    world.settings(f'{SETTINGS}[run]\nmetrics = "{place}/viagra.prom"\n')
    return place / "viagra.prom"


def samples(text: str) -> dict[str, float]:
    """Return the value of each sample, by its name with its labels."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines)}


def promtool(*arguments: object, stdin: str = "") -> None:
    """Have promtool check metrics or rules: it finds nothing."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool")
    done = subprocess.run(
        [program, "check", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_metrics_say_what_the_run_saw_at_its_end(world: World) -> None:
    up, down, paused, faulty = (unique(stem) for stem in ("up", "down", "pau", "fau"))
    file = metrics(world, world.place)
    world.watch(up)
    world.hook(down, "exit 1")
    world.hook(paused, "exit 1")
    world.hook(faulty, "exit 1")
    world.facts(faulty, "no_such_fact = 1")
    world.run("pause", paused)
    own, dead = table.find(os.getpid()), {"pid": os.getpid(), "start": 1}
    assert own
    keeper = {"role": "primary", "since": 5.5, "pid": own.pid, "start": own.start}
    for lease, record in (("food", keeper), ("old", {**keeper, **dead})):
        (world.state / "leases" / lease).mkdir(parents=True, mode=0o700)
        (world.state / "leases" / lease / "keeper").write_text(json.dumps(record))
    began = time.time()
    assert world.run().code == 2
    found = samples(file.read_text())

    def of(metric: str, name: str) -> float | None:
        return found.get(f'viagra_daemon_{metric}{{daemon="{name}"}}')

    assert (of("up", up), of("up", down), of("up", faulty)) == (1, 0, None)
    assert (of("restarts_total", up), of("restarts_total", paused)) == (1, 0)
    assert began - 1 <= (of("incident_timestamp_seconds", up) or 0) <= time.time()
    labels = f'daemon="{down}",verdict="down"'
    assert found[f"viagra_daemon_verdict{{{labels}}}"] == 1
    labels = f'daemon="{paused}",standing="paused"'
    assert found[f"viagra_daemon_standing{{{labels}}}"] == 1
    assert found["viagra_run_faults"] == 1
    leases = {key: value for key, value in found.items() if "lease" in key}
    labels = 'lease="food",role="primary"'
    assert leases == {f"viagra_lease_role_timestamp_seconds{{{labels}}}": 5.5}
    assert began <= found["viagra_run_timestamp_seconds"] <= time.time()
    assert 0 < found["viagra_run_duration_seconds"] < time.time() - began
    assert file.stat().st_mode & 0o777 == 0o644
    # One that is about some of them alone leaves it as it is.
    before = file.read_bytes()
    world.run(up)
    assert file.read_bytes() == before
    promtool("metrics", stdin=file.read_text())


def test_a_quiet_run_writes_them_and_loads_little_for_it(world: World) -> None:
    name = unique("up")
    file = metrics(world, world.place)
    world.watch(name)
    world.up(name)
    for _ in range(2):
        result = world.run()
        assert (result.code, result.out, result.err) == (0, "", "")
    assert samples(file.read_text())[f'viagra_daemon_up{{daemon="{name}"}}'] == 1
    assert [one.name for one in world.place.glob(".*")] == []
    command = [world.command()[0], "-X", "importtime", *world.command()[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"json", "calendar", "viagralib.verbs.run", "subprocess"}


def test_node_exporter_serves_them(world: World) -> None:
    exporter = shutil.which("prometheus-node-exporter")
    if exporter is None:
        pytest.skip("needs prometheus-node-exporter")
    name, other = unique("up"), unique("down")
    place = world.place / "textfile"
    place.mkdir()
    metrics(world, place)
    world.watch(name)
    world.hook(other, "exit 1")
    world.run()
    log = world.place / "exporter.log"
    with open(log, "wb") as output:
        textfile = ["--collector.textfile", f"--collector.textfile.directory={place}"]
        listen = "--web.listen-address=127.0.0.1:0"
        command = [exporter, "--collector.disable-defaults", *textfile, listen]
        world.spawn(command, stderr=output)
    until(lambda: "address=127" in log.read_text())
    address = log.read_text().partition("address=")[2].split()[0]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        found = samples(answer.read().decode())
    assert found["node_textfile_scrape_error"] == 0
    assert found[f'viagra_daemon_up{{daemon="{name}"}}'] == 1
    assert found[f'viagra_daemon_up{{daemon="{other}"}}'] == 0


def test_alert_rules_are_such_as_prometheus_takes() -> None:
    promtool("rules", ALERTS)


def test_hostile_names_cannot_forge_a_sample() -> None:
    name = 'x"} 1\nviagra_daemon_up{daemon="sshd'
    text = _text({**dict.fromkeys(_METRICS, {}), "viagra_daemon_up": {(name,): 0}})
    assert len(text.splitlines()) == 3
    assert text.endswith('{daemon="x\\"} 1\\\\x0aviagra_daemon_up{daemon=\\"sshd"} 0\n')


def test_when_an_incident_began_is_in_its_name() -> None:
    moments = [0, 951782400, 951868799, 1709164800, 4107542400, 32503679999]
    numbers = random.Random(1)
    for moment in moments + [numbers.randrange(1 << 35) for _ in range(500)]:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        assert began_at(f"{stamp}-food") == calendar.timegm(time.gmtime(moment))
    assert [began_at(one) for one in ("", "food", "20261120T2210Z-x")] == [0, 0, 0]


# Where it may lie


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_what_cannot_be_written_is_said_once_and_stops_nothing(
    world: World, mode: int
) -> None:
    name = unique("food")
    file = metrics(world, world.place / "open")
    world.watch(name)
    (world.place / "open").mkdir()
    (world.place / "open").chmod(mode)
    result = world.run()
    assert (result.code, len(world.pids(name))) == (2, 1)
    [line] = result.err.splitlines()
    assert line.startswith(
        f"viagra.py: viagra.toml: [run] metrics: could not write {file}"
    )
    assert f"chmod o-w {file.parent}" in line
    again = world.run()
    assert (again.code, again.out, again.err) == (2, "", "")
    file.parent.rmdir()
    assert "No such file" in world.run().err
    file.parent.mkdir()
    assert (world.run().code, world.run().out) == (0, "")
    assert file.exists() and not (world.state / "open" / "viagra.toml").exists()


def test_a_service_users_directory_is_used_but_leads_nowhere(world: World) -> None:
    """As Debian has it: /var/lib/prometheus is prometheus', what is in it root's."""
    need_root()
    place = world.place / "prometheus"
    (place / "textfile").mkdir(parents=True)
    os.chown(place, 65, 65)
    file = metrics(world, place / "textfile")
    world.watch(unique("food"), 'recovery = "report"')
    world.run()
    assert file.exists()
    elsewhere = world.place / "elsewhere"
    (place / "textfile").rename(elsewhere)
    (place / "textfile").symlink_to(elsewhere)
    before = file.read_bytes()
    assert world.run().code == 2
    assert file.read_bytes() == before
    (place / "textfile").unlink()
    elsewhere.rename(place / "textfile")
    os.chown(place, 1000, 1000)
    result = world.run("--verbose")  # but for numbers, it may have been said just now
    assert result.code == 2 and "belongs to" in result.err


def test_a_full_disk_costs_the_metrics_alone(world: World) -> None:
    need_root()
    name = unique("food")
    place = world.place / "small"
    place.mkdir()
    file = metrics(world, place)
    world.watch(name)
    world.up(name)
    chamber = Chamber(world, f"mount -t tmpfs -o mode=755,size=64k tmpfs {place}")
    assert chamber.run().code == 0
    seen = chamber.see(place)
    fill(seen)
    result = chamber.run()
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert f"could not write {file}: No space left" in result.err
    assert (seen / "viagra.prom").read_text().endswith("\n")  # the old one, whole
    assert {one.name for one in seen.iterdir()} == {"viagra.prom", "filling"}
    (seen / "filling").unlink()
    assert chamber.run().code == 0
