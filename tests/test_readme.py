"""README's blocks and commands do what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from envs import FAMILIES

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
    from metarl.arguments import COMMANDS

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


MINE = """
import gymnasium
from envs.point_navigation import PointNavigation
from envs.gym_view import GymView


class MyEnv(GymView):
    def __init__(self, friction=0.5, render_mode=None):
        super().__init__(PointNavigation(), render_mode)
        self.friction = friction

    def step(self, action):
        return super().step(action * (1 - self.friction / 2))


gymnasium.register("MyEnv-v0", "my_package.my_env:MyEnv", max_episode_steps=20)
"""
NEEDS = {"LunarLander": "Box2D", "ALE/": "ale_py", "MiniGrid": "minigrid", "half-cheetah": "mujoco"}
TRAININGS = [
    line
    for doc in DOCS
    for block in blocks(doc.read_text(), "bash")
    for line in block.splitlines()
    if line.startswith("metarl train") and "--vary" in line
]


@pytest.mark.parametrize("line", TRAININGS)
def test_trainings_in_the_docs_start(line, tmp_path):
    """Two iterations of a few short episodes each."""
    for start, package in NEEDS.items():
        if start in line:
            pytest.importorskip(package)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_env.py").write_text(MINE)
    size = "--iterations 2 --tasks 2 --episodes 2 --eval-steps 1 --hidden 8 --quiet"
    if "max_episode_steps" not in line:
        size += " --set max_episode_steps=20"
    words = [*line.split()[1:], *size.split(), "--run", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "metarl", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "evaluation.json").exists()


def test_the_page_of_families_shows_each_with_a_picture():
    page = (ROOT / "docs" / "families.md").read_text()
    for name in FAMILIES:
        assert f"`{name}`" in page, name
        if not name.startswith("metaworld") or name.endswith("reach"):
            assert f"(families/{name}.png)" in page, name
    for picture in (ROOT / "docs" / "families").glob("*.png"):
        assert picture.stat().st_size < 100_000
