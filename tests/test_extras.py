"""What pyproject.toml offers to install, and what the code tells a person to install."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from metarl.envs import UsageError, make_family
from metarl.envs.gym.preprocessing.minigrid import level_seeds
from metarl.envs.gym.specs import PACKAGES
from metarl.envs.gym.specs import SUITES as BY_ID
from metarl.envs.suites import SUITES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def plain(requirement):
    """`gymnasium[box2d]>=1` -> `gymnasium`, spelt as an index of packages does."""
    return re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-")


def test_all_is_all_and_tests_have_it():
    inside = set(re.search(r"\[(.+)\]", EXTRAS["all"][0])[1].split(","))
    assert inside == set(EXTRAS) - {"all", "test"}
    assert "metarl-toolkit[all]" in EXTRAS["test"]


def test_every_package_has_its_version_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    pinned = [plain(line) for line in lines if re.fullmatch(r"\S+==[\w.]+", line)]
    assert len(pinned) == len(lines)
    assert len(set(pinned)) == len(pinned)
    wanted = {plain(r) for rs in (PROJECT["dependencies"], *EXTRAS.values()) for r in rs}
    assert wanted - {"metarl-toolkit"} <= set(pinned)


def test_the_extras_that_messages_name_exist():
    named = {suite.extra for suite in BY_ID.values()} | {extra for _, extra in PACKAGES.values()}
    assert named <= set(EXTRAS)


@pytest.mark.parametrize("name", [*SUITES, "metaworld-ml1-door-open"])
def test_a_missing_package_is_told_with_what_installs_it(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    for package in ("Box2D", "ale_py", "cv2", "metaworld", "minigrid", "minigrid.wrappers"):
        monkeypatch.setitem(sys.modules, package, None)  # can't be imported
    level_seeds.cache_clear()
    with pytest.raises(UsageError) as error:
        make_family(name)
    extra = re.search(r'pip install "metarl-toolkit\[(\w+)\]"$', str(error.value))[1]
    assert extra in EXTRAS
    assert extra in name or (name, extra) == ("lunar-lander", "box2d")
