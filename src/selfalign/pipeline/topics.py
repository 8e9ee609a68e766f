"""Stage topics: brainstorm topics for every instruction type, round after round (topic-guided red-teaming)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from selfalign.constitution.rendering import parse_topics, topics_prompt
from selfalign.filters.topic_form import topic_form
from selfalign.pipeline.stage import BARRIER, Barrier, Context, Job, Steps
from selfalign.recipe import TopicsOptions
from selfalign.records import Record, Verdict, seed_of


class TopicsStage:
    """One brainstorm a type and round, until each type has `per_type` topics, the human's seed topic among them."""

    name = "topics"
    model = "base"

    def __init__(self, context: Context, options: TopicsOptions) -> None:
        self.context = context
        self.options = options
        self.topics = {kind.name: [kind.seed.topic] for kind in context.constitution.instruction_types}
        self.known = {topic.casefold() for topics in self.topics.values() for topic in topics}

    @property
    def goal(self) -> int:
        """Topics wanted beyond the seeds."""
        return (self.options.per_type - 1) * len(self.topics)

    def jobs(self) -> Iterator[Job | Barrier]:
        """One job for every type that lacks topics, round after round. A round sees the topics at its beginning."""
        for number in range(self.options.rounds):
            seen = [(name, tuple(topics)) for name, topics in self.topics.items()]
            for index, (type_name, topics) in enumerate(seen, number * len(seen)):
                if len(topics) < self.options.per_type:
                    yield self.context.job(index, (), self._steps(type_name, topics))
            yield BARRIER

    def _steps(self, type_name: str, topics: tuple[str, ...]) -> Callable[[Callable[[int], str]], Steps]:
        def steps(key: Callable[[int], str]) -> Steps:
            hints = random.Random(seed_of(key(0))).sample(topics, min(len(topics), self.options.hints))
            prompt = topics_prompt(self.context.constitution, type_name, hints)
            sampling = self.context.sampling(stop=("\n\n", "\n#"))
            completion = yield self.context.request(key(0), "topics", prompt, sampling)
            found = parse_topics(completion.text, completion.finish_reason == "length") or [""]
            return [
                self.context.record(key(i), type=type_name, topic=topic, tokens=completion.tokens)
                if i == 0
                else self.context.record(key(i), type=type_name, topic=topic)
                for i, topic in enumerate(found)
            ]

        return steps

    def skip(self, jobs: int) -> bool:
        """Later rounds depend on what was accepted."""
        return False

    def judge(self, candidate: Record) -> Verdict:
        """Form, then novelty over all types (case-folded), then no more than `per_type` a type."""
        form = topic_form(candidate.topic)
        if not form.accepted:
            return form
        if candidate.topic.casefold() in self.known:
            return Verdict.reject("duplicate_topic", f"{candidate.topic!r} is there already")
        count = len(self.topics[candidate.type])
        if count >= self.options.per_type:
            return Verdict.reject("balance", f"the type has its {count} topics", count)
        return Verdict.accept()

    def accept(self, record: Record) -> None:
        """Later rounds see it."""
        self.topics[record.type].append(record.topic)
        self.known.add(record.topic.casefold())
