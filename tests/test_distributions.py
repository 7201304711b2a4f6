"""Action distributions against torch.distributions."""

import pytest
import torch
from agents_reference import torch_distribution
from torch.testing import assert_close

from metarl.agents.networks.distributions import ABSENT, Categorical, Gaussian, MultiCategorical

N, M, A = 3, 5, 4
COUNTS = (4, 1, 3)  # choices of several actions at once
ALMOST_ONE = 0.99999994  # the largest float32 below 1, the largest uniform noise there is


def gen():
    return torch.Generator().manual_seed(0)


def several(logits):
    """Choices among the first 4, 1 and 3 of A."""
    return MultiCategorical(
        logits.masked_fill(torch.arange(A) >= torch.tensor(COUNTS).unsqueeze(-1), ABSENT)
    )


def random_pair(kind):
    """Two distributions and actions for N tasks x M steps, float64."""

    def normal(*shape):
        return torch.randn(*shape, generator=g).double()

    g = gen()
    if kind == "categorical":
        act = torch.randint(A, (N, M), generator=g)
        return Categorical(3 * normal(N, M, A)), Categorical(3 * normal(N, M, A)), act
    if kind == "several":
        act = (torch.rand(N, M, len(COUNTS), generator=g) * torch.tensor(COUNTS)).long()
        return several(normal(N, M, 3, A)), several(normal(N, M, 3, A)), act
    shape = {"shared": (A,), "per task": (N, 1, A), "per step": (N, M, A)}[kind]
    one = Gaussian(normal(N, M, A), normal(*shape))
    return one, Gaussian(normal(N, M, A), normal(*shape)), normal(N, M, A)


KINDS = ["categorical", "several", "shared", "per task", "per step"]


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_that_of_torch(kind):
    dist, _, act = random_pair(kind)
    assert_close(dist.log_prob(act), torch_distribution(dist).log_prob(act))


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_that_of_torch(kind):
    dist, _, _ = random_pair(kind)
    assert_close(dist.entropy(), torch_distribution(dist).entropy())


@pytest.mark.parametrize("kind", KINDS)
def test_kl_is_that_of_torch_in_this_order(kind):
    one, two, _ = random_pair(kind)
    want = torch.distributions.kl_divergence(torch_distribution(one), torch_distribution(two))
    assert_close(one.kl(two), want)


@pytest.mark.parametrize("kind", KINDS)
def test_kl_to_itself_is_zero(kind):
    dist, _, _ = random_pair(kind)
    assert_close(dist.kl(dist), torch.zeros(N, M).double())


def test_a_gaussian_sums_over_action_dimensions():
    """A mean would make a wide action space learn A times slower."""
    dist, other, act = random_pair("per step")

    def dimension(d, i):
        return Gaussian(d.mean[..., i : i + 1], d.log_std[..., i : i + 1])

    parts = [(dimension(dist, i), dimension(other, i), act[..., i : i + 1]) for i in range(A)]
    assert_close(dist.log_prob(act), sum(d.log_prob(a) for d, _, a in parts))
    assert_close(dist.entropy(), sum(d.entropy() for d, _, _ in parts))
    assert_close(dist.kl(other), sum(d.kl(o) for d, o, _ in parts))


def test_entropy_of_a_gaussian_counts_dimensions_of_a_broadcast_log_std():
    dist = Gaussian(torch.zeros(N, M, A), torch.zeros(1))
    assert_close(dist.entropy(), torch.full((N, M), A * 1.4189385332046727))


def test_a_certain_categorical_has_entropy_zero():
    """Far logits: exp(logp) is 0 and logp finite, so nothing may become NaN."""
    dist = Categorical(torch.tensor([[1e4, 0.0, -1e4]]))
    assert_close(dist.entropy(), torch.zeros(1))
    assert_close(dist.log_prob(torch.tensor([0])), torch.zeros(1))


def test_gaussian_samples_have_its_mean_and_standard_deviation():
    dist = Gaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([-1.0, 0.5]))
    draws = dist.sample(dist.noise(100_000, gen=gen()))
    assert_close(draws.mean(0), dist.mean, atol=0.02, rtol=0)  # 4 standard errors of the wider
    assert_close(draws.std(0), dist.log_std.exp().view(1, 2), atol=0, rtol=0.01)


