"""A run is reopened on the family it was started on, field by field, or not at all."""

import dataclasses
import inspect
import json

import pytest
from reference import TENSOR
from small import at, metarl, refused, small

from metarl import evaluate, load, meta_train, preset
from metarl.config.family_record import KEPT, family_record, recorded_family
from metarl.config.settings import RunConfig
from metarl.envs import Choice, GymnasiumFamily, Range, UsageError, make_family, parameters
from metarl.envs.bandits.tabular_mdp import TabularMDP
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.envs.games.maze import Maze
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import open_run, start

RUN = RunConfig(eval_steps=1, workers=1)


def run_of(folder, family, **settings):
    """A run on a family object, with a checkpoint."""
    cfg = small(family.name, **settings)
    job = start(folder, cfg, RUN, family)
    save_checkpoint(folder / "checkpoints", cfg.family, at(job.state, 3), job.digest)
    return job


def returns(agent, family):
    return evaluate(agent, family, tasks=4, episodes=2, steps=1).returns.tolist()


@pytest.mark.parametrize(
    "family",
    [
        Maze(dark=True),
        Maze(size=4, goal=Choice((1.0, 3.0)), cost=1.0),
        TabularMDP(states=3, actions=2),
        PointNavigation(
            goal_x=Range(-0.1, 0.1, "m", extrapolation=(-1.0, 1.0), log=False), horizon=7
        ),
        PointNavigation(goal_x=Choice((0.1, 0.2), held_out=(0.2,))),
    ],
    ids=str,
)
def test_a_run_is_reopened_with_the_fields_of_its_family(tmp_path, family):
    job = run_of(tmp_path / "run", family)
    found = open_run(tmp_path / "run")
    assert (type(found.family), found.family) == (type(family), family)
    assert returns(found.state.agent, found.family) == returns(job.state.agent, family)
    shown = metarl("evaluate", tmp_path / "run", "--tasks 4 --episodes 2 --steps 1 --json -")[1]
    own = json.loads(shown)["per_task"]
    assert [task["returns"] for task in own] == returns(job.state.agent, family)


@pytest.mark.parametrize("name", TENSOR)
def test_every_family_of_metarl_can_be_recorded(name):
    cfg, family = small(name), make_family(name)
    for given in (True, False):
        record = json.loads(json.dumps(family_record(cfg, RUN, family, given)))
        assert "object" not in record
        assert recorded_family(cfg, RUN, record) == family


def test_fields_of_the_command_line_are_recorded_as_well(tmp_path):
    words = "train maze --set dark=true --iterations 1 --tasks 2 --episodes 2 --hidden 4 --quiet"
    code, _, err = metarl(words, "--track none --eval-steps 0 --run", tmp_path / "run")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["family"]["fields"]["dark"] is True
    assert open_run(tmp_path / "run").family == Maze(dark=True)


def cart_pole(**how):
    vary = {"length": Range(0.4, 0.6), "gravity": Choice((9.0, 10.0), held_out=(10.0,))}
    return GymnasiumFamily("CartPole-v1", vary, **{"fixed": {"max_episode_steps": 9}, **how})


def test_the_arguments_of_a_gymnasium_family_are_recorded(tmp_path):
    family = cart_pole(name="my-cart-pole", source="me", live=("gravity",))
    job = run_of(tmp_path / "run", family)
    family.close()
    found = open_run(tmp_path / "run").family
    for name in ("vary", "name", "source", "about", "env_config"):
        assert getattr(found, name) == getattr(family, name), name
    assert list(found.live) == ["gravity"]
    assert job.record["environment"] == "CartPole-v1"
    assert found.horizon == 9
    found.close()


def test_no_argument_of_a_gymnasium_family_is_forgotten():
    arguments = inspect.signature(GymnasiumFamily).parameters.keys()
    elsewhere = {"environment", "vary", "fixed", "functions", "workers", "step_timeout"}
    assert arguments == {*KEPT, *elsewhere}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"functions": {"gravity": lambda env, value: None}}, "gravity is set by a function"),
        ({"fixed": {"max_episode_steps": 9, "reward": len}}, "reward is a builtin_function"),
    ],
)
def test_what_cannot_be_recorded_asks_for_the_object(tmp_path, more, why):
    family = cart_pole(**more)
    cfg = small("CartPole-v1")
    record = family_record(cfg, RUN, family, given=True)
    with pytest.raises(UsageError, match=rf"can't be recorded \({why}.*load\(RUN, family="):
        recorded_family(cfg, RUN, record)


