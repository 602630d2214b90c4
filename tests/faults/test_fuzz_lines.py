"""What people ask for, with anything in it: a program's words, URLs, conditions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fuzzing import AMOUNTS, texts, tried
from hypothesis import strategies as st

from viagralib.base.messages import Fault
from viagralib.companions.lease.engine import Entry
from viagralib.companions.lease.engine_url import open_engine
from viagralib.companions.lease.options import parse as parse_lease
from viagralib.companions.run.options import parse as parse_run
from viagralib.companions.wait import conditions
from viagralib.settings import command_line

durations = st.sampled_from(["1s", "0s", "100d", "1", "1s:2s", "²s"])
numbers = st.sampled_from(["0", "3", "-1", "٣", "²", "9" * 5000, "1e3", "0x1"])
signals = st.sampled_from(["core,exit", "none", "none,none", "SIGKILL,99", "transient"])
options = st.sampled_from(
    ["--dir", "--state", "--json", "--for", "--until", "--since", "--reason", "--help"]
    + ["--engine", "--ttl", "--stop", "--fence", "--priority", "--no-wait", "--on-role"]
    + ["-f", "-i", "-l", "-o", "-r", "-t", "-v", "-n", "-b", "-w", "-L", "--user"]
    + ["--", "-", "-f=", "--ttl=", "--json=1", "--retry-after", "--version"]
)
verbs = st.sampled_from(
    ["run", "check", "status", "explain", "restart", "pause", "resume", "history"]
    + ["show", "test", "food", "yield", "forbid", "allow", "/bin/sh"]
)
words = verbs | options | durations | numbers | signals | texts
lines = st.lists(words, max_size=6)
PARSERS: list[Callable[[list[str]], object]] = [
    command_line.parse,
    parse_run,
    parse_lease,
]


@AMOUNTS
@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__module__)
def test_any_words_are_understood_or_a_fault(
    parse: Callable[[list[str]], object], amount: int
) -> None:
    @tried(amount, line=lines)
    def holds(line: list[str]) -> None:
        try:
            parse(line)
        except Fault as fault:
            assert str(fault)


places = texts | st.sampled_from(
    [
        "localhost",
        "[::1]",
        "[::1",
        "a:1",
        "a:٣",
        "a:65536",
        "a:",
        ":1",
        "a,b:2",
        "u:p@h",
    ]
)
queries = texts | st.sampled_from(
    ["ca=/x", "key=/x", "cert=/x&key=/y", "password=/nowhere", "x", "ca=%00", "&&=;"]
)
schemes = st.sampled_from(["file", "etcd", "etcds", "http", "https", "ETCD", "", "x"])
urls = texts | st.tuples(schemes, places, texts, queries).map(
    lambda url: f"{url[0]}://{url[1]}/{url[2]}?{url[3]}"
)


@AMOUNTS
def test_any_url_is_an_engine_or_a_fault(amount: int) -> None:
    @tried(amount, url=urls)
    def holds(url: str) -> None:
        try:
            engine = open_engine(url, "food", 15.0, Entry("node"))
            assert engine.name == "food"
        except Fault as fault:
            assert str(fault).isprintable()


kinds = st.sampled_from([*conditions._KINDS, "http://", "https", "x", ""])
whats = urls | places | durations | numbers | st.sampled_from(["/x:1s", ":", "/x:"])


@AMOUNTS
def test_any_condition_is_one_or_a_complaint(amount: int) -> None:
    @tried(amount, kind=kinds, what=whats)
    def holds(kind: str, what: str) -> None:
        text = f"{kind}:{what}"
        try:
            assert conditions.parse(text).text == text
        except ValueError as error:
            # Not of a function that was given what it does not take.
            assert "invalid literal" not in str(error), error
            assert "convert" not in str(error), error
