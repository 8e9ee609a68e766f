"""Where the nodes and bands of a flow stand: the geometry of a Sankey diagram, in the units of its view box."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from selfalign.report.flow import Flow, Node

STEP = 190
"""From one column to the next: a node's label stands between them."""
BAR = 12
LETTER = 6.6
"""Width of a letter of a label."""
TALLEST = 300
"""Height of the largest column's nodes, without the gaps."""
SLOT = 34
"""Least height for a node with its two lines of label."""
GAP = 10
TOP = 8


class Box(NamedTuple):
    """A node's bar, and its label beside it at the middle of its height."""

    node: Node
    x: float
    y: float
    height: float


class Band(NamedTuple):
    """A link as an SVG path; one that carries nothing is a line."""

    path: str
    kind: str
    tip: str


class Drawing(NamedTuple):
    """All of it, for a view box of `width` by `height`."""

    boxes: list[Box]
    bands: list[Band]
    width: float
    height: float


def sankey(flow: Flow) -> Drawing:
    """Columns from left to right, nodes from top to bottom in the order given, bands in the order of the links."""
    columns: dict[int, list[Node]] = defaultdict(list)
    for node in flow.nodes:
        columns[node.column].append(node)
    scale = TALLEST / max(sum(node.number for node in column) for column in columns.values())
    places = {number: place for place, number in enumerate(sorted(columns))}
    boxes: dict[str, Box] = {}
    height = 0.0
    for number, column in columns.items():
        y = float(TOP)
        for node in column:
            boxes[node.name] = Box(node, places[number] * STEP, y, max(node.number * scale, 1.5))
            y += max(boxes[node.name].height, SLOT) + GAP
        height = max(height, y)
    return Drawing(list(boxes.values()), bands(flow, boxes, scale), len(columns) * STEP, height)


def bands(flow: Flow, boxes: dict[str, Box], scale: float) -> list[Band]:
    """Each leaves its source below the one before, and reaches its target likewise."""
    left: dict[str, float] = defaultdict(float)
    reached: dict[str, float] = defaultdict(float)
    drawn = []
    for link in flow.links:
        if link.source not in boxes or link.target not in boxes:
            continue
        source, target = boxes[link.source], boxes[link.target]
        if not link.number:
            drawn.append(
                Band(line(source, target), "line", "the unit changes: a topic guides any number of instructions")
            )
            continue
        if link.again:
            left[link.source] = 0.0
        thickness = max(link.number * scale, 0.8)
        path = band(source, source.y + left[link.source], target, target.y + reached[link.target], thickness)
        left[link.source] += thickness
        reached[link.target] += thickness
        kind = "human" if source.node.kind == "human" else target.node.kind
        drawn.append(Band(path, kind, f"{source.node.label} → {target.node.label}: {link.number:,}"))
    return drawn


def band(source: Box, top: float, target: Box, end: float, thickness: float) -> str:
    """A band with level ends."""
    x0, x1 = source.x + BAR, target.x
    middle = (x0 + x1) / 2
    upper = f"M{x0:.1f} {top:.1f}C{middle:.1f} {top:.1f} {middle:.1f} {end:.1f} {x1:.1f} {end:.1f}"
    bottom, below = top + thickness, end + thickness
    return f"{upper}L{x1:.1f} {below:.1f}C{middle:.1f} {below:.1f} {middle:.1f} {bottom:.1f} {x0:.1f} {bottom:.1f}Z"


def line(source: Box, target: Box) -> str:
    """From behind the label of one to the middle of the other."""
    x0, x1 = source.x + BAR + LETTER * (len(source.node.label) + 2), target.x
    y0, y1 = source.y + source.height / 2, target.y + target.height / 2
    middle = (x0 + x1) / 2
    return f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
