"""The order in which `after` wants daemons to be up, and whether it is one at all."""

from __future__ import annotations


def find_circle(after: dict[str, tuple[str, ...]], name: str) -> list[str]:
    """Return the shortest path by which `after` leads from `name` back to it, or []."""
    paths, tried = [[name]], {name}
    for path in paths:
        for needed in after.get(path[-1], ()):
            if needed == name:
                return [*path[1:], name]
            if needed not in tried:
                tried.add(needed)
                paths.append([*path, needed])
    return []
