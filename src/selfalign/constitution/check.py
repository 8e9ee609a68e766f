"""Says everything that is wrong with a constitution, each fault with its line, in one pass.

A text goes through four steps: YAML (a syntax fault ends the check), templates, schema, and the rules that no schema
can say. Each step works on whatever the one before left whole, so that all faults are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ValidationError

from selfalign.constitution.schema import CITABLE, ONE_LINE, Constitution
from selfalign.errors import UserError
from selfalign.recipe import InstructionsOptions

CITATION = re.compile(r"(\d+) \(([^()]+)\)")
DELIMITER = re.compile(r"^### ", re.MULTILINE)
SHOTS = InstructionsOptions().shots

KeyPath = tuple[str | int, ...]
Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """What is wrong, where: a line of the file (from 1) and a path such as `exemplars[2].turns[0].thought`.

    An error keeps the constitution from being loaded; a warning does not.
    """

    line: int
    path: str
    message: str
    severity: Severity = "error"

    def format(self, source: str) -> str:
        """`source:line: path: message`, as compilers say it."""
        parts = [f"{source}:{self.line}", "warning" if self.severity == "warning" else "", self.path, self.message]
        return ": ".join(part for part in parts if part)


class Checked(NamedTuple):
    """All faults in the order of lines; the resolved constitution where none of them is an error."""

    constitution: Constitution | None
    faults: list[Fault]


class Problem(NamedTuple):
    """A fault before its line is known; `row` counts lines (from 0) within the text at `path`."""

    path: KeyPath
    message: str
    severity: Severity = "error"
    row: int = 0


def check(source: str | Path) -> list[Fault]:
    """All faults of a constitution: a `str` is YAML text, a `Path` is read (a UserError where that fails)."""
    return examine(read_text(source) if isinstance(source, Path) else source).faults


def examine(text: str, identity_name: str = "") -> Checked:
    """The faults of a YAML text and the resolved constitution it stands for, called `identity_name` unless blank."""
    try:
        document = parse(text)
    except BrokenDocument as broken:
        return Checked(None, [broken.fault])
    if identity_name.strip() and isinstance(document.data.get("identity"), dict):
        document.data["identity"]["name"] = escape(identity_name)
    templates = Resolver(document.data)
    data = templates.resolve()
    constitution, problems = validate(data, templates.broken)
    problems += [*document.problems, *templates.problems, *delimiter_problems(document.data)]
    problems += [problem for rule in RULES for problem in rule(data, templates.broken)]
    faults = sorted({document.fault(problem) for problem in problems})
    failed = any(fault.severity == "error" for fault in faults)
    return Checked(None if failed else constitution, faults)


def read_text(path: Path) -> str:
    """A file as UTF-8; one that is not there, or not UTF-8, is a UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise UserError(f"cannot read {path}: {fault.strerror}", "selfalign constitution check PATH") from fault
    except UnicodeDecodeError as fault:
        raise UserError(f"{path} is not UTF-8 text: {fault.reason} at byte {fault.start}", f"mend {path}") from fault


def format_path(path: KeyPath) -> str:
    """`exemplars[2].turns[0].thought`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


# ---- YAML ----


class BrokenDocument(Exception):
    """The text is not a YAML mapping, so nothing more can be said of it than `fault`."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(line, "", message)


class Place(NamedTuple):
    """The line of a key or list item, and that of the first line of text where it holds a literal block (else 0)."""

    line: int
    text: int


class Document(NamedTuple):
    """A parsed constitution; `places` knows where each path stands."""

    data: dict[str, Any]
    places: dict[KeyPath, Place]
    problems: list[Problem]

    def line(self, path: KeyPath, row: int = 0) -> int:
        """The line of `path`, or of the nearest parent that is in the file."""
        while path not in self.places:
            path, row = path[:-1], 0
        place = self.places[path]
        return place.text + row if place.text and row else place.line

    def fault(self, problem: Problem) -> Fault:
        """The problem with its line."""
        line = self.line(problem.path, problem.row)
        return Fault(line, format_path(problem.path), problem.message, problem.severity)


