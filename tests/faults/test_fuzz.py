"""What others wrote, with anything in it: read, or refused by the parser's own error.

Settings, what the system tells, and the program's own records.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import AMOUNTS, json_values, numbers, records, texts, tried
from hypothesis import strategies as st
from world import remove_locks

from viagralib.base import durations
from viagralib.base.messages import reason, safe
from viagralib.base.printer import Printer
from viagralib.evidence import kernel_log
from viagralib.health import log_alarms
from viagralib.health.findings import WELL
from viagralib.processes import linux, linux_system
from viagralib.processes.verdicts import SICK, UNKNOWN, UP, Verdict
from viagralib.recovery import cause_of_death, hooks_at_work
from viagralib.report.announcer import Announcer
from viagralib.report.up_again import close
from viagralib.settings.command_line import Options
from viagralib.settings.configuration import Daemon, load
from viagralib.settings.facts import Facts
from viagralib.state import announced, death_records, incidents, pauses
from viagralib.state import restart_limit as limiting
from viagralib.state.directory import State
from viagralib.state.run_context import Run
from viagralib.trust.programs import ProgramTrust
from viagralib.verbs import history as histories
from viagralib.verbs import status

NAME = "food"


class Place:
    """A home with one hook, its state, and what the program makes of both."""

    def __init__(self, place: Path) -> None:
        self.home = place / "home"
        hook = self.home / "start.d" / NAME
        hook.parent.mkdir(parents=True)
        hook.write_text("#!/bin/sh\n")
        hook.chmod(0o755)
        self.state = State(str(place / "state"))
        self.state.prepare()
        self.log = place / "log"
        self.null = os.open(place / "told", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def put(self, kind: str, text: bytes, name: str = NAME) -> None:
        """Put a record there, as no run of ours would write it."""
        path = Path(self.state.path, kind, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)

    def run(self) -> Run:
        return Run(load(str(self.home)), self.state, [], ProgramTrust(os.geteuid()))

    def printer(self) -> Printer:
        os.ftruncate(self.null, 0)
        return Printer(self.null)

    def told(self) -> str:
        """Return what was said, which must be plain."""
        text = os.pread(self.null, 1_000_000, 0).decode()
        assert all(char == "\n" or char.isprintable() for char in text), repr(text)
        return text


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    os.close(made.null)
    remove_locks([made.home])


# What people write

words = st.sampled_from(["process", "command", "user", "count", "limit", "listens"])
keys = words | st.sampled_from([key for key in vars(Facts) if key[0] != "_"]) | texts
scalars = st.sampled_from(
    ['"30s"', '"0s"', "1", "true", "[1, 2]", '["a"]', '"/x"', "1979-05-27", "nan"]
    + ["1e999", "0x" + "f" * 5000, '"(a+)+$"', '"["', "[[1]]", "''"]
    + ['{ file = "/x", every = "1s" }', '{ restarts = 0x1, within = "1h" }']
)
toml_values = scalars | texts.map(json.dumps) | numbers.map(repr) | texts
toml_lines = st.tuples(keys, toml_values).map(lambda pair: f"{pair[0]} = {pair[1]}")
sections = st.sampled_from(["[defaults]", "[evidence]", "[run]", "[x]", "[[run]]", "["])
documents = st.lists(toml_lines | sections | texts, max_size=6).map("\n".join)


@AMOUNTS
def test_any_settings_are_read_or_are_faults(place: Place, amount: int) -> None:
    @tried(amount // 2, general=documents, facts=documents)
    def holds(general: str, facts: str) -> None:
        for file, text in (("viagra.toml", general), (f"start.d/{NAME}.toml", facts)):
            (place.home / file).write_bytes(text.encode(errors="surrogatepass"))
        settings = load(str(place.home))
        assert list(settings.daemons) == [NAME]
        for fault in settings.faults:
            assert str(fault).isprintable() and len(str(fault)) < 1000


@AMOUNTS
def test_any_text_is_a_duration_or_a_complaint(amount: int) -> None:
    @tried(amount, text=st.from_regex(r"[0-9.eE+-]{0,30}[a-zµ²٣]{0,3}") | texts)
    def holds(text: str) -> None:
        try:
            assert 0 <= durations.parse(text) <= durations.LONGEST
        except ValueError as error:
            assert (
                "duration" in str(error) or "unit" in str(error) or "100" in str(error)
            )


# What the system writes


@AMOUNTS
def test_a_process_is_read_whatever_its_name(amount: int) -> None:
    """Our own one: the kernel cuts its name at 15 bytes and at a NUL."""
    own = Path("/proc/self/comm")
    if not own.exists():
        pytest.skip("needs Linux")
    before, found = own.read_bytes()[:-1], linux_system.find(os.getpid())
    assert found is not None

    @tried(amount, name=st.binary(min_size=1, max_size=20))
    def holds(name: bytes) -> None:
        own.write_bytes(name)
        process = linux_system.find(os.getpid())
        assert process is not None
        wanted = name[: linux.NAME_LENGTH].partition(b"\0")[0]
        assert os.fsencode(process.name) == wanted
        assert (process.parent, process.start) == (os.getppid(), found.start)
        assert not process.zombie and process.users()[0] == os.getuid()
        assert safe(process.name).isprintable()
        assert os.getpid() in [one.pid for one in linux_system.look({process.name})]
        assert process.group == os.getpgrp()

    own.write_bytes(before)


# As proc(5) has it, from the state on; the 20th field is the start time.
STAT = b" S 1 17 17 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4711 999 88 7 0 1\n"
cut_lines = st.tuples(st.binary(max_size=40), st.integers(0, len(STAT))).map(
    lambda pair: b"17 (" + pair[0] + b")" + STAT[: pair[1]]
)


@AMOUNTS
def test_any_line_is_a_process_or_the_system_s_error(amount: int) -> None:
    @tried(amount, name=st.binary(max_size=20), other=st.binary() | cut_lines)
    def holds(name: bytes, other: bytes) -> None:
        process = linux_system.parse(17, b"17 (" + name + b")" + STAT, None)
        assert process is not None and os.fsencode(process.name) == name
        assert (process.start, process.parent, process.session) == (4711, 1, 17)
        try:
            process = linux_system.parse(17, other, None)
            assert process is not None and process.pid == 17
        except OSError as error:
            assert reason(error) == "not as proc(5) says (/proc/17/stat)"


kernel_words = st.sampled_from(
    ["Out of memory: Killed process ", "123", " (food)", "food[12]: segfault at 0 ip 0"]
    + ["traps: food[7] general protection fault ip:1", "[", "]", "(", ")", "9" * 5000]
)
kernel_texts = st.lists(kernel_words | texts, max_size=6).map("".join)


@AMOUNTS
def test_any_kernel_line_is_read(amount: int) -> None:
    stamps = st.integers().map(str) | st.sampled_from(["9" * 5000, "", "-1", "x"])

    @tried(amount, stamp=stamps, text=kernel_texts, raw=st.binary(max_size=80))
    def holds(stamp: str, text: str, raw: bytes) -> None:
        record = f"6,1,{stamp},-;{text}\n".encode(errors="surrogatepass")
        lines = [kernel_log.parse(one, time.time()) for one in (record, raw)]
        assert all(line.date() for line in lines)
        death = kernel_log.find_death(lines, NAME, 0.0)
        assert death is None or (death.name == NAME and death.pid >= 0)


@AMOUNTS
def test_any_end_of_a_unit_is_told(amount: int) -> None:
    names = st.sampled_from(["Result", "ExecMainCode", "ExecMainStatus"]) | texts
    values = st.integers(-5, 300).map(str) | st.sampled_from(["oom-kill", "2", "3"])

    @tried(amount, values=st.dictionaries(names, values | texts, max_size=4))
    def holds(values: dict[str, str]) -> None:
        assert isinstance(cause_of_death.how_unit_ended(values), str)


# What we wrote ourselves, and what a disk or an editor made of it


@AMOUNTS
def test_any_death_is_told_or_unknown(place: Place, amount: int) -> None:
    ended = st.dictionaries(
        st.sampled_from(
            ["at", "pid", "start", "exit", "signal", "core", "ran", "finished"]
        ),
        json_values,
        max_size=6,
    )
    parts = st.sampled_from(["runner", "command", "death", "end"])
    whole = st.dictionaries(parts, ended, max_size=4).map(
        lambda record: json.dumps({"version": 1, "name": NAME, **record}).encode()
    )

    @tried(amount, text=whole | records("version", "end", "death", "runner"))
    def holds(text: bytes) -> None:
        place.put("deaths", text)
        assert death_records.finished_at(place.state, NAME) >= 0
        assert death_records.runner(place.state, NAME) is None
        assert isinstance(death_records.death_since(place.state, NAME, 0.0), str)


INCIDENT = f"20261120T221003Z-{NAME}"
incident_records = records(
    *("daemon", "status", "began", "result", "hook", "seconds", "cause", "up_again"),
    *("version", "verdict", "reason", "killed_pid"),
).map(lambda text: text.replace(b"{", b'{"daemon": "food", "status": "open", ', 1))


@AMOUNTS
def test_any_incident_is_told_or_damaged(place: Place, amount: int) -> None:
    @tried(
        amount // 3, text=incident_records, opened=records("incident", "since", "word")
    )
    def holds(text: bytes, opened: bytes) -> None:
        place.put(f"incidents/{INCIDENT}", text, "incident.json")
        place.put(
            "open", opened.replace(b"{", b'{"incident": "%b", ' % INCIDENT.encode(), 1)
        )
        run = place.run()
        last = incidents.load(place.state, INCIDENT)
        if last is not None:
            incidents.recorded_hook(last)
            hooks_at_work.of(run.settings.daemons[NAME], run.observer, last)
        for verb in (histories.history, status.status):
            out = place.printer()
            verb(run, Options(), out)
            place.told()
        out = place.printer()
        close(Announcer(run, Options(), out, out), {NAME: Verdict(UP, "", [])})
        place.told()
        assert place.state.names("open") == []


@AMOUNTS
def test_any_note_of_what_is_open_is_read(place: Place, amount: int) -> None:
    @tried(amount, text=records("since", "word", "said", "said_at", "told", "incident"))
    def holds(text: bytes) -> None:
        place.put("open", text)
        record = announced.of(place.state, NAME)
        assert announced.up_again(NAME, record).isprintable()
        incidents.load(place.state, announced.incident_of(place.state, NAME))
        announced.announce(place.state, NAME, "down", "why")
        assert not announced.announce(place.state, NAME, "down", "why")


def test_what_a_record_holds_is_escaped(place: Place) -> None:
    place.put("open", b'{"told": true, "word": "\\u001b[2J"}')
    record = announced.of(place.state, NAME)
    assert announced.up_again(NAME, record).isprintable()
    process = linux_system.find(os.getpid())
    assert process is not None
    found = {"start": process.start, "found": "\x1b[2J"}
    place.put("counts", json.dumps({"alarm": found}).encode())
    daemon = Daemon(NAME, str(place.home), Facts())
    daemon.facts.alarm = (str(place.log), "PANIC")
    finding = log_alarms.find(place.run(), daemon, process)
    assert (finding.word, finding.why) == (SICK, "alarm: \\x1b[2J")


@AMOUNTS
def test_any_pause_is_told_or_none(place: Place, amount: int) -> None:
    @tried(amount, text=records("since", "until", "reason"))
    def holds(text: bytes) -> None:
        place.put("paused", text)
        assert pauses.why_paused(place.state, NAME).isprintable()
        assert set(place.run().paused()) <= {NAME}


@AMOUNTS
def test_any_counts_are_read(place: Place, amount: int) -> None:
    daemon = Daemon(NAME, str(place.home), Facts())

    @tried(amount, text=records("restarts", "tries", "tried_at", "series_at", "recent"))
    def holds(text: bytes) -> None:
        place.put("counts", text)
        assert limiting.why_held(place.state, daemon).isprintable()
        assert limiting.series(place.state, daemon).isprintable()
        before = place.state.count(NAME), place.state.recent(NAME)
        place.state.count_up(NAME)
        limiting.note_try(place.state, daemon)
        assert place.state.count(NAME) == before[0] + 1
        assert place.state.recent(NAME) in (before[1] + 1, 1000)


@AMOUNTS
def test_any_place_of_an_alarm_is_read(place: Place, amount: int) -> None:
    daemon = Daemon(NAME, str(place.home), Facts())
    daemon.facts.alarm = (str(place.log), "PANIC")
    process = linux_system.find(os.getpid())
    assert process is not None
    spot = st.dictionaries(
        st.sampled_from(["inode", "offset", "found"]), json_values, max_size=3
    ).map(
        lambda found: json.dumps({"alarm": {"start": process.start, **found}}).encode()
    )

    @tried(amount, text=spot | records("alarm"), log=st.binary(max_size=60))
    def holds(text: bytes, log: bytes) -> None:
        place.put("counts", text)
        place.log.write_bytes(log)
        finding = log_alarms.find(place.run(), daemon, process)
        assert finding.word in (WELL, SICK, UNKNOWN) and finding.why.isprintable()
