"""Starting: a command loads what it needs, and a package its names when they are used."""

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from small import metarl as command
from write_families import NEEDED, lacking, text

import metarl
import metarl.envs
from metarl.cli.family_records import record
from metarl.cli.listing import FILE
from metarl.envs import FAMILIES
from metarl.envs.adapters.registration import IDS

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "stable_baselines3", "matplotlib", "tensorboard", "scipy"}
PACKAGES = pytest.mark.parametrize("package", [metarl.envs, metarl], ids=lambda p: p.__name__)


def python(code):
    """What a Python of its own prints, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def loaded_by(code):
    return set(python(f"{code}\nprint()\nprint(*sys.modules)")[-1].split()) & HEAVY


@pytest.mark.parametrize(
    "words", ["", "--help", "evaluate -h", "families", "families --json", "algos"]
)
def test_help_and_lists_load_nothing_heavy(words):
    code = f"import contextlib, sys\nwith contextlib.suppress(SystemExit): main({words.split()})"
    assert not loaded_by(f"from metarl.cli.main import main\n{code}")


def test_importing_metarl_loads_nothing_heavy_and_using_it_does():
    assert not loaded_by("import sys, metarl; dir(metarl); metarl.UsageError")
    assert "torch" in loaded_by("import sys, metarl; metarl.meta_train")


def test_training_loads_no_other_learner_and_no_figures(tmp_path):
    words = f"train --quiet --iterations 1 --tasks 2 --episodes 2 --run {tmp_path}/run".split()
    seen = loaded_by(
        "import sys\n"
        "from metarl.cli import main\n"
        "from metarl.experiment import train\n"
        "train.conclude = lambda *job: sys.exit(print('', *sys.modules, sep='\\n'))\n"
        f"try: main.main({words})\n"
        "except SystemExit: pass"
    )
    assert seen & {"torch", "gymnasium", "tensorboard"}
    assert not seen & {"stable_baselines3", "matplotlib", "scipy"}


@PACKAGES
def test_the_names_of_a_package_are_those_of_its_stub(package):
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    told = {(n.module, name.name, name.asname) for n in stub.body for name in n.names}
    assert {name for _, name, _ in told} == set(package.__all__) <= set(dir(package))
    for name_of, name, again in told:
        assert name == again  # which makes it public, for a type checker
        if name_of is None:  # a module
            assert getattr(package, name) is importlib.import_module(f"{package.__name__}.{name}")
            continue
        module = importlib.import_module(f"{package.__name__}.{name_of}")
        assert getattr(package, name) is getattr(module, name)


@PACKAGES
def test_no_public_name_is_a_module_which_would_hide_it_once_loaded(package):
    hidden = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert all(isinstance(getattr(package, n), ModuleType) for n in hidden & set(package.__all__))


@PACKAGES
def test_a_name_that_is_none_is_said_so(package):
    with pytest.raises(AttributeError, match=f"No {package.__name__} attribute x"):
        package.x  # noqa: B018


@pytest.mark.parametrize(
    "first",
    ["import gymnasium, metarl", "import metarl, gymnasium", "import metarl.cli.main, gymnasium"],
)
def test_gymnasium_knows_the_families_and_none_is_loaded(first):
    (line,) = python(f"{first}\nprint(gymnasium.spec('metarl/CartPole-v0').max_episode_steps)")
    assert line == "200"


def test_gymnasium_knows_every_family_in_tensors_with_its_horizon():
    tensor = {k: f for k in FAMILIES if not hasattr(f := FAMILIES[k], "simulate")}
    want = {f.__name__: (k, f().horizon) for k, f in tensor.items() if hasattr(f, "task_type")}
    assert want == IDS


def test_the_list_of_families_is_what_they_say_themselves():
    for package in NEEDED:
        pytest.importorskip(package)
    assert FILE.read_text() == text(), "changed: run `python tests/write_families.py`"


@pytest.mark.parametrize("missing", [["cv2"], sorted(NEEDED)], ids=["one", "all"])
def test_a_family_whose_package_is_missing_says_what_installs_it(missing):
    for package in NEEDED:
        pytest.importorskip(package)
    with lacking(missing):
        shown = json.loads(command("families --json")[1])
        assert shown == [record(name) for name in FAMILIES]
    assert any("needs" in told for told in shown)
