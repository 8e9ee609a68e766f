"""What a run is charged."""

from __future__ import annotations

from selfalign.recipe.section import Price, Section, option


class PriceOptions(Section):
    """What a run is charged, to tell its cost in money; all 0 tells tokens and seconds alone."""

    prompt: Price = option(0.0, "price of a million prompt tokens, shared prefixes included", affects_data=False)
    completion: Price = option(0.0, "price of a million new tokens", affects_data=False)
    hour: Price = option(0.0, "price of an hour of the machine", affects_data=False)
    currency: str = option("USD", "what the prices are in", affects_data=False)

    def charge(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> float | None:
        """What that costs, in `currency`; None where no price is given. A shared prefix counts once a request."""
        if not (self.prompt or self.completion or self.hour):
            return None
        tokens = self.prompt * prompt_tokens + self.completion * completion_tokens
        return tokens / 1_000_000 + self.hour * seconds / 3600
