"""README's blocks and commands do what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text, kind):
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_python_blocks_run_one_after_the_other(doc, tmp_path):
    code = "\n".join(blocks(doc.read_text(), "python"))
    if not code:
        return
    (tmp_path / "blocks.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "blocks.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_the_example_family_fits_in_forty_lines_and_trains_by_its_name(tmp_path):
    (source,) = [b for b in blocks(README, "python") if "class Ferry" in b]
    assert len(source.strip().splitlines()) <= 40
    (tmp_path / "ferry.py").write_text(source)
    words = [
        "train",
        "ferry:Ferry",
        "--iterations",
        "30",
        "--run",
        "out",
        "--json",
        "--threads",
        "1",
    ]
    done = subprocess.run(
        [Path(sys.executable).parent / "metarl", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    import json

    returns = json.loads(done.stdout)["return_mean"]
    assert returns[3] - returns[0] > 2.0, returns


def test_every_command_named_in_the_docs_exists():
    from metarl.cli import COMMANDS

    for doc in DOCS:
        for command in re.findall(r"`metarl (\w+)", doc.read_text()):
            assert command in COMMANDS, f"{doc.name}: metarl {command}"


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_linked_file_exists(doc):
    for target in re.findall(r"\]\(([^)#:]+)\)", doc.read_text()):
        assert (doc.parent / target).exists(), f"{doc.name}: {target}"


def test_nothing_is_left_to_fill_in():
    for doc in DOCS:
        assert not re.search(r"\b(OUTPUT|RESULTS|TABLE|FERRY)\b", doc.read_text()), doc.name
