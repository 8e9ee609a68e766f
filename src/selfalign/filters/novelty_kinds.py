"""The kinds of novelty: by word order (ROUGE-L, exact), by shared words (MinHash), by meaning (sentence embeddings)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

from selfalign.errors import UserError
from selfalign.filters.novelty import Novelty
from selfalign.records import Verdict

LIBRARIES = {"minhash": "datasketch", "embedding": "sentence_transformers"}
"""Kind -> what it needs beyond the package's own dependencies: the extra `novelty`."""


class NoveltyFilter(Protocol):
    """Judges texts against those added."""

    def add(self, text: str) -> None:
        """Compare later texts with this one too."""
        ...

    def judge(self, text: str) -> Verdict:
        """Rejected where it is too like one of those added; the value is how like."""
        ...


def make_novelty(kind: str, threshold: float, ngram: int, num_perm: int, model: str) -> NoveltyFilter:
    """The filter of a kind. Its library is imported here; UserError where it is missing."""
    check_installed(kind)
    if kind == "minhash":
        from selfalign.filters.novelty_minhash import MinHashNovelty

        return MinHashNovelty(threshold, ngram, num_perm)
    if kind == "embedding":
        from selfalign.filters.novelty_embedding import EmbeddingNovelty, sentence_encoder

        return EmbeddingNovelty(threshold, sentence_encoder(model))
    return Novelty(threshold)


def check_installed(kind: str) -> None:
    """Raises a UserError where the library of a kind is missing, without importing it."""
    library = LIBRARIES.get(kind)
    if library and find_spec(library) is None:
        name = library.replace("_", "-")
        raise UserError(f"novelty {kind!r} needs {name}, which is not installed", 'pip install "selfalign[novelty]"')
