"""What each stage cost: time and tokens, and money where the recipe has a price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from selfalign.recipe import PriceOptions
from selfalign.report.stages import StageRow


class Spent(NamedTuple):
    """One stage; shares (0 to 1) are of all stages together. `cost` is None without a price."""

    name: str
    seconds: float
    seconds_share: float
    prompt: int
    prompt_share: float
    completion: int
    completion_share: float
    cost: float | None


class Spending(NamedTuple):
    """All stages that ran, and their sum in money; `largest` are the largest shares, which the bars are scaled to."""

    rows: list[Spent]
    cost: float | None
    currency: str
    largest: tuple[float, float, float]


def spending(rows: Sequence[StageRow], recipe: str) -> Spending | None:
    """None before a stage has taken time."""
    ran = [row for row in rows if row.seconds]
    if not ran:
        return None
    price = price_of(recipe)
    whole = [sum(figures) or 1 for figures in zip(*map(figures_of, ran), strict=True)]
    spent = [spent_by(row, whole, price) for row in ran]
    largest = tuple(max(shares) or 1.0 for shares in zip(*((row[2], row[4], row[6]) for row in spent), strict=True))
    costs = [row.cost for row in spent if row.cost is not None]
    return Spending(spent, sum(costs) if costs else None, price.currency, (largest[0], largest[1], largest[2]))


def figures_of(row: StageRow) -> tuple[float, int, int]:
    """Seconds, prompt tokens, new tokens."""
    return row.seconds or 0.0, row.prompt_tokens or 0, row.completion_tokens or 0


def spent_by(row: StageRow, whole: Sequence[float], price: PriceOptions) -> Spent:
    """One stage's line."""
    seconds, prompt, completion = figures_of(row)
    shares = [part / all_of_it for part, all_of_it in zip((seconds, prompt, completion), whole, strict=True)]
    cost = price.charge(prompt, completion, seconds)
    return Spent(row.name, seconds, shares[0], prompt, shares[1], completion, shares[2], cost)


def price_of(recipe: str) -> PriceOptions:
    """The recipe's prices; none where it cannot be read."""
    try:
        return PriceOptions.model_validate(yaml.safe_load(recipe)["price"])
    except (yaml.YAMLError, KeyError, TypeError, ValidationError):
        return PriceOptions()
