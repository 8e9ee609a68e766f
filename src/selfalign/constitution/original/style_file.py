"""A style, as the original's verbose and inference prompts have it.

# NAME
## ...                    a section: the prose that is the style
## ...                    a section: worked turns under `### User` and `### NAME`, the last one open
"""

from __future__ import annotations

from selfalign.constitution.original.piece import Piece, broken
from selfalign.constitution.original.prompt_file import heading
from selfalign.constitution.schema import Constitution, StyleName

USER = "### User"


def read_style(text: str, file: str, style: StyleName) -> Piece:
    """The style's text. Worked turns have no place in a style, which is one system text; a note tells of them."""
    piece = Piece(file, heading(text, file))
    rows = text.split("\n")
    heads = [at for at, row in enumerate(rows) if row.startswith("## ")]
    if not heads:
        raise broken(file, 1, "no heading `## ` over the prose of the style")
    end = heads[1] if len(heads) > 1 else next((at for at, row in enumerate(rows) if row.startswith("### ")), len(rows))
    if not any(row.strip() == USER for row in rows[end:]):
        raise broken(file, len(rows), f"no heading `{USER}` after the prose of the style")
    if turns := sum(row.startswith("### ") and row.strip() != USER for row in rows[end:]):
        piece.notes.append(f"{turns} worked turn{'s' * (turns > 1)} left out: a style is one system text")
    piece.put(("styles", style), "\n".join(rows[heads[0] + 1 : end]).strip(), heads[0] + 1)
    return piece


def write_style(constitution: Constitution, style: StyleName) -> str:
    """The file that reads back as the style."""
    name, text = constitution.identity.name, constitution.style(style)
    return f"# {name}\n\n## System Overview\n\n{text}\n\n## User Conversation\n\n{USER}\n"
