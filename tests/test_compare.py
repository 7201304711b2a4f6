"""`metarl compare`: rows, files, and what it refuses."""

import csv
import dataclasses
import json
import shutil
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import at, metarl, refused, small, trained

from metarl.config.settings import RunConfig
from metarl.envs import make_family
from metarl.evaluation.evaluate import evaluate
from metarl.evaluation.result import Evaluation
from metarl.evaluation.statistics import interval, probability_of_improvement
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import load, start

USAGE = 2
SMALL = "--tasks 5 --steps 1"
PROMP = "promp, step-size per-weight"


def make_run(folder, iteration=3, **settings):
    """A finished run that wasn't trained: another seed has other weights."""
    cfg = small("point-navigation", **{"seed": 0, **settings})
    job = start(folder, cfg, RunConfig(eval_steps=1))
    save_checkpoint(folder / "checkpoints", cfg.family, at(job.state, iteration))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two seeds of ProMP and one run of MAML."""
    where = tmp_path_factory.mktemp("runs")
    return [
        make_run(where / "promp0"),
        make_run(where / "maml", algo="maml"),
        make_run(where / "promp1", seed=1),
    ]


@pytest.fixture(scope="module")
def compared(folders):
    """The record, what was shown, and the folder of the files."""
    out = folders[0].parent / "all"
    code, shown, err = metarl("compare", *folders, SMALL, "--out", out)
    assert (code, err) == (0, "")
    return json.loads(out.with_suffix(".json").read_text()), shown, out


def returns_of(folder):
    return evaluate(load(folder), make_family("point-navigation"), "test", 5, 2, 1).returns


def test_seeds_are_one_row_with_the_numbers_of_both(folders, compared):
    first, second = compared[0]["rows"]
    assert (first["seeds"], second["seeds"]) == ([0, 1], [0])
    assert first["runs"] == [str(folders[0]), str(folders[2])]
    both = np.stack([returns_of(folders[0]), returns_of(folders[2])])
    np.testing.assert_allclose(first["return_mean"], both.mean(axis=(0, 1)))
    assert first["return_ci95"][1] == list(interval(both[..., 1]))
    assert first["gain_ci95"][1] == list(interval(both[..., 1] - both[..., 0]))
    other = returns_of(folders[1])[None]
    better = list(probability_of_improvement(other[..., 1], both[..., 1]))
    assert second["probability_of_improvement"][1] == better
    assert first["probability_of_improvement"] is None


def test_the_table_has_a_line_for_each_step(compared):
    record, shown, _ = compared
    assert "point-navigation: 5 test tasks" in shown
    for row in record["rows"]:
        for k, mean in enumerate(row["return_mean"]):
            low, high = row["return_ci95"][k]
            assert f"{2 * k} " in shown
            assert f"{mean:.2f}" in shown
            assert f"[{low:.2f}, {high:.2f}]" in shown
    p, low, high = record["rows"][1]["probability_of_improvement"][1]
    assert f"maml gets more than {PROMP} on a task with probability {p:.2f} " in shown
    assert f" [{low:.2f}, {high:.2f}], after 2 episodes." in shown
    assert max(map(len, shown.splitlines()[:16])) <= 80


def test_the_csv_has_the_numbers_of_the_record(compared):
    record, _, out = compared
    rows = list(csv.DictReader(out.with_suffix(".csv").open(newline="")))
    assert [(r["algorithm"], r["seeds"], r["episodes"]) for r in rows] == [
        *((PROMP, "2", "0"), (PROMP, "2", "2"), ("maml", "1", "0"), ("maml", "1", "2"))
    ]
    for i, row in enumerate(rows):
        source, k = record["rows"][i // 2], i % 2
        assert float(row["return"]) == source["return_mean"][k]
        assert [float(row["gain_low"]), float(row["gain_high"])] == source["gain_ci95"][k]
    assert rows[0]["improvement"] == ""
    better = record["rows"][1]["probability_of_improvement"][1]
    assert [float(rows[3][f"improvement{x}"]) for x in ("", "_low", "_high")] == better


def test_the_latex_rows_have_as_many_cells_as_they_say(compared):
    record, _, out = compared
    head, *rows = out.with_suffix(".tex").read_text().splitlines()
    assert head.startswith("% algorithm & seeds")
    assert len(rows) == 2
    assert {row.count("&") for row in rows} == {head.count("&")} == {5}
    assert all(row.endswith(r" \\") for row in rows)
    assert f"${record['rows'][1]['return_mean'][1]:.2f}$" in rows[1]


def test_the_figures_are_pictures(compared):
    out = compared[2]
    assert Image.open(out.with_suffix(".png")).width > 400
    drawn = xml.dom.minidom.parse(str(out.with_suffix(".svg")))
    assert drawn.documentElement.tagName == "svg"


def test_only_the_files_that_are_asked_for_are_written(folders, tmp_path):
    words = ("--out", tmp_path / "a.pdf", "--out", tmp_path / "b.csv")
    assert metarl("compare", folders[0], folders[1], SMALL, *words)[0] == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.pdf", "b.csv"}
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_json_on_stdout_is_alone_there(folders):
    code, out, err = metarl("compare", *folders, SMALL, "--json -")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["rows"]) == 2


@pytest.fixture
def evaluated(tmp_path):
    """A run whose `evaluation.json` says what no evaluation would."""
    folder = make_run(tmp_path / "one", seed=7)
    result = evaluate(load(folder), make_family("point-navigation"), "test", 5, 2, 2)
    result = dataclasses.replace(result, returns=result.returns + 1000.0)
    (folder / "evaluation.json").write_text(json.dumps(result.to_json("promp", 300)))
    return folder, result


def means(*words):
    return json.loads(metarl("compare", *words, "--json -")[1])["rows"][0]["return_mean"]


def test_an_evaluation_that_fits_is_taken_up_to_the_steps(evaluated):
    folder, result = evaluated
    np.testing.assert_allclose(means(folder, SMALL), result.mean[:2])


@pytest.mark.parametrize("words", ["--seed 1", "--episodes 3", "--tasks 4", "--split train"])
def test_an_evaluation_of_something_else_is_made_anew(evaluated, words):
    assert max(means(evaluated[0], SMALL, words)) < 0


def test_an_evaluation_from_before_the_last_checkpoint_is_made_anew(evaluated):
    folder, _ = evaluated
    save_checkpoint(folder / "checkpoints", "point-navigation", at(trained(), 4))
    assert max(means(folder, SMALL)) < 0


@pytest.mark.parametrize("text", ["", "{}", '{"per_task": []}', "[]"])
def test_a_damaged_evaluation_is_made_anew(evaluated, text):
    (evaluated[0] / "evaluation.json").write_text(text)
    assert max(means(evaluated[0], SMALL)) < 0


def test_an_evaluation_is_read_as_it_was_written():
    family = make_family("point-navigation")
    result = evaluate(trained().agent, family, "test", 3, 2, 1)
    result = dataclasses.replace(result, success=result.returns / 2)
    again = Evaluation.from_json(json.loads(json.dumps(result.to_json("promp", 5))))
    for field in dataclasses.fields(Evaluation):
        np.testing.assert_equal(getattr(again, field.name), getattr(result, field.name))


@pytest.fixture
def other(tmp_path):
    """Folder and settings of a run that doesn't go with those of `folders`."""
    return lambda **settings: make_run(tmp_path / "other", **settings)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"vary": ("goal_x=0:0.1",)}, "has vary none, "),
        ({"episodes": 3}, "adapts with 2 episodes per step"),
        ({"iteration": 2}, "has 2 of its 3 iterations"),
        ({"iterations": 9, "iteration": 9}, "was meta-trained for 300 environment steps"),
    ],
)
def test_runs_that_do_not_go_together_need_force(folders, other, settings, part):
    folder = other(**settings)
    words = ("compare", folders[0], folder, SMALL)
    assert refused(*words, code=USAGE, parts=(part, str(folder), "--force")) == ""
    code, out, _ = metarl(*words, "--force --json -")
    assert code == 0
    assert len(json.loads(out)["rows"]) == 2


