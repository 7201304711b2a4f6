"""README's blocks and commands do what it says."""

import re
import subprocess
import sys
from pathlib import Path

from metarl.envs import FAMILIES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text, kind):
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


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


def test_the_page_of_families_shows_each_with_a_picture():
    page = (ROOT / "docs" / "families.md").read_text()
    for name in FAMILIES:
        assert f"`{name}`" in page, name
        if not name.startswith("metaworld") or name.endswith("reach"):
            assert f"(families/{name}.png)" in page, name
    for picture in (ROOT / "docs" / "families").glob("*.png"):
        assert picture.stat().st_size < 100_000
