"""The JSON documents that commands print, held to docs/json-schema.json."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from checkout import CHECKOUT
from jsonschema import Draft202012Validator

SCHEMA: dict[str, Any] = json.loads(
    (CHECKOUT / "docs" / "json-schema.json").read_text()
)


@cache
def _validator(kind: str) -> Draft202012Validator:
    """Return what checks documents of a kind, which may have no other keys here."""
    Draft202012Validator.check_schema(SCHEMA)
    kinds = {
        # What others are made of must let theirs pass.
        name: one if name == "look" else {**one, "unevaluatedProperties": False}
        for name, one in SCHEMA["$defs"].items()
    }
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": kinds})


def checked(kind: str, text: str) -> dict[str, Any]:
    """Return a document of this kind, one of the schema's; fail where it is none."""
    document: dict[str, Any] = json.loads(text)
    faults = [
        f"{one.json_path}: {one.message}"
        for one in _validator(kind).iter_errors(document)
    ]
    assert faults == [], (kind, faults)
    return document
