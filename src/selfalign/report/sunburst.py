"""The rings of a sunburst: root verbs inside, their objects outside (as Self-Instruct draws it, arXiv 2212.10560)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from selfalign.report.verbs import VerbUse

INNER, MIDDLE, OUTER = 46.0, 118.0, 200.0
LETTER = 5.6
"""Width of a letter at the labels' size, in units of the view box."""
LABEL_HEIGHT = 10.5
COLOURS = 10


class Arc(NamedTuple):
    """A ring's sector; `label` is empty where none fits. The label stands at (x, y), turned by `turn` degrees."""

    path: str
    colour: int
    ring: str
    label: str
    x: float
    y: float
    turn: float
    tip: str


def sunburst(verbs: Sequence[VerbUse], total: int) -> list[Arc]:
    """Sectors by share of `total`, the instructions that have a verb with an object; the commonest verbs first."""
    drawn: list[Arc] = []
    shown = sum(verb.number for verb in verbs) or 1
    start = 0.0
    for place, verb in enumerate(verbs):
        angle = 2 * math.pi * verb.number / shown
        tip = f"{verb.verb}: {verb.number:,} of {total:,}"
        drawn.append(arc(start, angle, INNER, MIDDLE, place % COLOURS, "inner", verb.verb, tip))
        inside = start
        for noun, number in verb.objects:
            part = 2 * math.pi * number / shown
            tip = f"{verb.verb} {noun}: {number:,}"
            drawn.append(arc(inside, part, MIDDLE + 1.5, OUTER, place % COLOURS, "outer", noun, tip))
            inside += part
        start += angle
    return drawn


def arc(start: float, angle: float, near: float, far: float, colour: int, ring: str, label: str, tip: str) -> Arc:
    """One sector, `start` and `angle` in radians clockwise from the top."""
    angle = min(angle, 2 * math.pi - 1e-3)  # a whole ring's ends would coincide and draw nothing
    middle = start + angle / 2
    radius = (near + far) / 2
    x, y = radius * math.sin(middle), -radius * math.cos(middle)
    turn = math.degrees(middle) - 90
    turn += 180 if middle > math.pi else 0  # the left half is read from the outside in
    return Arc(
        sector(start, start + angle, near, far), colour, ring, fitting(label, angle * near, far - near), x, y, turn, tip
    )


def sector(start: float, end: float, near: float, far: float) -> str:
    """The path around it."""
    large = int(end - start > math.pi)
    (x0, y0), (x1, y1) = point(start, far), point(end, far)
    (x2, y2), (x3, y3) = point(end, near), point(start, near)
    outer = f"M{x0:.2f} {y0:.2f}A{far:g} {far:g} 0 {large} 1 {x1:.2f} {y1:.2f}"
    return f"{outer}L{x2:.2f} {y2:.2f}A{near:g} {near:g} 0 {large} 0 {x3:.2f} {y3:.2f}Z"


def point(angle: float, radius: float) -> tuple[float, float]:
    """x and y of a point on a ring."""
    return radius * math.sin(angle), -radius * math.cos(angle)


def fitting(label: str, breadth: float, length: float) -> str:
    """The label, shortened to the ring's depth; empty where the sector is narrower than a line of text."""
    letters = int((length - 6) / LETTER)
    if breadth < LABEL_HEIGHT:
        return ""
    return label if len(label) <= letters else label[: letters - 1] + "…"
