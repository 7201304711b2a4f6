"""Every block of README.md and of docs/ runs, page by page, in the order in which it stands.

All blocks of a page share one empty folder and one Python. An HTML comment in the line before
a block may say:

    <!-- file: NAME -->      the block is what NAME holds
    <!-- run: WORDS -->      trainings and benchmarks get WORDS at their end, to be short
    <!-- not run: WHY -->    its `metarl` commands are only parsed

WORDS and WHY may begin with NAME=VALUE, which fills in NAME where the block has it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import metarl
from metarl.cli.arguments import COMMANDS
from metarl.cli.main import parse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<how>file|run|not run): (?P<more>.*?) -->\n)?"
    r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
PACKAGES = {  # what a page's commands need beyond the core
    "LunarLander|lunar-lander": "Box2D",
    "ALE/|atari-": "ale_py",
    "MiniGrid|minigrid-": "minigrid",
    "half-cheetah|ant-dir|bench cheetah": "mujoco",
}
# The environment of a reader that README names.
MINE = """
import gymnasium
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.envs.adapters.gym_env import GymView


class MyEnv(GymView):
    def __init__(self, friction=0.5, render_mode=None):
        super().__init__(PointNavigation(), render_mode)
        self.friction = friction

    def step(self, action):
        return super().step(action * (1 - self.friction / 2))


gymnasium.register("MyEnv-v0", "my_package.my_env:MyEnv", max_episode_steps=20)
"""


class Block(NamedTuple):
    kind: str  # bash, python, text, yaml
    text: str
    how: str | None  # file, run, not run
    more: str


def blocks(page):
    """The blocks of a page's text, with their blanks filled in."""
    found = []
    for match in BLOCK.finditer(page):
        text, more = match["text"], match["more"] or ""
        while blank := re.match(r"([A-Z]+)=(\S+) ?", more):
            text, more = re.sub(rf"\b{blank[1]}\b", blank[2], text), more[blank.end() :]
        found.append(Block(match["kind"], text, match["how"], more))
    return found


START = """
import subprocess
from pathlib import Path as _Path
from metarl.cli.main import main as _main

def _metarl(words):
    print("$ metarl", *words, flush=True)
    if code := _main(words):
        raise SystemExit(code)

"""


def script(page):
    """A page as one Python program.

    A line that is a `metarl` command and nothing else is carried out by this program, without the
    seconds that starting another Python takes; what else a Bash block has is Bash's.
    """
    parts = [START]
    for kind, text, how, more in blocks(page):
        if how == "file":
            parts.append(f"_Path({more!r}).write_text({text!r})\n")
        elif kind == "python":
            parts.append(text)
        elif kind == "bash" and how != "not run":
            parts += [carried_out(line, more) for line in joined(text).splitlines()]
    return "".join(parts)


def joined(text):
    """A Bash block with its continued lines joined."""
    return re.sub(r" \\\n *", " ", text)


def carried_out(line, more):
    if not re.fullmatch("metarl [^&|;<>]*", line):
        return f"subprocess.run(['bash', '-euxc', {line!r}], check=True)\n"
    words = shlex.split(line, comments=True)[1:]
    if words[0] in ("train", "bench"):
        words += shlex.split(more)
    return f"_metarl({words!r})\n"


def commands(text):
    """What comes after `metarl` in each command of a Bash block."""
    for part in re.split(r"&&|[|\n]", joined(text)):
        words = shlex.split(part, comments=True)
        if words[:1] == ["metarl"]:
            yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    found = blocks(page.read_text())
    for mark, package in PACKAGES.items():
        if any(b.kind != "text" and re.search(mark, b.text) for b in found):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("my_package").mkdir()
    Path("my_package", "my_env.py").write_text(MINE)
    shutil.copytree(ROOT / "examples", "examples")
    Path("page.py").write_text(script(page.read_text()))
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mine = {"PATH": paths, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "page.py"],
        env={**os.environ, **mine},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for block in found:
        if block.how == "not run":
            for words in commands(block.text):
                parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_what_a_block_is_stands_in_its_fence(page):
    """Nothing is left out of the test above by a fence that it doesn't know."""
    text = page.read_text()
    found = blocks(text)
    assert {b.kind for b in found} <= {"bash", "python", "text", "yaml"}
    assert 2 * len(found) == len(re.findall("^```", text, re.MULTILINE))
    assert sum(b.how is not None for b in found) == len(
        re.findall(r"^<!-- (?:file|run|not run):", text, re.MULTILINE)
    )


def test_the_example_is_the_tutorials():
    (game,) = [b for b in blocks((ROOT / "docs/tutorial.md").read_text()) if b.more == "catch.py"]
    assert (ROOT / "examples/catch.py").read_text() == game.text


def test_a_wrong_block_is_found(tmp_path):
    """Of each kind: what fails in it fails."""
    page = "<!-- not run: X=forager takes long -->\n```bash\nmetarl train X --nonsense 3\n```\n"
    (block,) = blocks(page)
    assert list(commands(block.text)) == [["train", "forager", "--nonsense", "3"]]
    assert "nonsense" not in script(page)
    page = "<!-- run: --iterations 2 -->\n```bash\nmetarl train\nmetarl algos\n```\n"
    assert "_metarl(['train', '--iterations', '2'])\n_metarl(['algos'])" in script(page)
    for text in ("```bash\nfalse\n```\n", "```python\nundefined\n```\n"):
        done = subprocess.run([sys.executable, "-c", script(text)], capture_output=True, cwd=ROOT)
        assert done.returncode == 1
    page = "```bash\nmetarl train \\\n  --iterations 2\n```\n"
    assert "_metarl(['train', '--iterations', '2'])\n" in script(page)
    page = "```bash\nmetarl evaluate nowhere\n```\n"
    done = subprocess.run([sys.executable, "-c", script(page)], capture_output=True, cwd=ROOT)
    assert done.returncode == 2


def test_every_command_named_in_the_docs_exists():
    for page in PAGES:
        for command in re.findall(r"`metarl (\w+)", page.read_text()):
            assert command in COMMANDS, f"{page.name}: metarl {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_linked_file_exists(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_nothing_is_left_to_fill_in():
    for page in PAGES:
        assert not re.search(r"\b(OUTPUT|RESULTS|TABLE|FERRY)\b", page.read_text()), page.name


@pytest.mark.learning
def test_the_tutorials_game_is_adapted_to(tmp_path, monkeypatch):
    """With half of its iterations; the page says what all of them reach."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    (game,) = [b for b in blocks(page) if b.more == "catch_tensors.py"]
    (tmp_path / "half_a_tutorial.py").write_text(game.text)
    monkeypatch.syspath_prepend(tmp_path)
    family = metarl.make_family("half_a_tutorial:Catch")
    cfg = metarl.preset("half_a_tutorial:Catch", inner_lr=1.0, iterations=30)
    *_, state = metarl.meta_train(cfg, family)
    result = metarl.evaluate(state.agent, family, steps=1)
    assert result.mean[1] - result.mean[0] > 1.0
    assert result.oracle.mean() > 2.99
