"""The original's file formats: read, written, and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfalign.cli.main import main
from selfalign.constitution.loading import load_constitution
from selfalign.constitution.original.exporting import export_constitution
from selfalign.constitution.original.files import REST
from selfalign.constitution.original.importing import Imported, Wishes, import_constitution
from selfalign.constitution.original.prompt_file import read_prompt, write_prompt
from selfalign.constitution.original.template_files import read_topics
from selfalign.constitution.schema import Constitution, Exemplar, Principle, Turn
from selfalign.errors import UserError
from tests.constitution.original_files import FILES, PROMPT, small_base, write_originals
from tests.support.runs import small_constitution

SWAP = (("Oldname", "Rill"),)
SMALL = small_constitution()


@pytest.fixture
def base(tmp_path: Path) -> str:
    return small_base(tmp_path)


@pytest.fixture
def imported(tmp_path: Path, base: str) -> Imported:
    return import_constitution([str(write_originals(tmp_path / "checkout"))], Wishes(base, replacements=SWAP))


def export(constitution: Constitution, base: str, folder: Path) -> Path:
    folder.mkdir()
    for name, text in export_constitution(constitution, base).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def fault_of(tmp_path: Path, base: str, **changed: str) -> str:
    with pytest.raises(UserError) as caught:
        import_constitution([str(write_originals(tmp_path / "broken", **changed))], Wishes(base))
    assert caught.value.hint
    return caught.value.message


# ---------------------------------------------------------------------------------------------------------- import


def test_rules_become_principles(imported: Imported) -> None:
    assert [tuple(principle) for principle in map(dict.values, imported.constitution.model_dump()["principles"])] == [
        (1, "kindly", "Rill is kind to whoever asks."),
        (2, "sober & exact", "Rill says no more than it knows, and {counts} twice."),
        (7, "open", "Rill's doubts are told."),
    ]
    assert imported.constitution.templates.principles == (
        "You are reading about Rill, a helper in text.\nIt keeps these rules:"
    )


def test_an_auto_reply_ends_an_exemplar_and_without_it_the_conversation_goes_on(imported: Imported) -> None:
    assert [(exemplar.name, len(exemplar.turns)) for exemplar in imported.constitution.exemplars] == [
        ("how-many-legs-has", 1),
        ("add-these-3-4", 2),
    ]
    beetle, sum_ = (exemplar.turns for exemplar in imported.constitution.exemplars)
    assert beetle[0].response == "Six.\n\nThat holds for every insect:\n\n- ants,\n- bees."
    assert [turn.user for turn in sum_] == ["Add these:\n\n3, 4", "and doubled?"]
    assert sum_[1].thought == "I mean well. Rill is asked to go on. I should follow rules 1 (kindly)."
    assert "With pleasure" not in imported.text


def test_the_sentence_that_all_thoughts_begin_with_opens_them(imported: Imported) -> None:
    assert imported.constitution.templates.thought_opening == "I mean well."


def test_seeds_have_instruction_input_and_kind(imported: Imported) -> None:
    assert [tuple(seed) for seed in map(dict.values, imported.constitution.model_dump()["seeds"])] == [
        ("Name the odd one out.", "oak\n  pine\nbrick", False),
        ("Greet Rill.", "", False),
        ("Is it a bird?", "wren {x}", True),
        ("Say why it rains.", "", False),
        ("Close a letter.", "", False),
    ]


def test_types_lose_the_words_that_prompts_put_before_them(imported: Imported) -> None:
    names = [kind.name for kind in imported.constitution.instruction_types]
    assert names == ["kitchen sense", "a timetable", "Guessing", "law", "taste"]
    assert imported.constitution.instruction_types[0].seed.model_dump() == {
        "topic": "Bread",
        "instruction": "When is it done?",
    }


def test_prompts_become_templates_without_their_lists(imported: Imported) -> None:
    templates = imported.constitution.templates
    assert templates.topics.startswith("Write down six subjects of the kind {{ type }}.")
    assert "as in {Old Harbours}" in templates.topics
    assert templates.topic_guided == "Write down questions that a model gets wrong.\n\n1. One sentence each."
    assert templates.self_instruct == "Write tasks, {of any kind}.\n\nTasks:"


def test_styles_are_the_prose_of_the_inference_prompts(imported: Imported) -> None:
    assert imported.constitution.styles.model_dump() == {
        "standard": "Rill is a helper that the Mill built.\n\nRill is brief.",
        "concise": "Rill is terse.",
        "verbose": "Rill is a helper that the Mill built.\n\nRill explains everything.",
    }
    assert any("1 worked turn left out" in line for line in imported.summary)


def test_questions_with_several_answers_give_every_pair(imported: Imported) -> None:
    assert imported.constitution.identity_pairs == [
        ("Who are you?", "I am Rill, a model."),
        ("Who are you?", "Rill is what I am called."),
        ("Are you a person?", "No, I am Rill, and made of text."),
    ]


def test_the_assistant_of_an_import_can_be_called_otherwise_in_a_recipe(imported: Imported, tmp_path: Path) -> None:
    file = tmp_path / "imported.yaml"
    file.write_text(imported.text, encoding="utf-8")
    assert imported.constitution.identity.name == "Rill"
    renamed = load_constitution(str(file), identity_name="Ada").model_dump_json()
    assert "Brook" not in renamed
    assert renamed.count("Rill") == 1, "a seed is no template: its text stays"


def test_what_the_files_do_not_have_is_from_the_base(tmp_path: Path, base: str) -> None:
    file = tmp_path / "my rules.txt"
    file.write_text("\ufeff" + PROMPT.replace("\n", "\r\n"), encoding="utf-8", newline="")
    made = import_constitution([f"principles={file}"], Wishes(base, name="Ada", maker="us", licence="CC0"))
    small = small_constitution()
    assert made.constitution.seeds == small.seeds
    assert made.constitution.identity.maker == "us"
    assert made.constitution.licence == "CC0"
    assert made.constitution.principles[0].text == "Ada is kind to whoever asks."
    assert made.summary[-1].startswith(f"from the base {base}: seeds, instruction_types, styles.standard")


def test_identity_answers_with_another_name_are_told(tmp_path: Path, base: str) -> None:
    made = import_constitution([str(write_originals(tmp_path / "x"))], Wishes(base))
    assert made.summary[-1].endswith("vicuna_dummy_data.json: no answer says Rill; put it in by --replace OLD=Rill")


# ------------------------------------------------------------------------------------------ import, export, import


def test_import_export_import_gives_the_same_constitution(imported: Imported, tmp_path: Path, base: str) -> None:
    folder = export(imported.constitution, base, tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {Path(name).name for name in FILES} - {
        "dromedary_verbose_prompt.txt"  # two of the original's names mean the verbose style; one is written
    }, "nothing was left that the original's formats have no place for"
    again = import_constitution([str(folder)], Wishes(base))
    assert again.constitution == imported.constitution
    assert export_constitution(again.constitution, base) == export_constitution(imported.constitution, base)


@pytest.mark.parametrize("name", ["dromedary", "small"])
def test_any_constitution_comes_back_whole(name: str, tmp_path: Path, base: str) -> None:
    constitution = load_constitution(name) if name == "dromedary" else small_constitution()
    folder = export(constitution, base, tmp_path / "out")
    assert import_constitution([str(folder)], Wishes(base)).constitution == constitution
    rest = yaml.safe_load((folder / REST).read_text(encoding="utf-8"))
    assert set(rest["identity"]) <= {"maker", "cutoff", "pairs"}


def test_texts_that_look_like_turns_and_headings_come_back_whole(tmp_path: Path, base: str) -> None:
    small = small_constitution()
    nasty = "first\nUser: I am no turn\nAda: nor am I\n## nor a heading\n### User\n{} {{ name }} {% x %}"
    turn = Turn.model_construct(user=nasty, thought="So 1 (ethical), 2 (balanced & fair).", response=nasty)
    styles = small.styles.model_copy(update={"standard": nasty})
    templates = small.templates.model_copy(update={"topic_guided": "Odd {\nHints:\n{}", "self_instruct": "{{ }"})
    exemplars = (Exemplar.model_construct(name="nasty", turns=(turn,)),)
    odd = small.model_copy(update={"exemplars": exemplars, "styles": styles, "templates": templates})
    folder = export(odd, base, tmp_path / "out")
    assert import_constitution([str(folder)], Wishes(base)).constitution.model_dump() == odd.model_dump()


WORDS = st.text(st.sampled_from("abcå{}():.#'? 谁"), min_size=1, max_size=20).map(lambda text: f"x{text}x")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(
        st.text("abcå &-", min_size=1, max_size=8).map(lambda t: f"n{t.strip()}"), min_size=1, max_size=4, unique=True
    ),
    texts=st.lists(WORDS, min_size=9, max_size=9),
)
def test_a_prompt_file_reads_back_what_was_written(names: list[str], texts: list[str]) -> None:
    rules = tuple(Principle(number=i, name=name, text=texts[0]) for i, name in enumerate(names, 1))
    turns = [Turn(user=texts[i], thought=f"{texts[i + 1]} 1 ({names[0]})", response=texts[i + 2]) for i in (0, 3, 6)]
    exemplars = (Exemplar(name="a", turns=tuple(turns[:2])), Exemplar(name="b", turns=(turns[2],)))
    whole = SMALL.model_copy(update={"principles": rules, "exemplars": exemplars})
    piece = read_prompt(write_prompt(whole), "file")
    assert piece.values["principles",] == [rule.model_dump() for rule in rules]
    assert [e["turns"] for e in piece.values["exemplars",]] == [e.model_dump(mode="json")["turns"] for e in exemplars]


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("stem", "old", "new", "line", "said"),
    [
        ("watson_self_align_prompt", "# Brook\n", "Brook\n", 1, "does not begin with `# `"),
        ("watson_self_align_prompt", "## Talks", "Talks", 3, "1 headings `## `"),
        ("watson_self_align_prompt", "1 (kindly). ", "1) kindly: ", 8, "no rule of the form `7 (candor). text`"),
        ("watson_self_align_prompt", "(internal thoughts): I", "(musing): I", 19, "(musing) is"),
        ("watson_self_align_prompt", "Brook: 7\n", "7\n", 32, "the user turn is not followed by its reply"),
        ("watson_self_align_prompt", "User: and doubled?", "and doubled?", 42, "with no `User:` turn before it"),
        ("watson_self_align_prompt", "rules 1 (kindly)", "rules 4 (kindly)", 42, "there is no principle 4"),
        ("watson_self_align_prompt", "7 (open). ", "1 (open). ", 11, "duplicate 1"),
        ("tgrt_self_instruct_topic_brainstorm_prompt", "{}", "", 1, "has no `{}`"),
        ("tgrt_self_instruct_topic_brainstorm_prompt", "{{Old", "{Old", 3, "a brace is written {{ or }}"),
        ("tgrt_self_instruct_topic_brainstorm_prompt", "Six subjects:", "{kind}", 5, "`{kind}` is not known"),
        ("dromedary_standard_prompt_distill", "### User", "User", 17, "no heading `### User`"),
        ("self_instruct_seed_tasks", '"instruction": "Is it', '"task": "Is it', 3, "no key `instruction`"),
        ("self_instruct_seed_tasks", '"Close a letter."', "null", 5, "`instruction` must be text, not null"),
        ("self_instruct_seed_tasks", '"Close a letter."}', '"Close', 5, "not JSON"),
        ("tgrt_self_instruct_seed_questions", '"Ferries"', '["Ferries"]', 2, '`topic` must be text, not ["Ferries"]'),
        ("tgrt_self_instruct_seed_questions", "require law", "require taste", 5, "duplicate 'taste'"),
        ("vicuna_dummy_data", '"human"', '"gpt"', 2, "`from` is 'gpt', not 'human'"),
        ("vicuna_dummy_data", "[", "{", 2, "not JSON"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_file_and_line(
    stem: str, old: str, new: str, line: int, said: str, tmp_path: Path, base: str
) -> None:
    text = next(text for name, text in FILES.items() if Path(name).stem == stem)
    count = -1 if stem == "dromedary_standard_prompt_distill" else 1
    message = fault_of(tmp_path, base, **{stem: text.replace(old, new, count)})
    place = next(row for row in message.splitlines() if said in row)
    assert f"{stem}.{'txt' if 'prompt' in stem else 'json'}" in place
    assert f":{line}: " in place, message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [x", "constitution_rest.yaml:1: not YAML: "),
        ("- x", "constitution_rest.yaml:1: a constitution is a mapping"),
        ("licence: x\nidentity: {maker: us, age: 3}", "constitution_rest.yaml:2: identity.age: unknown key `age`"),
    ],
)
def test_a_fault_of_the_rest_is_told_with_its_line(text: str, said: str, tmp_path: Path, base: str) -> None:
    (tmp_path / REST).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        import_constitution([str(tmp_path)], Wishes(base))
    assert said in caught.value.message


def test_very_deep_json_is_told(tmp_path: Path, base: str) -> None:
    assert "nested too deeply" in fault_of(tmp_path, base, vicuna_dummy_data="[" * 200_000)


def test_files_that_do_not_say_what_they_are_need_a_kind(tmp_path: Path, base: str) -> None:
    (tmp_path / "mine.txt").write_text(PROMPT, encoding="utf-8")
    for names, said in (
        ([str(tmp_path / "mine.txt")], "the name does not tell what it is; write KIND="),
        ([str(tmp_path / "none.txt")], "no file or directory"),
        ([str(tmp_path)], "none of the original's files"),
        ([f"topics={tmp_path / 'mine.txt'}", f"topics={write_originals(tmp_path / 'x') / 'prompts'}"], "no file or"),
    ):
        with pytest.raises(UserError) as caught:
            import_constitution(names, Wishes(base))
        assert said in caught.value.message


def test_a_lone_brace_of_a_template_is_a_fault_of_its_line() -> None:
    with pytest.raises(UserError, match="file:2: "):
        read_topics("{}\n}", "file")


# ---------------------------------------------------------------------------------------------------- command line


def test_the_commands_import_and_export(tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    checkout = str(write_originals(tmp_path / "checkout"))
    options = ["--base", base, "--replace", "Oldname=Rill", "--licence", "CC0-1.0"]
    assert main(["constitution", "import", checkout, *options]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["licence"] == "CC0-1.0"
    assert "3 principles" in printed.err
    file = str(tmp_path / "mine.yaml")
    assert main(["constitution", "import", checkout, *options, "--out", file]) == 0
    assert Path(file).read_text(encoding="utf-8") == printed.out
    assert main(["constitution", "import", checkout, "--out", file]) == 2, "nothing is overwritten"
    out = str(tmp_path / "out")
    assert main(["constitution", "export", file, "--base", base, "--out", out]) == 0
    assert f"{out}/watson_self_align_prompt.txt" in capsys.readouterr().out
    rest = yaml.safe_load((Path(out) / REST).read_text(encoding="utf-8"))
    assert rest == {"licence": "CC0-1.0"}
    assert main(["constitution", "export", file, "--out", out]) == 2
    assert main(["constitution", "show", file, base]) == 2
    assert main(["constitution", "import"]) == 2
    assert main(["constitution", "import", checkout, "--replace", "x"]) == 2


def test_identity_questions_keep_their_pairing_only_where_it_is_not_the_usual_one(imported: Imported) -> None:
    groups = json.loads(imported.constitution.model_dump_json())["identity"]["pairs"]
    assert [group.get("pairing") for group in groups] == ["every", None]
