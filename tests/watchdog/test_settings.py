"""Settings, facts, names and the command line: each fault is one clear line."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from documents import checked
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from other_users import (
    ORDINARY,
    fresh,
    public_world,
    run_as,
    users_python,
    with_mounts,
)
from world import SLEEP, Result, World, need, need_root, unique, until

from viagralib.base import durations
from viagralib.base.messages import Fault, safe, safe_lines
from viagralib.settings import facts as facts_of
from viagralib.settings import toml_file, values
from viagralib.settings.command_line import parse
from viagralib.settings.configuration import find_circle, load
from viagralib.settings.facts import Facts


def served(world: World) -> str:
    """Watch a sound daemon, which is down; return its name."""
    name = fresh()
    world.watch(name)
    return name


def assert_told(world: World, lines: list[str]) -> None:
    """The faults are these lines, the code is 2, and a sound daemon is judged."""
    name = fresh()
    world.watch(name)
    child = world.up(name)
    result = world.run("check", "--verbose")
    assert result.code == 2 and not result.err, result
    shown = result.out.splitlines()
    assert f"{name} is up: pid {child.pid}" in shown, result
    told = [line[11:] for line in shown if line.startswith("viagra.py: ")]
    assert len(told) == len(lines), result
    for wanted in lines:
        assert any(line.startswith(wanted) for line in told), (wanted, result)
    assert all(line.isprintable() for line in told), result


BAD_FACTS = [
    ('proces = "x"', "unknown key 'proces' (is 'process' meant?)"),
    ("xyz = 1", "unknown key 'xyz'"),
    ('"\\u001b[2J" = 1', "unknown key '\\x1b[2J'"),
    ("process = 3", "process: must be a text"),
    ('process = ""', "process: must be a text"),
    ('process = "a\\u0000b"', "process: must not hold a NUL"),
    ('command = "("', "command: '(' is no regular expression: "),
    ('executable = "food"', "executable: 'food' must be an absolute path"),
    ("user = []", "user: must be a user's name or number"),
    ("user = true", "user: must be a user's name or number"),
    ("user = -1", "user: must be a user's name or number"),
    ('user = "a\\u0000b"', "user: must be a user's name or number"),
    ('user = "nobody-of-that-name"', "this machine has no user 'nobody-of-that-name'"),
    ('pidfile = "run/x.pid"', "pidfile: 'run/x.pid' must be an absolute path"),
    ('containers = "yes"', "containers: must be true or false"),
    ('leftovers = "kill"', "leftovers: must be one of leave, leave-all, stop"),
    ("leftovers = []", "leftovers: must be one of leave, leave-all, stop"),
    ("count = 1", "count: must be [lowest, highest]"),
    ("count = [0, 1]", "count: must be a whole number of at least 1"),
    ("count = [3, 2]", "count: the lowest (3) is above the highest (2)"),
    ("count = [true, 2]", "count: must be a whole number"),
    ("patience = 3", 'patience: must be a duration in quotes, such as "30s"'),
    ('patience = "3"', "patience: '3' needs a unit"),
    ('patience = "soon"', "patience: 'soon' is no duration"),
    ('patience = "1.h"', "patience: '1.h' is no duration"),
    ('patience = "-1s"', "patience: '-1s' is no duration"),
    ('patience = "1000000w"', "patience: '1000000w' is longer than 100 years"),
    (f'patience = "{"9" * 5000}s"', "is longer than 100 years"),
    ('start_timeout = "0s"', "start_timeout: must be longer than nothing"),
    ('answers = ["ftp://localhost/"]', "answers: 'ftp://localhost/' is no http://"),
    ('stays = "9s"\nstart_timeout = "9s"', "stays: must be shorter than start_"),
    ('check_timeout = "0m"', "check_timeout: must be longer than nothing"),
    ('listens = ["80"]', "listens: '80' must be tcp:ADDRESS:PORT"),
    ('listens = ["tcp:localhost:70000"]', "must be tcp:ADDRESS:PORT"),
    ('listens = ["tcp:example.org:80"]', "must be tcp:ADDRESS:PORT"),
    ('heartbeat = "x"', "heartbeat: must be { file = ..., every = ... }"),
    ('heartbeat = { file = "/x", every = "0s" }', "must be longer than nothing"),
    ('recovery = "reboot"', "recovery: must be one of restart, quit, report"),
    ('warn_signal = "SIGTERM"', "warn_signal: must be one of TERM, "),
    ('arguments = "start"', "arguments: must be a list of texts"),
    ('after = ["nobody"]', "after: start.d has no hook named 'nobody'"),
    ('resets = ["nobody"]', "resets: start.d has no hook named 'nobody'"),
    ("limit = 5", "limit: must be { restarts = ..., within = ... }"),
    ('limit = { restarts = 0, within = "1h" }', "limit: restarts must be a whole"),
    ('logs = ["food.log"]', "logs: 'food.log' must be an absolute path"),
    ("unit", ".toml: no valid TOML: Expected '=' after a key"),
    ("[[[", ".toml: "),
    ("a = " + "[" * 5000, ".toml: "),
    ("a = " + "{ a = " * 3000, ".toml: "),
]


def test_every_bad_fact_is_told_and_all_of_them_at_once(world: World) -> None:
    names = [fresh() for _ in BAD_FACTS]
    for name, (facts, _) in zip(names, BAD_FACTS, strict=True):
        world.watch(name, facts)
    lines = [wanted for _, wanted in BAD_FACTS]
    sound = served(world)
    result = world.run()
    assert result.code == 2
    told = result.err.splitlines()
    assert len(told) == len(lines), result
    for name, wanted in zip(names, lines, strict=True):
        (line,) = [line for line in told if line.startswith(f"viagra.py: {name}: ")]
        assert wanted in line, line
        assert len(line) < 500 and line.isprintable()
    assert [world.starts(name) for name in names] == [0] * len(names)
    until(lambda: world.starts(sound) == 1)


def test_all_the_faults_of_one_file_are_told(world: World) -> None:
    name = fresh()
    world.watch(name, 'patience = 1\ncount = 2\nusr = "x"\nuser = "nobody-of-it"')
    parts = ["patience: ", "count: ", "unknown key 'usr' (is 'user' meant?)"]
    lines = [f"{name}: {name}.toml: {part}" for part in [*parts, "user: this machine"]]
    assert_told(world, lines)


BAD_SETTINGS = [
    ("[evidnce]", "unknown section or key 'evidnce' (is 'evidence' meant?)"),
    ('boot = "2m"', "unknown section or key 'boot'"),
    ("run = 3", "run: must be a section, [run]"),
    ('[run]\neevry = "1m"', "[run]: unknown key 'eevry' (is 'every' meant?)"),
    ('[run]\nevery = "0s"', "[run]: every: must be longer than nothing"),
    ("[run]\nboot = 2", "[run]: boot: must be a duration in quotes"),
    ("[run]\npackages = 0", "[run]: packages: must be a duration in quotes"),
    ('[evidence]\nkeep_bytes = "5 MB"', "[evidence]: keep_bytes: must be a size"),
    (
        f'[evidence]\nkeep_bytes = "{"9" * 5000}B"',
        "[evidence]: keep_bytes: must be a size",
    ),
    ("[evidence]\nkeep = 0", "[evidence]: keep: must be a whole number"),
    ('[evidence]\ncommands = "w"', "[evidence]: commands: must be a list of texts"),
    (
        '[evidence]\ncommands = ["w", " "]',
        "[evidence]: commands: must be a list of commands",
    ),
    (
        '[evidence]\ncommands = ["ps \'"]',
        '[evidence]: commands: "ps \'": No closing quotation',
    ),
    ('[defaults]\nprocess = "x"', "[defaults]: process tells one daemon from another"),
    ('[defaults]\nafter = ["x"]', "[defaults]: after tells one daemon from another"),
    ('[defaults]\nlog = ["/x"]', "[defaults]: unknown key 'log'"),
    ('[defaults]\nuser = "nobody-of-it"', "[defaults]: user: this machine has no user"),
    ("[defaults", "no valid TOML: Expected "),
]


@pytest.mark.parametrize(("text", "wanted"), BAD_SETTINGS)
def test_bad_settings_are_told_and_the_daemons_served(
    world: World, text: str, wanted: str
) -> None:
    world.write(world.home / "viagra.toml", text)
    assert_told(world, [f"viagra.toml: {wanted}"])


def test_all_of_what_is_wrong_is_told_at_once(world: World) -> None:
    first, second = fresh(), fresh()
    world.settings("[run]\nevery = 1\n[x]\n")
    world.watch(first, "count = 1")
    world.watch(second, 'after = ["nobody"]')
    world.facts("gone", "")
    world.hook("-dash", "true")
    (world.home / "start.d" / "astray").symlink_to("/nowhere/food")
    lines = [
        "viagra.toml: [run]: every: ",
        "viagra.toml: unknown section or key 'x'",
        f"{first}: {first}.toml: count: ",
        f"{second}: {second}.toml: after: ",
        "gone: start.d has no hook for gone.toml: add one, or remove that",
        "-dash: no name for a hook: it is empty, or begins with a dot or a dash",
        "astray: start.d/astray links to /nowhere/food, which does not exist",
    ]
    assert_told(world, lines)
    told = world.run("test").out
    assert len(told.split("viagra.py: ")) == len(lines) + 1, told
    # Whoever asks for one daemon is told what concerns it, and what concerns all.
    told = world.run("check", first).out
    assert f"{first}: " in told and "[run]: every" in told and second not in told


# What lies in place of a file


@pytest.mark.parametrize("which", ["facts", "settings"])
@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("fifo", "is no regular file"),
        ("directory", "is no regular file"),
        ("device", "is no regular file"),
        ("latin-1", "is no UTF-8 text: byte 13"),
        ("2 MB", "is larger than 1000000 bytes"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_something_else_in_place_of_a_file(
    world: World, which: str, what: str, wanted: str
) -> None:
    name = fresh()
    world.watch(name)
    path = world.home / (f"start.d/{name}.toml" if which == "facts" else "viagra.toml")
    path.unlink(missing_ok=True)
    if what == "fifo":
        os.mkfifo(path, 0o600)
    elif what == "directory":
        path.mkdir(0o755)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    else:
        bytes_ = b"process = 'f\xfc'" if what == "latin-1" else b"#" * 2_000_000
        path.write_bytes(bytes_)
    result = world.run("check")
    faults = [line for line in result.out.splitlines() if "viagra.py: " in line]
    assert result.code == 2 and result.err == "", result
    assert any(wanted in fault for fault in faults), result
    # A device and a loop of links are what the trust rule speaks of as well.
    assert len(faults) == 1 or what in {"device", "loop"}, result


def test_facts_that_nobody_may_read(program: Path) -> None:
    need_root()
    with public_world(program) as world:
        name = fresh()
        world.watch(name, "")
        facts = world.facts(name, "")
        facts.chmod(0o600)
        told = _run_as_user(world, "check")
        wanted = f"{name}: could not read {name}.toml: Permission denied ({facts})"
        assert (told.code, wanted in told.out) == (2, True), told
        (world.home / "start.d").chmod(0o700)
        told = _run_as_user(world, "check")
        assert told.code == 2 and "Permission denied" in told.err, told
        assert told.err.count("\n") == 1


def _run_as_user(world: World, *arguments: str, given: bool = True) -> Result:
    command = world.command(*arguments)
    command[0] = users_python()
    if not given:
        del command[3:5]
    return run_as(command, ORDINARY)


# Names, copies, and what else lies in start.d


def test_test_names_everything_in_start_d(world: World) -> None:
    name = served(world)
    start_d = world.home / "start.d"
    copies = [f"{name}{end}" for end in ("~", ".bak", ".dpkg-old", ".rpmnew", ",v")]
    for copy in [*copies, f"#{name}#", f".{name}.swp"]:
        world.hook(copy, "true")
    world.hook("switched-off", "true", mode=0o644)
    world.facts("switched-off", 'patience = "1s"')
    world.write(start_d / "README", "about hooks")
    (start_d / "steps").mkdir(mode=0o755)
    world.hook("off-steps/1", "true", mode=0o644)
    world.hook("off-steps/2~", "true")
    os.mkfifo(start_d / "pipe", 0o700)
    result = world.run("test")
    lines = {line.partition(": ")[0].strip(): line for line in result.out.splitlines()}
    told = {n: line.partition(": ")[2] for n, line in lines.items()}
    assert told[name] == "watched"
    for copy in [*copies, f"#{name}#"]:
        assert told[copy] == "a copy that an editor or a package manager left"
    assert told[f".{name}.swp"] == "hidden"
    assert told["switched-off"] == "off: not executable"
    assert told["README"] == "no hook: for people to read"
    assert (
        "no executable step" in told["steps"] and "no executable" in told["off-steps"]
    )
    assert told["pipe"] == "neither a file nor a directory"
    assert result.out.endswith("0 faults\n") and result.code == 0, result
    entries = {path.name for path in start_d.iterdir()} - {"switched-off.toml"}
    assert entries <= set(told)
    # None of them is watched: a run is about the sound one alone.
    assert world.run("check").out.count("\n") == 1


def test_evidence_that_nobody_asked_for_may_be_missing(world: World) -> None:
    need_root()
    hidden = need("vmstat")
    command = [*with_mounts(f"mount --bind /dev/null {hidden}"), *world.command("test")]
    for text, code, start in (
        ("", 0, "note"),
        ('commands = ["vmstat"]', 2, "viagra.py"),
    ):
        world.settings(f"[evidence]\n{text}\n")
        told = run_as(command)
        assert told.code == code, told
        assert f"\n{start}: vmstat: not found in " in told.out, told


def test_a_directory_is_on_by_one_executable_step(world: World) -> None:
    name = fresh()
    world.hook(f"{name}/1-first", "true")
    world.hook(f"{name}/2-second", "true", mode=0o644)
    assert world.run("check").out.startswith(f"{name} is down: ")


def test_facts_of_a_hook_that_is_off_are_told_by_test_alone(world: World) -> None:
    name = fresh()
    world.hook(name, "true", mode=0o644)
    world.facts(name, "count = 1")
    quiet = world.run()
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    told = world.run("test")
    assert told.code == 2 and f"{name}: {name}.toml: count: " in told.out, told
    # What is off need not be installed.
    world.facts(name, 'user = "nobody-of-that-name"')
    told = world.run("test")
    assert told.code == 0 and "has no user 'nobody-of-that-name'\n" in told.out, told


def test_what_runs_here_and_could_be_watched_is_told_with_the_chmod(
    world: World,
) -> None:
    off, steps, watched, another, down = (fresh() for _ in range(5))
    for name in (off, down):
        world.hook(name, "true", mode=0o644)
        world.hook(name, "true", "stop.d", mode=0o644)
    world.hook(f"{steps}/10 start", "true", mode=0o644)
    world.facts(steps, f'command = "{SLEEP}"')
    world.watch(watched)
    world.hook(another, "true", mode=0o644)
    world.facts(another, f'process = "{watched}"')  # it is watched already
    for name in (off, steps, watched):
        world.up(name)
    told = world.run("test")
    start, stop = world.home / "start.d", world.home / "stop.d"
    lines = told.out.partition("0 faults\n")[2].splitlines()
    assert sorted(lines) == sorted(
        [
            f"{off} runs here, and is not watched: chmod +x {start}/{off} {stop}/{off}",
            f"{steps} runs here, and is not watched: chmod +x {start}/{steps}/*",
        ]
    ), told
    world.facts(off, 'process = "no-such"')
    assert checked("test", world.run("test", "--json").out)["runs_here"] == [steps]


@pytest.mark.parametrize(
    "name", ["-x", "a\nb", "a\x1b[2Jb", "\udcff", "a\u202eb", "n" * 201]
)
def test_names_that_no_hook_may_have(world: World, name: str) -> None:
    world.hook(name, f"touch {world.place}/executed")
    wanted = f"{safe(name)}: no name for a hook: "
    assert_told(world, [wanted])
    assert not (world.place / "executed").exists()


def test_the_name_of_a_verb_is_a_daemons_after_a_verb(world: World) -> None:
    for name in ("run", "check"):
        world.hook(name, f"touch {world.place}/{name}")
        world.facts(name, f'process = "{unique(name)}"\nstart_timeout = "0.2s"')
    world.run("run", "run")
    assert [(world.place / name).exists() for name in ("run", "check")] == [True, False]


def test_names_narrow_what_a_run_is_about(world: World) -> None:
    first, second = served(world), served(world)
    assert world.run(first).code == 0
    assert (world.starts(first), world.starts(second)) == (1, 0)
    assert world.run("run", "--", second, second).code == 0
    assert (world.starts(first), world.starts(second)) == (1, 1)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_after_in_a_circle_names_the_circle(world: World, length: int) -> None:
    names = [fresh() for _ in range(length)]
    for number, name in enumerate(names):
        world.watch(name, f'after = ["{names[(number + 1) % length]}"]')
    circle = " after ".join([*names, names[0]])
    told = world.run()
    assert (
        told.code == 2 and f"{names[0]}: after goes in a circle: {circle}\n" in told.err
    )
    assert told.err.count("after goes in a circle") == length, told
    assert not any(world.starts(name) for name in names)


def test_a_file_that_is_called_toml_alone_is_nobodys_facts(world: World) -> None:
    world.watch("food")
    (world.home / "start.d" / ".toml").write_text("nonsense")
    assert load(str(world.home)).faults == []


def test_a_long_chain_of_after_is_no_circle() -> None:
    chain: dict[str, tuple[str, ...]] = {
        str(number): (str(number + 1),) for number in range(3000)
    }
    assert find_circle(chain, "0") == []
    assert len(find_circle({**chain, "3000": ("0",)}, "0")) == 3001


# The command line


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--frob"], "no such option: --frob (is '--for' meant?); see viagra.py -"),
        (["-x"], "no such option: -x"),
        (["--json=1"], "no such option: --json=1"),
        (["--\x1b[2J"], "no such option: --\\x1b[2J"),
        (["--dir"], "--dir needs a value"),
        (["--dir="], "--dir needs a value"),
        (["--dir", "--verbose"], "--dir needs a value"),
        (["--state"], "--state needs a value"),
        (["explain"], "explain needs one NAME"),
        (["explain", "a", "b"], "explain needs one NAME"),
        (["explain", "a", "a"], "explain needs one NAME"),
        (["test", "a"], "test takes no NAME"),
        (["nobody"], "nobody: start.d in "),
        (["run", "no\nbody"], "no\\x0abody: start.d in "),
        (["--dir", "/nowhere/at/all"], "/nowhere/at/all: could not look at it"),
        (["--dir", "/dev/null"], "/dev/null: could not look at it"),
        (["--dir", "/usr"], "/usr: has no directory start.d: mkdir it"),
    ],
)
def test_a_bad_command_line_is_one_line(
    world: World, arguments: list[str], wanted: str
) -> None:
    name = served(world)
    result = world.run(*arguments)
    assert result.code == 2 and result.out == "", result
    assert wanted in result.err and result.err.count("\n") == 1, result
    assert world.starts(name) == 0


def test_options_may_stand_anywhere() -> None:
    options = parse(["--json", "check", "a", "--state=/s", "b", "--dir", "/d", "a"])
    assert (options.verb, options.names) == ("check", ["a", "b"])
    assert (options.home, options.state, options.json) == ("/d", "/s", True)
    assert parse(["food"]).verb == "run"


@pytest.mark.parametrize("option", ["--help", "--version", "-h"])
def test_help_and_version_need_no_home(world: World, option: str) -> None:
    result = run_as([*world.command()[:3], option])
    assert result.code == 0 and "viagra.py" in result.out and not result.err


def test_the_home_is_looked_for_in_order(program: Path) -> None:
    need_root()
    with public_world(program) as world:
        home = world.place / "user"
        for place in (home, home / ".config/viagra/start.d"):
            place.mkdir(parents=True)
        beside = world.program.parent
        environment = ["env", f"HOME={home}", users_python(), "-I", str(world.program)]
        command = [
            *environment,
            "--state",
            str(world.place / "none"),
            "check",
            "--json",
        ]
        told = run_as(command, ORDINARY).out
        assert f'"home": "{home}/.config/viagra"' in told
        # Root has no such place: whoever sets HOME would choose what root runs.
        assert f"{home}/.config" not in repr(run_as(command))
        (beside / "start.d").mkdir()
        assert f'"home": "{beside}"' in run_as(command, ORDINARY).out
        assert f'"home": "{beside}"' in run_as(command).out
        given = ["--dir", str(world.home)]
        assert f'"home": "{world.home}"' in run_as([*command, *given]).out
        link = world.place / "link"
        link.symlink_to(world.program)
        command[4] = str(link)
        assert f'"home": "{beside}"' in run_as(command).out
        shutil.rmtree(beside / "start.d")
        shutil.rmtree(home / ".config")
        if not any(os.path.isdir(f"{place}/viagra/start.d") for place in _ETC):
            told = run_as(command, ORDINARY).out
            assert f"no start.d found in {beside}, {home}/.config/viagra, /etc/" in told
            assert "--dir" in told


_ETC = ("/etc", "/usr/local/etc")

# Whatever is written there

text_like = st.text(max_size=200)
toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text_like,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["file", "every", "within", "restarts"]), inner
        )
    ),
    max_leaves=8,
)
fact_names = st.sampled_from([key for key in vars(Facts) if not key.startswith("_")])


@given(text_like)
@example("9" * 5000 + "s")
@example("1.s")
@example("٣s")
@example("1e3s")
def test_a_text_is_a_duration_or_a_complaint(text: str) -> None:
    try:
        seconds = durations.parse(text)
    except ValueError as error:
        assert str(error)
        return
    assert 0 <= seconds <= durations.LONGEST
    assert text.isascii() and text[0].isdigit()


@given(st.integers(0, 10**6), st.sampled_from(sorted(durations.SECONDS)))
def test_a_duration_means_what_it_says(number: int, unit: str) -> None:
    if number * durations.SECONDS[unit] <= durations.LONGEST:
        assert durations.parse(f"{number}{unit}") == number * durations.SECONDS[unit]


@given(st.floats(0, durations.LONGEST))
def test_every_duration_can_be_spelled(seconds: float) -> None:
    assert 0 < len(durations.spell(seconds)) < 20


@given(text_like | st.integers() | st.none())
@example("9" * 5000 + "B")
@example("5MB")
@example("٣MB")
def test_a_value_is_a_size_or_a_complaint(value: object) -> None:
    try:
        assert 0 <= values.size(value) < 10**30
    except ValueError as error:
        assert "must be a size" in str(error)


@limits(max_examples=300)
@given(st.dictionaries(fact_names | text_like, toml_values, max_size=6))
def test_a_table_is_facts_or_complaints(table: dict[str, object]) -> None:
    facts, complaints = facts_of.read(table, Facts(), "food.toml")
    assert len(complaints) <= len(table)
    assert set(vars(facts)) <= set(table)
    assert len(vars(facts)) + len(complaints) == len(table)


@limits(max_examples=100)
@given(st.binary(max_size=300))
@example(b"\xff")
@example(b"a = " + b"[" * 900)
@example(b"a = 1979-05-27T07:32:00Z")
@example(b"a = " + b"9" * 5000)
def test_any_file_is_a_table_or_one_fault(
    tmp_path_factory: object, text: bytes
) -> None:
    path = Path(os.environ["PYTEST_CURRENT_TEST"].replace("/", "_")).name
    file = Path(tmp_path_factory.getbasetemp()) / f"{path[:40]}.toml"  # type: ignore[attr-defined]
    file.write_bytes(text)
    try:
        assert isinstance(toml_file.read(str(file), "food"), dict)
    except Fault as fault:
        assert fault.subject == "food" and str(fault).isprintable()


@given(st.text(st.characters(), max_size=60))
@example("\x1b[2J\r\n\t\x00\x7f\x9b")
@example("\u202e\u2066\u200b\u00ad\ufeff\u2028\U000e0041")
@example("\udcff\ud800")
@example("\u05d0 1 \u0627 \u0661")  # written from right to left
@example("\u3164\u115f\u034f\ufe0f\u2800\U000e0100")  # nothing to see
@example(
    "\u0338a" + "e\u0301\u0302\u0336" * 9 + "\u0489\u20dd"
)  # upon what is beside it
def test_nothing_that_moves_or_hides_passes_safe(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert not [c for c in shown if unicodedata.category(c)[0] in "C" or c == "\n"]
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("R", "AL", "AN")]
    assert not {*shown} & {*"\u3164\u115f\u034f\ufe0f\u2800\U000e0100"}
    kinds = "".join(unicodedata.category(c) for c in f"a{shown}")
    assert "Me" not in kinds and "MnMnMn" not in kinds and kinds[2:4] != "Mn"
    shown.encode()
    assert all(line.isprintable() for line in safe_lines(text))
    if text.isprintable() and "\\" not in shown:
        assert shown == text


def test_what_can_be_read_passes_safe() -> None:
    text = "Größe → 漢字, кириллица, ที่ไทย, e\u0302\u0301, 😀, \\x1b"
    assert safe(text) == text


@pytest.mark.parametrize("place", ["/etc/passwd", "/dev/null"])
def test_a_state_that_is_no_directory_is_one_clear_line(
    world: World, place: str
) -> None:
    world.watch(fresh())
    result = run_as([*world.command()[:5], "--state", place])
    line = f"viagra.py: {place}: is no directory (given with --state)\n"
    assert (result.code, result.out, result.err) == (2, "", line)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ('listens = ["tcp:127.0.0.1:0000809999"]', "must be tcp:ADDRESS:PORT"),
        ('command = "food[[ ]"', "is no regular expression"),
        (f'user = "{"9" * 5000}"', "user"),
    ],
)
def test_facts_at_the_edge_are_faults(world: World, facts: str, text: str) -> None:
    name = unique("edge")
    world.watch(name, facts + "\n")
    result = world.run()
    assert result.code == 2 and text in result.err, result
    assert "Traceback" not in result.err and "Warning" not in result.err
