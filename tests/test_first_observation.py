"""No hidden parameter can be read off the first observation: the agent has to find it out."""

import dataclasses

import pytest
import torch
from reference import TENSOR

from metarl.envs import FAMILIES, Choice, make_family, parameters, sample_tasks
from metarl.envs.checks.first_observation import first_observation, readable, values_of
from metarl.envs.games.snake import Snake

# Open to view by design, as the families' docstrings say; what has to be found out is the rest.
VISIBLE = {("breakout", "layout"), ("maze", "layout"), ("lunar-lander", "turbulence_power")}
TORCH = [name for name, cls in FAMILIES.items() if hasattr(cls, "task_type")]  # and MuJoCo's
CHEAP = ("half-cheetah-vel", "ant-goal", "humanoid-dir", "hopper-rand-params")


@pytest.mark.parametrize("name", TORCH)
def test_the_first_observation_depends_on_no_hidden_parameter(name):
    """With the same noise it is the same whatever a parameter is, so nothing can be read off it."""
    pytest.importorskip("mujoco") if name not in TENSOR else None
    family = make_family(name)
    task = sample_tasks(family, 1, torch.Generator().manual_seed(0))
    defaults, found = first_observation(family, task, 20), set()
    for parameter, known in parameters(family).items():
        moved = [
            task._replace(**{parameter: torch.full((1, 1), float(v))}) for v in values_of(known)
        ]
        if not all(torch.equal(first_observation(family, each, 20), defaults) for each in moved):
            found.add((name, parameter))
    assert found == {pair for pair in VISIBLE if pair[0] == name}


@pytest.mark.parametrize("name", [*TENSOR, *CHEAP, "lunar-lander"])
def test_no_regression_finds_a_hidden_parameter_in_the_first_observation(name):
    """Cross-validated, on the observation and on random features of it."""
    for package in ("Box2D",) if name == "lunar-lander" else () if name in TENSOR else ("mujoco",):
        pytest.importorskip(package)
    family = make_family(name)
    try:
        assert set(readable(family)) == {p for f, p in VISIBLE if f == name}
    finally:
        if hasattr(family, "close"):
            family.close()


class Scattered(Snake):
    """Food anywhere on the board from the start, which shows how large it is."""

    def reset(self, task, noise):
        boards = [dataclasses.replace(self, size=Choice((s,))) for s in self.size.values]
        states = [Snake.reset(board, task, noise) for board in boards]
        which = torch.stack([task.size == s for s in self.size.values])
        mixed = (torch.stack(x) for x in zip(*states, strict=True))
        return type(states[0])(
            *((x * which.view(*which.shape[:2], *[1] * (x.dim() - 2))).sum(0) for x in mixed)
        )


def test_the_regression_finds_what_is_there():
    assert set(readable(Scattered())) == {"size"}
