"""Instructions that text alone can serve.

A list of forbidden words would drop "graphic novel", "file a complaint" and "draw a conclusion" along with what it is
after, and a topic such as maps or photography is no obstacle. What cannot be done in text is to *produce* a picture or
a sound, to *look at* something that was not given, and to *act* outside the conversation. So each rule below asks for
a situation around the word: an order to draw or play, "this photo", "using a diagram", "click the link".
"""

from __future__ import annotations

import re

from selfalign.records import Verdict

# Where an order begins: at a clause's beginning or behind words that hand it over. "How do artists draw" is no order.
ORDER = (
    r"(?:^|[.!?:;,(*\"“-]|\b(?:and|then|also|please|now|kindly|just|you to|task is to|help me|let me"
    r"|(?:can|could|would|will) you))\s*(?<!\w)"
)
# Words inside one noun phrase: no prepositions or relative pronouns, so that "create a story about a map" is kept.
GAP = (
    r"(?:(?!(?:about|of|for|with|on|in|from|that|which|to|and|or|by|as|at|who|whose|without|using|how|why|what|when"
    r"|where|whether|explaining|describing|between|than)\b)[\w'’-]+\s+){0,5}"
)
ADJECTIVES = r"(?:[\w'’-]+\s+){0,2}"
# The noun ends its phrase; in "image format", "graph database" and "video game" it is only part of another thing.
ENDS = (
    r"(?![\w-])(?=\s*(?:$|[^\w\s])|\s+(?:of|to|showing|that|which|for|with|and|or|from|in|on|at|below|above|attached"
    r"|depicting|comparing|illustrating|representing|provided|given|shown|here|about|as|by|you|i|is|are|was|shows?"
    r"|depicts?|represents?|using|where|based|so|then|please|containing|illustrates?|tells?|suggests?|explaining"
    r"|has|have|looks?|doing|wearing|conveys?|contains?|express|features?|means?)\b)"
)
CHARTS = (
    r"(?:(?:bar|pie|line|flow|gantt|venn)[ -]?)?(?:diagram|chart|graph)s?|infographics?|histograms?|scatter[ -]?plots?"
    r"|box[ -]?plots?|flowcharts?"
)
PICTURES = r"images?|pictures?|photos?|photographs?|pics?|selfies?|screenshots?|drawings?|animations?|gifs?|logos?"
SOUNDS = r"videos?|video clips?|audio|audio (?:clip|file|recording)s?|sound clips?|music videos?"
PRODUCED = rf"(?:{CHARTS}|{PICTURES}|{SOUNDS}|maps?)"
SHOWN = rf"(?:{CHARTS}|{PICTURES}|{SOUNDS}|maps?|illustrations?|cartoons?|recordings?|(?:video|film) clips?)"
FILES = r"(?:files?|pdfs?|spreadsheets?|attachments?|folders?|powerpoints?)"
MEDIA = (
    rf"(?:{SOUNDS}|songs?|music|tracks?|clips?|tunes?|melody|playlists?|recordings?|podcasts?|movies?|films?"
    r"|episodes?)"
)
MAKE = (
    r"(?:create|make|generate|produce|design|render|provide|include|add|insert|show|give|send|find|share|post|take|edit"
    r"|crop|build|construct|prepare|record|film|shoot|upload|download|capture|select|choose|display|attach|embed|view"
    r"|examine|caption|colou?r|use|get|search for|look (?:at|for|up))"
)
# "How this maps to..." has a verb.
POINTED_AT = (
    r"(?:this(?!\s+(?:maps|charts|graphs|pictures)\b)|these|following|attached|enclosed|uploaded|provided|linked"
    r"|given|above)"
)

# What is drawn, sketched and plotted in words only.
UNDRAWN = (
    r"(?:on|upon|up|from|out|near|nearer|closer|in|back|away|attention|inspiration|conclusions?|inferences?"
    r"|comparisons?|parallels?|distinctions?|lessons?|analog(?:y|ies)|connections?|contrasts?|links?|lots"
    r"|straws|blood|breath|blank|veil|sword|crowds?|boundar(?:y|ies)|morals?|curtains?|bath|salary|strength"
    r"|line (?:between|under)|implications?|plans?|outlines?|arguments?|scenarios?|proofs?"
    r"|biograph(?:y|ies)|histor(?:y|ies)|comedy|portrait in words|poker)"
)
PLOTTED = (
    r"(?:data|points?|functions?|graphs?|lines?|curves?|equations?|charts?|values|results|coordinates|histograms?"
    r"|y\s*=|f\()"
)

# Turns of phrase that hold one of the words and mean something else.
FIGURATIVE = re.compile(
    r"\b(?:big(?:ger)?|full|clear(?:er)?|whole|overall|mental|vivid|word|verbal|complete|motion|rosy)"
    r" (?:pictures?|images?)\b"
    r"|\bpaint(?:s|ing|ed)? (?:an? |the )?(?:\w+ )?pictures?\b"
    r"|\bpicture (?:this|of dorian gray|of health)\b"
    r"|\b(?:self|public|body|brand|mirror|corporate|poetic|literary)[ -]images?\b"
    r"|\b(?:get|gets|enters?|entered|into|out of|changes?|changed|complicates?) the picture\b"
    r"|\b(?:put|puts|putting|wiped?) (?:[\w'’]+ ){1,3}(?:on|off) the map\b"
    r"|\b(?:road|site|story|journey) maps?\b"
    r"|\b(?:top(?:ped|ping|s)?|off|hit|climb(?:ed|ing|s)?|up|of) the charts\b"
    r"|\bfile (?:a|an|for|your|my|his|her|their) (?:\w+ )?"
    r"(?:complaint|lawsuit|suit|claim|taxes|divorce|patent|report|appeal)\b",
    re.IGNORECASE,
)


