"""Novelty by meaning: the cosine of sentence embeddings, by sentence-transformers.

Exact, and a comparison with everything: a product of all vectors with one, 4 bytes a number. A judgement among 100,000
texts of 384 numbers reads 150 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from selfalign.errors import UserError
from selfalign.filters.novelty import FILTER, quoted
from selfalign.filters.words import words
from selfalign.records import Verdict

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Encode = Callable[[Sequence[str]], Vectors]
"""Texts -> their vectors, [texts, numbers], each of length 1."""

BATCH = 256


class EmbeddingNovelty:
    """Judges by the highest cosine with everything added. What is added is encoded in batches when it is needed."""

    def __init__(self, threshold: float, encode: Encode) -> None:
        self.threshold = threshold
        self.encode = encode
        self._vectors: Vectors = np.empty((0, 0), np.float32)
        self._waiting: list[str] = []
        self._quoted: list[str] = []
        self._judged: tuple[str, Vectors] | None = None

    def add(self, text: str) -> None:
        """Compare later texts with this one too. A text without words is like nothing and is passed over."""
        if not words(text):
            return
        self._quoted.append(quoted(text))
        if self._judged and self._judged[0] == text:
            self._encode_waiting()
            self._store(self._judged[1], len(self._quoted) - 1)
        else:
            self._waiting.append(text)

    def judge(self, text: str) -> Verdict:
        """A rejected text has the cosine as value, and its reason quotes the nearest one (the first of several)."""
        self._encode_waiting()
        if not self._quoted or not words(text):
            return Verdict.accept()
        vector = self.encode([text])
        self._judged = (text, vector)
        scores = self._vectors[: len(self._quoted)] @ vector[0]
        nearest = int(scores.argmax())
        score = float(scores[nearest])
        if score <= self.threshold:
            return Verdict.accept()
        return Verdict.reject(FILTER, f'cosine {score:.2f} with "{self._quoted[nearest]}"', score)

    def _encode_waiting(self) -> None:
        start = len(self._quoted) - len(self._waiting)
        for at in range(0, len(self._waiting), BATCH):
            self._store(self.encode(self._waiting[at : at + BATCH]), start + at)
        self._waiting = []

    def _store(self, vectors: Vectors, at: int) -> None:
        """Rows `at` and on; there is room for twice as many whenever it ends."""
        end = at + len(vectors)
        if end > len(self._vectors):
            grown = np.empty((max(2 * len(self._vectors), end), vectors.shape[1]), np.float32)
            if at:
                grown[:at] = self._vectors[:at]
            self._vectors = grown
        self._vectors[at:end] = vectors


def sentence_encoder(model: str) -> Encode:
    """The model (Hub id or directory) on the accelerator, where there is one. UserError where it cannot be loaded."""
    from sentence_transformers import SentenceTransformer

    try:
        encoder = SentenceTransformer(model)
    except (OSError, ValueError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(
            f"instructions.novelty.model {model!r} cannot be loaded: {reason}", "name a Hub id or a directory"
        ) from fault

    def encode(texts: Sequence[str]) -> Vectors:
        rows = encoder.encode(list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(rows, np.float32)

    return encode
