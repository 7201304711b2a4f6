"""RL²'s random decision processes against their definition, and the anchors in the docstring."""

import math
from itertools import product
from statistics import NormalDist

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import UsageError, make_task, parameters
from metarl.envs.bandits.tabular_mdp import TabularMDP

FAMILY = TabularMDP()
TINY = TabularMDP(states=3, actions=2, horizon=3)


def tables_by_definition(family, task, n):
    """reward[s][a] and move[s][a][t] of one task, from its parameters by name."""
    task = {name: column[n].item() for name, column in task._asdict().items()}
    states, actions = range(family.states), range(family.actions)
    reward = [
        [NormalDist(1.0, 1.0).inv_cdf(task[f"reward_{s}_{a}"]) for a in actions] for s in states
    ]
    weight = [
        [[-math.log(task[f"move_{s}_{a}_{t}"]) for t in states] for a in actions] for s in states
    ]
    return reward, [[[w / sum(row) for w in row] for row in rows] for rows in weight]


def double(task):
    return type(task)(*(x.double() for x in task))


@pytest.mark.parametrize("family", [FAMILY, TINY, TabularMDP(states=4, actions=7)])
def test_every_step_is_that_of_the_definition(family):
    task, gen = double(draw(family, 5)), torch.Generator().manual_seed(0)
    tables = [tables_by_definition(family, task, n) for n in range(5)]
    state = family.reset(task, torch.zeros(5, 3, 0, dtype=torch.float64))
    place = [[0] * 3 for _ in range(5)]
    visited = set()
    for t, act in enumerate(random_acts(family, (30, 5, 3))):
        want = torch.nn.functional.one_hot(torch.tensor(place), family.states)
        assert torch.equal(family.observe(state), want.double())
        noise = torch.rand(5, 3, 2, dtype=torch.float64, generator=gen)
        state, rew, terminated = family.step(state, act, task, noise)
        assert not terminated.any()
        assert (state.time == t + 1).all()
        assert state.last.tolist() == place
        for n, b in product(range(5), range(3)):
            reward, move = (table[place[n][b]][int(act[n, b])] for table in tables[n])
            luck = noise[n, b].tolist()
            assert_close(rew[n, b].item(), NormalDist(reward, 1.0).inv_cdf(luck[1]))
            reach = [sum(move[: i + 1]) for i in range(family.states - 1)]
            place[n][b] = sum(luck[0] >= x for x in reach)
            visited.add(place[n][b])
    assert len(visited) == family.states


def test_each_parameter_moves_its_own_entry_of_the_tables():
    """No dead one among the 550, and none that stands for another."""
    base = make_task(FAMILY)
    every = torch.cat(base, dim=-1).expand(551, 550).clone()
    every[1:].diagonal().fill_(0.001)
    reward, move = FAMILY.tables(type(base)(*every.unsqueeze(-1).unbind(1)))
    weight = -torch.cat(base, dim=-1)[0, 50:].log().view(50, 10)
    for i, name in enumerate(base._fields, start=1):
        kind, s, a, *t = name.split("_")
        pair = 5 * int(s) + int(a)
        other_reward, other_move = (reward[i] != reward[0]), (move[i] != move[0]).any(-1)
        changed = other_reward if kind == "reward" else other_move
        assert changed.nonzero().tolist() == [[pair]]
        assert not (other_move if kind == "reward" else other_reward).any()
        if kind == "reward":
            assert_close(
                reward[i, pair].item(), NormalDist(1.0, 1.0).inv_cdf(0.001), rtol=1e-5, atol=0
            )
        else:
            row = weight[pair].clone()
            row[int(t[0])] = -math.log(0.001)
            assert_close(move[i, pair], row / row.sum())


def test_rewards_are_normal_and_transitions_flat_dirichlet():
    """Of 400 tasks: quantiles of the marginals, and a Dirichlet's negative correlation."""
    reward, move = FAMILY.tables(draw(FAMILY, 400))
    for x in (-1.0, 0.0, 1.0, 2.5):
        share = (reward <= x).double().mean().item()
        assert_close(share, NormalDist(1.0, 1.0).cdf(x), rtol=0, atol=0.01)
    assert_close(move.sum(-1), torch.ones(400, 50))
    for x in (0.01, 0.1, 0.3, 0.5):
        share = (move > x).double().mean().item()
        assert_close(share, (1 - x) ** 9, rtol=0, atol=0.004)
    related = move.flatten(0, 1).T.corrcoef()
    assert_close(related.fill_diagonal_(-1 / 9), torch.full((10, 10), -1 / 9), rtol=0, atol=0.03)


@pytest.mark.parametrize("quantile", [0.0, 1.0])
def test_the_ends_of_the_ranges_are_finite(quantile):
    task = FAMILY.task_type(*torch.full((550, 1, 1), quantile))
    reward, move = FAMILY.tables(task)
    assert (reward - 1).abs().max() < 5
    assert_close(move, torch.full_like(move, 0.1))
    noise = torch.tensor([[[0.0, 0.0]], [[1 - 2.0**-24] * 2]]).view(1, 2, 2)
    start = FAMILY.reset(task, noise[..., :0])
    state, rew, _ = FAMILY.step(start, torch.zeros(1, 2, dtype=torch.long), task, noise)
    assert state.place.tolist() == [[0, 9]]
    assert (rew[0] - reward[0, 0]).tolist() == pytest.approx([-5.4, 5.3], abs=0.1)


