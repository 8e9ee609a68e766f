"""Novelty by shared pieces and by meaning, and what is said where their libraries are missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from selfalign.errors import UserError
from selfalign.filters.novelty import Novelty
from selfalign.filters.novelty_embedding import EmbeddingNovelty, Vectors, sentence_encoder
from selfalign.filters.novelty_kinds import check_installed, make_novelty
from selfalign.recipe import NoveltyOptions, Recipe
from selfalign.records import Verdict

FERRY = "Explain to the town council why the small harbour ferries stop running after dark in the winter"


def options(kind: str, **changes: Any) -> dict[str, Any]:
    return dict(NoveltyOptions.model_validate({"kind": kind, **changes}))


# ----------------------------------------------------------------------------------------------------------- minhash


def test_minhash_knows_a_text_by_its_pieces_in_any_order() -> None:
    pytest.importorskip("datasketch")
    novelty = make_novelty(**options("minhash"))
    for text in ("Name a river in Peru", FERRY, "", "A dog barks"):
        novelty.add(text)
    moved = "In the winter, explain to the town council why the small harbour ferries stop running after dark!"
    verdict = novelty.judge(moved)  # 15 of 17 pairs of words are shared: 15 / 17 by Jaccard, 0.77 by ROUGE-L
    assert (verdict.accepted, verdict.filter) == (False, "novelty")
    assert verdict.value == pytest.approx(15 / 18, abs=0.15)
    assert verdict.reason.startswith(f'Jaccard {verdict.value:.2f} (MinHash) with "Explain to the town council why')
    assert novelty.judge(FERRY.upper()).value == 1.0
    for text in ("Which birds sleep while they fly over the sea?", "", "?!", "Bark"):
        assert novelty.judge(text) == Verdict.accept()


def test_minhash_verdicts_are_the_same_every_time() -> None:
    pytest.importorskip("datasketch")
    values = []
    for _ in range(2):
        novelty = make_novelty(**options("minhash", threshold=0.2))
        novelty.add(FERRY)
        values.append(novelty.judge(FERRY.replace("winter", "summer").replace("small", "large")).value)
    assert values[0] == values[1] is not None


# --------------------------------------------------------------------------------------------------------- embedding


class Encoder:
    """Counts of the letters a to e, as vectors of length 1; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        rows = np.array([[1e-3 + text.count(letter) for letter in "abcde"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embeddings_are_compared_with_everything_and_the_first_of_the_nearest_is_named() -> None:
    novelty = EmbeddingNovelty(0.9, Encoder())
    for text in ("bbb", "aab", "aab ", "", "ccc"):
        novelty.add(text)
    verdict = novelty.judge("aaabb")
    assert verdict.value == pytest.approx(8 / (5 * 13) ** 0.5, abs=1e-3)
    assert verdict.reason == 'cosine 0.99 with "aab"'
    assert novelty.judge("ab").value is not None
    for text in ("de", "", "..."):
        assert novelty.judge(text) == Verdict.accept()


def test_what_is_added_is_encoded_in_batches_and_what_was_judged_not_again() -> None:
    encoder = Encoder()
    novelty = EmbeddingNovelty(0.9, encoder)
    for number in range(300):
        novelty.add(f"a{number}")
    assert encoder.asked == []
    assert novelty.judge("bb").accepted
    assert [len(texts) for texts in encoder.asked] == [256, 44, 1]
    novelty.add("bb")
    assert novelty.judge("bbb").reason == 'cosine 1.00 with "bb"'
    assert len(encoder.asked) == 4


def tiny_encoder(folder: Path) -> str:
    """A sentence-transformers model with random weights, made without network."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(FERRY.lower().split()), "birds", "sea"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[bert, Pooling(32)]).save(str(folder / "model"))
    return str(folder / "model")


@pytest.mark.slow
def test_sentence_transformers_encodes(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    novelty = make_novelty(**options("embedding", model=tiny_encoder(tmp_path), threshold=0.999))
    novelty.add(FERRY)
    verdict = novelty.judge(FERRY.upper())
    assert verdict.reason.startswith('cosine 1.00 with "Explain')
    assert novelty.judge("birds sea birds sea").accepted
    with pytest.raises(UserError, match=r"instructions\.novelty.model '.*nowhere' cannot be loaded"):
        sentence_encoder(str(tmp_path / "nowhere"))


# ---------------------------------------------------------------------------------------------------------- choosing


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.filters.novelty_kinds.find_spec", lambda name: None)
    check_installed("rouge")
    with pytest.raises(UserError) as caught:
        make_novelty(**options("embedding"))
    assert str(caught.value) == (
        "novelty 'embedding' needs sentence-transformers, which is not installed\n"
        '  next: pip install "selfalign[novelty]"'
    )
    with pytest.raises(UserError, match="needs datasketch"):
        check_installed("minhash")


def test_kinds_need_no_library_until_they_are_chosen() -> None:
    assert isinstance(make_novelty(**options("rouge")), Novelty)
    assert importlib.util.find_spec("selfalign.filters.novelty_minhash") is not None


@pytest.mark.parametrize(
    ("written", "kind", "threshold", "dumped"),
    [
        (0.8, "rouge", 0.8, 0.8),
        ({"threshold": 0.6}, "rouge", 0.6, 0.6),
        ("rouge", "rouge", 0.7, 0.7),
        ("minhash", "minhash", 0.5, None),
        ({"kind": "embedding"}, "embedding", 0.9, None),
        ({"kind": "embedding", "threshold": 0.8}, "embedding", 0.8, None),
    ],
)
def test_a_recipe_may_say_it_in_short(written: Any, kind: str, threshold: float, dumped: float | None) -> None:
    recipe = Recipe.model_validate({"instructions": {"novelty": written}})
    novelty = recipe.instructions.novelty
    assert (novelty.kind, novelty.threshold) == (kind, threshold)
    row = recipe.model_dump(mode="json")["instructions"]["novelty"]
    assert row == dumped if dumped else row["kind"] == kind
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("written", [True, None, 0, 1.5, "jaccard", {"kind": "minhash", "num_perm": 4}, [0.7]])
def test_a_recipe_that_says_nonsense_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({"instructions": {"novelty": written}})
