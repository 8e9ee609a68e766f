"""The questions that come with the package, or a user's own in the same form: category -> name -> text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from selfalign.errors import UserError
from selfalign.evaluation.task import Item

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Category = Annotated[dict[Text, Text], Field(min_length=1)]


class QuestionFile(BaseModel):
    """What a file of questions holds; an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str = ""
    questions: Annotated[dict[Text, Category], Field(min_length=1)]


def load_questions(name: str, data: Path | None = None, limit: int = 0, group: str = "") -> list[Item]:
    """The questions of `name`.yaml, from the directory `data` where it has such a file, else the package's own.

    Categories take turns, so that a `limit` (0: all) leaves some of each. An item's id is `category/name`; its group
    is its category, or `group` where one is given. A file that cannot be used is a UserError.
    """
    own = data / f"{name}.yaml" if data else None
    text = read_own(own) if own and own.is_file() else packaged(f"{name}.yaml")
    questions = parse_questions(text, str(own or name)).questions
    return list(islice(items_of(questions, group), limit or None))


def items_of(questions: Mapping[str, Mapping[str, str]], group: str) -> Iterator[Item]:
    """One item of each category in turn."""
    columns = [
        [Item(f"{category}/{name}", text, group=group or category, extra={"category": category}) for name, text in rows]
        for category, rows in ((category, list(texts.items())) for category, texts in questions.items())
    ]
    return (item for row in zip_longest(*columns) for item in row if item)


def packaged(file: str) -> str:
    """The text of a file in `evaluation/data`."""
    return (resources.files("selfalign.evaluation") / "data" / file).read_text(encoding="utf-8")


def read_own(path: Path) -> str:
    """The text of a user's file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"cannot read {path}: {fault}", "give a UTF-8 text file") from fault


def parse_questions(text: str, source: str) -> QuestionFile:
    """The checked file. A UserError names the first fault and where it is."""
    form = "write it as `questions: {category: {name: question}}`"
    try:
        return QuestionFile.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError) as fault:
        raise UserError(f"{source}: not YAML: {' '.join(str(fault).split())}", form) from fault
    except ValidationError as fault:
        raise UserError(f"{source}: {first_fault(fault.errors())}", form) from fault


def first_fault(errors: Iterable[Mapping[str, object]]) -> str:
    """`questions.generic.a: String should have at least 1 character`."""
    error = next(iter(errors))
    place = error["loc"]
    path = ".".join(map(str, place)) if isinstance(place, tuple) else ""
    return f"{path or 'the file'}: {error['msg']}"