class Loader(yaml.SafeLoader):
    """YAML without aliases (variables do that work, and an alias may be endless) and without dates (a date is text)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Raises ComposerError at an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed; use `variables`", mark)
        return super().compose_node(parent, index)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Document:
    """Raises BrokenDocument where the text is not one YAML mapping."""
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        data = loader.construct_document(root) if root else None
    except yaml.YAMLError as fault:
        raise BrokenDocument(*describe_yaml(fault, text)) from fault
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as fault:
        # PyYAML lets these out for a wrong explicit tag (`!!bool x`) and for very deep nesting.
        raise BrokenDocument(1, f"not YAML that can be read: {fault!r}") from fault
    if root is None or not isinstance(data, dict):
        raise BrokenDocument(1, "a constitution is a mapping of keys, and this is not")
    document = Document(data, {(): Place(root.start_mark.line + 1, 0)}, [])
    locate(root, (), document)
    return document


def describe_yaml(fault: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and message of a YAML fault; one at the end of the file is on its last line."""
    if not isinstance(fault, yaml.MarkedYAMLError) or not (mark := fault.problem_mark or fault.context_mark):
        position = getattr(fault, "position", 0)
        return text.count("\n", 0, position) + 1, f"not YAML: {getattr(fault, 'reason', fault)}"
    rows = text.splitlines() or [""]
    row = min(mark.line, len(rows) - 1)
    start = f" from line {fault.context_mark.line + 1}" if fault.context_mark else ""
    context = [f"{fault.context}{start}"] if fault.context else []
    hint = ["a text that begins with {{ needs quotes"] if re.search(r"[:-] +\{\{", rows[row]) else []
    return row + 1, f"not YAML: {', '.join([*context, str(fault.problem), *hint])}"


