"""Shipped recipes hold against the real schema, and a faulty recipe is answered with everything that is wrong."""

from pathlib import Path

import pytest
import yaml

from selfalign.errors import UserError
from selfalign.recipe import Recipe, Section, document, load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
SHIPPED = sorted(RECIPES.glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def fault_of(path: Path, overrides: list[str] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


def test_the_known_recipes_are_shipped():
    assert {path.name for path in SHIPPED} == {"base-model.yaml", "demo.yaml", "paper.yaml"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_holds_against_the_schema(path):
    recipe = load_recipe(path)
    # What the file says is what the recipe holds: no key is read as something else.
    assert_contains(recipe.model_dump(mode="json"), yaml.safe_load(path.read_text(encoding="utf-8")))


def assert_contains(whole: dict, part: dict) -> None:
    for name, value in part.items():
        if isinstance(value, dict) and isinstance(whole[name], dict):
            assert_contains(whole[name], value)
        else:
            assert whole[name] == value, name


def test_demo_is_small_and_has_enough_of_both_kinds():
    recipe = load_recipe(RECIPES / "demo.yaml")
    assert recipe.base_model == "smollm2-135m"
    wanted = recipe.instructions.topic_guided + recipe.instructions.self_instruct
    assert 100 <= wanted <= 200
    assert recipe.instructions.topic_guided >= wanted / 3
    assert recipe.evaluate.held_out == 40


def test_paper_recipe_has_the_figures_of_the_paper():
    recipe = load_recipe(RECIPES / "paper.yaml")
    assert recipe.instructions.topic_guided + recipe.instructions.self_instruct == 366_718
    # One instruction per (type, topic) pair: 20 types must have topics enough.
    assert 20 * recipe.topics.per_type >= recipe.instructions.topic_guided
    for training, max_length in ((recipe.engrave, 512), (recipe.clone, 768)):
        assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 768
        assert training.learning_rate == 4e-4
        assert training.warmup_steps == 100
        assert training.max_length == max_length


def test_empty_recipe_is_the_defaults(write):
    assert load_recipe(write("")) == Recipe()


def test_every_fault_is_told_at_once_with_path_value_and_what_is_allowed(write):
    path = write(
        """
        base_modle: x
        engine: {kind: warp, batch_size: 0}
        responses: {top_p: 1.5, attempts: many}
        clone: {learning_rat: 0.1}
        """
    )
    message = fault_of(path).message
    head, *lines = message.splitlines()
    assert head == f"{path}: 6 faults"
    faults = dict(line.strip().split(": ", 1) for line in lines)
    assert faults.keys() == {
        "base_modle",
        "engine.kind",
        "engine.batch_size",
        "responses.top_p",
        "responses.attempts",
        "clone.learning_rat",
    }
    assert faults["base_modle"].startswith("unknown key; known here: ")
    assert "base_model" in faults["base_modle"]
    assert faults["engine.kind"].startswith("'warp': ")
    assert "embedded" in faults["engine.kind"]
    assert faults["engine.batch_size"] == "0: input should be greater than or equal to 1"
    assert faults["responses.top_p"] == "1.5: input should be less than or equal to 1"
    assert faults["responses.attempts"].startswith("'many': input should be a valid integer")
    assert "learning_rate" in faults["clone.learning_rat"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("engrave: {lora_alpha: .inf}", "engrave.lora_alpha"),
        ("clone: {num_train_epochs: .nan}", "clone.num_train_epochs"),
        ("responses: {temperature: .nan}", "responses.temperature"),
        ("responses: {logit_bias: {Sorry: .nan}}", "responses.logit_bias.Sorry"),
        ("responses: {logit_bias: {Sorry: -.inf}}", "responses.logit_bias.Sorry"),
        ("elaborations: {ngram_penalties: [0, 0, .inf, 2]}", "elaborations.ngram_penalties.2"),
    ],
)
def test_a_number_that_is_not_finite_is_refused(write, text, name):
    message = fault_of(write(text)).message
    assert ": 1 fault\n" in message
    assert f"\n  {name}: " in message
    assert "finite number" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("seed: 1\ntopics: {per_type: 2}\nseed: 2", "the key 'seed' stands twice in line 3, column 1: seed: 2 ^"),
        ("topics:\n  per_type: 2\n  per_type: 3", "the key 'per_type' stands twice in line 3, column 3: per_type: 3 ^"),
    ],
)
def test_a_key_that_stands_twice_is_told_with_its_line(write, text, place):
    path = write(text)
    said = fault_of(path).message
    assert said == f"{path} is not YAML: {place}"


def test_keys_that_only_look_alike_are_two(write):
    assert load_recipe(write("responses: {logit_bias: {x: 1.0, X: 2.0}}")).responses.logit_bias == {"x": 1.0, "X": 2.0}


def test_one_fault_is_counted_as_one(write):
    assert ": 1 fault\n" in fault_of(write("seed: -1")).message


def test_a_value_where_a_section_belongs_is_told(write):
    assert "topics: 'many': " in fault_of(write("topics: many")).message


def test_an_engine_is_named_by_one_word(write):
    assert load_recipe(write("engine: vllm")).engine.kind == "vllm"
    assert "engine.kind: 'steam': " in fault_of(write("engine: steam")).message


@pytest.mark.parametrize("text", ["- a\n- b", "just words"])
def test_a_file_that_is_no_mapping_is_told(write, text):
    assert "must hold a mapping" in fault_of(write(text)).message


def test_a_file_that_is_no_yaml_is_told(write):
    assert "is not YAML" in fault_of(write("a: [1, 2")).message


def test_a_missing_file_is_told_with_its_path(tmp_path):
    assert str(tmp_path / "none.yaml") in fault_of(tmp_path / "none.yaml").message


def test_overrides_win_over_the_file(write):
    path = write("seed: 3\nresponses: {attempts: 2, top_p: 0.8}")
    recipe = load_recipe(
        path,
        ["responses.attempts=4", "engine.kind=scripted", "engrave.learning_rate=1e-4", "clone.target_modules=[q_proj]"],
    )
    assert recipe.seed == 3
    assert (recipe.responses.attempts, recipe.responses.top_p) == (4, 0.8)
    assert recipe.engine.kind == "scripted"
    assert recipe.engrave.learning_rate == 1e-4
    assert recipe.clone.target_modules == ("q_proj",)


def test_the_last_of_two_overrides_wins_and_a_value_may_hold_an_equals_sign(write):
    recipe = load_recipe(write(""), ["seed=1", "seed=2", "engine.script=a:b=c"])
    assert (recipe.seed, recipe.engine.script) == (2, "a:b=c")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed", "is not of the form a.b=c"),
        ("=3", "is not of the form a.b=c"),
        ("seed.deep=3", "seed is not a section"),
        ("seed=[1", "the value is not YAML"),
        ("sede=3", "sede: unknown key"),
        ("responses.attempts=99", "responses.attempts: 99: "),
    ],
)
def test_a_faulty_override_is_told(write, override, told):
    assert told in fault_of(write("seed: 1"), [override]).message


def test_document_is_yaml_that_loads_back_to_the_defaults(write):
    assert load_recipe(write(document())) == Recipe()


def test_document_names_every_option_with_its_meaning():
    text = document()
    for section in sections(Recipe):
        for name, field in section.model_fields.items():
            assert f"{name}:" in text
            if not is_section(field.annotation):
                assert field.description and field.description in text


def sections(section: type[Section]) -> list[type[Section]]:
    inner = [field.annotation for field in section.model_fields.values() if is_section(field.annotation)]
    return [section, *(deeper for part in inner for deeper in sections(part))]


def is_section(annotation) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
