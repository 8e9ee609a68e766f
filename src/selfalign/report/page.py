"""Rendering a page: templates beside this file, every text escaped, and the one script with the hash that allows it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from selfalign.report import words
from selfalign.report.stages import candidate_text

FILTERS = (
    words.count,
    words.decimal,
    words.money,
    words.percent,
    words.duration,
    words.date,
    words.plural,
    candidate_text,
)


def render(template: str, sections: Mapping[str, Any]) -> str:
    """The page that a template makes of its sections."""
    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter in FILTERS:
        environment.filters[filter.__name__] = filter
    return environment.get_template(template).render(sections).strip() + "\n"


def read(name: str) -> str:
    """A file of this package."""
    return resources.files("selfalign.report").joinpath(name).read_text(encoding="utf-8")


def script() -> Markup:
    """The page's script: ours, so it stands there as it is."""
    return Markup(read("explorer.js"))


def script_hash() -> str:
    """What the page's policy allows to run: this script, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(read("explorer.js").encode()).digest()).decode()