def test_the_same_process_in_every_episode_and_no_other():
    """Tables made by `reset` are those of the task, for each of its episodes."""
    task = draw(FAMILY, 3)
    state = FAMILY.reset(task, torch.zeros(3, 4, 0))
    reward, move = FAMILY.tables(task)
    assert_close(state.reward, reward.unsqueeze(1).expand(3, 4, 50))
    steps = state.reach.diff(dim=-1, prepend=torch.zeros(3, 4, 50, 1))
    assert_close(steps, move[..., :-1].unsqueeze(1).expand(3, 4, 50, 9))
    assert state.reach.untyped_storage().nbytes() < 3 * 600 * 4, "a copy for each episode"


def test_parameters_name_every_entry():
    names = list(parameters(TINY))
    assert names[:6] == [f"reward_{s}_{a}" for s in range(3) for a in range(2)]
    assert names[6:9] == ["move_0_0_0", "move_0_0_1", "move_0_0_2"]
    assert len(names) == 6 + 18
    assert len(parameters(FAMILY)) == 550


@pytest.mark.parametrize("constants", [{"states": 1}, {"actions": 1}, {"horizon": 0}])
def test_constants_that_are_no_process_are_refused(constants):
    with pytest.raises(
        UsageError, match=r"tabular-mdp: (states=1|actions=1|horizon=0) is out of bounds"
    ):
        TabularMDP(**constants)


def test_without_adapting_every_policy_gets_1_a_step():
    """Exactly, over a task and the one whose rewards lie as far on the other side of 1, both played
    with mirrored luck: such pairs are drawn equally often, and look the same to a policy."""
    task, gen = draw(FAMILY, 50), torch.Generator().manual_seed(0)
    mirrored = type(task)(*(1 - x for x in task[:50]), *task[50:])
    for _ in range(3):
        policy = torch.randint(5, (FAMILY.horizon, FAMILY.states), generator=gen)
        states = [FAMILY.reset(t, torch.zeros(50, 4, 0)) for t in (task, mirrored)]
        total = torch.zeros(2, 50, 4)
        for t in range(FAMILY.horizon):
            noise = torch.rand(50, 4, 2, generator=gen)
            for i, luck in enumerate((noise, torch.stack((noise[..., 0], 1 - noise[..., 1]), -1))):
                act = policy[t][states[i].place]
                states[i], rew, _ = FAMILY.step(states[i], act, (task, mirrored)[i], luck)
                total[i] += rew
        assert_close(total.sum(0), torch.full((50, 4), 20.0), rtol=0, atol=1e-3)
        assert total.std() > 2


def value_by_definition(reward, move, plan, left, state):
    """Expected return of plan[left][state] with `left` steps to go."""
    if left == 0:
        return 0.0
    act = plan[left - 1][state]
    return reward[state][act] + sum(
        p * value_by_definition(reward, move, plan, left - 1, nxt)
        for nxt, p in enumerate(move[state][act])
    )


def test_oracle_is_the_best_of_all_512_plans():
    """Plans that say what to do in each of three states at each of three times."""
    task = double(draw(TINY, 12))
    state = TINY.reset(task, torch.zeros(12, 3, 0, dtype=torch.float64))
    state = state._replace(place=torch.arange(3).expand(12, 3))
    told = [TINY.oracle(state._replace(time=state.time + 3 - left), task) for left in (1, 2, 3)]
    for n in range(12):
        reward, move = tables_by_definition(TINY, task, n)
        rows = list(product(range(2), repeat=3))
        best = max(
            value_by_definition(reward, move, plan, 3, 0) for plan in product(rows, repeat=3)
        )
        plan = [x[n].tolist() for x in told]
        assert_close(value_by_definition(reward, move, plan, 3, 0), best)
    assert len({tuple(x.flatten().tolist()) for x in told}) > 1, "time makes no difference: blind"


def test_anchors_are_those_in_the_docstring():
    task = draw(FAMILY, 3000)
    oracle, chance = (
        play(FAMILY, task, actor, episodes=4)[1].sum(0).mean().item()
        for actor in (FAMILY.oracle, None)
    )
    assert_close(oracle, 21.8, rtol=0, atol=0.15)
    assert_close(chance, 10.0, rtol=0, atol=0.15)


def test_frame_shows_where_the_agent_is_and_how_long_it_played():
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.zeros(1, 1, 0))
    for time, place in ((0, 0), (4, 5), (10, 8)):
        at = state._replace(place=state.place + place, time=state.time + time)
        picture = torch.from_numpy(FAMILY.frame(at, task).copy())
        assert picture.shape == (340, 480, 3)
        blue = (picture == torch.tensor([40, 90, 200])).all(-1).nonzero().double().mean(0)
        turn = 2 * math.pi * place / 10
        want = torch.tensor([160 - 125 * math.cos(turn), 165 + 125 * math.sin(turn)]).double()
        assert_close(blue, want, rtol=0, atol=2)
        dark = (picture[327] == torch.tensor([60, 60, 66])).all(-1).sum().item()
        assert abs(dark - 44 * time) < 5


def test_frame_has_a_bar_for_what_each_action_pays_here():
    rewards = {"reward_0_0": 0.9, "reward_0_1": 0.01}
    state = FAMILY.reset(task := make_task(FAMILY, **rewards), torch.zeros(1, 1, 0))
    bars = torch.from_numpy(FAMILY.frame(state, task).copy())[:, 330:]
    for row, hue, quantile in ((56, (231, 111, 81), 0.9), (104, (42, 157, 143), 0.01)):
        columns = (bars[row] == torch.tensor(hue)).all(-1).nonzero().flatten() - 54
        mean = NormalDist(1.0, 1.0).inv_cdf(quantile)
        assert abs(len(columns) - abs(18 * mean)) <= 3
        assert (columns.double().mean() > 0) == (mean > 0)
