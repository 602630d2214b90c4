"""--json: what is really printed fits the schema, and docs/json.md tells the same."""

from __future__ import annotations

import re
import stat
from typing import Any

from checkout import CHECKOUT
from documents import SCHEMA, checked
from world import World, unique

PAGE = (CHECKOUT / "docs" / "json.md").read_text()


def in_words(schema: dict[str, Any]) -> str:
    """Return the type that a part of the schema asks for, as the page has it."""
    if "anyOf" in schema:
        return " or ".join(map(in_words, schema["anyOf"]))
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name})"
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{one}`" for one in values)
    if pair := schema.get("prefixItems"):
        return f"[{', '.join(map(in_words, pair))}]"
    types = schema["type"]
    inner = schema.get("items") or schema.get("additionalProperties")
    if inner:
        return f"{types} of {in_words(inner)}"
    return types if isinstance(types, str) else " or ".join(types)


def part_of_page(name: str, schema: dict[str, Any]) -> str:
    """Return what the page has to say of one kind of document."""
    what = schema["description"]
    lines = [f"## {name}", "", f"{what[0].upper()}{what[1:]}."]
    for base in schema.get("allOf", []):
        lines[2] += f" It has all of {in_words(base)}"
        lines[2] += ", and:" if schema["properties"] else "."
    if schema["properties"]:
        lines += ["", "| key | type | what it is |", "|---|---|---|"]
    for key, one in schema["properties"].items():
        may = "" if key in schema["required"] else "; may be missing"
        lines.append(f"| `{key}` | {in_words(one)}{may} | {one['description']} |")
    return "\n".join(lines)


def test_the_page_tells_all_that_the_schema_has() -> None:
    parts = {name: part_of_page(name, one) for name, one in SCHEMA["$defs"].items()}
    assert re.findall(r"(?m)^## (.*)", PAGE) == list(parts)
    for text in parts.values():
        assert f"{text}\n" in PAGE, text


def test_every_document_fits_the_schema(world: World) -> None:
    up, back, fails, off = (unique(one) for one in ("up", "back", "fails", "off"))
    for name in (up, back):
        world.watch(name)
    world.up(up)
    world.hook(fails, "exit 1")
    world.facts(up, 'sick_after = 2\ncount = [2, 9]\nstart_timeout = "1ms"')
    world.hook(off, "exit 1", mode=0o644)
    world.hook(
        "keep", f'cp "$VIAGRA_JSON" {world.place}/notice-$VIAGRA_DAEMON', "notice.d"
    )

    def ask(kind: str, *words: str) -> dict[str, Any]:
        return checked(kind, world.run(*words, "--json").out)

    assert ask("dry-run", "--dry-run")["would"][back] == [f"run start.d/{back}"]
    assert ask("check", "check")["daemons"][back]["verdict"] == "down"
    assert ask("test", "test")["watched"] == sorted([up, back, fails])
    assert ask("pause", "pause", up, "--for", "1h")["paused"][up]["until"]
    paused = ask("pause", "pause", off)
    assert f"{off} is off: not executable" in paused["said"][0]
    assert ask("check", "check")["standings"][up].startswith("paused: ")
    assert ask("pause", "resume", up)["paused"] == {up: None}
    ran = ask("run")
    assert ran["daemons"][up]["few"] == "1 of 2 runs"
    for name in (back, fails):
        checked("notice", (world.place / f"notice-{name}").read_text())
    status = ask("status", "status")
    assert status["restarts"][back] == 1
    newest = {name: status["last_incident"][name] for name in (back, fails)}
    assert ran["incidents"] == newest and all(newest.values())
    assert list(ask("run", "restart", back)["incidents"]) == [back]
    assert ask("explain", "explain", up)["candidates"]
    results = [one["result"] for one in ask("history", "history")["incidents"]]
    assert sorted(set(results)) == ["brought back", "not brought back"]
    for incident in world.incidents():
        told = checked("incident", (incident / "incident.json").read_text())
    assert told == ask("incident", "history", "show", incident.name)
    assert ask("fault", "check", "nobody")["exit"] == 2
    assert world.run("check", "--help", "--json").out.startswith("usage:")
    world.facts(back, "no_such_fact = 1")
    (world.home / "start.d" / back).chmod(stat.S_IRWXU | stat.S_IRWXO)
    assert len(ask("check", "check")["faults"]) == 2
