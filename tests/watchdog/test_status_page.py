"""The page of status: whole, harmless, readable, and true."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from world import World, unique

from viagralib.report import status_page

_VOID = ("meta",)
HOSTILE = "<script>alert(1)</script>\" onload='x' &lt; \x1b[2J \u202e"


class Read(HTMLParser):
    """What a browser makes of a page: its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data

    def of(self, kind: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == kind]


def page(world: World, code: int) -> Read:
    result = world.run("status", "--html")
    assert (result.code, result.err) == (code, ""), result
    assert result.out.startswith("<!DOCTYPE html>\n<html lang=")
    read = Read(result.out)
    assert read.open == []
    return read


def incident(world: World, name: str, ago: float, **more: object) -> None:
    """Put an incident of so many days ago into the state."""
    began = time.time() - 86400 * ago
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
    place = world.state / "incidents" / f"{stamp}-{name}"
    place.mkdir(parents=True)
    for directory in (world.state, place.parent, place):
        directory.chmod(0o700)
    record = {"daemon": name, "began": began, "verdict": "down", "reason": "", **more}
    (place / "incident.json").write_text(json.dumps(record))


def test_page_shows_state_and_history(world: World) -> None:
    up, down, paused = unique("up"), unique("down"), unique("pau")
    world.watch(up)
    world.up(up)
    world.hook(down, "exit 1")
    world.facts(down, 'recovery = "report"')
    world.hook(paused, "exit 1")
    world.run("pause", paused, "--reason", HOSTILE)
    world.run()
    done = {"result": "brought back", "seconds": 1.4, "cause": HOSTILE}
    incident(world, up, 3, **done)
    incident(world, up, 89.01, result="not brought back")
    incident(world, up, 200, **done)
    read = page(world, 1)
    assert read.words.count(f"{down} is not up") == 2  # the title, the first heading
    assert "paused" in read.words and '<script>alert(1)</script>" onload=' in read.words
    assert r"\x1b[2J \u202e" in read.words and "\x1b" not in read.words
    assert "down, brought back in 1.4 s" in read.words
    strip = [one for one in read.of("span") if "title" in one]
    assert len(strip) == 3 * 90
    of_up = strip[[*world_names(world)].index(up) * 90 :][:90]
    kinds = [one["class"] for one in of_up]
    assert (kinds.count("bad"), kinds.count("back"), kinds.count("well")) == (1, 1, 88)
    told = str(of_up[-4]["title"]).split("\n")
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * 86400))
    assert told[0] == day and "down, brought back in 1.4 s; ; cause: <script" in told[1]


def world_names(world: World) -> list[str]:
    return sorted(
        one.name for one in (world.home / "start.d").iterdir() if not one.suffix
    )


def test_page_needs_nothing_and_runs_nothing(world: World) -> None:
    world.hook("no-such-daemon", "exit 1", mode=0o644)
    text = world.run("status", "--html").out
    read = Read(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "form", "a", "object"}
    keys = {key for _, attributes in read.elements for key in attributes}
    assert not keys & {"src", "href", "style"} and not [
        k for k in keys if k[:2] == "on"
    ]
    assert "url(" not in text and "@import" not in text
    policy = [one for one in read.of("meta") if "content" in one]
    assert any("default-src 'none'" in str(one["content"]) for one in policy)
    assert {"header", "main", "footer", "h1", "title"} <= tags
    assert "nobody watches" in read.words  # no run yet


def test_html_goes_with_status_alone(world: World) -> None:
    world.watch(unique("food"))
    assert world.run("check", "--html").code == 2
    assert world.run("status", "--html", "--json").code == 2


def _contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, by WCAG 2."""

    def luminance(colour: str) -> float:
        digits = colour if len(colour) == 6 else "".join(2 * x for x in colour)
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        parts = [
            x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_each_colour_of_text_can_be_read(theme: int) -> None:
    part = re.split("@media", status_page._STYLE)[theme]
    colours = dict(re.findall(r"--([\w-]+): #(\w+)", part))
    for name in ("text", "soft", "well", "back-day", "bad"):
        assert _contrast(colours[name], colours["back"]) >= 4.5, name


AXE = """<script>axe.run().then(found => parent.postMessage({
  faults: [...found.violations, ...found.incomplete].map(one => one.id),
  passes: found.passes.map(one => one.id),
  tooWide: document.documentElement.scrollWidth > innerWidth,
  isDark: matchMedia("(prefers-color-scheme: dark)").matches,
}, "*"))</script>"""
# A browser's window cannot be as narrow as a phone.
FRAMES = """<!DOCTYPE html><html><body><script>
onmessage = told => document.body.append(`<${JSON.stringify(told.data)}>`)
</script>
<iframe src="axe.html" style="width: 360px; height: 800px"></iframe>
<iframe src="axe.html" style="width: 1280px; height: 800px"></iframe>"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the program axe-core, which finds what makes a page hard to use."""
    place = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(install, cwd=place, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs axe-core, and a network to fetch it")
    return (place / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_shows_it_without_a_word_and_all_can_use_it(
    theme: str, world: World, tmp_path: Path, axe: str
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    name = unique("food")
    world.watch(name, 'recovery = "report"')
    incident(world, name, 3, result="brought back", seconds=1.4, cause=HOSTILE * 9)
    incident(world, name, 89.01, result="not brought back")
    text = world.run("status", "--html").out
    (tmp_path / "page.html").write_text(text)
    # Its policy would let no script run, not even this one.
    told = re.sub(r"<meta http-equiv[^>]*>", "", text)
    told = told.replace("</body>", f"<script>{axe}</script>{AXE}</body>")
    (tmp_path / "axe.html").write_text(told)
    (tmp_path / "frames.html").write_text(FRAMES)
    scheme = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path}/profile", scheme, "--dump-dom"]

    def shown(file: str) -> str:
        done = subprocess.run(
            [chromium, *options, f"file://{tmp_path}/{file}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert "CONSOLE" not in done.stderr
        return done.stdout

    assert shown("page.html").count(' title="') == 90
    options.append("--virtual-time-budget=30000")
    told = shown("frames.html").partition("</iframe>")[2]
    found = [json.loads(one) for one in re.findall(r"&lt;(.*?)&gt;", told)]
    assert len(found) == 2
    for one in found:
        assert one["faults"] == [] and not one["tooWide"], one
        assert {"color-contrast", "landmark-one-main"} <= set(one["passes"])
        assert one["isDark"] == (theme == "dark")
