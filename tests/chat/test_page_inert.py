"""HTML, pictures and drawings in a model's Markdown are text on the page, code stays code, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.chat.page.inert import as_written, inert

CODE = [
    "`<b>`",
    "`` <b> ` ``",
    "a `x\n<b>` b",
    "```html\n<script>\n```",
    "~~~\n<b> ![a](b)\n~~~",
    "1. one\n\n   ```\n   <b>\n   ```\n\n2. two",
    "| a | b |\n|---|---|\n| `<b>` | `<b>` `<i>` |",
    "````\n```mermaid\n<b>\n```\n````",
    "Still open:\n\n```\n<b>",
]
HARMLESS = [
    "a < b && b > c",
    "I <3 it",
    "a <- b",
    "Why? <https://bread.example/a?b=1&c=2>",
    "&lt;b&gt; &amp;",
    "Stop! [a](b)!",
]
ACTS = {
    "<b>bold</b>": "&#60;b>bold&#60;/b>",
    "<!-- hidden -->": "&#60;!-- hidden -->",
    "<https://bread.example onload=x>": "&#60;https://bread.example onload=x>",
    "![a picture](https://elsewhere.example/pixel.png)": "&#33;[a picture](https://elsewhere.example/pixel.png)",
    "![`<b>`](x)": "&#33;[`<b>`](x)",
    "```mermaid\ngraph\n```": "``` mermaid\ngraph\n```",
    "``` mermaid\n<b>\n```": "```  mermaid\n<b>\n```",
    "&#60;b>": "&amp;#60;b>",
    "&amp;#60;b>": "&amp;amp;#60;b>",
    "a lone ` <b>": "a lone ` &#60;b>",
    "`one\n\n<b>`": "`one\n\n&#60;b>`",
    "\\`<b>\\`": "\\`&#60;b>\\`",
    "[a](`) <b> `": "[a](`) &#60;b> `",
    "    <b> indented": "    &#60;b> indented",
    "\\\\<b> \\<b>": "\\\\&#60;b> \\<b>",
    "<div>\n```\n<b>\n```\n</div>": "&#60;div>\n```\n<b>\n```\n&#60;/div>",
    "> `<b>`\n> `<i>` <u>": "> `<b>`\n> `<i>` &#60;u>",
}


@pytest.mark.parametrize("text", [*CODE, *HARMLESS])
def test_code_and_what_opens_no_tag_stay_as_they_are(text: str) -> None:
    assert inert(text) == text
    assert as_written(text) == text


@pytest.mark.parametrize(("text", "shown"), ACTS.items())
def test_what_a_page_would_act_on_is_text(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert as_written(shown) == text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"<>&;!`~|\\ \n#/-x", "&#60;", "&amp;", "![", "](", "```", "    ", "<b>", "mermaid"])
    ).map("".join)
)
def test_every_text_comes_back(text: str) -> None:
    shown = inert(text)
    assert as_written(shown) == text
    assert "`" in text or "~" in text or "\\" in text or "<b" not in shown


def test_a_long_answer_is_made_inert_between_two_frames() -> None:
    import time

    text = "Some *words* and `code` <b>.\n\n```\nx < y\n```\n\n" * 100
    start = time.process_time()
    inert(text)
    assert time.process_time() - start < 1