def test_force_judges_all_on_the_tasks_of_the_first(folders, other):
    """The second was trained elsewhere, and its own evaluation is of other tasks."""
    folder = other(vary=("goal_x=0:0.1",))
    result = evaluate(load(folder), make_family("point-navigation"), "test", 5, 2, 1)
    (folder / "evaluation.json").write_text(
        json.dumps(dataclasses.replace(result, returns=result.returns + 1e3).to_json("promp", 300))
    )
    out = metarl("compare", folders[0], folder, SMALL, "--force --json -")[1]
    np.testing.assert_allclose(json.loads(out)["rows"][1]["return_mean"], result.mean)


def test_an_agent_of_other_spaces_is_refused_with_force_too(folders, tmp_path):
    job = start(tmp_path / "cart", small("cartpole"), RunConfig())
    save_checkpoint(tmp_path / "cart" / "checkpoints", "cartpole", at(job.state, 3))
    parts = ("cart was trained on cartpole, whose ", "space is", "leave it out")
    refused("compare --force", folders[0], tmp_path / "cart", code=USAGE, parts=parts)


def test_what_is_no_run_or_not_trained_or_given_twice_is_named(folders, tmp_path):
    start(tmp_path / "new", small("point-navigation"), RunConfig())
    job = start(tmp_path / "idle", small("point-navigation"), RunConfig())
    save_checkpoint(tmp_path / "idle" / "checkpoints", "point-navigation", job.state)
    for words, parts in (
        ((tmp_path / "idle",), ("idle has not been trained", "metarl train --resume")),
        ((tmp_path / "gone",), ("no config.json in", "give the folder of a run")),
        ((tmp_path / "new",), ("no checkpoint in", "metarl train")),
        ((folders[0], folders[0]), (f"{folders[0]} is given twice", "leave out one")),
        ((), ("no run", "give the folders of some")),
    ):
        assert refused("compare", *words, code=USAGE, parts=parts) == ""