def locate(node: yaml.Node, path: KeyPath, document: Document) -> None:
    """Note the places of all that lies under `node`, and the keys that stand twice."""
    children: list[tuple[KeyPath, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        children = [((*path, i), item, item) for i, item in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        children = [((*path, str(key.value)), key, value) for key, value in node.value]
    for place, key, value in children:
        line = key.start_mark.line + 1
        if place in document.places:
            document.problems.append(Problem(place, f"the key stands twice, first on line {document.line(place)}"))
        literal = isinstance(value, yaml.ScalarNode) and value.style == "|"
        document.places[place] = Place(line, value.start_mark.line + 2 if literal else 0)
        locate(value, place, document)


# ---- templates ----

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


def escape(text: str) -> str:
    """The template that renders to `text`."""
    return re.sub(r"\{[{%#]|\r", lambda match: "{{ '" + match[0].replace("\r", r"\r") + "' }}", text)


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


def delimiter_problems(data: dict[str, Any]) -> Iterator[Problem]:
    """Lines that look like a delimiter of the prompts."""
    for path, text in leaves(data, ()):
        for match in DELIMITER.finditer(text):
            message = "a line begins with `### `, which marks turns in prompts; it is escaped there"
            yield Problem(path, message, "warning", text.count("\n", 0, match.start()))


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every text under `value` with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))


# ---- schema ----


def validate(data: dict[str, Any], broken: set[KeyPath]) -> tuple[Constitution | None, list[Problem]]:
    """The constitution, or what the schema holds against it; texts already told as broken are left out."""
    try:
        return Constitution.model_validate(data), []
    except ValidationError as fault:
        errors = [(tuple(error["loc"]), error) for error in fault.errors(include_url=False)]
        return None, [Problem(path, describe(path, error)) for path, error in errors if path not in broken]


def describe(path: KeyPath, error: Any) -> str:
    """One pydantic error in this project's words, with the value where it is short enough to help."""
    value = error["input"]
    shown = f"{value!r} " if isinstance(value, str | int | float | bool) and len(repr(value)) <= 60 else ""
    match error["type"]:
        case "missing":
            return f"missing key `{path[-1]}`"
        case "extra_forbidden":
            return f"unknown key `{path[-1]}`; known here: {', '.join(known_keys(path[:-1]))}"
        case "string_too_short" | "too_short":
            return "is empty"
        case "string_type":
            return f"{shown}is not text; put it in quotes" if shown else f"must be text, not {kind(value)}"
        case "tuple_type":
            return f"must be a list, not {kind(value)}"
        case "model_type" | "dict_type":
            return f"must be a mapping, not {kind(value)}"
        case "string_pattern_mismatch":
            return PATTERNS[error["ctx"]["pattern"]]
        case _:
            said: str = error["msg"]
            return f"{shown}{said[0].lower()}{said[1:]}".replace("input should be", "must be")


PATTERNS = {
    ONE_LINE: "must be one line",
    CITABLE: "must be one line without parentheses, so that a thought can cite it",
}


def kind(value: Any) -> str:
    """What a YAML value is, in words."""
    kinds = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing", bool: "true or false"}
    return kinds.get(type(value), "a number")


def known_keys(path: KeyPath) -> list[str]:
    """The keys of the part at `path`."""
    part: type[BaseModel] = Constitution
    for name in path:
        if isinstance(name, str):
            annotation: Any = part.model_fields[name].annotation
            part = next(iter(get_args(annotation)), annotation)
    return list(part.model_fields)


# ---- what no schema can say ----

EACH = -1
UNIQUE: tuple[KeyPath, ...] = (
    ("principles", EACH, "number"),
    ("principles", EACH, "name"),
    ("exemplars", EACH, "name"),
    ("instruction_types", EACH, "name"),
    ("identity", "pairs", EACH, "questions", EACH),
    ("seeds", EACH),
)


def select(value: Any, pattern: KeyPath, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """What stands at a path, where `EACH` is every item of a list. What is not there is passed over."""
    if not pattern:
        yield path, value
    elif pattern[0] == EACH:
        for i, item in enumerate(value) if isinstance(value, list) else ():
            yield from select(item, pattern[1:], (*path, i))
    elif isinstance(value, dict) and pattern[0] in value:
        yield from select(value[pattern[0]], pattern[1:], (*path, pattern[0]))


def same(value: Any) -> str:
    """Equal for values that count as one: case and white space do not matter, and of a seed only its two texts."""
    if isinstance(value, dict):
        instruction, text = same(value.get("instruction")), same(value.get("input"))
        return f"{instruction}\n{text}" if instruction else ""
    return " ".join(str(value).split()).casefold() if isinstance(value, str | int) else ""


def duplicates(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Numbers, names, questions and seeds that stand twice."""
    for pattern in UNIQUE:
        first: dict[str, KeyPath] = {}
        for path, value in select(data, pattern):
            key = same(value)
            if key in first:
                shown = "" if isinstance(value, dict) else f" {value!r}"
                yield Problem(path, f"duplicate{shown}: the same as {format_path(first[key])}")
            elif key:
                first[key] = path


def citations(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Thoughts that cite none or a wrong principle, and principles that no thought cites."""
    citable = [(path, part) for path, part in select(data, ("principles", EACH)) if is_citable(part)]
    names = {str(part["number"]): part["name"].strip() for _, part in citable}
    cited: set[str] = set()
    for path, thought in select(data, ("exemplars", EACH, "turns", EACH, "thought")):
        if not isinstance(thought, str) or not thought.strip() or path in broken:
            continue
        found = CITATION.findall(thought)
        cited.update(number for number, _ in found)
        if not found:
            yield Problem(path, "cites no principle; a citation looks like `7 (candor)`")
        for number, name in found:
            if number not in names:
                yield Problem(path, f"cites `{number} ({name})`, but there is no principle {number}")
            elif name != names[number]:
                yield Problem(path, f"cites `{number} ({name})`, but principle {number} is `{names[number]}`")
    for path, part in citable:
        if str(part["number"]) not in cited:
            yield Problem(path, f"no exemplar cites principle {part['number']}", "warning")


def is_citable(principle: Any) -> bool:
    """Whether it has a number and a name at all."""
    if not isinstance(principle, dict):
        return False
    return isinstance(principle.get("number"), int) and isinstance(principle.get("name"), str)


def shortages(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Fewer worked examples than a recipe's usual shots; topics asked for without saying of which type."""
    for name in ("seeds", "instruction_types"):
        rows = data.get(name)
        if isinstance(rows, list) and 0 < len(rows) < SHOTS:
            yield Problem((name,), f"{len(rows)} here, but a prompt shows {SHOTS} of them", "warning")
    for path, text in select(data, STAGE_TEXT):
        if isinstance(text, str) and STAGE_VARIABLE not in text and path not in broken:
            yield Problem(path, f"does not say {STAGE_VARIABLE}, so that all types get the same topics", "warning")


RULES = (duplicates, citations, shortages)
