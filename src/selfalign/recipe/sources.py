"""Instructions that were written elsewhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from selfalign.recipe.section import Count, Section, option

SourceFormat = Literal["auto", "sharegpt", "messages", "openassistant", "openorca", "dolly", "alpaca", "list"]


class SourceOptions(Section):
    """Instructions that were written elsewhere; of a conversation the first user turn. A bare path is short for it."""

    path: str = option(
        ..., "a .json, .jsonl, .csv, .tsv, .parquet or .txt file (also .gz), a folder of them, or a Hub id"
    )
    format: SourceFormat = option("auto", "auto looks at the keys of each row")
    cap: Count = option(0, "most instructions taken, drawn evenly by the recipe's seed; 0 takes all")
    licence: str = option("", "the licence of the source, kept in every record and told in cards")
    split: str = option("train", "Hub: the split")
    config: str = option("", "Hub: the configuration, where there are several")

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value