@pytest.mark.parametrize("command", ["compare", "watch"])
def test_checkpoints_of_another_family_are_refused(command, folders, tmp_path):
    start(tmp_path / "cart", small("cartpole"), RunConfig())
    shutil.copytree(folders[0] / "checkpoints", tmp_path / "cart" / "checkpoints")
    parts = ("belongs to family 'point-navigation', not 'cartpole'", "put back")
    refused(command, tmp_path / "cart", code=USAGE, parts=parts)


@pytest.mark.parametrize("command", ["compare", "watch"])
def test_a_split_that_the_family_lacks_is_refused(command, tmp_path):
    folder = make_run(tmp_path / "one", vary=("goal_x=0:0.1", "goal_y=0:0.1"))
    parts = ("point-navigation has nothing to extrapolate to", "--split test")
    refused(command, folder, "--split extrapolate", code=USAGE, parts=parts)


def test_a_copy_of_a_run_is_no_second_seed(folders, tmp_path):
    copy = make_run(tmp_path / "copy")
    parts = (f"{folders[0]} and {copy} have the same settings and seed 0", "leave out one")
    refused("compare --force", folders[0], copy, code=USAGE, parts=parts)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.xlsx", ("unknown ending .xlsx", ".csv, .json, .tex, .png, .svg, .pdf")),
        ("gone/a.png", ("no folder", "gone", "create it, or give another")),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_judged(
    folders, tmp_path, monkeypatch, path, parts
):
    monkeypatch.setattr("metarl.comparison.compare.open_runs", None)
    words = ("compare", folders[0], "--out", tmp_path / path)
    assert refused(*words, code=USAGE, parts=(f"--out {tmp_path / path}", *parts)) == ""


def test_curves_of_training_are_drawn_where_there_are_some(folders, compared, tmp_path):
    narrow = Image.open(compared[2].with_suffix(".png")).width
    lines = ["iteration,env_steps,eval/return_step_0,eval/return_step_1"]
    lines += [f"{i},{100 * i},{-i if i % 2 else ''},{-i if i % 2 else ''}" for i in range(1, 6)]
    folder = make_run(tmp_path / "one", seed=5)
    (Path(folder) / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert metarl("compare", folder, folders[0], SMALL, "--out", tmp_path / "a.png")[0] == 0
    assert Image.open(tmp_path / "a.png").width > 1.5 * narrow
