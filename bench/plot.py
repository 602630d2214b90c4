"""A plot of cost against the number of processes, as an SVG made of plain text."""

from __future__ import annotations

import math

from contenders import ARTICLE, BARE, CHECK, FLOOR, MONIT, PGREP, PLUGIN, QUIET
from report import Cost

_CURVES = {
    MONIT: "#a0522d",
    ARTICLE: "#c0392b",
    PLUGIN: "#b8860b",
    PGREP: "#7f7f7f",
    CHECK: "#2e86c1",
    QUIET: "#1e8449",
    BARE: "#000000",
    FLOOR: "#8e44ad",
}
_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 20, 50
_LINE_HEIGHT = 15  # pixels between two titles at the curves' ends


class _Axes:
    """Where a number of processes and a time are on the plot: both logarithmic."""

    def __init__(self, cost: Cost, titles: list[str]) -> None:
        times = [cost[size][title] for size in cost for title in titles]
        self.sizes = sorted(cost)
        self.decades = range(
            math.floor(math.log10(min(times))), math.ceil(math.log10(max(times))) + 1
        )

    def x(self, size: int) -> float:
        first, last = math.log(self.sizes[0]), math.log(self.sizes[-1])
        share = (math.log(size) - first) / (last - first or 1)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, seconds: float) -> float:
        low, high = self.decades[0], self.decades[-1]
        share = (math.log10(seconds) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def draw(cost: Cost) -> str:
    """Return the plot of what was measured at every number of processes."""
    titles = [title for title in _CURVES if all(title in cost[n] for n in cost)]
    axes = _Axes(cost, titles)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        "<title>What one run costs, by the number of processes</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_grid(axes),
    ]
    for title in titles:
        points = " ".join(
            f"{axes.x(n):.1f},{axes.y(cost[n][title]):.1f}" for n in axes.sizes
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_CURVES[title]}" '
            'stroke-width="2"/>'
        )
    return "\n".join([*parts, *_titles(axes, cost, titles), "</svg>", ""])


def _grid(axes: _Axes) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for decade in axes.decades:
        y, label = axes.y(10**decade), f"{10 ** (decade + 3):,g} ms"
        parts.append(_line(_LEFT, y, right, y))
        parts.append(_text(_LEFT - 6, y + 4, label, "end"))
    for size in axes.sizes:
        x = axes.x(size)
        parts.append(_line(x, _TOP, x, bottom))
        parts.append(_text(x, bottom + 18, f"{size:,}", "middle"))
    middle = (_LEFT + right) / 2
    return [*parts, _text(middle, _HEIGHT - 10, "processes", "middle")]


def _titles(axes: _Axes, cost: Cost, titles: list[str]) -> list[str]:
    """Return each curve's title at its end, moved where two would overlap."""
    last = axes.sizes[-1]
    parts, lowest = [], 0.0
    for y, title in sorted((axes.y(cost[last][title]), title) for title in titles):
        lowest = max(y + 4, lowest + _LINE_HEIGHT)
        parts.append(_text(axes.x(last) + 8, lowest, title, "start", _CURVES[title]))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{text}</text>'
