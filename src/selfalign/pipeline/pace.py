"""How fast a stage goes by what was seen of it lately, and how long the rest takes at that."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

POINTS = 60
"""Points kept of a window: enough for a rate, and few however often it is told something."""


class Point(NamedTuple):
    """A count at a time, in seconds of any clock that only goes forward."""

    time: float
    number: float


class Pace:
    """The rate of a count over its last `window` seconds, or since it began where that is shorter."""

    def __init__(self, window: float, time: float, count: float = 0) -> None:
        self.window = window
        self.points = deque([Point(time, count)])

    def note(self, time: float, count: float) -> None:
        """The count is that by now. One point stands at or before the window's start, so that a rate spans it all."""
        points = self.points
        if len(points) > 1 and time - points[-2].time < self.window / POINTS:
            points.pop()
        points.append(Point(time, count))
        while len(points) > 2 and points[1].time <= time - self.window:
            points.popleft()

    @property
    def per_second(self) -> float:
        """0 before anything was noted."""
        first, last = self.points[0], self.points[-1]
        return (last.number - first.number) / (last.time - first.time) if last.time > first.time else 0.0

    def seconds_left(self, time: float, goal: float) -> float | None:
        """Until `goal` is reached at this rate; None where it stands still.

        Where it should have been reached by now, the silence since the last count makes the rate slower: a stage whose
        last records take many tries would else say "0 s left" for minutes.
        """
        first, last = self.points[0], self.points[-1]
        missing, gained = goal - last.number, last.number - first.number
        if missing <= 0:
            return 0.0
        if gained <= 0 or last.time <= first.time:
            return None
        left = missing * (last.time - first.time) / gained - (time - last.time)
        return left if left > 0 else missing * (time - first.time) / gained
