"""`metarl evaluate RUN` repeats the evaluation that training ended with, to the last digit."""

import json

import pytest
import torch
from small import metarl

from metarl.config.settings_file import read_config

SMALL = "--iterations 1 --tasks 2 --hidden 8 --threads 1"


@pytest.mark.parametrize(
    "words",
    [
        "half-cheetah-dir --set horizon=5",  # 10 episodes a step as shipped
        "point-navigation --episodes 40",
        "bandit --episodes 7 --eval-steps 2 --task-chunk 9",
        "bandit --algo rl2 --trial 2 --eval-steps 4 --task-chunk 40",
    ],
)
def test_without_flags_the_numbers_are_those_of_the_run(words, tmp_path):
    if words.startswith("half-cheetah"):
        pytest.importorskip("mujoco")
    run = tmp_path / "run"
    assert metarl("train", words, SMALL, "--quiet --run", run)[0] == 0
    own = json.loads((run / "evaluation.json").read_text())
    code, out, _ = metarl("evaluate", run, "--json -")
    assert (code, json.loads(out)) == (0, own)
    settings, about = read_config(run)
    assert (own["episodes"], own["steps"]) == (settings.episodes, about.eval_steps)


def test_a_flag_changes_that_alone(tmp_path):
    run = tmp_path / "run"
    metarl("train bandit --episodes 7 --eval-steps 2", SMALL, "--quiet --run", run)
    own = json.loads((run / "evaluation.json").read_text())
    fewer = json.loads(metarl("evaluate", run, "--steps 1 --json -")[1])
    assert (fewer["steps"], fewer["episodes"]) == (1, 7)
    assert fewer["return_mean"] == own["return_mean"][:2]


def test_commands_on_a_run_take_its_device_unless_another_is_given(tmp_path, monkeypatch):
    run = tmp_path / "run"
    metarl("train bandit --device cpu", SMALL, "--quiet --run", run)
    asked = []
    monkeypatch.setattr(
        "metarl.experiment.run.choose_device",
        lambda name: asked.append(name) or torch.device("cpu"),
    )
    for words in ("evaluate", "compare", "watch"):
        metarl(words, run, "--tasks 2 --episodes 2 --steps 0")
        metarl(words, run, "--tasks 2 --episodes 2 --steps 0 --device cuda:7")
    assert asked == 3 * ["cpu", "cuda:7"]
