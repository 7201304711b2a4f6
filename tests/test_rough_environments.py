"""Environments that print, fork, hang, end themselves or fail to close: they work, or one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import rough_environments
import torch
from torch.testing import assert_close

from metarl.envs import Choice, GymnasiumFamily, Range, RunError, UsageError, make_task
from metarl.envs.gym.bound_env import EnvConfig, check_limit, close, find_setters, step_limit
from metarl.envs.gym.checks.parameter_check import Probe, explore
from metarl.envs.gym.specs import environment_class, find_spec
from metarl.envs.gym.worker import _answer
from metarl.envs.gym.worker_envs import Agreed, WorkerEnvs

PULL = {"pull": Range(-1.0, 1.0)}
USUAL, ENDS = {"pull": 0.0}, [{"pull": -1.0}, {"pull": 1.0}]
TRIALS = {"pull": Probe(ENDS, ENDS, [], [], False)}


@pytest.fixture
def family():
    """A function that makes families of one worker, which ends with the test."""
    made = []

    def make(name, vary=PULL, **more):
        made.append(GymnasiumFamily(f"rough_environments:{name}-v0", vary, workers=1, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def env_config(name, **fixed):
    return EnvConfig(gymnasium.spec(f"{name}-v0"), fixed)


def worker_envs(name, **fixed):
    """What a worker has, in this process."""
    here = WorkerEnvs(env_config(name, **fixed), 0)
    here.shared = {
        "progress": np.zeros((1, 8), np.int64),
        "obs": np.zeros((1, 1), np.float32),
        "act": np.zeros(1, np.int64),
        "success": np.zeros(1, np.float32),
    }
    return here


def begin(family, episodes=2):
    simulator = family.simulate(make_task(family), episodes, torch.Generator().manual_seed(0))
    return simulator, simulator.reset()


def pid_of(family):
    (process, _), *_ = family._pool._workers.values()
    return process.pid


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pids, seconds=20):
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.05)


class TestTimeLimits:
    @pytest.mark.parametrize(
        ("name", "more", "steps"),
        [
            ("Line", {}, 6),
            ("Line", {"max_episode_steps": 9}, 9),
            ("Line", {"max_episode_steps": -1}, None),
            ("Own", {}, None),
            ("Endless", {}, None),
            ("Endless", {"max_episode_steps": 9}, 9),
            ("Method", {}, None),
        ],
    )
    def test_the_limit_is_a_number_of_steps_or_unknown(self, name, more, steps):
        assert step_limit(gymnasium.make(f"{name}-v0", **more)) == steps

    @pytest.mark.parametrize("steps", [None, np.inf, 0, -3, True, "many", np.nan, [], 40.0, 40])
    def test_max_steps_of_any_kind_are_read_or_not(self, steps):
        env = gymnasium.make("Own-v0")
        env.unwrapped.max_steps = steps
        assert step_limit(env) == (40 if steps in (40, 40.0) else None)

    @pytest.mark.parametrize("steps", [0, -5, 2.5, "many", True, np.inf])
    def test_what_is_no_limit_is_refused(self, steps):
        with pytest.raises(UsageError, match=r"max_episode_steps=.*integer"):
            check_limit(steps)

    def test_without_one_the_user_is_asked_for_it(self, family):
        with pytest.raises(UsageError, match=r"no known time limit: .*--set max_episode_steps"):
            family("Method").horizon  # noqa: B018

    def test_an_end_of_the_environments_own_counts_below_it(self, family):
        simulator, _ = begin(family("Own", fixed={"max_episode_steps": 500}))
        ends = []
        for _ in range(7):
            assert not simulator.over
            ends.append(simulator.step(torch.zeros(1, 2, dtype=torch.long))[3].tolist())
        assert ends == 6 * [[[False, False]]] + [[[True, True]]]
        assert simulator.over

    def test_every_grid_has_a_limit_or_none(self):
        """BabyAI's is 0 before the first reset, and then another for each level."""
        pytest.importorskip("minigrid")
        names = [n for n in gymnasium.registry if n.startswith(("MiniGrid-", "BabyAI-"))]
        assert len(names) > 100
        for name in names[::7]:
            limit = step_limit(gymnasium.make(find_spec(name, ["level"])[0]))
            assert limit is None or limit >= 1
            assert (limit is None) <= name.startswith("BabyAI-")


class TestExactReplay:
    def test_the_refusal_names_the_switch_and_the_switch_works(self):
        with pytest.raises(UsageError, match="--no-exact-replay"):
            explore(worker_envs("Noisy"), USUAL, TRIALS)
        assert explore(worker_envs("Noisy"), USUAL, TRIALS, exact=False)["limit"] == 6

    def test_a_worker_lost_within_an_episode_ends_the_rollout(self, family):
        noisy = family("Noisy", exact_replay=False)
        simulator, _ = begin(noisy)
        simulator.step(torch.zeros(1, 2, dtype=torch.long))
        os.kill(pid_of(noisy), signal.SIGKILL)
        with pytest.raises(RunError, match=r"died .*--no-exact-replay episodes aren't replayed"):
            simulator.step(torch.zeros(1, 2, dtype=torch.long))

    def test_a_worker_lost_before_an_episode_is_replaced(self, family):
        noisy = family("Noisy", exact_replay=False)
        begin(noisy)
        os.kill(pid_of(noisy), signal.SIGKILL)
        simulator, obs = begin(noisy)
        assert obs.tolist() == [[[0.0], [0.0]]]
        assert simulator.step(torch.ones(1, 2, dtype=torch.long))[0].shape == (1, 2, 1)


