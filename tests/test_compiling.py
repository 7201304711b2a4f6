"""Compiled programs: the same numbers as without, in every family; what is said without them."""

import dataclasses
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from reference import TENSOR
from small import at, small, start
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from metarl.agents.compilation import _compiled, compiling
from metarl.agents.rollouts.rollout import collect
from metarl.config.settings import RunConfig
from metarl.envs import UsageError, make_family, sample_tasks
from metarl.experiment import run, train_run
from metarl.experiment.compile_mode import LONG, can_compile, worth_compiling
from metarl.experiment.loaded_run import Run
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.meta_objective import meta_gradient
from metarl.outer.train_state import TrainState
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def fresh():
    """Programs of other tests are not counted here."""
    torch._dynamo.reset()
    _compiled.cache_clear()
    yield
    _compiled.cache_clear()


@pytest.fixture
def traced(monkeypatch):
    """Functions are traced as ever, and counted, but run without a compiler, which takes long."""
    count = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    return count


def job(**more):
    cfg, family, state = start(**more)
    return Run(cfg, RunConfig(compile="on"), family, state)


def play(cfg, family, agent):
    task = sample_tasks(family, cfg.tasks, torch.Generator().manual_seed(1))
    return collect_and_adapt(cfg, agent, family, task, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["point-navigation", "repeated-rps"])
def test_compiled_is_the_same_to_rounding(name):
    cfg, family = small(name, tasks=4, inner_steps=2, multi_step=True), make_family(name)
    agent = new_agent(cfg, family)
    with compiling():
        got = play(cfg, family, agent)
    data = play(cfg, family, agent)._replace(path=[])
    for one, other in zip(got.rollouts, data.rollouts, strict=True):
        for field in ("obs", "act", "logp", "rew", "mask"):
            assert_close(getattr(one, field), getattr(other, field), **CLOSE)
    weights, runs = trained_weights(cfg, agent), []
    for on in (False, True):
        with compiling(on):
            loss, grads = meta_gradient(cfg, agent, weights, data)
        runs.append(torch.cat([loss.view(1), *(g.flatten() for g in grads.values())]))
    assert _compiled.cache_info().currsize == 3  # steps, adaptation and meta-gradient
    assert torch.linalg.vector_norm(runs[1] - runs[0]) < 1e-5 * torch.linalg.vector_norm(runs[0])


@pytest.mark.parametrize("name", TENSOR)
def test_a_rollout_of_every_family_is_a_program(name, traced):
    family = make_family(name)
    agent = new_agent(small(name), family)
    task = sample_tasks(family, 3, torch.Generator().manual_seed(1))
    runs = []
    for on in (False, True):
        with compiling(on):
            gen = torch.Generator().manual_seed(2)
            runs.append(collect(agent.policy, agent.params, family, task, 2, gen))
    for field in ("obs", "act", "rew", "mask"):
        assert_close(getattr(runs[1], field), getattr(runs[0], field), **CLOSE)
    assert traced.frame_count in (1, 2)  # a last part of a rollout may be shorter


@pytest.mark.parametrize(
    ("algo", "more"),
    [
        ("promp", {}),
        ("maml", {"lr_decay": True}),
        ("promp", {"normalize_obs": True}),
        ("cavia", {}),
        ("anil", {"fast": "lora"}),
        ("maml", {"step_size": "per-step", "multi_step": True, "inner_steps": 2}),
        ("maml-dice", {}),
        ("maml-trpo", {"baseline": "learned"}),
        ("reptile", {}),
        ("imaml", {}),
        ("es-maml", {}),
    ],
)
def test_training_is_the_same_and_compiles_in_its_first_iterations_alone(algo, more, traced):
    cfg, family = small("point-navigation", algo, **more), make_family("point-navigation")
    weights = []
    for on in (False, True):
        state, programs = TrainState(new_agent(cfg, family)), []
        for nxt in meta_train(cfg, family, state, compiled=on):
            weights.append(nxt.agent.params)
            programs.append(traced.frame_count)
    # What normalises observations is there from the second iteration on.
    assert 0 < programs[0] <= programs[1] == programs[2]
    for k, w in weights[2].items():
        assert_close(weights[5][k], w, **CLOSE)


