"""The original's files by name: what each is, how it is read, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from selfalign.constitution.check import read_text
from selfalign.constitution.original.json_files import (
    read_identity,
    read_seeds,
    read_types,
    write_identity,
    write_seeds,
    write_types,
)
from selfalign.constitution.original.piece import Piece
from selfalign.constitution.original.prompt_file import read_prompt, write_prompt
from selfalign.constitution.original.style_file import read_style, write_style
from selfalign.constitution.original.template_files import (
    read_self_instruct,
    read_topic_guided,
    read_topics,
    write_self_instruct,
    write_topic_guided,
    write_topics,
)
from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError


class Kind(NamedTuple):
    """A kind of file: the names that the original has for it, the first of which is the one written here."""

    names: tuple[str, ...]
    read: Callable[[str, str], Piece]
    write: Callable[[Constitution], str]


KINDS = {
    "principles": Kind(("watson_self_align_prompt.txt",), read_prompt, write_prompt),
    "seeds": Kind(("self_instruct_seed_tasks.jsonl",), read_seeds, write_seeds),
    "types": Kind(("tgrt_self_instruct_seed_questions.jsonl",), read_types, write_types),
    "topics": Kind(("tgrt_self_instruct_topic_brainstorm_prompt.txt",), read_topics, write_topics),
    "topic_guided": Kind(("tgrt_self_instruct_question_generation_prompt.txt",), read_topic_guided, write_topic_guided),
    "self_instruct": Kind(("self_instruct_prompt.txt",), read_self_instruct, write_self_instruct),
    "standard": Kind(
        ("dromedary_standard_prompt_distill.txt",),
        partial(read_style, style="standard"),
        partial(write_style, style="standard"),
    ),
    "concise": Kind(
        ("dromedary_concise_prompt_distill.txt",),
        partial(read_style, style="concise"),
        partial(write_style, style="concise"),
    ),
    "verbose": Kind(
        ("verbose_dromedary_prompt.txt", "dromedary_verbose_prompt.txt"),
        partial(read_style, style="verbose"),
        partial(write_style, style="verbose"),
    ),
    "identity": Kind(("vicuna_dummy_data.json",), read_identity, write_identity),
}

REST = "constitution_rest.yaml"
"""Beside the files that are written here: what the original's formats have no place for."""

FOLDERS = ("", "prompts", "prompts/inference_prompts", "training/dummy_data")
"""Where a checkout of the original has its files."""


class Chosen(NamedTuple):
    """The files of an import by kind, and that of the rest where there is one."""

    files: dict[str, Path]
    rest: Path | None


def choose_files(named: Sequence[str]) -> Chosen:
    """The files that `named` stands for: files by their original names, `KIND=FILE` under any, and folders."""
    files: dict[str, Path] = {}
    rest: Path | None = None
    for name in named:
        kind, path = kind_and_path(name)
        if path.is_dir():
            rest = next((file for file in [path / REST] if file.is_file()), rest)
            files = files_in(path) | files
        elif path.name == REST:
            rest = path
        else:
            if kind in files and files[kind] != path:
                raise UserError(f"{path} and {files[kind]} are both {kind}", "leave one of them out")
            files[kind] = path
    if not files and rest is None:
        known = ", ".join(kind.names[0] for kind in KINDS.values())
        raise UserError(f"none of the original's files in {', '.join(named)}; known are {known}", HINT)
    return Chosen({kind: files[kind] for kind in KINDS if kind in files}, rest)


HINT = "selfalign constitution import principles=MY_PROMPT.txt seeds=MY_SEEDS.jsonl"


def kind_and_path(name: str) -> tuple[str, Path]:
    """What `KIND=FILE`, a file or a folder names. UserError where it is not there, or what it is cannot be told."""
    kind, separator, rest = name.partition("=")
    path = Path(rest if separator and kind in KINDS else name).expanduser()
    if path.is_dir() and not (separator and kind in KINDS):
        return "", path
    if not path.is_file():
        raise UserError(f"no file or directory {str(path)!r}", HINT)
    if separator and kind in KINDS:
        return kind, path
    known = next((kind for kind, file in KINDS.items() if path.name in file.names), "")
    if not known and path.name != REST:
        raise UserError(
            f"{str(path)!r}: the name does not tell what it is; write KIND={path}, with KIND one of {', '.join(KINDS)}",
            HINT,
        )
    return known, path


def files_in(folder: Path) -> dict[str, Path]:
    """The files of a folder, or of a checkout of the original, by kind; of several names the first counts."""
    found: dict[str, Path] = {}
    for kind, file in KINDS.items():
        places = (folder / part / name for name in file.names for part in FOLDERS)
        if place := next((place for place in places if place.is_file()), None):
            found[kind] = place
    return found


def read_pieces(files: dict[str, Path]) -> list[Piece]:
    """Every file, read. UserError with file and line where one is not of its form."""
    return [KINDS[kind].read(read_text(path).removeprefix("\ufeff"), str(path)) for kind, path in files.items()]


def write_files(constitution: Constitution) -> dict[str, str]:
    """File name -> its text, for every kind."""
    return {kind.names[0]: kind.write(constitution) for kind in KINDS.values()}
