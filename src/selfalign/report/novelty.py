"""How new the instructions stay: each against all that were accepted before it, in the order that they were."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from selfalign.filters.words import words
from selfalign.report.read import RunFiles, read_setting

MOST_POINTS = 400
"""Instructions that are measured, spread evenly over all: each is compared with every earlier one, which is exact."""
MEDIANS = 16
"""Points of the line through the medians."""
PAPER_LIMIT = 0.7


class NoveltyReport(NamedTuple):
    """Dots and the medians' line in a 100 x 100 box, y downwards: 1 (all new) at the top, 0 (a copy) at the foot.

    `limit` is the least novelty that the filter let pass, None where it measured something else; `rejected` counts what
    it took out.
    """

    dots: list[tuple[float, float]]
    line: str
    limit: float | None
    instructions: int
    measured: int
    first: float
    last: float
    rejected: int


def novelty(run: RunFiles) -> NoveltyReport | None:
    """None with fewer than two instructions."""
    texts = [record.user.split("\n\n", 1)[0] for record in run.accepted("instructions")]
    if len(texts) < 2:
        return None
    measured = spread(len(texts), MOST_POINTS)
    values = novelties(
        [seed.instruction for seed in run.constitution.seeds] if run.constitution else [], texts, measured
    )
    size = -(-len(values) // MEDIANS)
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    middles = [median(group) for group in groups]
    places = [
        100 * measured[min(size * i + len(group) // 2, len(measured) - 1)] / (len(texts) - 1)
        for i, group in enumerate(groups)
    ]
    return NoveltyReport(
        [
            (round(100 * at / (len(texts) - 1), 2), round(100 - 100 * value, 2))
            for at, value in zip(measured, values, strict=True)
        ],
        " ".join(f"{x:.2f},{100 - 100 * y:.2f}" for x, y in zip(places, middles, strict=True)),
        limit_of(run.recipe),
        len(texts),
        len(values),
        middles[0],
        middles[-1],
        run.stage("instructions").get("rejected", {}).get("novelty", 0),
    )


def spread(total: int, most: int) -> list[int]:
    """At most `most` places among `total`, the first and the last among them."""
    if total <= most:
        return list(range(total))
    return [round(i * (total - 1) / (most - 1)) for i in range(most)]


def novelties(seeds: list[str], texts: list[str], measured: list[int]) -> list[float]:
    """1 - the highest ROUGE-L F-measure with a seed or an earlier text, for the texts at these places."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    alphabet: dict[str, str] = {}
    coded = [
        "".join(alphabet.setdefault(word, letter(len(alphabet))) for word in words(text)) for text in seeds + texts
    ]
    found = []
    for at in measured:
        end = len(seeds) + at
        best = process.extractOne(coded[end], coded[:end], scorer=Indel.normalized_similarity) if coded[end] else None
        found.append(1.0 - (best[1] if best else 0.0))
    return found


def letter(number: int) -> str:
    """A character for each word, as far as there are any: then words share one, and likeness is overstated a little."""
    return chr(1 + number % 0x10FFFE)


def limit_of(recipe: str) -> float | None:
    """The least novelty that the recipe allows by ROUGE-L; the paper's where it cannot be read, None by other kinds."""
    setting = read_setting(recipe, "instructions", "novelty", PAPER_LIMIT)
    if isinstance(setting, dict):
        if setting.get("kind", "rouge") != "rouge":
            return None
        setting = setting.get("threshold", PAPER_LIMIT)
    return 1 - (float(setting) if isinstance(setting, int | float) else PAPER_LIMIT)
