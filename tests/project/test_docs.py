"""The pages that people read: complete, free of faults, and true in what they show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from checkout import CHECKOUT, not_portable
from world import World

from viagralib import VERSION
from viagralib.settings import command_line, configuration, facts, viagra_toml
from viagralib.settings.help_texts import help_text

ROOT = CHECKOUT
PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
COMMANDS = (ROOT / "man" / "viagra.py.8").read_text()
FACTS = (ROOT / "man" / "viagra.py.5").read_text()
README = (ROOT / "README.md").read_text()


def need(program: str) -> str:
    """Return where a program is; without it, skip the test; an error under CI."""
    found = shutil.which(program)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"this machine lacks {program}"
        )
    return str(found)


def output(*command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


# The manual pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_without_fault(page: Path) -> None:
    found = output(need("mandoc"), "-T", "lint", page).splitlines()
    # Which other pages there are depends on the machine.
    told = [
        line
        for line in found
        if "referenced manual not found" not in line
        and "outdated mandoc.db" not in line
    ]
    assert told == []


def test_each_verb_is_in_page_help_and_readme() -> None:
    for verb in command_line.VERBS:
        assert re.search(rf"^\.It Cm {verb}\b", COMMANDS, re.MULTILINE), verb
        assert re.search(rf"\b{verb}\b", help_text(None)), verb
        assert re.search(rf"^    viagra\.py \[?{verb}\b", README, re.MULTILINE), verb


def part_of(page: str, section: str) -> str:
    return page.partition(f".Sh {section}\n")[2].partition("\n.Sh ")[0]


def marked(part: str, macro: str) -> set[str]:
    """Return the words that are marked by Cm or Fl in a part of a page."""
    lines = re.findall(r"^\.((?:Cm|Fl) .*)$", part, re.MULTILINE)
    words = re.findall(rf"{macro} ([^A-Z]*)", "\n".join(lines))
    return {word for text in words for word in re.findall(r"[\w-]+", text)}


def test_each_verb_of_the_page_is_one_or_is_not_yet() -> None:
    told = set(re.findall(r"^\.It Cm (\w+)", part_of(COMMANDS, "COMMANDS"), re.M))
    missing = marked(part_of(COMMANDS, "NOT YET"), "Cm") - {*facts._PARSERS}
    assert told - missing == set(command_line.VERBS)
    assert missing <= told


def test_each_option_is_in_the_page_and_each_of_the_page_is_one_or_not_yet() -> None:
    lines = re.findall(r"^\.It (Fl .*)", part_of(COMMANDS, "OPTIONS"), re.MULTILINE)
    told = {f"-{one}" for line in lines for one in re.findall(r"Fl (-\w+)", line)}
    missing = {f"-{one}" for one in marked(part_of(COMMANDS, "NOT YET"), "Fl")}
    assert told - missing == set(re.findall(r"--\w+", help_text(None)))
    assert missing <= told


def test_facts_without_an_effect_are_told_as_such() -> None:
    readers = {Path(configuration.__file__), Path(viagra_toml.__file__)}
    modules = {*(ROOT / "viagralib").rglob("*.py")} - readers
    sources = [path.read_text() for path in modules]
    attributes = {key: f"facts.{key}" for key in facts._PARSERS}
    attributes["process"] = "daemon.process"  # Daemon knows what holds without it
    for section in ("evidence", "run"):
        for key, (attribute, _) in viagra_toml._SECTIONS[section].items():
            attributes[key] = f"settings.{attribute}"
    read = {
        key
        for key, attribute in attributes.items()
        if any(re.search(rf"\b{attribute}\b(?! = )", source) for source in sources)
    }
    assert set(attributes) - read == marked(part_of(FACTS, "NOT YET"), "Cm")


def test_each_fact_is_in_the_page() -> None:
    for key in facts._PARSERS:
        assert re.search(rf"^\.It Cm {key} No = ", FACTS, re.MULTILINE), key


def test_each_fact_of_the_page_is_one() -> None:
    part = FACTS.partition(".Sh FACTS")[2].partition(".Sh SETTINGS")[0]
    assert set(re.findall(r"^\.It Cm (\w+)", part, re.MULTILINE)) == {*facts._PARSERS}


@pytest.mark.parametrize("key", ["patience", "check_timeout", "stop_timeout"])
def test_defaults_of_the_page_are_those_of_the_program(key: str) -> None:
    after = FACTS.partition(f".It Cm {key} No = ")[2].partition(".It Cm")[0]
    assert f"Default: {getattr(facts.Facts, key):.0f}s." in after


@pytest.mark.parametrize("section", ["evidence", "run"])
def test_each_setting_is_in_the_page(section: str) -> None:
    part = FACTS.partition(f".Ss The table {section}")[2].partition(".S")[0]
    told = re.findall(r"^\.It Cm (\w+)", part, re.MULTILINE)
    assert sorted(told) == sorted(viagra_toml._SECTIONS[section])


def test_what_makes_no_sense_for_all_is_in_the_page() -> None:
    part = FACTS.partition(".Ss The table defaults")[2].partition(".Ss")[0]
    told = re.findall(r"\b[a-z_]+\b", " ".join(re.findall(r"^\.Cm .*", part, re.M)))
    assert sorted(told) == sorted(viagra_toml._NO_DEFAULTS)


def test_hooks_page_and_manual_name_the_same_variables() -> None:
    pattern = r"VIAGRA_[A-Z]+"
    in_page = re.findall(rf"^\.It Ev ({pattern})", COMMANDS, re.MULTILINE)
    page_of_hooks = (ROOT / "start.d" / "README").read_text()
    assert sorted(in_page) == sorted(set(re.findall(pattern, page_of_hooks)))


# Examples


def blocks_of(page: str) -> list[str]:
    found = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", page, re.DOTALL | re.M)
    return [block.replace("\\(dq", '"') for block in found]


def test_examples_of_facts_are_such_as_the_program_knows(world: World) -> None:
    nginx, several, general = blocks_of(FACTS)
    postgresql, shop = several.split("# start.d/shop.toml\n")
    for name, text in (("nginx", nginx), ("postgresql", postgresql), ("shop", shop)):
        world.watch(name, text.replace('user = "shop"', 'user = "daemon"'))
    world.settings(general.replace('"iostat -x 1 2"', '"true"'))
    done = world.run("test")
    assert (done.code, done.err) == (0, ""), done


def test_facts_of_the_readme_are_such_as_the_program_knows() -> None:
    part = README.partition("\n## Facts\n")[2].partition("\n## ")[0]
    text = "\n".join(re.findall(r"^    (.*)", part, re.MULTILINE))
    _, complaints = facts.read(tomllib.loads(text), facts.Facts(), "README.md")
    assert complaints == []


# The documents

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tests" / "helpers" / "README.md",
]
LONGEST_README = 250  # lines


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind the # of a page: its headings."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {word.strip().replace(" ", "-") for word in words}


def test_links_lead_somewhere() -> None:
    links = [
        (page, link)
        for page in DOCUMENTS
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text())
        if not link.startswith("https://")
    ]
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), (page, link)
        assert not anchor or anchor in anchors(target), (page, link)


def test_files_that_a_page_names_are_there() -> None:
    places = [ROOT, ROOT / "viagralib"]
    named = r"`((?:viagralib|tests|bench|docs|man|systemd)/[\w./-]*)`"
    for page in DOCUMENTS:
        text = page.read_text()
        names = re.findall(named, text) + re.findall(r"`(\w+/\w+\.py)`", text)
        lost = [n for n in names if not any((place / n).exists() for place in places)]
        assert (page, lost) == (page, [])


def test_the_page_on_other_systems_names_tests_that_are_there() -> None:
    """Each line of its table, for `make test-portable` skips what it can read there."""
    named = [name.split("::") for name in not_portable()]
    text = {path.name: path.read_text() for path in ROOT.glob("tests/*/test_*.py")}
    assert named and all(f"\ndef {test}(" in text[file] for file, test in named)
    page = (ROOT / "docs" / "portable.md").read_text()
    assert page.count("\n| `") == len(named)


def test_every_folder_is_in_the_architecture_and_every_helper_on_its_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tracked = [*ROOT.glob("viagralib/**/*.py"), *ROOT.glob("tests/*/*.py")]
    folders = {str(one.parent.relative_to(ROOT)) for one in tracked}
    folders -= {"viagralib", "viagralib/companions"}
    assert [folder for folder in sorted(folders) if f"`{folder}/`" not in page] == []
    helpers = ROOT / "tests" / "helpers"
    text = (helpers / "README.md").read_text()
    programs = [one for one in helpers.iterdir() if one.suffix in {".py", ".c"}]
    assert [one.name for one in programs if f"`{one.name}`" not in text] == []


def test_tests_that_the_documents_name_are_there() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("tests/*/test_*.py"))
    for page in DOCUMENTS:
        for name in re.findall(r"`(test_\w+)`", page.read_text()):
            assert f"def {name}(" in sources, f"{page.name}: {name}"


def test_programs_find_where_to_write_their_tables() -> None:
    for page, parts in (
        ("performance.md", ["bench", "recovery", "supervisors"]),
        ("resilience.md", ["soak"]),
    ):
        text = (ROOT / "docs" / page).read_text()
        for part in parts:
            begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
            assert text.count(begin) == text.count(end) == 1
            assert text.index(begin) < text.index(end)


KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_changelog_is_as_keep_a_changelog_has_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    unreleased, *releases = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert unreleased == "[Unreleased]"
    dated = r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
    assert [one for one in releases if not re.fullmatch(dated, one)] == []
    assert not releases or releases[0].startswith(f"[{VERSION}] ")
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= KINDS


# A release


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a repository with what a release changes, and one commit."""
    need("git")
    (tmp_path / "viagralib").mkdir()
    for name in ("release.sh", "CHANGELOG.md", "viagralib/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
        git(tmp_path, *words)
    return tmp_path


def git(place: Path, *words: str) -> str:
    """Return what git says, whoever calls it and whatever git is set to."""
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(place)]
    done = subprocess.run(
        ["git", *who, *words],
        env={"PATH": os.environ["PATH"], "HOME": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def release(place: Path, version: str) -> subprocess.CompletedProcess[str]:
    who = {
        f"GIT_{one}_{what}": "a@b"
        for one in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return subprocess.run(
        ["/bin/sh", place / "release.sh", version],
        env={"PATH": os.environ["PATH"], "HOME": str(place), **who},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_sets_the_version_everywhere_and_tags_it(scratch: Path) -> None:
    done = release(scratch, "99.1.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'VERSION = "99.1.0"\n' in git(
        scratch, "show", "v99.1.0:viagralib/__init__.py"
    )
    log = git(scratch, "show", "v99.1.0:CHANGELOG.md")
    assert re.search(
        r"^## \[Unreleased\]\n\n## \[99\.1\.0\] - \d{4}-", log, re.MULTILINE
    )
    assert git(scratch, "status", "--porcelain") == ""
    again = release(scratch, "99.2.0")
    assert again.returncode == 1
    assert 'nothing under "## [Unreleased]"' in again.stderr


@pytest.mark.parametrize(
    "version, why",
    [("1.0", "is no version"), ("0.0.1", "is older than"), ("99.1.0", "not committed")],
)
def test_a_release_that_is_none_changes_nothing(
    scratch: Path, version: str, why: str
) -> None:
    if why == "not committed":
        (scratch / "more").touch()
    done = release(scratch, version)
    assert done.returncode == 1
    assert why in done.stderr
    assert git(scratch, "tag") == ""
    assert git(scratch, "diff") == ""


def test_each_attack_is_repeated_by_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
    named = re.findall(r"`(test_\w+(?:\.\.\.)?)`", text)
    assert len(named) >= 23
    assert [name for name in named if f"def {name}(" not in tests] == []
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row.count("|") != 3 or not row.strip("| ")] == []
