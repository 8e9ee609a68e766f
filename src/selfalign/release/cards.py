"""The README.md of both repositories: metadata by the Hub's own classes, text from templates beside this file."""

from __future__ import annotations

import copy
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from selfalign.release.dataset import DEFAULT_CONFIG, FEATURES, FIELDS, Data
from selfalign.release.facts import Facts
from selfalign.release.lineage import lineage
from selfalign.release.results import model_index
from selfalign.report import words
from selfalign.report.stages import identity_overlaps

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData, ModelCardData

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""The Hub's names of data set sizes, by their upper end."""


def model_card(facts: Facts, data: Data) -> str:
    """The card of the model."""
    from huggingface_hub import ModelCard

    return str(ModelCard(front(model_metadata(facts)) + body("model_card.md.j2", facts, data)))


def dataset_card(facts: Facts, data: Data) -> str:
    """The card of the data set."""
    from huggingface_hub import DatasetCard

    return str(DatasetCard(front(dataset_metadata(facts, data)) + body("dataset_card.md.j2", facts, data)))


def front(metadata: Any) -> str:
    """The block of YAML that the Hub reads."""
    return f"---\n{metadata.to_yaml()}\n---\n\n"


def model_metadata(facts: Facts) -> ModelCardData:
    """Base, licence, figures. `model-index` is left out where nothing was measured."""
    from huggingface_hub import ModelCardData

    is_adapter = facts.kind == "adapter"
    index = model_index(facts.tasks, facts.comparison, facts.wishes.dataset_repo or "held-out")
    return ModelCardData(
        base_model=facts.base.id,
        base_model_relation="adapter" if is_adapter else "finetune",
        datasets=[facts.wishes.dataset_repo] if facts.wishes.dataset_repo else None,
        eval_results=index or None,
        model_name=facts.wishes.model_repo.rpartition("/")[2] or facts.run.name,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["selfalign", "self-align", "conversational", "synthetic-data", *(["lora"] if is_adapter else [])],
        **licence_metadata(facts),
    )


def dataset_metadata(facts: Facts, data: Data) -> DatasetCardData:
    """Licence, size, and the configs with their columns."""
    from huggingface_hub import DatasetCardData

    return DatasetCardData(
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        size_categories=[next((name for end, name in SIZES.items() if data.rows < end), "10M<n<100M")],
        task_categories=["text-generation"],
        pretty_name=f"{facts.run.name}: conversations made by SELF-ALIGN",
        tags=["selfalign", "self-align", "synthetic-data", "instruction-tuning"],
        configs=configs(data),
        dataset_info=[{"config_name": name, "features": copy.deepcopy(FEATURES)} for name in data.configs],
        **licence_metadata(facts),
    )


def configs(data: Data) -> list[dict[str, Any]]:
    """Which file is which split of which config; the first is what `load_dataset` takes where none is named."""
    return [
        {
            "config_name": config,
            **({"default": True} if config == DEFAULT_CONFIG else {}),
            "data_files": [{"split": s.name, "path": s.path} for s in data.splits if s.config == config],
        }
        for config in data.configs
    ]


def licence_metadata(facts: Facts) -> dict[str, Any]:
    """The keys that the Hub reads; it asks for a name and a link where it has no id."""
    licence = facts.base.licence
    keys = {"license": licence.id, "license_name": licence.name, "license_link": licence.link}
    return {name: value for name, value in keys.items() if value}


def body(template: str, facts: Facts, data: Data) -> str:
    """A card's text."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    for filter in (words.count, words.decimal, words.percent, words.duration, words.date, words.plural, cell):
        environment.filters[filter.__name__] = filter
    text = resources.files("selfalign.release").joinpath(template).read_text(encoding="utf-8")
    about = {"fields": FIELDS, "manifest": facts.run.manifest, "lineage": lineage(facts, data)}
    about["identity_overlaps"] = identity_overlaps(facts.decontaminations)
    return environment.from_string(text).render(facts=facts, data=data, **about)


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
