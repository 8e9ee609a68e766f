"""The prompt of principles and exemplars, as `watson_self_align_prompt.txt` has it.

# NAME
## ...                                   a section: prose, then one rule a line
7 (candor). ...
## ...                                   a section: prose, then conversations
User: ...
NAME (internal thoughts): ...
NAME: ...
User: ...
NAME (auto reply): ...                   this pair ends an exemplar; without it the conversation goes on
User:                                    open: here the original's model was to go on
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from selfalign.constitution.original.piece import Piece, broken, one_line
from selfalign.constitution.schema import Constitution

RULE = re.compile(r"(\d+) \(([^()]+)\)\. *(.*)")
RULE_LIKE = re.compile(r"\d+ ?[.):(]")
SENTENCE_ENDS = (". ", "! ", "? ")
THOUGHT, AUTO = "internal thoughts", "auto reply"

RESET = ("Thank you, that is all on this.", "You are welcome. What would you like to talk about next?")
"""The pair of turns that ends an exemplar in the files written here; what is in it is not read."""


class Block(NamedTuple):
    """One turn as it stands in the file: who speaks (`user`, `thought`, `reply`, `auto`) and where."""

    kind: str
    line: int
    rows: list[str]

    @property
    def text(self) -> str:
        """What is said."""
        return "\n".join(self.rows).strip()


class Sections(NamedTuple):
    """The two sections of the file, each as (line, text of that line)."""

    codename: str
    rules: list[tuple[int, str]]
    examples: list[tuple[int, str]]


def read_prompt(text: str, file: str) -> Piece:
    """Principles, exemplars, the prose that heads each, and the words that every thought begins with."""
    codename, rules, examples = sections(text, file)
    piece = Piece(file, codename)
    read_rules(rules, piece)
    read_examples(examples, piece)
    return piece


def heading(text: str, file: str) -> str:
    """The assistant's name, from the `# NAME` that such a file begins with."""
    first = next((row for row in text.split("\n") if row.strip()), "")
    if not first.startswith("# ") or not first[2:].strip():
        raise broken(file, 1, "does not begin with `# ` and the assistant's name")
    return first[2:].strip()


def sections(text: str, file: str) -> Sections:
    """Cut the file at its two `## ` headings; later ones belong to what is said in the exemplars."""
    codename = heading(text, file)
    rows = list(enumerate(text.split("\n"), 1))
    heads = [at for at, (_, row) in enumerate(rows) if row.startswith("## ")][:2]
    if len(heads) < 2:
        message = f"{len(heads)} headings `## `; one for the rules and one for the examples are wanted"
        raise broken(file, rows[heads[0]][0] if heads else 1, message)
    return Sections(codename, rows[heads[0] + 1 : heads[1]], rows[heads[1] + 1 :])


def read_rules(rows: Sequence[tuple[int, str]], piece: Piece) -> None:
    """Prose, then rules; a rule may go on over several lines."""
    prose: list[tuple[int, str]] = []
    principles: list[dict[str, Any]] = []
    for line, row in rows:
        if rule := RULE.fullmatch(row.strip()):
            piece.lines["principles", len(principles)] = line
            principles.append({"number": int(rule[1]), "name": rule[2].strip(), "text": rule[3]})
        elif RULE_LIKE.match(row):
            raise broken(piece.file, line, f"no rule of the form `7 (candor). text`: {row[:60]!r}")
        elif principles:
            principles[-1]["text"] = f"{principles[-1]['text']} {row.strip()}".strip()
        else:
            prose.append((line, row))
    if not principles:
        raise broken(piece.file, rows[0][0] if rows else 1, "no rule of the form `7 (candor). text`")
    put_prose(piece, "principles", prose)
    piece.put(("principles",), principles, piece.lines["principles", 0])


def put_prose(piece: Piece, name: str, rows: Sequence[tuple[int, str]]) -> None:
    """Take up the prose that heads a section as a template."""
    line = next((line for line, row in rows if row.strip()), rows[0][0] if rows else 1)
    piece.put(("templates", name), "\n".join(row for _, row in rows).strip(), line)


def read_examples(rows: Sequence[tuple[int, str]], piece: Piece) -> None:
    """Prose, then conversations."""
    start = next((at for at, (_, row) in enumerate(rows) if row.startswith("User:")), len(rows))
    put_prose(piece, "exemplars", rows[:start])
    blocks = split_turns(rows[start:], piece)
    exemplars = group_turns(blocks, piece)
    if not exemplars:
        raise broken(piece.file, rows[0][0] if rows else 1, f"no example of `User:` and `{piece.codename}:` turns")
    piece.put(("exemplars",), exemplars, piece.lines["exemplars", 0])
    opening = common_opening([turn["thought"] for exemplar in exemplars for turn in exemplar["turns"]])
    piece.put(("templates", "thought_opening"), opening, piece.lines["exemplars", 0])


