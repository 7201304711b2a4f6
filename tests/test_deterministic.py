"""Most likely actions: of distributions, rollouts and evaluations; never mixed with others."""

import json
import shutil

import numpy as np
import pytest
import torch
from planes import Lamp
from reference import draw
from small import metarl, refused
from test_agent_file import Switches, gen, grown
from test_compare import SMALL, make_run
from torch.testing import assert_close

from metarl.agents.networks.distributions import ABSENT, Categorical, Gaussian, MultiCategorical
from metarl.agents.networks.policy import act_dist
from metarl.agents.rng import stream
from metarl.envs import make_family, sample_tasks
from metarl.evaluation.evaluate import evaluate
from metarl.evaluation.result import Evaluation
from metarl.experiment.run import load, open_run

USAGE = 2


def test_the_mode_has_the_highest_probability():
    logits = torch.randn(5, 4, generator=gen())
    mode = Categorical(logits).mode()
    every = torch.stack([Categorical(logits).log_prob(torch.full((5,), k)) for k in range(4)])
    assert_close(Categorical(logits).log_prob(mode), every.amax(0))
    several = logits.view(5, 2, 2).clone()
    several[:, 1, 1] = ABSENT
    want = [[int(b > a), 0] for (a, b), _ in several]
    assert MultiCategorical(several).mode().tolist() == want
    mean = torch.randn(5, 2, generator=gen())
    assert torch.equal(Gaussian(mean, torch.zeros(2)).mode(), mean)


@pytest.mark.parametrize("family", [Switches(), Lamp()])
def test_a_deterministic_rollout_takes_the_most_likely_actions(family):
    agent, task = grown(family), draw(family, 3)
    data, sampled = (agent.play(family, task, 4, gen(2), deterministic=d) for d in (True, False))
    logits = act_dist(agent.policy, agent.params, data.obs.flatten(1, 2))[0]
    assert torch.equal(data.act, logits.argmax(-1).unflatten(1, data.rew.shape[1:]))
    assert not torch.equal(data.act, sampled.act)
    assert torch.equal(data.obs, sampled.obs)  # of a lamp they are chance alone
    assert_close(data.logp, data.dist.log_prob(data.act))


def test_a_deterministic_rollout_of_a_box_takes_the_means():
    family = make_family("point-navigation")
    agent, task = grown(family), draw(family, 3)
    data = agent.play(family, task, 4, gen(2), deterministic=True)
    mean = act_dist(agent.policy, agent.params, data.obs.flatten(1, 2)).mean
    assert_close(data.act, mean.unflatten(1, data.rew.shape[1:]) * data.mask.unsqueeze(-1))


@pytest.mark.parametrize("algo", ["promp", "rl2"])
@pytest.mark.parametrize("family", [Lamp(), make_family("point-navigation")])
def test_a_deterministic_evaluation_is_a_loop(family, algo):
    """It adapts from the episodes of a sampled evaluation, and reports further ones."""
    agent = grown(family, algo)
    asked = {"tasks": 3, "episodes": 4, "steps": 2, "seed": 5}
    found = evaluate(agent, family, **asked, deterministic=True)
    sampled = evaluate(agent, family, **asked)
    task = sample_tasks(family, 3, stream(5, "evaluate test tasks"), "test")
    for step in range(3):
        name = "evaluate deterministic episodes"
        data = agent.play(family, task, 4, stream(5, name, step), deterministic=True)
        want = data.episode_return().mean(1).double().numpy()
        np.testing.assert_array_equal(found.returns[:, step], want)
        learned_from = agent.play(family, task, 4, stream(5, "evaluate episodes", step))
        want = learned_from.episode_return().mean(1).double().numpy()
        np.testing.assert_array_equal(sampled.returns[:, step], want)
        agent = agent.learn(learned_from)
    assert (found.returns != sampled.returns).any()
    np.testing.assert_array_equal(found.env_steps, sampled.env_steps)