def test_categorical_samples_come_as_often_as_their_probability():
    dist = Categorical(torch.tensor([[0.0, 1.0, -1.0], [2.0, -3.0, 0.0]]))
    draws = dist.sample(dist.noise(100_000, gen=gen()))
    frequency = torch.stack([(draws == a).float().mean(0) for a in range(3)], dim=-1)
    assert_close(frequency, dist.logits.softmax(-1), atol=0.007, rtol=0)  # 4 standard errors


def test_categorical_sample_inverts_the_cumulative_distribution():
    dist = Categorical(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log())
    noise = torch.tensor([0.0, 0.1, 0.19, 0.21, 0.5, 0.69, 0.71, 0.99]).double().unsqueeze(-1)
    assert dist.sample(noise).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("logits", "first", "last"),
    [
        ([0.0, 0.0, 0.0], 0, 2),
        ([-float("inf"), 0.0, 0.0], 1, 2),  # noise 0 must not choose what is impossible
        ([0.0, 0.0, -float("inf")], 0, 1),
        ([0.1, 0.7, 0.3, 0.9, 0.2, 0.6, 0.4], 0, 6),  # float32 sums of these may miss 1
    ],
)
def test_the_edges_of_the_noise_choose_the_first_and_last_possible_action(logits, first, last):
    dist = Categorical(torch.tensor(logits))
    assert dist.sample(torch.tensor([0.0])).item() == first
    assert dist.sample(torch.tensor([ALMOST_ONE])).item() == last


def test_the_largest_noise_never_chooses_an_action_that_does_not_exist():
    """Rounding leaves some cumulative sums of 1000 below ALMOST_ONE; those need the clamp."""
    logits = torch.randn(1000, 50, generator=gen())
    assert (logits.softmax(-1).cumsum(-1)[:, -1] <= ALMOST_ONE).any()
    act = Categorical(logits).sample(torch.full((1000, 1), ALMOST_ONE))
    assert_close(act, torch.full((1000,), 49))


@pytest.mark.parametrize("kind", ["categorical", "several", "per task"])
def test_noise_has_the_shape_and_type_that_sample_needs(kind):
    dist, _, act = random_pair(kind)
    noise = dist.noise(7, gen=gen())
    last = {"categorical": (1,), "several": (3, 1), "per task": (A,)}[kind]
    assert noise.shape == (7, N, M, *last)
    assert noise.dtype == torch.float64
    assert dist.sample(noise[0]).shape == act.shape
    assert dist.sample(noise[0]).dtype == act.dtype
    assert_close(noise, dist.noise(7, gen=gen()), rtol=0, atol=0)


def test_several_actions_are_independent_categoricals():
    dist, other, act = random_pair("several")
    parts = [
        (Categorical(d[..., i, :n]), Categorical(o[..., i, :n]), act[..., i])
        for d, o in [(dist.logits, other.logits)]
        for i, n in enumerate(COUNTS)
    ]
    assert_close(dist.log_prob(act), sum(d.log_prob(a) for d, _, a in parts))
    assert_close(dist.entropy(), sum(d.entropy() for d, _, _ in parts))
    assert_close(dist.kl(other), sum(d.kl(o) for d, o, _ in parts))
    noise = dist.noise(gen=gen())
    each = [d.sample(noise[..., i, :]) for i, (d, _, _) in enumerate(parts)]
    assert_close(dist.sample(noise), torch.stack(each, -1))


def test_several_actions_never_choose_what_is_absent():
    """Rounding leaves some sums of all probabilities below the largest noise."""
    logits = torch.randn(1000, 1, 50, generator=gen()).masked_fill(torch.arange(50) >= 40, ABSENT)
    assert (logits.softmax(-1).cumsum(-1)[..., -1] <= ALMOST_ONE).any()
    act = MultiCategorical(logits).sample(torch.full((1000, 1, 1), ALMOST_ONE))
    assert_close(act, torch.full((1000, 1), 39))


def test_gradients_are_zero_at_absent_choices_and_finite_everywhere():
    dist, other, act = random_pair("several")
    logits = dist.logits.requires_grad_()
    both = MultiCategorical(logits)
    total = both.log_prob(act).sum() + both.entropy().sum() + both.kl(other).sum()
    (slope,) = torch.autograd.grad(total, logits, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), logits)
    for g in (slope, second):
        assert g.isfinite().all()
        assert (g[logits == ABSENT] == 0).all()