def split_turns(rows: Sequence[tuple[int, str]], piece: Piece) -> list[Block]:
    """A block begins where a line begins with a speaker and a colon."""
    speaker = re.compile(rf"(User|{re.escape(piece.codename)}(?: \(([^()]*)\))?): ?(.*)")
    kinds = {None: "reply", THOUGHT: "thought", AUTO: "auto"}
    blocks: list[Block] = []
    for line, row in rows:
        if not (said := speaker.fullmatch(row.rstrip())):
            blocks[-1].rows.append(row)
            continue
        if said[2] not in kinds:
            raise broken(piece.file, line, f"({said[2]}) is neither ({THOUGHT}) nor ({AUTO})")
        blocks.append(Block("user" if said[1] == "User" else kinds[said[2]], line, [said[3]]))
    return blocks


def group_turns(blocks: Sequence[Block], piece: Piece) -> list[dict[str, Any]]:
    """Exemplars: a user turn with a thought and a reply is one turn; with an auto reply it ends the exemplar."""
    exemplars: list[dict[str, Any]] = []
    names: set[str] = set()
    left, begins = list(blocks), True
    if left and left[-1].kind == "user" and not left[-1].text:
        left.pop()
    while left:
        user, *after = left
        kinds = [block.kind for block in after[:2]]
        if user.kind != "user":
            raise broken(piece.file, user.line, f"a turn of {piece.codename} with no `User:` turn before it")
        if kinds[:1] == ["auto"]:
            left, begins = after[1:], True
            continue
        if kinds != ["thought", "reply"]:
            wanted = THOUGHT if kinds[:1] != ["thought"] else "reply"
            raise broken(piece.file, user.line, f"the user turn is not followed by its {wanted}")
        if begins:
            exemplars.append({"name": name_of(user.text, names), "turns": []})
            piece.lines["exemplars", len(exemplars) - 1] = user.line
        add_turn(piece, exemplars, (user, after[0], after[1]))
        left, begins = after[2:], False
    return exemplars


def add_turn(piece: Piece, exemplars: list[dict[str, Any]], turn: tuple[Block, Block, Block]) -> None:
    """Add one exchange to the last exemplar, and note the line of each of its texts."""
    user, thought, reply = turn
    turns = exemplars[-1]["turns"]
    path = ("exemplars", len(exemplars) - 1, "turns", len(turns))
    for key, block in (("user", user), ("thought", thought), ("response", reply)):
        piece.lines[*path, key] = block.line
    turns.append({"user": user.text, "thought": one_line(thought.text), "response": reply.text})


def name_of(user: str, taken: set[str]) -> str:
    """A name for an exemplar, which has none in the file: the first words of its first user turn."""
    base = "-".join(re.findall(r"\w+", user.lower())[:4]) or "exemplar"
    name = next(
        name for number in range(1, len(taken) + 2) if (name := f"{base}-{number}" * (number > 1) or base) not in taken
    )
    taken.add(name)
    return name


def common_opening(thoughts: Sequence[str]) -> str:
    """The sentences that all thoughts begin with; empty where there are none, or too few thoughts to tell."""
    if len(thoughts) < 2:
        return ""
    first, last = min(thoughts), max(thoughts)  # what these two share, all that sort between them share
    shared = first[
        : next((at for at, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), len(first))
    ]
    end = max(shared.rfind(mark) for mark in SENTENCE_ENDS)
    return shared[: end + 1]


def write_prompt(constitution: Constitution) -> str:
    """The file that reads back as the constitution's principles and exemplars."""
    name, templates = constitution.identity.name, constitution.templates
    rules = [f"{rule.number} ({rule.name}). {rule.text}" for rule in constitution.principles]
    turns: list[str] = []
    for exemplar in constitution.exemplars:
        for turn in exemplar.turns:
            turns += [f"User: {turn.user}", f"{name} ({THOUGHT}): {turn.thought}", f"{name}: {turn.response}"]
        turns += [f"User: {RESET[0]}", f"{name} ({AUTO}): {RESET[1]}"]
    head = [f"# {name}", "## General Rules", templates.principles, "\n".join(rules), "## Examples", templates.exemplars]
    return "\n\n".join([*head, *turns, "User:"]) + "\n"
