"""text_only: what text cannot do goes, what only sounds like it stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import selfalign.constitution
from selfalign.filters.text_only import text_only

REJECTED = [
    ("Draw a picture of a cat wearing a hat.", "draw"),
    ("Draw a cat wearing a hat.", "draw"),
    ("Can you draw me a simple floor plan for a bakery?", "draw"),
    ("Sketch a house with three windows.", "sketch"),
    ("Describe the image.", "image"),
    ("What does the face in the photo express?", "photo"),
    ("Design a logo for a coffee shop.", "logo"),
    ("Describe what is happening in the picture.", "picture"),
    ("What is the person in this photo doing?", "photo"),
    ("Look at the following graph and explain the trend.", "graph"),
    ("Identify the main components shown in the diagram below.", "diagram"),
    ("Write a caption for the image.", "image"),
    ("Write a caption for this funny photo.", "photo"),
    ("Given an image of a handwritten digit, tell which digit it is.", "image"),
    ("Given a photo, say who is in it.", "photo"),
    ("Create a pie chart that shows how a student spends the day.", "chart"),
    ("Make a bar graph of the sales below.", "graph"),
    ("Generate an image of a sunset over the sea.", "image"),
    ("Explain the water cycle using a diagram.", "diagram"),
    ("Illustrate the process with a flowchart.", "flowchart"),
    ("Plot the function y = 2x + 1.", "plot"),
    ("Plot these data points and fit a line.", "plot"),
    ("Graph the equation y = x^2.", "graph"),
    ("Show me a map of France.", "map"),
    ("Use the map to find the shortest route.", "map"),
    ("Find the capital on the map.", "map"),
    ("Watch the video and summarise it.", "video"),
    ("Summarise the video.", "video"),
    ("Listen to this song and name the singer.", "song"),
    ("Transcribe the audio recording.", "recording"),
    ("Play some relaxing music.", "music"),
    ("Could you play a song by Adele for me?", "song"),
    ("Open the file and count its lines.", "file"),
    ("Convert this PDF to a Word document.", "pdf"),
    ("Summarise the attached article.", "attached"),
    ("Please attach your resume.", "attach"),
    ("Browse the internet for cheap flights.", "browse"),
    ("Search the web for the latest news about Tesla.", "the web"),
    ("Click the link below to confirm.", "click"),
    ("Read the article, then click on the button.", "click on"),
    ("Visit the website and list its sections.", "website"),
    ("Summarise the page at https://example.com/news.", "https://"),
    ("Take a photo of your lunch and describe it.", "photo"),
    ("Record a video of yourself singing.", "video"),
    ("I need a picture of a sleeping dog.", "picture"),
    ("Do you have a photo of the Eiffel Tower?", "photo"),
    ("DESCRIBE THE PHOTOGRAPH.", "photograph"),
    ("Download the spreadsheet and add the totals.", "spreadsheet"),
]

ACCEPTED = [
    "Recommend a graphic novel for a reader of twelve.",
    "Map out a plan for learning Spanish in a year.",
    "What conclusion can we draw from the fall of Rome?",
    "Draw a conclusion from the following facts.",
    "Read the two statements and draw an analogy between them.",
    "Draw up a contract for a dog walker.",
    "Draw a clear distinction between empathy and sympathy.",
    "Draw on your knowledge of history to explain the treaty.",
    "How do I file a complaint against my landlord?",
    "File a complaint in the voice of a haunted house.",
    "Explain photosynthesis to a child.",
    "What is the plot of the novel Dracula?",
    "Plot a murder mystery set in a lighthouse.",
    "Outline a plot for a short story.",
    "Polish this dating profile without making it untrue.",
    "Picture this: you wake up and it is 1850. What do you do first?",
    "What is the big picture behind interest rates?",
    "Who wrote The Picture of Dorian Gray?",
    "Paint a picture of daily life in ancient Rome.",
    "Which image format is best for a web page, and why?",
    "How did photography change portrait painting?",
    "Explain how a graph database differs from a relational one.",
    "What does the graph of y = x^2 look like?",
    "How has the image of women in advertising changed?",
    "Write a script for a YouTube video about bees.",
    "Are video games bad for teenagers?",
    "Describe the music of Bach to someone who has never heard it.",
    "Play the role of a strict teacher.",
    "Play a word game with me.",
    "How did the map of Europe change after 1918?",
    "Write a story about a boy who finds a map. The map leads him home.",
    "Create a story about an old photo.",
    "Write a Python function that reads a file and counts its words.",
    "How do artists draw a convincing hand?",
    "Explain how to draw a cat in five steps, in words.",
    "Sketch out a plan for a village fair.",
    "Sketch a brief history of tea.",
    "What materials do you need to film a documentary?",
    "Which song topped the charts in 1985?",
    "Explain attachment theory.",
    "Graph theory began with which problem?",
    "How do I open a file in Python?",
    "Write a Python script that plots a sine wave.",
    "Explain depth-first search on a graph.",
    "What happens if I clicked the link in a phishing email?",
    "How do people browse the web safely?",
    "Chart the rise and fall of the Hanseatic League.",
    "How did the Beatles put Liverpool on the map?",
    "Which film should I watch tonight?",
    "Film noir is said to be dead. Is it?",
    "Who was the first person to take a photograph?",
    "Create a road map for a small business that goes online.",
    "What are the rules of the draw in chess?",
    "Write a comedy sketch about a late train.",
    "Explain the map function in Python.",
    "",
]


def human_instructions() -> list[str]:
    path = Path(selfalign.constitution.__file__).parent / "builtin" / "dromedary.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    seeds = [seed["instruction"] for seed in data["seeds"]]
    return seeds + [kind["seed"]["instruction"] for kind in data["instruction_types"]]


@pytest.mark.parametrize(("text", "word"), REJECTED)
def test_rejects_and_names_the_word(text: str, word: str) -> None:
    verdict = text_only(text)
    assert (verdict.accepted, verdict.filter) == (False, "text_only")
    assert verdict.reason == f'needs more than text: "{word}"'


@pytest.mark.parametrize("text", ACCEPTED)
def test_keeps_what_only_sounds_like_it(text: str) -> None:
    assert text_only(text).accepted, text_only(text).reason


@pytest.mark.parametrize("text", human_instructions())
def test_keeps_every_human_instruction(text: str) -> None:
    assert text_only(text).accepted, text_only(text).reason


def test_runs_of_blank_lines_cost_nothing() -> None:
    # Took eight minutes before blanks were collapsed; the test suite's time limit would stop it.
    assert text_only("\n" * 20_000 + "Name a fruit.").accepted


@given(st.text())
def test_judges_any_text(text: str) -> None:
    text_only(text)
