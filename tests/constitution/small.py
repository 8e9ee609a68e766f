"""A small constitution as text, and ways to break it."""

from __future__ import annotations

SMALL = """\
name: small
licence: Apache-2.0
variables:
  standard_head: "A talk with {{ name }}"
  manner: "calm, as {{ maker }} wishes"
identity:
  name: Ada
  maker: the Mill
  cutoff: 2023-12-31
  pairs:
    - questions:
        - Who are you?
        - Is {{ name }} your name?
      answers:
        - I am {{ name }} of {{ maker }}.
principles:
  - number: 1
    name: ethical
    text: "{{ name }} does no harm."
  - number: 2
    name: balanced & fair
    text: Sides are heard.
exemplars:
  - name: tea
    turns:
      - user: "Hello {{ name }}, tea or coffee?"
        thought: >-
          A matter of taste, so 2 (balanced & fair) applies,
          and 1 (ethical) always does.
        response: |-
          Both have friends.
          Says {{ name }}.
instruction_types:
  - name: knowledge of {{ maker }}
    seed: {topic: Mill, instruction: "What does the Mill make?"}
  - name: sums
    seed: {topic: Shop, instruction: "Add two prices."}
  - name: law
    seed: {topic: Rent, instruction: "Who pays?"}
  - name: art
    seed: {topic: Paint, instruction: "Why blue?"}
  - name: sport
    seed: {topic: Row, instruction: "Who won?"}
styles:
  standard: A talk with {{ name }}, {{ manner }}.
  concise: A short talk with {{ name }}.
  verbose: "{{ standard_head }} at length."
templates:
  topics: Topics for questions that require {{ type }}, for {{ name }}.
  topic_guided: Instructions for {{ name }}.
  self_instruct: Tasks for {{ name }}.
  principles: "{{ standard_head }} and its principles, up to {{ cutoff }}."
  exemplars: "{{ name | upper }} at work."
seeds:
  - instruction: What does this print?
    input: |2-
        print({"a": 1}, "{{ x }} {% if %} {# no #}")
      done
  - instruction: Add one and one.
  - instruction: Name a river.
    classification: true
  - instruction: Say hello.
  - instruction: Draw with words.
"""


def line_of(text: str, marker: str) -> int:
    """The number, from 1, of the only line that holds `marker`."""
    numbers = [number for number, line in enumerate(text.splitlines(), 1) if marker in line]
    assert len(numbers) == 1, (marker, numbers)
    return numbers[0]


def changes(*pairs: tuple[str, str]) -> str:
    """SMALL with several replacements, each of one place."""
    text = SMALL
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
