"""How baselines get the settings with which they adapt best, and a policy that can still learn."""

from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch

from metarl.baselines.ppo_model import PPOSettings, new_ppo, ppo_env, scale_head, weights_of
from metarl.baselines.sb3_ppo import LongTraining, adapt_to_variant
from metarl.baselines.tuning import (
    BOTH_UNTIL,
    ROUNDS,
    Candidate,
    Snapshot,
    from_scratch,
    from_snapshots,
    halving,
    scores_of,
    snapshots,
    to_json,
)
from metarl.envs import make_family, make_task

CFG = PPOSettings(gamma=0.0, gae_lambda=0.5, hidden=(32,), lr=1e-2)


def bandit(best):
    """One arm that pays nine times in ten, four that pay once."""
    family = make_family("bandit")
    return family, make_task(family, **{f"arm_{i}": 0.9 if i == best else 0.1 for i in range(5)})


def test_a_saturated_policy_learns_again_when_its_head_is_scaled_down():
    family, task = bandit(0)
    model = new_ppo(CFG, ppo_env(CFG, family, task, 50), family.horizon)
    model.learn(8 * 50 * family.horizon)
    scale_head(model, 50.0)
    start, other = weights_of(model), bandit(4)[1]
    stuck, _ = adapt_to_variant(CFG, family, other, 50, 20, 3, start)
    freed, _ = adapt_to_variant(CFG, family, other, 50, 20, 3, start, head=0.0005)
    assert stuck[-1] < 0.2 * family.horizon
    assert freed[-1] > 0.5 * family.horizon


def test_a_scaled_head_keeps_features_and_gives_back_the_first_noise():
    family = make_family("point-navigation")
    cfg = replace(CFG, log_std_init=-0.5)
    model = new_ppo(cfg, ppo_env(cfg, family, make_task(family), 4), 5)
    with torch.no_grad():
        model.policy.log_std.fill_(-3.5)
        model.policy.action_net.weight.fill_(2.0)
    before = weights_of(model)
    scale_head(model, 0.1)
    assert model.policy.action_net.weight.unique().item() == pytest.approx(0.2)
    assert model.policy.log_std.tolist() == pytest.approx([-0.8, -0.8])  # a tenth of the way
    for name, x in weights_of(model).items():
        assert (
            name in ("log_std", "action_net.weight", "action_net.bias") or (x == before[name]).all()
        ), name


def test_an_entropy_bonus_keeps_a_policy_from_saturating():
    family, task = bandit(0)
    nats = []
    for entropy in (0.0, 1.0):
        cfg = replace(CFG, entropy=entropy)
        env = ppo_env(cfg, family, task, 50)
        model = new_ppo(cfg, env, family.horizon).learn(8 * 50 * family.horizon)
        obs, _ = model.policy.obs_to_tensor(env.reset())
        nats.append(model.policy.get_distribution(obs).entropy().mean().item())
    assert nats[0] < 0.2
    assert nats[1] > 1.0  # of 1.6


def given(quality, played):
    """Plays a candidate: `quality` of it on each variant."""

    def play(candidate, first, last):
        played.append((candidate, first, last))
        job = Future()
        job.set_result([quality(candidate)] * (last - first))
        return job

    return play


def test_the_best_candidate_is_found_and_most_play_few_variants():
    candidates, played, scores = from_scratch(), [], {}
    best = halving(candidates, scores, given(lambda c: -abs(c.lr - 1e-2) - c.entropy, played))
    assert (best.lr, best.entropy) == (1e-2, 0.0)
    assert len(scores[best]) == ROUNDS[-1]
    variants = sum(last - first for _, first, last in played)
    assert variants < len(candidates) * ROUNDS[-1] / 2
    assert sum(len(s) == ROUNDS[0] for s in scores.values()) > len(candidates) / 2


def test_what_a_candidate_has_played_before_is_not_played_again():
    known, new = Candidate(0.1), Candidate(0.2)
    scores, played = {known: [1.0] * ROUNDS[-1]}, []
    assert halving([known, new], scores, given(lambda c: 2.0, played)) == new
    assert {c for c, *_ in played} == {new}


def test_a_choice_survives_its_record():
    start = Snapshot(0.05, 3, 100)
    scores = {Candidate(0.1, start=start, head=0.02): [1.0, 2.0], Candidate(0.1): [0.5]}
    best = next(iter(scores))
    record = to_json(best, scores)
    assert Candidate.from_json(record["chosen"]) == best
    assert scores_of(record) == scores


def test_starts_are_early_and_late_weights_of_one_training():
    plan = LongTraining(make_family("forager"), 10_000_000)
    early = snapshots(plan, (0.0, 0.05), late=False)
    late = snapshots(plan, (0.05,), late=True)
    shares = [s.done / s.chunks for s in early + late]
    assert shares == pytest.approx([0.03, 0.1, 0.03, 0.1, 0.3, 1.0], abs=0.01)
    assert max(s.done for s in early) / plan.chunks == pytest.approx(BOTH_UNTIL, abs=0.01)
    ways = from_snapshots(early, Candidate(1e-2, epochs=20))
    assert {w.head for w in ways} == {1.0, 0.1, 0.02}
    assert {w.epochs for w in ways} == {20}
