"""Estimators of the policy gradient against sums over single steps, to their second derivatives."""

import pytest
import torch
from agents_reference import POISON, living_steps
from inner_reference import estimate_by_definition
from torch.testing import assert_close

from metarl.agents.inner.estimators import ESTIMATORS
from metarl.agents.networks.distributions import Categorical
from metarl.agents.rollouts.batch import Batch

LENGTHS, T = [[4, 1, 3], [2, 4, 4]], 4  # of each task's episodes; and of the longest
N, B = len(LENGTHS), len(LENGTHS[0])
LAMBDAS = [1.0, 0.7, 0.0]
each = pytest.mark.parametrize(
    ("name", "lam"), [("lvc", 1.0), ("log-likelihood", 1.0), *(("dice", x) for x in LAMBDAS)]
)


def data(away=0.4):
    """Log probabilities `away` from those of the collecting weights, and a poisoned batch."""
    gen = torch.Generator().manual_seed(0)
    mask = living_steps(LENGTHS, T)
    weight = (mask / mask.sum((1, 2), keepdim=True)).flatten(1)
    old, adv, noise = (torch.randn(N, T * B, generator=gen).double() for _ in range(3))
    logp = old + away * noise
    dead = weight == 0
    # 1000 nats would make exponentials infinite.
    old[dead], adv[dead], logp[dead] = -POISON, POISON, 1000.0
    none = torch.zeros(N, T * B)
    return logp, Batch(none, none, old, adv, weight, Categorical(none), B)


def derivatives(f, logp):
    """Value (N,), gradient (N, M) and matrices of second derivatives (N, M, M) of each task."""
    total = torch.autograd.functional.hessian(lambda x: f(x).sum(), logp)
    slope = torch.autograd.functional.jacobian(lambda x: f(x).sum(), logp)
    return f(logp), slope, torch.stack([total[n, :, n] for n in range(N)])


@each
@pytest.mark.parametrize("away", [0.0, 0.4])
def test_it_is_the_sum_over_single_steps_that_defines_it(name, lam, away):
    logp, batch = data(away)
    got = derivatives(lambda x: ESTIMATORS[name](x, batch, lam), logp)
    want = derivatives(lambda x: estimate_by_definition(name, lam, x, batch), logp)
    assert_close(got, want)


@each
def test_padding_has_no_part_in_it(name, lam):
    logp, batch = data()
    dead = batch.weight == 0
    assert dead.sum(1).tolist() == [4, 2]
    value, slope, curvature = derivatives(lambda x: ESTIMATORS[name](x, batch, lam), logp)
    assert (slope[dead] == 0).all()
    assert (curvature[dead] == 0).all()
    assert (curvature.mT[dead] == 0).all()
    logp[dead], batch.logp[dead], batch.adv[dead] = 3.0, 5.0, -100.0
    assert_close(ESTIMATORS[name](logp, batch, lam), value, rtol=0, atol=0)


@each
def test_where_the_data_was_collected_all_have_the_gradient_of_the_score_function(name, lam):
    logp, batch = data(away=0.0)
    _, slope, _ = derivatives(lambda x: ESTIMATORS[name](x, batch, lam), logp)
    assert_close(slope, -batch.adv * batch.weight)


@each
def test_second_derivatives_there_keep_the_products_of_scores_that_they_should(name, lam):
    """By log probabilities: own squares, and times apart with weight lambda^distance.

    None in log-likelihood, only squares in lvc.
    """
    logp, batch = data(away=0.0)
    _, _, got = derivatives(lambda x: ESTIMATORS[name](x, batch, lam), logp)
    want = torch.zeros(N, T * B, T * B).double()
    for n in range(N):
        for b in range(B):
            for t in range(LENGTHS[n][b]):
                m = t * B + b
                credit = -batch.adv[n, m] * batch.weight[n, m]
                want[n, m, m] = 0 if name == "log-likelihood" else credit
                for s in range(t if name == "dice" else 0):
                    want[n, m, s * B + b] = want[n, s * B + b, m] = lam ** (t - s) * credit
    assert_close(got, want)


@pytest.mark.parametrize("away", [0.0, 0.4])
def test_dice_of_lambda_zero_has_the_derivatives_of_lvc(away):
    logp, batch = data(away)
    value, *dice = derivatives(lambda x: ESTIMATORS["dice"](x, batch, 0.0), logp)
    ratio, *lvc = derivatives(lambda x: ESTIMATORS["lvc"](x, batch, 1.0), logp)
    assert_close(dice, lvc)
    valid = torch.where(batch.weight > 0, batch.adv * batch.weight, 0)
    assert_close(value - ratio, valid.sum(1))  # the constants in which they differ


@pytest.mark.parametrize("lam", LAMBDAS)
def test_the_value_of_dice_is_zero_where_the_data_was_collected(lam):
    logp, batch = data(away=0.0)
    assert_close(ESTIMATORS["dice"](logp, batch, lam), torch.zeros(N).double(), rtol=0, atol=0)
