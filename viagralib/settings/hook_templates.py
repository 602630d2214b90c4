"""Templates of hooks: postgresql@15-main has the facts of its template postgresql@."""

from __future__ import annotations

_PATTERNS = ("command", "leftover_command", "pattern")  # keys of facts


def is_template(name: str) -> bool:
    """Return whether a hook of this name is for its instances, and none by itself."""
    return name.endswith("@")


def source(name: str, has_own: bool) -> str:
    """Return the name whose facts are a hook's: its own, or its template's; or "".

    That of an instance's template is what precedes the first @, with it.
    """
    stem, mark, instance = name.partition("@")
    return name if has_own else stem + mark if stem and instance else ""


def filled(table: dict[str, object], source: str, name: str) -> dict[str, object]:
    """Return the facts of `source` as those of `name`, its instance or itself.

    As in units of systemd, "%i" in a template is what follows the @ in the name, and
    "%I" the same with slashes for its dashes; "%%" is a per cent sign.
    """
    instance = name.removeprefix(source)
    if not instance:
        return table
    return {key: _filled(value, instance, key) for key, value in table.items()}


def _filled(value: object, instance: str, key: str) -> object:
    if isinstance(value, list):
        return [_filled(item, instance, key) for item in value]
    if isinstance(value, dict):
        return {inner: _filled(item, instance, inner) for inner, item in value.items()}
    if not isinstance(value, str) or "%" not in value:
        return value
    meant = instance, instance.replace("-", "/")
    i, slashed = map(_escaped, meant) if key in _PATTERNS else meant
    parts = value.split("%%")
    return "%".join(one.replace("%i", i).replace("%I", slashed) for one in parts)


def _escaped(text: str) -> str:
    """Return a pattern that fits this text alone; re.escape, which costs an import."""
    return "".join(one if one.isalnum() or one in "-_/" else f"\\{one}" for one in text)
