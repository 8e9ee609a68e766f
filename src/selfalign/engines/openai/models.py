"""Which of a server's models to ask: the base by name, an adapter by the name of its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.engines.openai.client import Client
from selfalign.engines.openai.dialect import DIALECTS, PLAIN, Dialect
from selfalign.engines.openai.faults import Fault, Refusal
from selfalign.errors import UserError


class Served(NamedTuple):
    """A model on a server. `context_length` in tokens, 0 where the server does not tell.

    `beside_adapters` says that the server holds LoRA adapters, which vLLM cannot score beside.
    """

    name: str
    dialect: Dialect
    context_length: int
    beside_adapters: bool


async def find_served(client: Client, wanted: str, adapter: Path | None) -> Served:
    """The model to ask: the adapter where there is one, else `wanted`, else the server's first.

    A server that lists no models is asked for `wanted` all the same. Raises UserError where the model is not there.
    """
    cards = await list_cards(client, bool(wanted and not adapter))
    if adapter:
        return await find_adapter(client, cards, wanted, adapter)
    if not wanted and not cards:
        raise UserError(f"{client.shown} serves no model", "load one there, or name one: engine.served_model")
    if cards and wanted and wanted not in cards:
        raise UserError(
            f"{client.shown} has no model {wanted!r}; it serves {', '.join(cards)}",
            "set engine.served_model to one of them",
        )
    name = wanted or next(iter(cards))
    return described(name, cards.get(name, {}), any(card.get("parent") for card in cards.values()))


async def list_cards(client: Client, may_be_absent: bool) -> dict[str, Mapping[str, Any]]:
    """What /models says, by name. Empty where the server has no such page and that may be so."""
    try:
        return await client.ask("GET", "/models", read=read_cards, opening=True)
    except UserError as fault:
        if may_be_absent and "(status 404)" in fault.message:
            return {}
        raise


def read_cards(answer: Any) -> dict[str, Mapping[str, Any]]:
    """The models of a list. Anything else is a Fault."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list) or not all(isinstance(card, Mapping) and "id" in card for card in data):
        raise Fault(f"no list of models: {str(answer)[:200]}")
    return {str(card["id"]): card for card in data}


def described(name: str, card: Mapping[str, Any], beside_adapters: bool) -> Served:
    """A model by its card: vLLM tells `max_model_len`, llama.cpp `meta.n_ctx`, the context of one slot."""
    length = card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx") or 0
    return Served(name, DIALECTS.get(str(card.get("owned_by")), PLAIN), int(length), beside_adapters)


async def find_adapter(client: Client, cards: Mapping[str, Mapping[str, Any]], base: str, adapter: Path) -> Served:
    """The adapter under its directory's name, loaded there (vLLM) where it is not served yet."""
    name = adapter.name
    base = base or next((name for name, card in cards.items() if not card.get("parent")), "BASE_MODEL")
    if name in cards and is_another(cards[name], adapter):
        raise UserError(
            f"{client.shown} serves {cards[name]['root']} as {name!r}, not {adapter}", advice(base, adapter)
        )
    if name not in cards:
        await load_adapter(client, base, adapter)
    return described(name, cards.get(base) or cards.get(name) or {"owned_by": "vllm"}, True)


def is_another(card: Mapping[str, Any], adapter: Path) -> bool:
    """Whether a served adapter lies in another directory of this machine. Paths of other machines tell nothing."""
    root = Path(str(card.get("root") or ""))
    return bool(card.get("root")) and root.is_dir() and root.resolve() != adapter.resolve()


async def load_adapter(client: Client, base: str, adapter: Path) -> None:
    """Have vLLM load the adapter, which it does where its operator allows that. Else UserError with the command."""
    try:
        await client.command("/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.resolve())})
    except (UserError, Refusal) as fault:
        words = fault.message if isinstance(fault, UserError) else str(fault)
        raise UserError(
            f"{client.shown} does not serve the adapter {adapter} and cannot load it: {words}", advice(base, adapter)
        ) from fault


def advice(base: str, adapter: Path) -> str:
    """How to serve an adapter."""
    return (
        f"vllm serve {base} --enable-lora --lora-modules {adapter.name}={adapter.resolve()}\n"
        "  then start the run again: it goes on where it stopped"
    )
