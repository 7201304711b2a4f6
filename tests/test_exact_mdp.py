"""Hessians of estimators where they are known exactly: all episodes of tiny decision processes."""

import pytest
import torch
from exact_mdp import (
    ACTIONS,
    STATES,
    all_episodes,
    expectation,
    expected_return,
    log_probability,
    random_mdp,
    returns_to_go,
    rewards,
    scores,
    tabular_params,
    tabular_policy,
    values,
)
from torch.testing import assert_close

from metarl.agents.inner.estimators import ESTIMATORS
from metarl.agents.networks.policy import act_dist

N, SIZE = 3, STATES * ACTIONS
EXACT = {"rtol": 0, "atol": 1e-10}
ALL = [("lvc", 1.0), ("dice", 1.0), ("dice", 0.7), ("dice", 0.0), ("log-likelihood", 1.0)]
each = pytest.mark.parametrize(("name", "lam"), ALL)
horizons = pytest.mark.parametrize("horizon", [1, 2, 3])


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def setup(horizon):
    """Processes (N), logits of the policy, all episodes."""
    logits = torch.randn(ACTIONS, STATES, generator=gen(1)).double()
    return random_mdp(N, gen()), logits, all_episodes(horizon)


def estimated_return(name, lam, batch):
    """Minus the loss, (N,), as a function of the logits."""
    policy = tabular_policy()

    def f(logits):
        dist = act_dist(policy, tabular_params(logits), batch.obs)
        return -ESTIMATORS[name](dist.log_prob(batch.act), batch, lam)

    return f


def hessian(f, logits):
    """Of each of the N numbers that f gives, (N, 4, 4)."""
    each = [
        torch.autograd.functional.hessian(lambda x, n=n: f(x)[n], logits)
        for n in range(len(f(logits)))
    ]
    return torch.stack(each).view(-1, SIZE, SIZE)


def products_of_scores(mdp, logits, ways, share):
    """E sum_u G_u sum_{s <= u} share(u - s) (g_s g_u' + g_u g_s'), once where s = u; (N, 4, 4)."""
    likely = log_probability(mdp, logits, ways).exp()
    score, togo = scores(logits, ways), returns_to_go(mdp, ways)
    total = torch.zeros(N, SIZE, SIZE).double()
    for u in range(len(score)):
        for s in range(u + 1):
            product = score[s].unsqueeze(-1) * score[u].unsqueeze(-2)
            both = product if s == u else product + product.mT
            total += share(u - s) * torch.einsum("ne,eij->nij", likely * togo[:, u], both)
    return total


@horizons
def test_the_enumeration_has_all_episodes(horizon):
    mdp, logits, ways = setup(horizon)
    likely = log_probability(mdp, logits, ways).exp()
    assert_close(likely.sum(1), torch.ones(N).double())
    mean = (likely * rewards(mdp, ways).sum(1)).sum(1)
    assert_close(mean, expected_return(mdp, logits, horizon), **EXACT)


@each
@horizons
def test_the_first_derivative_of_all_is_that_of_the_expected_return(name, lam, horizon):
    mdp, logits, ways = setup(horizon)
    f = estimated_return(name, lam, expectation(mdp, logits, ways))
    want = torch.autograd.functional.jacobian(lambda x: expected_return(mdp, x, horizon), logits)
    assert want.abs().max() > 0.1
    assert_close(torch.autograd.functional.jacobian(f, logits), want, **EXACT)


@horizons
def test_the_hessian_of_dice_is_that_of_the_expected_return(horizon):
    mdp, logits, ways = setup(horizon)
    got = hessian(estimated_return("dice", 1.0, expectation(mdp, logits, ways)), logits)
    want = hessian(lambda x: expected_return(mdp, x, horizon), logits)
    assert want.norm(dim=(1, 2)).min() > 0.05
    assert_close(got, want, **EXACT)


@horizons
def test_the_hessian_of_the_log_likelihood_lacks_all_products_of_scores(horizon):
    """It is wrong by 0.15 to 8 times the norm of the Hessian in these processes."""
    mdp, logits, ways = setup(horizon)
    got = hessian(estimated_return("log-likelihood", 1.0, expectation(mdp, logits, ways)), logits)
    want = hessian(lambda x: expected_return(mdp, x, horizon), logits)
    missing = products_of_scores(mdp, logits, ways, lambda distance: 1.0)
    assert_close(got + missing, want, **EXACT)
    assert (missing.norm(dim=(1, 2)) / want.norm(dim=(1, 2))).min() > 0.1


@horizons
@pytest.mark.parametrize(("name", "lam"), [("lvc", 1.0), *(("dice", x) for x in (0.0, 0.3, 0.7))])
def test_the_hessian_of_lvc_and_of_lambda_lacks_products_across_time_alone(name, lam, horizon):
    """lvc all of them; dice of lambda the share 1 - lambda^d at distance d: from lvc to exact."""
    mdp, logits, ways = setup(horizon)
    got = hessian(estimated_return(name, lam, expectation(mdp, logits, ways)), logits)
    want = hessian(lambda x: expected_return(mdp, x, horizon), logits)
    kept = 0.0 if name == "lvc" else lam
    missing = products_of_scores(mdp, logits, ways, lambda d: 1 - kept**d if d else 0.0)
    assert_close(got + missing, want, **EXACT)
    if horizon == 1:
        assert_close(got, want, **EXACT)
    else:
        assert missing.norm(dim=(1, 2)).min() > 1e-3


@horizons
def test_dice_is_the_gain_in_expected_return_of_every_policy(horizon):
    """Not only near the collecting one, which makes all its derivatives right everywhere."""
    mdp, logits, ways = setup(horizon)
    f = estimated_return("dice", 1.0, expectation(mdp, logits, ways))
    for seed in range(5):
        other = torch.randn(ACTIONS, STATES, generator=gen(seed)).double()
        gain = expected_return(mdp, other, horizon) - expected_return(mdp, logits, horizon)
        assert_close(f(other), gain, **EXACT)


def values_of_states(val, ways):
    """(N, T, E) of values (N, T, S)."""
    return torch.stack([val[:, t, s] for t, s in enumerate(ways.state)], dim=1)


@pytest.mark.parametrize(("name", "lam"), ALL[:4])
def test_no_baseline_of_state_and_time_changes_the_expected_hessian(name, lam):
    """Unlike that of the log likelihood, which depends on it."""
    mdp, logits, ways = setup(3)
    arbitrary = values_of_states(torch.randn(N, 3, STATES, generator=gen(2)).double(), ways)
    plain, other = (expectation(mdp, logits, ways, val) for val in (None, arbitrary))
    got, want = (hessian(estimated_return(name, lam, b), logits) for b in (other, plain))
    assert_close(got, want, **EXACT)
    got, want = (hessian(estimated_return("log-likelihood", 1, b), logits) for b in (other, plain))
    assert (got - want).norm(dim=(1, 2)).min() > 0.05


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5, 0.0])
def test_advantages_over_the_true_values_keep_dice_exact(gae_lambda):
    """For each lambda of the advantage estimate, which is biased over other values."""
    mdp, logits, ways = setup(3)
    val = values_of_states(values(mdp, logits, 3), ways)
    batch = expectation(mdp, logits, ways, val, gae_lambda)
    got = hessian(estimated_return("dice", 1.0, batch), logits)
    assert_close(got, hessian(lambda x: expected_return(mdp, x, 3), logits), **EXACT)
