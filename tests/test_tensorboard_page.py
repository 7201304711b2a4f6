"""docs/tensorboard.md names what a run writes, and nothing else."""

import re
from pathlib import Path

from metarl.tracking.metric_names import TAGS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "tensorboard.md").read_text()


def test_the_table_has_every_tag_with_its_unit_and_meaning():
    table = PAGE.split("## Every name")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert {name: (unit, meaning) for name, unit, meaning in rows} == TAGS
    assert [name for name, *_ in rows] == list(TAGS)


def test_every_tag_in_the_text_exists():
    named = re.findall(r"`((?:train|eval|inner|time|step_size|weight_change|about)/\w+)`", PAGE)
    assert named
    assert not [name for name in named if name not in TAGS]


def test_its_pictures_are_small():
    shown = re.findall(r"\]\((tensorboard-[\w-]+\.png)\)", PAGE)
    assert len(shown) >= 3
    for name in shown:
        assert (DOCS / name).stat().st_size < 200_000
