"""The templates of a constitution: texts that use other texts by {{ name }}, and nothing else of Jinja."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment

from selfalign.constitution.document import KeyPath, Problem, format_path

STAGE_VARIABLE = "{{ type }}"
STAGE_TEXT: KeyPath = ("templates", "topics")
LITERAL = ("seeds",)
IDENTITY = ("name", "maker", "cutoff")
RESERVED = frozenset({*IDENTITY, "type", "self", "super", "caller", "loop"})
FILTERS = ("capitalize", "lower", "title", "trim", "upper")
EXPRESSIONS = (nodes.TemplateData, nodes.Const, nodes.Name, nodes.Filter)
BRACES_HINT = "a literal {{ is written {{ '{{' }}"

ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
ENVIRONMENT.filters = {name: ENVIRONMENT.filters[name] for name in FILTERS}
SPECIAL = re.compile(r"\{[{%#]|\r|\{(?=\r|\Z)")  # the last: a brace just before the braces of an escape


def escape(text: str) -> str:
    """The template that renders to `text`, also where another one follows it."""
    return SPECIAL.sub(lambda match: "{{ '" + match[0].replace("\r", r"\r") + "' }}", text)


class TemplateFault(Exception):
    """A text is no template that this project allows; `row` is the line within the text, from 0."""

    def __init__(self, message: str, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


def names_in(text: str) -> dict[str, int]:
    """The variables of a template and the row of their first use. Anything but plain expressions is a TemplateFault."""
    try:
        for line, token, value in ENVIRONMENT.lex(text):
            if token in ("block_begin", "raw_begin", "comment_begin"):
                raise TemplateFault(f"only {{{{ variable }}}} is allowed, not {value.strip()}; {BRACES_HINT}", line - 1)
        tree = ENVIRONMENT.parse(text)
    except TemplateSyntaxError as fault:
        raise TemplateFault(f"not a template: {fault.message}; {BRACES_HINT}", fault.lineno - 1) from fault
    except (ValueError, RecursionError) as fault:  # a number of thousands of digits; parentheses nested as deep
        raise TemplateFault(f"not a template: {fault}; {BRACES_HINT}") from fault
    for node in tree.find_all(nodes.Expr):
        check_expression(node)
    return {node.name: node.lineno - 1 for node in reversed(list(tree.find_all(nodes.Name)))}


def check_expression(node: nodes.Expr) -> None:
    """Raises a TemplateFault unless it is a variable, a quoted text, or one of those through a known filter."""
    plain = isinstance(node, EXPRESSIONS)
    if isinstance(node, nodes.Filter):
        stage = any(name.name == "type" for name in node.find_all(nodes.Name))  # not known yet: nothing to change
        plain = node.name in FILTERS and not (stage or node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
    if not plain:
        allowed = f"a variable, a quoted text, or either through {', '.join(FILTERS)}"
        message = f"a {type(node).__name__.lower()} is not allowed in {{{{ }}}}, only {allowed}; {BRACES_HINT}"
        raise TemplateFault(message, node.lineno - 1)


class Resolver:
    """Renders every text but the seeds. What cannot be rendered stays as it is, is told once, and is in `broken`."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.problems: list[Problem] = []
        self.broken: set[KeyPath] = set()
        self.sources: dict[str, tuple[KeyPath, str]] = {}
        self.values: dict[str, str | None] = {}
        for section in ("identity", "templates", "variables"):
            self._declare(section)

    def resolve(self) -> dict[str, Any]:
        """A copy of the data with every text rendered."""
        resolved: dict[str, Any] = self._render_all(self.data, ())
        return resolved

    def _declare(self, section: str) -> None:
        texts = self.data.get(section)
        for key, text in texts.items() if isinstance(texts, dict) else ():
            if not isinstance(key, str) or not isinstance(text, str) or (section == "identity" and key not in IDENTITY):
                continue
            if section == "variables" and (key in RESERVED or names_alone(key) is None):
                self.problems.append(Problem((section, key), f"`{key}` cannot name a variable"))
            elif key in self.sources:
                path = format_path(self.sources[key][0])
                self.problems.append(Problem((section, key), f"`{key}` is the name of {path} too"))
            else:
                self.sources[key] = ((section, key), text.strip())

    def _render_all(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self._render_all(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self._render_all(item, (*path, i)) for i, item in enumerate(value)]
        if not isinstance(value, str) or path[:1] == LITERAL:
            return value
        name = next((name for name, (source, _) in self.sources.items() if source == path), None)
        text = self._variable(name, ()) if name else self._render(path, value, ())
        return value if text is None else text

    def _variable(self, name: str, trail: tuple[str, ...]) -> str | None:
        if name in trail:
            cycle = [*trail[trail.index(name) :], name]
            self._fail(self.sources[name][0], f"the texts use each other in a circle: {' -> '.join(cycle)}")
        elif name not in self.values:
            self.values[name] = self._render(*self.sources[name], (*trail, name))
        return self.values.get(name)

    def _render(self, path: KeyPath, text: str, trail: tuple[str, ...]) -> str | None:
        try:
            names = names_in(text)
        except TemplateFault as fault:
            self._fail(path, str(fault), fault.row)
            return None
        values = {"type": STAGE_VARIABLE} if path == STAGE_TEXT else {}
        for name, row in names.items():
            if name in self.sources:
                value = self._variable(name, trail)
                if value is None:
                    self.broken.add(path)
                elif STAGE_VARIABLE in value and path != STAGE_TEXT:
                    owner = format_path(STAGE_TEXT)
                    self._fail(path, f"`{name}` holds {STAGE_VARIABLE}, which only {owner} may use", row)
                else:
                    values[name] = value
            elif name not in values:
                known = ", ".join(sorted({*self.sources, *values}))
                self._fail(path, f"unknown variable `{name}`; known here: {known}; {BRACES_HINT}", row)
        return None if path in self.broken else ENVIRONMENT.from_string(text).render(values)

    def _fail(self, path: KeyPath, message: str, row: int = 0) -> None:
        self.broken.add(path)
        self.problems.append(Problem(path, message, row=row))


def names_alone(name: str) -> str | None:
    """The name, where {{ name }} is that variable and nothing else."""
    try:
        return name if name.isidentifier() and list(names_in("{{ " + name + " }}")) == [name] else None
    except TemplateFault:
        return None
