"""Responses lifted from the exemplars in the prompt."""

from __future__ import annotations

from collections.abc import Iterable

from selfalign.filters.words import all_runs, rouge_l, shared_run, words
from selfalign.records import Verdict

RUN_WORDS = 8
SIMILAR = 0.6


class CopiesExemplar:
    """Knows the exemplars' texts: user turns and responses, each a text of its own."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)
        self._words = [words(text) for text in self._texts]
        self._runs = all_runs(self._texts, RUN_WORDS)

    def judge(self, text: str, allowed: str = "") -> Verdict:
        """Rejects 8 consecutive words of an exemplar, or ROUGE-L F > 0.6 with one of its texts.

        A run that stands in `allowed`, the user's own instruction, may be repeated: it is the user's. Value: the length
        of the run in words, otherwise the highest ROUGE-L F-measure.
        """
        tokens = words(text)
        run = shared_run(tokens, self._runs - all_runs([allowed], RUN_WORDS), RUN_WORDS)
        if run:
            return Verdict.reject("copies_exemplar", f'{len(run)} words of an exemplar: "{" ".join(run)}"', len(run))
        score, nearest = max(((rouge_l(tokens, known), at) for at, known in enumerate(self._words)), default=(0.0, 0))
        if score > SIMILAR:
            reason = f'ROUGE-L {score:.2f} with the exemplar text "{self._texts[nearest][:60]}"'
            return Verdict.reject("copies_exemplar", reason, score)
        return Verdict.accept(score)
