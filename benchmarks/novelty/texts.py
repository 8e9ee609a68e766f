"""Synthetic instructions with the vocabulary and the lengths of the seeds of the built-in constitution.

Words are drawn by how often the seeds use them, so at 366,000 texts every word is common: real instructions, with the
words of the world, have more rare ones, which makes novelty easier. A quarter are variants of an earlier text with some
words exchanged, so that many pairs lie on either side of the threshold.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import NamedTuple

from selfalign.constitution.loading import load_constitution

VARIANTS = 0.25
REMEMBERED = 20_000
"""Earlier texts that a variant may be made of."""


class Source(NamedTuple):
    """What texts are drawn from."""

    words: tuple[str, ...]
    weights: tuple[int, ...]
    lengths: tuple[int, ...]
    openings: tuple[str, ...]


def seeds_source() -> Source:
    """The words, their cumulative counts, the lengths and the first words of all seed instructions."""
    constitution = load_constitution("dromedary")
    seeds = [seed.instruction for seed in constitution.seeds]
    texts = [text.split() for text in [*seeds, *(kind.seed.instruction for kind in constitution.instruction_types)]]
    counts: dict[str, int] = {}
    for word in (word.strip(".,:;?!\"'()").lower() for text in texts for word in text):
        counts[word] = counts.get(word, 0) + 1
    counts.pop("", None)
    words = tuple(sorted(counts))
    weights = tuple(accumulate(counts[word] for word in words))
    return Source(words, weights, tuple(map(len, texts)), tuple(text[0] for text in texts))


def draw(source: Source, rng: random.Random) -> list[str]:
    """A new text, as words."""
    length = rng.choice(source.lengths)
    return [rng.choice(source.openings), *rng.choices(source.words, cum_weights=source.weights, k=length - 1)]


def vary(text: list[str], source: Source, rng: random.Random) -> list[str]:
    """The text with each word exchanged at a chance of 5 to 50 %."""
    chance = rng.uniform(0.05, 0.5)
    fresh = rng.choices(source.words, cum_weights=source.weights, k=len(text))
    return [new if rng.random() < chance else word for word, new in zip(text, fresh, strict=True)]


def instructions(count: int, seed: int = 0) -> list[str]:
    """So many texts; the first ones of more are the same."""
    source, rng = seeds_source(), random.Random(seed)
    earlier: list[list[str]] = []
    made = []
    for number in range(count):
        is_variant = earlier and rng.random() < VARIANTS
        text = vary(rng.choice(earlier), source, rng) if is_variant else draw(source, rng)
        if number < REMEMBERED:
            earlier.append(text)
        else:
            earlier[rng.randrange(REMEMBERED)] = text
        made.append(" ".join(text) + ".")
    return made
