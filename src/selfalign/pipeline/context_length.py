"""Whether principles and exemplars leave the model room to think and answer: told before the run, with the counts."""

from __future__ import annotations

import json
from pathlib import Path

from selfalign.constitution.rendering import responses_prefix
from selfalign.constitution.schema import Constitution
from selfalign.engines.embedded.loading import Source, load_tokenizer, resolve_model
from selfalign.engines.tokenization import Tokenization
from selfalign.errors import UserError
from selfalign.recipe import Recipe


def check_context(recipe: Recipe, constitution: Constitution) -> None:
    """UserError where the prompt of stage responses, a thought and a reply are more than the context holds.

    Asks the model's own tokenizer and configuration, before any weights are read.
    """
    if not recipe.engine.has_weights:
        return
    source = resolve_model(recipe.base_model)
    length = context_length(source)
    if recipe.engine.computing == "vllm" and recipe.engine.max_model_len:
        length = recipe.engine.max_model_len
    options = recipe.responses
    wanted = options.thought_tokens + options.max_tokens
    if not length or fits_by_far(constitution, length - wanted):
        return
    used = len(Tokenization(load_tokenizer(source)).prefix_ids(responses_prefix(constitution)))
    if used + wanted >= length:
        turns = sum(len(exemplar.turns) for exemplar in constitution.exemplars)
        raise UserError(
            f"the constitution {constitution.name!r} does not fit {recipe.base_model}: its "
            f"{len(constitution.principles)} principles and {turns} exemplar turns take {used:,} tokens, a thought and "
            f"a reply {wanted:,}, and the context holds {length:,}",
            f"shorten it, or name a base_model with more context: selfalign constitution show {recipe.constitution}",
        )


def fits_by_far(constitution: Constitution, room: int) -> bool:
    """Whether it fits whatever the tokenizer: no token is shorter than a byte."""
    return len(responses_prefix(constitution).encode()) < room


def context_length(source: Source) -> int:
    """Tokens that the model was made for, by its configuration; 0 where that does not say."""
    file = Path(source.base) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return int((config.get("text_config") or config).get("max_position_embeddings") or 0)