def test_trying_to_compile_changes_nothing_and_says_how_long_it_took(traced):
    said, one = [], job()
    before = {k: p.clone() for k, p in one.state.agent.params.items()}
    assert can_compile(one, said.append)
    assert said[0].startswith("compiled in ")
    assert one.state.iteration == 0
    for k, p in one.state.agent.params.items():
        assert torch.equal(p, before[k])


def test_what_cannot_be_compiled_goes_on_without(monkeypatch):
    def step(self, state, act, task, noise):
        if act.sum() > 0:  # a program can't know
            pass
        return plain(self, state, act, task, noise)

    one = job()
    plain = type(one.family).step
    monkeypatch.setattr(type(one.family), "step", step)
    said = []
    assert not can_compile(one, said.append)
    assert len(said) == 1
    assert said[0].startswith("compilation failed")
    assert "\n" not in said[0]


def test_auto_compiles_long_runs_of_weights_alone():
    one = job()
    auto = dataclasses.replace(one, run=RunConfig())
    steps = 3 * 2 * one.family.horizon * (one.train.inner_steps + 1) * one.train.epochs

    def after(iterations, **more):
        return dataclasses.replace(
            auto, train=dataclasses.replace(one.train, iterations=iterations, **more)
        )

    long = int(LONG / steps) + 1
    assert not worth_compiling(after(long - 2))
    assert worth_compiling(after(long))
    assert not worth_compiling(after(long, outer="es"))
    # One that was interrupted goes on as it began, however little is left.
    assert worth_compiling(dataclasses.replace(after(long), state=at(one.state, 9)))
    off = dataclasses.replace(after(long), run=RunConfig(compile="off"))
    assert not worth_compiling(off)
    assert worth_compiling(one)


def test_compiling_a_memory_is_refused_before_there_is_a_folder(tmp_path):
    with pytest.raises(UsageError, match="--compile on with --memory gru"):
        run.start(tmp_path / "run", small("bandit", "rl2"), RunConfig(compile="on"))
    assert not (tmp_path / "run").exists()


def test_a_run_compiles_as_it_asks_and_for_its_threads(tmp_path, traced, monkeypatch):
    """A program has the number of threads in it."""
    before, threads, programs, said = torch.get_num_threads(), [], [], []

    def backend(graph, inputs):
        threads.append(torch.get_num_threads())
        return traced(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile.func, backend=backend))
    try:
        torch.set_num_threads(2)
        how = RunConfig(compile="on", threads=1, eval_steps=1)
        asked = run.start(tmp_path / "run", small("point-navigation"), how)
        where, count = tmp_path / "run", lambda state: programs.append(len(threads))
        train_run.train_in(where, asked, count, say=said.append)
    finally:
        torch.set_num_threads(before)
    assert len(said) == 1
    assert set(threads) == {1}
    assert programs == [len(threads)] * 3


def test_the_command_says_that_there_is_no_compiler(tmp_path):
    """In a process of its own, since torch looks for the compiler once."""
    words = "train point-navigation --compile on --iterations 1 --tasks 2 --episodes 2 --hidden 4"
    nowhere = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "metarl", *words.split(), "--run", str(tmp_path / "run")],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("compilation failed") == 1
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_on_a_gpu_the_meta_gradient_alone_is_replayed(monkeypatch):
    """Its results are used up at once; those of steps live on in the rollout."""
    asked = {}

    def compile_nothing(function, **how):
        asked[function.__name__] = how["mode"]
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    cfg, family, _ = start()
    agent = new_agent(cfg, family)
    with compiling(replays=True):
        data = play(cfg, family, agent)
        meta_gradient(cfg, agent, trained_weights(cfg, agent), data)
    assert asked == {
        "continue_rollout": None,
        "step_alone": None,
        "_meta_gradient": "reduce-overhead",
    }