def test_a_record_says_which_actions_it_is_of():
    family = Lamp()
    for deterministic in (False, True):
        asked = {"tasks": 2, "episodes": 2, "steps": 1, "deterministic": deterministic}
        record = evaluate(grown(family), family, **asked).to_json("promp", 0)
        assert record["deterministic"] is deterministic
        assert Evaluation.from_json(record).deterministic is deterministic
    del record["deterministic"]  # as an older metarl wrote it
    assert Evaluation.from_json(record).deterministic is False


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    where = tmp_path_factory.mktemp("runs")
    return [make_run(where / str(seed), seed=seed) for seed in (0, 1)]


def returns_of(run, deterministic):
    family = make_family("point-navigation")
    asked = {"tasks": 5, "episodes": 2, "steps": 1, "deterministic": deterministic}
    return evaluate(load(run), family, **asked).returns.mean(0)


def test_the_command_reports_the_most_likely_actions(runs, tmp_path):
    record = tmp_path / "record.json"
    words = ("evaluate", runs[0], SMALL, "--deterministic --json", record)
    code, shown, err = metarl(*words)
    assert (code, err) == (0, "")
    assert "2 episodes a step, most likely actions" in " ".join(shown.split())
    found = json.loads(record.read_text())
    assert found["deterministic"] is True
    assert found["return_mean"] == pytest.approx(returns_of(runs[0], True))


@pytest.mark.parametrize("flag", ["--baselines", "--comparators"])
def test_what_is_played_with_sampled_actions_is_not_compared(runs, flag):
    parts = [f"--deterministic with {flag}", "leave out one of them"]
    refused("evaluate", runs[0], SMALL, "--deterministic", flag, code=USAGE, parts=parts)


def test_compare_evaluates_all_runs_alike(runs, tmp_path):
    for words, deterministic in (("--deterministic", True), ("", False)):
        record = tmp_path / "record.json"
        code, shown, err = metarl("compare", *runs, SMALL, words, "--json", record)
        assert (code, err) == (0, "")
        assert ("most likely actions" in shown) is deterministic
        found = json.loads(record.read_text())
        assert found["deterministic"] is deterministic
        want = np.mean([returns_of(run, deterministic) for run in runs], axis=0)
        assert found["rows"][0]["return_mean"] == pytest.approx(want)


def test_compare_refuses_to_mix(runs, tmp_path):
    """An evaluation.json of most likely actions serves only a comparison of those."""
    mixed = [shutil.copytree(run, tmp_path / run.name) for run in runs]
    own = mixed[0] / "evaluation.json"
    assert metarl("evaluate", mixed[0], SMALL, "--deterministic --json", own)[0] == 0
    parts = [f"{own} is of most likely actions", "give --deterministic", "or --force"]
    refused("compare", *mixed, SMALL, code=USAGE, parts=parts)
    written = json.loads(own.read_text())
    for row in written["per_task"]:  # so that it shows where it is taken from there
        row["returns"] = [7.0, 7.0]
    own.write_text(json.dumps(written))
    for words, want in (("--deterministic", 7.0), ("--force", returns_of(runs[0], False)[0])):
        record = tmp_path / "record.json"
        assert metarl("compare", *mixed, SMALL, words, "--json", record)[0] == 0
        (row,) = json.loads(record.read_text())["rows"]
        assert row["return_by_seed"][0][0] == pytest.approx(want)


@pytest.mark.parametrize("told", ["yes", 1, None, []])
def test_a_record_that_says_nothing_clear_is_not_taken(runs, tmp_path, told):
    """The folder may be untrusted: returns are of sampled actions, or of the others, or refused."""
    run = shutil.copytree(runs[0], tmp_path / "run")
    own = run / "evaluation.json"
    assert metarl("evaluate", run, SMALL, "--json", own)[0] == 0
    assert open_run(run).evaluation is not None
    own.write_text(json.dumps({**json.loads(own.read_text()), "deterministic": told}))
    assert open_run(run).evaluation is None
