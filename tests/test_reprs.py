"""What a notebook or a debugger shows of an object is one line."""

from pathlib import Path

import pytest
from planes import Lamp
from reference import draw
from small import at, small, trained
from test_agent_file import gen, grown

from metarl.config.settings import RunConfig
from metarl.envs import make_family
from metarl.evaluation.evaluate import evaluate
from metarl.experiment.run import start

NAV = make_family("point-navigation")
AGENT = "Agent(MLP 2-8-2, 5 of 5 tensors fast, lvc, slow)"


def adapted(algo):
    return grown(NAV, algo).adapt(NAV, draw(NAV, 2), 1, 3, gen())


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (lambda: grown(NAV), AGENT),
        (
            lambda: grown(Lamp(), network="cnn", fast="head"),
            "Agent(CNN 256-8-4, 2 of 6 tensors fast, lvc, slow)",
        ),
        (
            lambda: adapted("promp"),
            "Agent(MLP 2-8-2, 5 of 5 tensors fast, lvc, 1 inner steps in 2 tasks)",
        ),
        (lambda: grown(NAV, "rl2"), "MemoryAgent(GRU 8, no trials under way)"),
        (lambda: adapted("fwp"), "MemoryAgent(FWP 8, 2 tasks x 3 trials under way)"),
        (
            lambda: grown(NAV).play(NAV, draw(NAV, 2), 3, gen()),
            "Rollout(2 tasks x 3 episodes, 100 steps at most, obs (2,))",
        ),
        (
            lambda: at(trained(), 12),
            f"TrainState(iteration 12, 1,200 env steps, {AGENT})",
        ),
    ],
)
def test_it_says_what_it_is_in_one_line(make, want):
    assert repr(make()) == want


def test_an_evaluation_says_what_adaptation_brought():
    found = evaluate(grown(NAV), NAV, tasks=2, episodes=2, steps=1, deterministic=True)
    means = f"{found.mean[0]:.2f} -> {found.mean[1]:.2f} after 1 inner steps"
    want = f"point-navigation: 2 test tasks, mean return {means}, most likely actions"
    assert repr(found) == f"Evaluation({want})"


def test_a_run_says_how_far_it_is(tmp_path):
    run = start(Path(tmp_path / "run"), small("point-navigation", "maml", seed=3), RunConfig())
    assert repr(run) == "Run(maml on point-navigation, seed 3, 0 of 3 iterations)"
