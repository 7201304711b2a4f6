"""Which runs are one row of a comparison, how rows are called, and what is refused."""

import dataclasses
from pathlib import Path

import pytest
from small import small

from metarl.comparison.run_groups import (
    check_distinct,
    check_fair,
    episodes_per_step,
    group,
    labels,
    trained,
)
from metarl.config.presets import preset
from metarl.config.settings import RunConfig
from metarl.envs import UsageError
from metarl.experiment.loaded_run import Run
from metarl.outer.train_state import TrainState


def job(cfg, env_steps=1000, iteration=None):
    state = TrainState(None, iteration=cfg.iterations if iteration is None else iteration)
    return Run(cfg, RunConfig(), None, dataclasses.replace(state, env_steps=env_steps))


def runs(*jobs):
    return {Path(f"runs/{i}"): each for i, each in enumerate(jobs)}


def test_seeds_of_the_same_settings_are_one_group():
    cfg = small("cartpole")
    settings = [
        dataclasses.replace(cfg, **x)
        for x in ({"seed": 4}, {"gamma": 0.5}, {"seed": 1}, {"gamma": 0.5, "seed": 4})
    ]
    assert group(settings) == [[0, 2], [1, 3]]


def test_a_run_that_went_on_for_longer_is_no_seed_of_the_others():
    cfg = small("cartpole")
    assert group([trained(job(cfg)), trained(job(cfg, iteration=99))]) == [[0], [1]]


def test_an_algorithm_as_shipped_is_called_by_its_name():
    assert labels([preset("forager", a) for a in ("promp", "maml", "rl2")]) == [
        "promp",
        "maml",
        "rl2",
    ]


def test_what_sets_rows_apart_is_named_and_what_they_share_is_not():
    rows = [
        preset("forager", "promp", gamma=0.5, hidden=(8, 8), multi_step=True),
        preset("forager", "promp", gamma=0.5),
        preset("forager", "maml", gamma=0.5, inner_lr=0.25),
    ]
    assert labels(rows) == ["promp, multi-step, hidden 8 8", "promp", "maml, inner-lr 0.25"]


def test_seeds_are_no_part_of_a_name():
    assert labels([preset("forager", seed=3), preset("forager", "maml", seed=4)]) == [
        "promp",
        "maml",
    ]


def test_rows_of_two_families_say_which():
    assert labels([preset("forager"), preset("cartpole")]) == [
        "promp on forager",
        "promp on cartpole",
    ]


def test_a_step_of_a_memory_costs_one_episode():
    cfg = preset("bandit", "rl2", episodes=7)
    assert episodes_per_step(cfg, None) == episodes_per_step(cfg, 5) == 1
    assert episodes_per_step(preset("bandit", episodes=7), None) == 7
    assert episodes_per_step(preset("bandit", episodes=7), 5) == 5


def test_the_same_settings_and_seed_twice_are_refused():
    cfg = small("cartpole", seed=3)
    with pytest.raises(UsageError, match="runs/0 and runs/1 have the same settings and seed 3: le"):
        check_distinct(runs(job(cfg), job(cfg)))
    check_distinct(runs(job(cfg), job(dataclasses.replace(cfg, seed=4))))


CFG = small("cartpole")


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (job(small("forager")), "runs/0 has family cartpole, runs/1 forager: compare runs that"),
        (job(small("cartpole", set=("horizon=9",))), "runs/0 has set none, runs/1 horizon=9: "),
        (job(small("cartpole", hold_out=("length=1:2",))), "runs/0 has hold-out none, runs/1 len"),
        (
            job(small("cartpole", episodes=3)),
            "runs/0 adapts with 2 episodes per step, runs/1 with 3",
        ),
        (job(CFG, iteration=2), r"runs/1 has 2 of its 3 iterations.*metarl train --resume runs/1"),
        (job(CFG, env_steps=1051), "runs/0 was meta-trained for 1,000 environment steps, runs/1 f"),
        (job(CFG, env_steps=940), "runs/1 was meta-trained for 940 environment steps, runs/0 for"),
    ],
)
def test_what_would_be_unfair_is_named_with_the_way_out(other, part):
    with pytest.raises(UsageError, match=f"{part}.*--force"):
        check_fair(runs(job(CFG), other), None)


@pytest.mark.parametrize(
    ("other", "episodes"),
    [
        (job(small("cartpole", "maml", hidden=(5,), inner_steps=2)), None),
        (job(CFG, env_steps=1049), None),
        (job(CFG, iteration=4), None),  # went on; its steps are what counts
        (job(small("cartpole", episodes=3)), 5),
    ],
)
def test_other_settings_of_learning_are_fair(other, episodes):
    check_fair(runs(job(CFG), other), episodes)
