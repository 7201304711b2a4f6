"""RL²'s bandit against its definition, and the anchors in its docstring."""

from statistics import NormalDist

import pytest
import torch
from reference import draw, play, random_acts, splits
from torch.testing import assert_close

from metarl.envs import UsageError, make_task, parameters
from metarl.envs.bandits.bandit import Bandit

FAMILY = Bandit()
GAUSSIAN = Bandit(gaussian=True)


def pull(family, task, act, luck):
    """Rewards (N, B) of one pull of `act` with the given luck, both (N, B)."""
    start = family.reset(task, torch.zeros(*act.shape, 0))
    return family.step(start, act, task, luck.unsqueeze(-1))[1]


def paid_by_definition(mean, luck, gaussian):
    if gaussian:
        return NormalDist(mean, 1.0).inv_cdf(luck)
    return 1.0 if luck < mean else 0.0


@pytest.mark.parametrize(
    "family", [FAMILY, GAUSSIAN, Bandit(arms=2), Bandit(arms=50, gaussian=True)]
)
def test_every_pull_is_that_of_the_definition(family):
    task, gen = draw(family, 6), torch.Generator().manual_seed(0)
    state = family.reset(task, torch.zeros(6, 4, 0))
    pulls, won = torch.zeros(6, 4, family.arms), torch.zeros(6, 4, family.arms)
    for act in random_acts(family, (15, 6, 4)):
        luck = torch.rand(6, 4, 1, generator=gen)
        state, rew, terminated = family.step(state, act, task, luck)
        for n, b in [(n, b) for n in range(6) for b in range(4)]:
            arm = int(act[n, b])
            mean = getattr(task, f"arm_{arm}")[n].item()
            want = paid_by_definition(mean, luck[n, b].item(), family.gaussian)
            assert_close(rew[n, b].item(), want, rtol=1e-5, atol=1e-5)
            pulls[n, b, arm] += 1
            won[n, b, arm] += want
        assert not terminated.any()
        assert not family.observe(state).any()
        assert_close((state.pulls, state.won, state.last), (pulls, won, act), rtol=1e-4, atol=1e-4)
    assert len(act.unique()) > 1


@pytest.mark.parametrize(("family", "spread"), [(FAMILY, 0.21), (GAUSSIAN, 1.0)])
def test_an_arm_pays_its_mean_on_average(family, spread):
    """Over luck on an even grid; a probability of 0.3 spreads by its square root times 0.7."""
    luck = ((torch.arange(10_000) + 0.5) / 10_000).view(1, -1)
    task = make_task(family, arm_3=0.3)
    rew = pull(family, task, torch.full_like(luck, 3, dtype=torch.long), luck)
    assert_close(rew.mean().item(), 0.3, rtol=0, atol=1e-3)
    assert_close(rew.var().item(), spread, rtol=0, atol=2e-3)


def test_the_worst_and_the_best_luck_are_finite():
    luck = torch.tensor([[0.0, 1 - 2.0**-24]])
    rew = pull(GAUSSIAN, make_task(GAUSSIAN), torch.zeros(1, 2, dtype=torch.long), luck)
    assert (rew.abs() < 7).all()
    assert rew[0, 0] < -4 < 4 < rew[0, 1]


@pytest.mark.parametrize("family", [FAMILY, GAUSSIAN])
def test_each_arm_alone_decides_what_it_pays(family):
    """No dead arm, and none that pays for another: luck is the same before and after."""
    act = torch.arange(5).repeat(100).view(1, -1)
    luck = ((torch.arange(100) + 0.5) / 100).repeat_interleave(5).view(1, -1)
    task = make_task(family)
    for arm, name in enumerate(task._fields):
        moved = task._replace(**{name: torch.tensor([[0.95]])})
        changed = pull(family, task, act, luck) != pull(family, moved, act, luck)
        assert set(act[changed].tolist()) == {arm}


def test_parameters_are_as_many_as_arms():
    task = draw(Bandit(arms=7), 3)
    assert task._fields == tuple(f"arm_{i}" for i in range(7))
    assert Bandit(arms=7).action_space.n == 7
    assert len(set(make_task(FAMILY)[:5])) == 5, "the task one gets without asking is no bandit"


def test_only_means_of_normal_arms_lie_beyond_0_and_1():
    assert splits(FAMILY) == ("train", "validation", "test")
    assert {p.bounds for p in parameters(FAMILY).values()} == {(0.0, 1.0)}
    task = torch.cat(draw(GAUSSIAN, 200, "extrapolate"), dim=-1)
    assert ((task < 0) | (task > 1)).all()
    assert task.min() < 0 < 1 < task.max()


@pytest.mark.parametrize("constants", [{"arms": 1}, {"horizon": 0}])
def test_constants_that_are_no_bandit_are_refused(constants):
    with pytest.raises(
        UsageError, match=r"bandit: (arms=1|horizon=0) is out of bounds: give a value in"
    ):
        Bandit(**constants)


@pytest.mark.parametrize("family", [FAMILY, GAUSSIAN])
def test_without_adapting_every_policy_gets_half_a_pull(family):
    """Exactly, over tasks and luck on an even grid, whichever arm is pulled: so any mixture too."""
    grid = (torch.arange(100) + 0.5) / 100
    task = family.task_type(*grid.view(-1, 1).expand(5, 100, 1))
    luck = ((torch.arange(1000) + 0.5) / 1000).expand(100, 1000)
    for arm in range(5):
        rew = pull(family, task, torch.full((100, 1000), arm), luck)
        assert_close(rew.mean().item(), 0.5, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arms", [2, 5])
@pytest.mark.parametrize("gaussian", [False, True])
def test_oracle_gets_the_mean_of_the_highest_of_the_arms(arms, gaussian):
    family = Bandit(arms=arms, gaussian=gaussian)
    task = draw(family, 20_000)
    state = family.reset(task, torch.zeros(20_000, 1, 0))
    best = family.oracle(state, task)
    means = torch.cat(task, dim=-1)
    assert (means.gather(-1, best) == means.amax(-1, keepdim=True)).all()
    _, rew, _ = play(family, task, family.oracle, episodes=2)
    assert_close(rew.mean().item(), arms / (arms + 1), rtol=0, atol=6e-3)


def test_frame_has_a_coin_for_each_pull_and_the_last_lever_down():
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.zeros(1, 1, 0))
    for arm, luck in ((1, 0.0), (4, 0.0), (4, 0.999), (4, 0.0)):
        noise = torch.full((1, 1, 1), luck)
        state, _, _ = FAMILY.step(state, torch.tensor([[arm]]), task, noise)
    picture = torch.from_numpy(FAMILY.frame(state, task).copy())
    columns = picture[:, 20:].unfold(1, 84, 84)  # (H, arms, 3, 84)

    def much(color, rows):
        return (columns[rows] == torch.tensor(color).view(3, 1)).all(2).sum((0, 2)).tolist()

    gold, grey = much((250, 204, 90), slice(155, None)), much((72, 80, 104), slice(155, None))
    assert [round(x / gold[1], 1) for x in gold] == [0, 1, 0, 0, 2]
    assert [round(x / gold[1], 1) for x in grey] == [0, 0, 0, 0, 1]
    white = much((250, 250, 248), slice(100, 155))
    assert [x > 50 for x in white] == [False, False, False, False, True]
    full = much((250, 204, 90), slice(20, 150))
    assert full == sorted(full), "windows are as full as the arms are good"
    assert full[0] < full[2] < full[4]
