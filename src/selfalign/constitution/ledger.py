"""The ledger: how much of a run a human wrote, counted the paper's way and then honestly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from selfalign.constitution.schema import Constitution

PAPER_TOTAL = 216  # 175 + 20 seed prompts, 16 principles, 5 exemplars: arXiv 2305.03047, sections 1 and 3
PAPER_LIMIT = 300  # "fewer than 300 lines", its abstract


class Ledger(NamedTuple):
    """`paper` counts what SELF-ALIGN calls annotation; `beside` counts everything else that a human wrote."""

    paper: dict[str, int]
    beside: dict[str, int]

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Plain data, for a manifest or JSON."""
        return {"paper": dict(self.paper), "beside": dict(self.beside)}


def ledger(constitution: Constitution) -> Ledger:
    """Counts a resolved constitution.

    The paper counts each seed, principle and exemplar as one line however long it is, and leaves out identity, styles
    and prompts. Lines and words of `beside` are those of all text, that of `paper` included, after variables are filled
    in: a paragraph is one line, and a text that others use counts wherever it stands.
    """
    texts = list(texts_of(constitution.model_dump(mode="json")))
    return Ledger(
        with_total(
            {
                "seed instructions": len(constitution.seeds),
                "topic seeds": len(constitution.instruction_types),
                "principles": len(constitution.principles),
                "exemplars": len(constitution.exemplars),
            }
        ),
        {
            "exemplar turns": sum(len(exemplar.turns) for exemplar in constitution.exemplars),
            "identity questions": sum(len(group.questions) for group in constitution.identity.pairs),
            "identity answers": sum(len(group.answers) for group in constitution.identity.pairs),
            "identity pairs after expansion": len(constitution.identity_pairs),
            "styles": len(type(constitution.styles).model_fields),
            "template texts": sum(bool(text) for _, text in constitution.templates),
            "variables": len(constitution.variables),
            "non-blank lines of all text": sum(bool(line.strip()) for text in texts for line in text.splitlines()),
            "words of all text": sum(len(text.split()) for text in texts),
        },
    )


def with_total(counts: dict[str, int]) -> dict[str, int]:
    """The counts and their sum."""
    return {**counts, "total": sum(counts.values())}


def texts_of(value: Any) -> Iterator[str]:
    """Every text in nested mappings and lists; keys are not text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def format_ledger(counted: Ledger) -> str:
    """A plain-text table, names to the left and counts to the right."""
    rows = {**counted.paper, **counted.beside}
    left = max(map(len, rows))
    right = max(len(f"{count:,}") for count in rows.values())
    verdict = "fewer than" if counted.paper["total"] < PAPER_LIMIT else "NOT fewer than"

    def table(counts: dict[str, int]) -> list[str]:
        return [f"  {name:<{left}}  {count:>{right},}" for name, count in counts.items()]

    head = f"Human-written lines, counted as the paper does ({verdict} {PAPER_LIMIT}; the paper: {PAPER_TOTAL})"
    beside = "Also written by a human, and not counted by the paper"
    return "\n".join([head, *table(counted.paper), "", beside, *table(counted.beside)])
