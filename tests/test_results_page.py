"""docs/results.md, and what other pages quote from it, say what docs/algorithms.csv does."""

import re

import pytest
from write_algorithms import DOCS, TABLE, runs, table
from write_baselines import AGENT, read, with_tables

RUNS = runs()
PAGE = (DOCS / "results.md").read_text()
SECTION = PAGE.split("## Every algorithm on four families")[1].split("\n## ")[0]
NUMBER = r"-?\d+(?:\.\d+)?"
TRIPLE = re.compile(r"`([\w-]+)` (-?\d+), (-?\d+), (-?\d+)\b")
QUOTE = re.compile(
    rf"`([\w-]+)` in `([\w-]+)`: ({NUMBER}), ({NUMBER}) and ({NUMBER}) after (one|three) steps?"
)


def test_the_table_is_that_of_the_file():
    """`python tests/write_algorithms.py` writes it."""
    assert TABLE.findall(SECTION) == [table()]
    assert len(RUNS) > 40
    for seeds in RUNS.values():
        assert [row["seed"] for row in seeds] == ["0", "1", "2"]


def test_the_tables_of_baselines_are_those_of_the_file():
    """`python tests/write_baselines.py` writes them."""
    assert with_tables(PAGE) == PAGE
    agents = [(row["family"], row["seed"]) for row in read() if row["row"].endswith(AGENT)]
    assert agents == sorted({(family, seed) for family, _ in agents for seed in "012"})


def test_seeds_that_the_text_names_are_those_of_the_file_after_three_steps():
    """`algo a, b, c`, of the family of which it says that seeds differ."""
    (family,) = re.findall(r"In `([\w-]+)` seeds differ", SECTION)
    found = TRIPLE.findall(SECTION)
    assert len(found) >= 4
    for algo, *texts in found:
        values = [float(row["step_3"]) for row in RUNS[family, algo]]
        assert all(abs(int(t) - v) <= 0.5 for t, v in zip(texts, values, strict=True)), algo


@pytest.mark.parametrize("page", ["faq.md", "meta-gradient.md", "papers.md"])
def test_other_pages_quote_the_file(page):
    """`ALGO` in `FAMILY`: a, b and c after one step; of seeds 0, 1 and 2."""
    found = QUOTE.findall(" ".join((DOCS / page).read_text().split()))
    assert found
    for algo, family, a, b, c, steps in found:
        column = {"one": "step_1", "three": "step_3"}[steps]
        assert [a, b, c] == [row[column] for row in RUNS[family, algo]], (algo, family)
