"""Code and pages use the field's words and American spelling, in lines of bearable length."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORDS = [  # of no meaning to a reader who knows the field; the glossary's words stand for them
    *("alive", "living steps?", "luck", "knobs?", "liveness", "endless", "recipes?", "mend(s|ed)?"),
    *("bury", "buried", "look(s|ed)? back", "eyes", "stranger('s|s)?", "beside", "by hand"),
    *("in turn", "of its own", "of their own", "patience", "sick", "keyboard wiring", "put by"),
    *("nobody tells", "unavoidable", r"(?<!Meta-)(?<!real )worlds?", "living", "some_steps"),
]
BRITISH = [
    *("colour", "behaviour", "neighbour", "favour", "honour", "centre", "grey", "metres?"),
    "(normal|initial|optim|organ|recogn|summar|general|regular|minim|maxim|visual|random)is(e|i)",
    "(parametr|discret|vector|synchron|real|util|special|categor|standard)is(e[ds]?|ing|ation)",
    *(
        "modell",
        "labell",
        "travell",
        "cancell(ed|ing)",
        "catalogue",
        "analyse",
        "defence",
        "licence",
    ),
    *("whilst", "amongst", "artefact", "learnt", "spelt", "programme(?!r)"),
]
# A list of English words, and what says which names became which.
LEFT_OUT = {"envs/games/word_list.py", "tests/test_language.py", "CHANGELOG.md"}


def pages():
    return [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "runs" / "README.md"]


def texts():
    code = [p for d in ("envs", "agents", "metarl", "examples") for p in (ROOT / d).rglob("*.py")]
    linked = ("metarl/envs", "metarl/agents")
    for file in sorted({*code, *pages()}):
        name = str(file.relative_to(ROOT))
        if name not in LEFT_OUT and not name.startswith(linked):
            yield name, file.read_text()


def found(patterns, text, whole):
    pattern = "|".join(f"(?:{p})" for p in patterns)
    pattern = rf"\b(?:{pattern})\b" if whole else rf"\b(?:{pattern})"
    for number, line in enumerate(text.splitlines(), 1):
        for match in re.finditer(pattern, line, re.IGNORECASE):
            yield f"{number}: {match[0]}"


@pytest.mark.parametrize(("patterns", "whole"), [(WORDS, True), (BRITISH, False)])
def test_words_are_the_fields_and_spelling_is_american(patterns, whole):
    wrong = {name: list(found(patterns, text, whole)) for name, text in texts()}
    assert not {name: lines for name, lines in wrong.items() if lines}


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_lines_of_a_page_have_at_most_120_characters(page):
    """But for a table's row or a link, which can't be broken, of at most 160."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        limit = 160 if line.startswith("|") else 120
        assert len(line) <= limit, f"{page.name}:{number} has {len(line)}"
