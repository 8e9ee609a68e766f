"""What counts as a new instruction."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from selfalign.recipe.section import Positive, Probability, Section, option


class NoveltyOptions(Section):
    """What counts as new. A number is short for `{kind: rouge, threshold: 0.7}`, a name for `{kind: minhash}`."""

    kind: Literal["rouge", "minhash", "embedding"] = option(
        "rouge", "rouge (exact), minhash (shared runs of words, an estimate), embedding (by meaning)"
    )
    threshold: Probability = option(
        0.7, "highest likeness allowed: ROUGE-L F-measure, Jaccard (minhash: 0.5 if not said), cosine (embedding: 0.9)"
    )
    ngram: Positive = option(2, "minhash: words of a run")
    num_perm: Annotated[int, Field(ge=16, le=1024)] = option(128, "minhash: hashes kept of each text")
    model: str = option("sentence-transformers/all-MiniLM-L6-v2", "embedding: Hub id or directory of the encoder")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool):
            return {"threshold": value}
        if isinstance(value, str):
            value = {"kind": value}
        own = {"minhash": 0.5, "embedding": 0.9}.get(str(value.get("kind"))) if isinstance(value, dict) else None
        return value if own is None else {"threshold": own} | value

    @model_serializer(mode="wrap")
    def _shortest_form(self, whole: SerializerFunctionWrapHandler) -> Any:
        """The number alone where it says everything: keys of records made so before stay what they are."""
        return self.threshold if self == NoveltyOptions(threshold=self.threshold) else whole(self)