NEAR = Range(0.0, 0.1, "m")


@dataclasses.dataclass(frozen=True)
class Own(PointNavigation):
    """A family that no name leads to."""

    goal_y: Range = NEAR


def test_a_class_that_the_settings_do_not_name_asks_for_the_object(tmp_path):
    folder = tmp_path / "run"
    job = run_of(folder, Own())
    parts = ("can't be recorded (its class isn't what 'point-navigation' names)", "family=...")
    refused("evaluate", folder, code=2, parts=parts)
    with pytest.raises(UsageError, match="can't be recorded"):
        load(folder)
    assert returns(load(folder, family=Own()), Own()) == returns(job.state.agent, Own())


def test_another_family_than_the_run_was_started_on_is_refused(tmp_path):
    run_of(tmp_path / "run", Maze(dark=True))
    assert open_run(tmp_path / "run", family=Maze(dark=True)).family == Maze(dark=True)
    with pytest.raises(UsageError, match="started on maze with dark True, not False"):
        open_run(tmp_path / "run", family=Maze())
    with pytest.raises(UsageError, match="settings of 'maze' with the family 'forager'"):
        open_run(tmp_path / "run", family=make_family("forager"))


def test_settings_of_another_family_are_refused(tmp_path):
    cfg, family = preset("bandit", iterations=1), make_family("cartpole")
    words = "settings of 'bandit' with the family 'cartpole': give preset\\('cartpole'\\)"
    with pytest.raises(UsageError, match=words):
        next(meta_train(cfg, family))
    with pytest.raises(UsageError, match=words):
        start(tmp_path / "run", cfg, RUN, family)
    assert not (tmp_path / "run").exists()


class Pushed(PointNavigation):
    """Sees the same, and has other actions."""

    action_space = make_family("cartpole").action_space


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (make_family("cartpole"), "the agent observes"),
        (make_family("snake"), "the agent observes"),
        (Pushed(), "the agent's actions are"),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_an_agent_is_not_evaluated_where_it_does_not_fit(other, what):
    cfg, family = small("point-navigation"), make_family("point-navigation")
    state = next(meta_train(cfg, family))
    with pytest.raises(UsageError, match=what):
        evaluate(state.agent, other, tasks=2, episodes=2, steps=0)
    with pytest.raises(UsageError, match=what):
        next(meta_train(small(other.name), other, state))


def test_runs_of_other_fields_are_not_compared_as_one(tmp_path):
    run_of(tmp_path / "light", Maze(), seed=0)
    run_of(tmp_path / "dark", Maze(dark=True), seed=1)
    words = ("differ in the fields of their family", "--force")
    refused("compare", tmp_path / "light", tmp_path / "dark", "--steps 0", code=2, parts=words)


@pytest.mark.parametrize(
    "fields",
    [
        {"dark": 1},
        {"size": "x"},
        {"unknown": 1},
        {"goal": {"Range": {"low": "a", "high": 1.0}}},
        {"goal": {"Choice": {"values": {"tuple": ["x"]}}}},
        {"goal": {"Choice": {"values": {"tuple": []}}}},
        {"goal": {"Shell": {"command": "ls"}}},
        {"goal": [1.0]},
        {"size": {}},
    ],
    ids=str,
)
def test_a_damaged_record_is_one_line(fields):
    with pytest.raises(UsageError) as error:
        recorded_family(small("maze"), RUN, {"fields": fields})
    assert "\n" not in str(error.value)


def test_parameters_of_the_record_are_those_of_the_tasks(tmp_path):
    family = TabularMDP(states=2, actions=2)
    run_of(tmp_path / "run", family)
    assert parameters(open_run(tmp_path / "run").family) == parameters(family)
