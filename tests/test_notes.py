"""What a simulator notes of whole episodes shows in rollouts, metrics and evaluations."""

import csv
import json
from typing import ClassVar

import pytest
import torch
from small import metarl as command
from small import small
from torch.testing import assert_close

from metarl.envs import TensorSimulator, make_family, sample_tasks
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.evaluation.evaluate import evaluate
from metarl.tracking.metric_names import columns
from metarl.tracking.trackers import CsvTracker
from metarl.training.meta_train import meta_train, new_agent


class Noting(PointNavigation):
    """Point navigation whose simulator says who got nearer than 0.3 m, and who went far left."""

    name: ClassVar[str] = "noting"
    success: ClassVar[bool] = True

    def simulate(self, task, episodes, gen):
        return NotingSimulator(self, task, episodes, gen)


class NotingSimulator(TensorSimulator):
    played: ClassVar[list] = []

    def step(self, act):
        obs, rew, *ends = super().step(act)
        if not hasattr(self, "success"):
            NotingSimulator.played.append(self)
            self.success = torch.zeros(rew.shape)
            self.diverged = torch.zeros(rew.shape, dtype=torch.bool)
        self.success = torch.maximum(self.success, (rew > -0.3).float())
        self.diverged = self.diverged | (obs[..., 0] < -1.0)
        return obs, rew, *ends


@pytest.fixture(autouse=True)
def played():
    """The simulators of a test, in order."""
    NotingSimulator.played.clear()
    return NotingSimulator.played


def noted(simulators, what):
    return torch.stack([getattr(s, what).float() for s in simulators])


def test_a_rollout_carries_the_notes_of_its_simulator(played):
    agent = new_agent(small("point-navigation", log_std_init=0.0), Noting())
    gen = torch.Generator().manual_seed(0)
    data = agent.play(Noting(), sample_tasks(Noting(), 4, gen), 5, gen)
    assert data.notes.keys() == {"diverged", "success"}
    for name, note in data.notes.items():
        assert note.dtype == torch.float32
        assert 0 < note.mean() < 1
        assert_close(note, noted(played, name)[0])


def test_a_family_without_notes_has_none_and_counts_no_divergence():
    world, cfg = make_family("point-navigation"), small("point-navigation")
    agent = new_agent(cfg, world)
    assert agent.play(world, sample_tasks(world, 2), 2).notes == {}
    metrics = next(meta_train(cfg, world)).metrics
    assert metrics["train/diverged"] == 0
    assert not any("success" in name for name in metrics)
    assert (
        evaluate(agent, world, tasks=2, episodes=2, steps=1).to_json("promp", 0)["success"] is None
    )


@pytest.mark.parametrize("chunk", [1, 2, 50])
def test_metrics_sum_what_diverged_and_average_what_succeeded(played, chunk):
    cfg = small(
        "point-navigation",
        family="noting",
        tasks=3,
        task_chunk=chunk,
        inner_steps=1,
        episodes=4,
        log_std_init=0.0,
    )
    metrics = next(meta_train(cfg, Noting())).metrics
    before, after = played[::2], played[1::2]  # each chunk plays before and after its inner step

    def every(simulators, what):
        return torch.cat([getattr(s, what).float() for s in simulators])

    assert metrics["train/diverged"] == every(played, "diverged").sum() > 0
    for name, simulators in (("before", before), ("after", after)):
        want = every(simulators, "success").mean().item()
        assert metrics[f"train/success_{name}"] == pytest.approx(want)
        assert 0 < want < 1


def test_an_evaluation_has_the_share_of_successes_of_each_task_and_step(played):
    agent = new_agent(small("point-navigation"), Noting())
    result = evaluate(agent, Noting(), tasks=4, episodes=6, steps=2)
    want = noted(played, "success").mean(-1).T
    assert len(played) == 3
    assert_close(torch.from_numpy(result.success), want.double())
    assert_close(torch.tensor(result.to_json("promp", 0)["success"]), want.mean(0))


def test_the_table_and_the_record_show_success_and_divergence(tmp_path, played):
    folder = tmp_path / "run"
    words = "--iterations 2 --tasks 2 --episodes 2 --hidden 8 --eval-steps 1 --run"
    code, out, err = command("train test_notes:Noting", words, folder)
    assert code == 0, err
    assert "IQM  success" in out
    record = json.loads((folder / "evaluation.json").read_text())
    for share in record["success"]:
        assert f" {share:.2f} " in out
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == columns(1, success=True, inner=True, oracle=True)
    for name in ("train/diverged", "train/success_before", "train/success_after"):
        assert all(row[name] for row in rows), name


def test_columns_of_success_are_there_only_where_asked():
    assert "train/diverged" in columns(1)
    assert set(columns(1, success=True)) - set(columns(1)) == {
        "train/success_before",
        "train/success_after",
    }


def test_going_on_with_a_record_of_an_older_metarl_keeps_its_lines(tmp_path):
    path, header = tmp_path / "metrics.csv", columns(1)
    old = [name for name in header if name != "train/diverged"]
    lines = [",".join(f"{it}" if n == "iteration" else n for n in old) for it in (1, 2, 3)]
    path.write_text("\n".join([",".join(old), *lines]) + "\n3,half")
    tracker = CsvTracker(path, header, 2)
    tracker.write(3, 30, {"train/diverged": 7})
    tracker.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2", "3"]
    assert [row["train/diverged"] for row in rows] == ["", "", "7"]
    assert rows[1]["train/kl"] == "train/kl"
    assert rows[1]["time/seconds"] == "time/seconds"


@pytest.mark.parametrize("content", ["", "\n", "\n\n"])
def test_an_empty_record_is_begun_anew(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    CsvTracker(path, columns(1), 5).close()
    assert path.read_text() == ",".join(columns(1)) + "\n"
