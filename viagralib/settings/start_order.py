"""The order in which `after` wants daemons to be up, and whether it is one at all."""

from __future__ import annotations


def way_back(after: dict[str, tuple[str, ...]], name: str) -> list[str]:
    """Return the shortest way by which `after` leads from `name` back to it, or []."""
    ways, tried = [[name]], {name}
    for way in ways:
        for needed in after.get(way[-1], ()):
            if needed == name:
                return [*way[1:], name]
            if needed not in tried:
                tried.add(needed)
                ways.append([*way, needed])
    return []
