"""The base model of a run as the world knows it: its Hub id and its licence, never where it lay on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from selfalign.engines.embedded.gguf import DEFAULT_MODEL
from selfalign.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Known(NamedTuple):
    """The Hub id and the licence of a model that this package names in another way."""

    id: str
    licence: str


KNOWN = {DEFAULT_MODEL: Known("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}


class Licence(NamedTuple):
    """A licence id as the Hub spells it (`other` with a name and a link), and who says so."""

    id: str
    source: str
    name: str = ""
    link: str = ""

    @property
    def shown(self) -> str:
        """For a sentence."""
        return f"[{self.name}]({self.link})" if self.link else self.id


class Base(NamedTuple):
    """What cards say of the base model; `quantized` where the run read a GGUF copy of it."""

    id: str
    licence: Licence
    quantized: bool


def public_base(named: str, given_id: str, given_licence: str) -> Base:
    """From `base_model` of the recipe, unless --base-model and --base-license say otherwise.

    Raises UserError where the id or the licence is neither known nor given.
    """
    hub_id = given_id or published_id(named)
    if not HUB_ID.fullmatch(hub_id):
        raise UserError(f"--base-model {hub_id!r} is no Hub id", "selfalign release RUN --to DIR --base-model ORG/NAME")
    licence = find_licence(hub_id, named, given_licence)
    return Base(hub_id, licence, quantized=named in KNOWN or named.endswith(".gguf"))


def published_id(named: str) -> str:
    """The Hub id of a recipe's `base_model`; a path has none."""
    if named in KNOWN:
        return KNOWN[named].id
    if HUB_ID.fullmatch(named) and not Path(named).exists():
        return named
    raise UserError(
        f"base_model {named!r} is a path of this machine, which nobody else can load",
        "name what it is a copy of: --base-model ORG/NAME",
    )


def find_licence(hub_id: str, named: str, given: str) -> Licence:
    """As given, as known here, or as the base model's own card says: beside its weights, in the cache, on the Hub."""
    if given:
        return parse_licence(given)
    for known in KNOWN.values():
        if known.id == hub_id:
            return Licence(known.licence, "its card on the Hub")
    found = card_licence(hub_id, named)
    if found is None:
        raise UserError(
            f"the licence of {hub_id} is not known here, and what it made falls under it",
            "look it up on its card: --base-license apache-2.0, or --base-license NAME=URL",
        )
    return found


def parse_licence(given: str) -> Licence:
    """`apache-2.0`, or `NAME=URL` for one that the Hub has no id for."""
    name, _, link = given.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", name) or ("=" in given and not link.startswith("https://")):
        raise UserError(f"--base-license {given!r} is neither a licence id nor NAME=URL", "--base-license apache-2.0")
    said = "stated at release"
    return Licence("other", said, name, link) if link else Licence(name.lower(), said)


def card_licence(hub_id: str, named: str) -> Licence | None:
    """What the card of the base model says, or None where no card can be read or none states a licence."""
    from huggingface_hub import ModelCard, constants, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, "README.md")
    places: list[str] = [str(Path(named) / "README.md"), *([cached] if isinstance(cached, str) else [])]
    places = [place for place in places if Path(place).is_file()] or ([] if constants.HF_HUB_OFFLINE else [hub_id])
    for place in places:
        try:
            data = ModelCard.load(Path(place) if Path(place).is_file() else place, ignore_metadata_errors=True).data
        except Exception:  # no network, no such repository, no card, no YAML: then the licence is asked for
            continue
        if isinstance(data.get("license"), str):
            said, name, link = data["license"], data.get("license_name") or "", data.get("license_link") or ""
            return Licence(said, "its card", name, link if link.startswith("https://") else "")
    return None