def rule(pattern: str) -> re.Pattern[str]:
    """A rule; its group `word` is what the reason names."""
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


# "The map" that the text itself brought in ("a boy finds a map") needs no looking at, nor does "the image of women".
THE_SHOWN = rule(rf"\bthe\s+(?!(?:images?|graphs?|pictures?|maps?)\s+of\b)(?P<word>{SHOWN}){ENDS}")
RULES = tuple(
    rule(pattern)
    for pattern in (
        rf"{ORDER}{MAKE}\s+{GAP}(?P<word>{PRODUCED}){ENDS}",
        rf"\b(?:i|we)(?:['’]d| would)? (?:need|want|like)\s+{GAP}(?P<word>{PRODUCED}){ENDS}",
        rf"\bdo you have\s+{GAP}(?P<word>{PRODUCED}){ENDS}",
        rf"\b{POINTED_AT}\s+{ADJECTIVES}(?P<word>{SHOWN}){ENDS}",
        rf"\bgiven\s+(?:an?|the|some)\s+{ADJECTIVES}(?P<word>{PICTURES}|{SOUNDS}|diagrams?|charts?){ENDS}",
        rf"\b(?:with|using|via|as|into)\s+(?:an?\s+|the\s+)?{ADJECTIVES}(?P<word>{CHARTS}){ENDS}",
        rf"\b{POINTED_AT}\s+{ADJECTIVES}(?P<word>{FILES}){ENDS}",
        rf"{ORDER}(?:open|read|download|upload|attach|save|send|email|scan|import|export|convert|edit|rename|delete)\s+"
        rf"(?:me\s+)?(?:the|this|that|my|your|these|those)\s+{GAP}(?P<word>{FILES}){ENDS}",
        rf"{ORDER}(?:upload|download|attach|send|create|make)\s+(?:me\s+)?{GAP}(?P<word>{FILES}){ENDS}",
        rf"{ORDER}(?P<word>attach|upload)\s+(?:an?|the|this|your|my|it|all|any)\b",
        r"\b(?P<word>attached)\s+"
        r"(?:article|document|text|letter|e-?mail|report|paper|data|list|table|code|resume|cv)\b",
        rf"{ORDER}(?P<word>draw|sketch|doodle)\s+(?!(?:[\w'’-]+\s+){{0,3}}?{UNDRAWN}(?!\w))\w",
        rf"{ORDER}(?P<word>plot|chart)\s+{GAP}{PLOTTED}",
        rf"{ORDER}(?P<word>graph)\s+(?:(?:the|this|these|each)\b|y\s*=|f\()",
        rf"{ORDER}(?P<word>photograph|film)\s+(?:an?|yourself|your)\b",
        rf"{ORDER}(?P<word>record)\s+(?:yourself|an?\s+{GAP}(?:song|message|podcast|voice\w*))\b",
        rf"{ORDER}(?P<word>browse|surf)\s",
        rf"{ORDER}search\s+(?P<word>(?:the\s+)?(?:web|internet|net)|online|google){ENDS}",
        rf"{ORDER}(?P<word>google)\s+(?:it|for|the|this|that)\b",
        rf"{ORDER}look\s+(?:[\w'’-]+\s+){{0,6}}?(?P<word>online|on the (?:web|internet))\b",
        rf"{ORDER}(?P<word>(?:click|tap)(?:\s+on)?)\s+(?:the|this|that|a|here|any)\b",
        rf"{ORDER}(?:visit|open|follow|go to|check(?: out)?|see|read|use)\s+(?:the|this|that|these|my|our)\s+{GAP}"
        rf"(?P<word>links?|urls?|websites?|web ?pages?){ENDS}",
        rf"{ORDER}(?:visit|open|read|go to|summari[sz]e|check|watch|follow|see|use)\b"
        r"[^\n?]{0,80}?(?P<word>https?://)",
        rf"{ORDER}(?:play|stream)\s+{GAP}(?P<word>{MEDIA}){ENDS}",
        rf"{ORDER}(?:watch|listen to|hear|transcribe)\s+(?:the|this|these|an?|my|our)\s+{GAP}(?P<word>{MEDIA})\b",
    )
)


def text_only(text: str) -> Verdict:
    """Rejects an instruction that needs a picture, a sound, a file or a browser. The reason names the matched word."""
    # One blank at most between words: the rules look for line beginnings, which runs of blank lines make quadratic.
    lines = (" ".join(line.split()) for line in text.splitlines())
    plain = FIGURATIVE.sub("something", "\n".join(line for line in lines if line))
    match = next((match for pattern in RULES if (match := pattern.search(plain))), None) or shown_thing(plain)
    if match:
        return Verdict.reject("text_only", f'needs more than text: "{" ".join(match["word"].lower().split())}"')
    return Verdict.accept()


def shown_thing(text: str) -> re.Match[str] | None:
    """The first "the photo" that no "a photo" stands before."""
    for match in THE_SHOWN.finditer(text):
        if not re.search(rf"\ban?\s+{ADJECTIVES}{re.escape(match['word'])}\b", text[: match.start()], re.IGNORECASE):
            return match
    return None
