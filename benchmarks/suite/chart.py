"""One picture as SVG: the cost of a step against the length of a chain, throughput against threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from suite.rounds import Results, Spread
from suite.systems import SYSTEMS
from suite.workloads import LENGTHS, THREADS

WIDTH, HEIGHT, MARGIN, GAP = 460, 300, 64, 60
COLOURS = (
    *("#1b6ca8", "#3aa6b9", "#7a4fb5", "#2e8b57", "#8fbc3f", "#16a085"),
    *("#c0392b", "#e08e0b", "#6d6d6d", "#b8860b", "#d36fa8"),
)
LEGEND_WIDTH, LEGEND_HEIGHT = 170, 18
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One diagram with logarithmic axes.

    Attributes:
        title: above it.
        x, y: what the axes show.
        workload: whose figures.
        metric: key of a figure, followed by the size.
        sizes: of which sizes.
    """

    title: str
    x: str
    y: str
    workload: str
    metric: str
    sizes: Sequence[int]

    def lines(self, results: Results) -> dict[str, Points]:
        """The medians of each system that has any."""
        lines: dict[str, Points] = {}
        for system in SYSTEMS:
            for size in self.sizes:
                spread = Spread.of(results.values(self.workload, system.name, f"{self.metric}@{size}"))
                if spread:
                    lines.setdefault(system.title, []).append((size, spread.median))
        return lines


PANELS = (
    Panel("Cost of a step", "activities in sequence", "us a step", "W2", "us", LENGTHS),
    Panel("Throughput", "threads that start and await", "orchestrations/s", "W1t", "per_s", THREADS),
)


class Axis:
    """A logarithmic axis from ``start`` to ``end`` pixels, over whole decades."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def svg(results: Results) -> str:
    """The picture; panels without figures say so."""
    width = len(PANELS) * (WIDTH + GAP) + GAP
    lines = [panel.lines(results) for panel in PANELS]
    shown = [system.title for system in SYSTEMS if any(system.title in line for line in lines)]
    colours = {title: COLOURS[number % len(COLOURS)] for number, title in enumerate(shown)}
    columns = (width - 2 * GAP) // LEGEND_WIDTH
    legend = _legend(colours, HEIGHT + 2 * MARGIN, columns)
    height = HEIGHT + 2 * MARGIN + LEGEND_HEIGHT * math.ceil(len(shown) / columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, lines[number], GAP + number * (WIDTH + GAP), colours)
    return "\n".join([*parts, *legend, "</svg>"]) + "\n"


def _panel(panel: Panel, lines: dict[str, Points], left: float, colours: dict[str, str]) -> list[str]:
    parts = [_text(left, MARGIN - 30, panel.title, size=15)]
    if not lines:
        return [*parts, _text(left, MARGIN + 20, f"{panel.workload} was not measured")]
    points = [point for line in lines.values() for point in line]
    x = Axis([point[0] for point in points], left, left + WIDTH)
    y = Axis([point[1] for point in points], MARGIN + HEIGHT, MARGIN)
    for value in x.ticks():
        parts.append(_line(x.place(value), MARGIN, x.place(value), MARGIN + HEIGHT))
        parts.append(_text(x.place(value), MARGIN + HEIGHT + 16, f"{value:,g}", anchor="middle"))
    for value in y.ticks():
        parts.append(_line(left, y.place(value), left + WIDTH, y.place(value)))
        parts.append(_text(left - 6, y.place(value) + 4, f"{value:,g}", anchor="end"))
    parts.append(_text(left + WIDTH, MARGIN + HEIGHT + 32, panel.x, anchor="end"))
    parts.append(_text(left, MARGIN - 12, panel.y))
    for title, line in lines.items():
        path = " ".join(f"{x.place(size):.1f},{y.place(value):.1f}" for size, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[title]}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x.place(size):.1f}" cy="{y.place(value):.1f}" r="3" fill="{colours[title]}"/>'
            for size, value in line
        ]
    return parts


def _legend(colours: dict[str, str], top: float, columns: int) -> list[str]:
    parts = []
    for number, (title, colour) in enumerate(colours.items()):
        row, column = divmod(number, columns)
        left, middle = GAP + column * LEGEND_WIDTH, top + row * LEGEND_HEIGHT
        parts.append(f'<rect x="{left}" y="{middle - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(left + 17, middle, title))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
