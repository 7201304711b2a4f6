"""A trust region's small settings, worlds and play, shared by its tests."""

import dataclasses
from typing import ClassVar

import torch
from gymnasium.spaces import MultiDiscrete

from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.batch import mean_kl
from metarl.config.presets import preset
from metarl.envs import sample_tasks
from metarl.envs.classic_control.cartpole import CartPole
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.envs.games.snake import Snake
from metarl.outer.inner_loop import adapt_again, chunks, collect_and_adapt
from metarl.outer.train_state import with_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import new_agent

SMALL = {"tasks": 3, "episodes": 3, "hidden": (5,), "inner_lr": 0.3, "damping": 0.0}


class Keys(PointNavigation):
    """Two keys at once instead of a velocity: left, none, right, and up or down."""

    action_space: ClassVar[MultiDiscrete] = MultiDiscrete([3, 2])

    def step(self, state, act, task, noise):
        x, y = act.unbind(-1)
        return super().step(state, 0.1 * torch.stack((x - 1.0, 2.0 * y - 1.0), -1), task, noise)


def world(name):
    families = {"keys": Keys, "walk": PointNavigation, "cartpole": CartPole, "snake": Snake}
    return families[name](horizon=8)


def small(inner_steps=1, **more):
    rule = {"max_kl": 0.01, "curvature_share": 1.0, "multi_step": False}
    more = {"family": "point-navigation", **SMALL, **rule, "inner_steps": inner_steps, **more}
    return preset(algo="maml-trpo", **more)


def problem(cfg, family="walk"):
    """Settings, an agent in float64 far from its first weights, those that train, and its play."""
    family = world(family)
    agent, gen = new_agent(cfg, family), torch.Generator().manual_seed(1)
    agent.policy.double()
    agent = dataclasses.replace(
        agent,
        params={
            k: (p + 0.3 * torch.randn(p.shape, generator=gen)).double()
            for k, p in agent.params.items()
        },
        inner_lr={k: p.double() for k, p in agent.inner_lr.items()},
    )
    weights = trained_weights(cfg, agent)
    task = sample_tasks(family, cfg.tasks, gen)
    task = type(task)(*(x.double() for x in task))
    agent = with_weights(agent, weights)
    data = [collect_and_adapt(cfg, agent, family, t, gen) for t in chunks(task, cfg.task_chunk)]
    return agent, weights, data


def kl_after_adaptation(cfg, agent, data):
    """KL from the policies that played to those of the agent's weights, mean over tasks; ()."""
    path = adapt_again(cfg, agent, data)
    played = [(path[-1], data.query)]
    if cfg.multi_step:
        played += [(path[k], data.support[k]) for k in range(1, cfg.inner_steps)]
    kl = [mean_kl(act_dist(agent.policy, fast, batch.obs), batch) for fast, batch in played]
    return sum(kl).mean() / len(kl)