@pytest.mark.parametrize("more", [0, 3], ids=["as many episodes", "more episodes"])
def test_a_worker_that_dies_between_two_rollouts_is_replaced(family, more):
    line = family("Line")
    begin(line)
    os.kill(pid_of(line), signal.SIGKILL)
    until_gone([pid_of(line)])
    simulator, obs = begin(line, 2 + more)
    assert_close(obs, torch.zeros(1, 2 + more, 1))
    assert not simulator.step(torch.ones(1, 2 + more, dtype=torch.long))[2].any()


class TestProcesses:
    @pytest.fixture(autouse=True)
    def linux(self):
        if not Path("/proc/self/stat").exists():
            pytest.skip("reads /proc")

    def test_those_of_an_environment_end_with_its_worker(self, family, tmp_path):
        """After a death of the worker, which the parent notices at once, and after a normal end."""
        forks = family("Forks", fixed={"folder": str(tmp_path)}, step_timeout=1000.0)
        simulator, _ = begin(forks)
        act = torch.zeros(1, 2, dtype=torch.long)
        assert simulator.step(act)[1].tolist() == [[1.0, 1.0]]
        before = {int(p.name) for p in tmp_path.iterdir()}
        assert any(map(runs, before))
        os.kill(pid_of(forks), signal.SIGKILL)
        began = time.monotonic()
        assert simulator.step(act)[1].tolist() == [[2.0, 2.0]]
        assert time.monotonic() - began < 500, "waited for processes that know nothing of it"
        until_gone(before)
        after = {int(p.name) for p in tmp_path.iterdir()} - before
        assert any(map(runs, after))
        forks.close()
        until_gone(after)


class TestOutput:
    def test_workers_print_to_stderr(self, family, capfd):
        chatter = family("Chatter")
        begin(chatter)
        chatter.close()
        out, err = capfd.readouterr()
        assert out == ""
        for said in ("by the import", "by the constructor", "written by reset", "put by reset"):
            assert said in err

    def test_json_of_train_and_evaluate_is_alone_on_stdout(self, tmp_path):
        """The module prints in the parent too, in C without a flush."""
        here = Path(__file__).parent
        words = "--iterations 1 --tasks 2 --episodes 2 --hidden 8 --eval-steps 1 --workers 1"
        run = tmp_path / "run"
        for command in (
            f"train rough_environments:Chatter-v0 --vary pull=-1:1 {words} --json --run {run}",
            f"evaluate {run} --trust --tasks 2 --episodes 2 --steps 1 --json -",
        ):
            got = subprocess.run(
                [sys.executable, "-m", "metarl", *command.split()],
                cwd=here,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                timeout=300,
            )
            assert got.returncode == 0, got.stderr
            assert json.loads(got.stdout)["family"] == "Chatter-v0"
            assert got.stderr.count("printed in C, and held back") >= 2


class TestFailures:
    def test_a_close_that_raises_is_no_failure(self):
        close(gymnasium.make("Fails-v0", where="close"))
        setters = find_setters(env_config("Fails", where="close"), USUAL)
        assert setters["pull"].kind == "keyword"
        small = worker_envs("Fails", where="close")
        explore(small, USUAL, TRIALS)
        for pull in range(9):  # older ones are closed
            small.release(small.take({"pull": float(pull)}))
        small.close()

    @pytest.mark.parametrize("where", ["make", "reset", "step", "close"])
    def test_a_hang_in_the_check_ends_by_the_step_timeout(self, family, where):
        hangs = family("Fails", fixed={"where": where, "what": "hang"}, step_timeout=2.0)
        with pytest.raises(UsageError, match=r"Fails-v0: a worker took longer than 2 s") as error:
            hangs.horizon  # noqa: B018
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("where", ["make", "reset", "step"])
    @pytest.mark.parametrize(
        "what", ["OSError", "SystemExit", "KeyboardInterrupt", "MemoryError", "RecursionError"]
    )
    def test_whatever_is_raised_is_an_answer(self, where, what):
        here = worker_envs("Fails", where="nowhere", what=what)
        settings = [{"pull": 0.0}]
        form = here.take(USUAL).encoding.form
        agreed = Agreed(find_setters(here.env_config, USUAL), form, 6)
        start = ("reset", ([0], settings, [2000], agreed, False))
        if where != "make":
            assert _answer(here, None, *start)[0] == "done"
            here.playing[0].env.unwrapped.where = where
            here.playing[0].env.unwrapped.what = what
        else:
            here.env_config = env_config("Fails", where="make", what=what)
        question = ("step", ([0],)) if where == "step" else start
        kind, _, said = _answer(here, None, *question)
        assert (kind, said.splitlines()) == ("failed", [said])
        assert f"{what}: no such thing" in said

    def test_what_exists_only_as_a_batch_is_refused(self):
        for use in (
            lambda: find_spec("rough_environments:Batch-v0", ["pull"]),
            lambda: environment_class("rough_environments:Batch"),
        ):
            with pytest.raises(UsageError, match=r"is a vector environment.*simulate\(\)"):
                use()


def test_values_may_be_lists():
    """As keywords they once had to be hashable."""
    lists = Choice((0.0, 1.0), labels=([1, 2], [3, 4]))
    family = GymnasiumFamily("rough_environments:Line-v0", {"pull": lists})
    assert family.settings({"pull": 1.0}) == {"pull": [3, 4]}
    here = worker_envs("Line")
    here.setters = find_setters(here.env_config, {"pull": [1, 2]})
    first = here.take({"pull": [1, 2]})
    here.release(first)
    assert here.take({"pull": [1, 2]}) is first
    assert here.take({"pull": [3, 4]}, most=9) is not first
    assert rough_environments.Line([1]).pull == [1]
