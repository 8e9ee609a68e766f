"""The adapter directory: weights and everything that one needs to know and to have to use them.

transformers reads a chat template and generation settings from an adapter directory only if that directory looks like
a model (measured with 5.23: `pipeline` takes the tokenizer of the *base* otherwise, and with it another chat format, or
none). `config.json` and an index of weights that names the base's own files make it look like one, at no size.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from selfalign.constitution.chat_format import ChatFormat
from selfalign.errors import UserError
from selfalign.records import write_atomically

INDEX = "model.safetensors.index.json"


def save_adapter(model: Any, tokenizer: Any, chat_format: ChatFormat, output: Path, facts: dict[str, Any]) -> None:
    """Write the adapter of `model` (a PeftModel) to `output` under a temporary name, then rename.

    `facts` holds `base_model` (its directory), `settings` and `results` for the card. A full disk is a UserError.
    """
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary, save_embedding_layers=False)
        write_tokenizer(tokenizer, chat_format, temporary)
        link_base(Path(facts["base_model"]), temporary)
        write_atomically(temporary / "README.md", card(chat_format, facts))
        replace_directory(temporary, output)
    except OSError as fault:
        raise UserError(
            f"cannot write {output}: {fault.strerror}", "free some space and run the same command again", exit_code=1
        ) from fault


def write_tokenizer(tokenizer: Any, chat_format: ChatFormat, directory: Path) -> None:
    """Tokenizer, chat template, and generation settings that stop at EOS and set no sampling of their own."""
    import transformers

    settings: Any = transformers.GenerationConfig  # its constructor is not typed
    tokenizer.chat_template = chat_format.template
    tokenizer.save_pretrained(directory)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    settings(eos_token_id=tokenizer.eos_token_id, pad_token_id=pad).save_pretrained(directory)


def link_base(base: Path, directory: Path) -> None:
    """Copy the base's configuration and index its safetensors weights where they lie, by absolute path.

    A base in another format is left alone: `pipeline` needs `tokenizer=` then.
    """
    from safetensors import safe_open

    files = sorted(base.glob("model*.safetensors"))
    if not files:
        return
    places: dict[str, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            places |= {name: str(file) for name in weights.keys()}  # noqa: SIM118 (not a dict)
    size = sum(file.stat().st_size for file in files)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    write_atomically(directory / INDEX, json.dumps(index, indent=2) + "\n")
    shutil.copyfile(base / "config.json", directory / "config.json")


def replace_directory(temporary: Path, output: Path) -> None:
    """Put `temporary` in the place of `output`, whatever stands there.

    The old one goes only after the new one is in.
    """
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    temporary.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def card(chat_format: ChatFormat, facts: dict[str, Any]) -> str:
    """The README.md of an adapter: YAML front matter that the Hub reads, and the same in words."""
    front = {
        "library_name": "peft",
        "base_model": facts["base_model"],
        "pipeline_tag": "text-generation",
        "tags": ["lora", "selfalign"],
    }
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        base_model=facts["base_model"],
        version=own_version(),
        rows=facts["results"]["rows"],
        settings=bullets(facts["settings"]),
        results=bullets(facts["results"]),
        example=indented(chat_format.render([{"role": "user", "content": "Hello!"}]) + "..." + chat_format.eos_token),
    )


CARD = """\
---
{front}
---

# A LoRA adapter trained with selfalign

Base model: `{base_model}`. Made by selfalign {version} from {rows} conversations that the model itself wrote under a
constitution, with the constitution pruned away (SELF-ALIGN, arXiv 2305.03047).

## Use

    from transformers import pipeline
    chat = pipeline("text-generation", model="PATH OF THIS DIRECTORY")
    print(chat([{{"role": "user", "content": "Hello!"}}], max_new_tokens=200)[0]["generated_text"][-1]["content"])

`peft` must be installed. `model.safetensors.index.json` names the base model's weights where they lay at training
time; delete it together with `config.json` to use this directory as a bare adapter.

## Chat format

`chat_template.jinja` writes every special token itself, so encode without adding any:

{example}

## Settings

{settings}

## Results

Losses are mean nats a learnt token; only assistant turns and the end-of-sequence token after them are learnt.

{results}

## Limits

The adapter fits the base model named above and no other. Its alignment is as good as the base model's reading of the
constitution: it can be wrong, and it can be talked out of its principles. Not for use without a human's judgement where
a wrong answer does harm.
"""


def bullets(values: dict[str, Any]) -> str:
    """A Markdown list of `name: value`."""
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    return "\n".join(f"- {name}: {value}" for name, value in shown.items())


def indented(text: str) -> str:
    """A Markdown code block."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def own_version() -> str:
    """The installed version of selfalign, or `(development)`."""
    try:
        return version("selfalign")
    except PackageNotFoundError:
        return "(development)"
