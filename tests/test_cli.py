"""What each command writes and prints."""

import csv
import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image
from small import TINY, files, metarl

from metarl.cli.arguments import COMMANDS
from metarl.cli.main import parse
from metarl.config.presets import preset
from metarl.envs import FAMILIES, make_family, parameters, unseen

ROOT = Path(__file__).parent.parent
POSITIONAL = {
    "train": "family",
    "evaluate": "run",
    "compare": "runs",
    "watch": "run",
    "export": "run",
    "bench": "workload",
    "families": "names",
}
EVALUATE_ALIKE = "--episodes 2 --steps 1 --json -"  # what TINY trained with


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    code, out, _ = metarl("train point-navigation --seed 3", TINY, "--run", folder)
    assert code == 0
    return folder, out


def read(path):
    return json.loads(path.read_text())


def test_training_writes_settings_versions_and_commit(trained):
    record = read(trained[0] / "config.json")
    asked = {"family": "point-navigation", "algo": "promp", "seed": 3, "iterations": 2}
    asked |= {"tasks": 2, "episodes": 2, "hidden": [8]}
    assert record["train"].items() >= asked.items()
    assert record["run"]["eval_steps"] == 1
    assert record["run"]["threads"] >= 1
    assert record["versions"].keys() == {"python", "metarl", "torch", "gymnasium", "numpy"}
    if (ROOT / ".git").exists():
        head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True)
        assert record["git_commit"].removesuffix("-dirty") == head.strip()


def test_training_writes_metrics_checkpoints_and_evaluation(trained):
    folder, _ = trained
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2"]
    assert 0 < int(rows[0]["env_steps"]) < int(rows[1]["env_steps"])
    assert all(float(row["train/return_before"]) < 0 for row in rows)
    stems = [f"step-00000{k}" for k in (0, 2)]
    kept = {p.name for p in (folder / "checkpoints").iterdir()}
    assert kept == {f"{stem}.{kind}" for stem in stems for kind in ("json", "safetensors")}
    record = read(folder / "evaluation.json")
    assert (record["split"], record["seed"], record["steps"]) == ("test", 0, 1)
    assert record["env_steps_trained"] == int(rows[1]["env_steps"])
    assert not list(folder.rglob("*.part"))


def test_training_draws_the_curve_and_films_an_episode(trained):
    folder, _ = trained
    with Image.open(folder / "adaptation.png") as curve:
        assert curve.format == "PNG"
        assert len(curve.convert("RGB").getcolors(2**24)) > 20
    with Image.open(folder / "episode.gif") as film:
        assert (film.format, film.n_frames > 10) == ("GIF", True)
    assert list(folder.glob("events.out.tfevents*"))


def test_training_ends_with_a_table_of_steps_and_the_next_commands(trained):
    folder, out = trained
    record = read(folder / "evaluation.json")
    assert "point-navigation: 40 tasks" in out
    for k, mean in enumerate(record["return_mean"]):
        assert re.search(rf"\n\W*{k}[^\w-]+{mean:.2f}\W", out)
    assert re.search(rf"\n\W*oracle[^\w-]+{record['oracle_mean']:.2f}\W", out)
    for command in (
        f"evaluate {folder} --baselines",
        f"evaluate {folder} --split",
        f"watch {folder}",
        "train point-navigation --seed 3 --iterations 4",  # from the start: its step sizes fall
    ):
        assert f"  metarl {command}" in out
    assert f"  tensorboard --logdir {folder.parent}" in out
    assert "--resume" not in out


def test_what_follows_a_run_of_steady_step_sizes_is_to_go_on_with_it(tmp_path):
    folder = tmp_path / "new"
    code, out, _ = metarl("train cartpole --no-lr-decay", TINY, "--run", folder)
    assert (code, f"  metarl train --resume {folder} --iterations 4\n" in out) == (0, True)


def test_the_table_fits_on_a_terminal_of_eighty_columns(trained):
    folder, out = trained
    for low, high in read(folder / "evaluation.json")["return_ci95"]:
        assert f"[{low:.2f}, {high:.2f}]" in out
    assert "…" not in out


def test_quiet_prints_nothing(tmp_path):
    assert metarl("train forager", TINY, "--quiet --run", tmp_path / "new") == (0, "", "")
    assert (tmp_path / "new" / "evaluation.json").exists()


def test_json_prints_the_evaluation_and_nothing_else(tmp_path):
    folder = tmp_path / "new"
    code, out, err = metarl("train cartpole --algo maml", TINY, "--json --run", folder)
    assert (code, err) == (0, "")
    assert json.loads(out) == read(folder / "evaluation.json")


def test_a_run_without_a_name_gets_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert metarl("train point-navigation --seed 7", TINY, "--quiet")[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"point-navigation-promp-s7-\d{8}-\d{6}", folder.name)


def test_a_finished_run_goes_on_with_more_iterations(tmp_path):
    folder = tmp_path / "one"
    steady = "--no-lr-decay --quiet --run"
    assert metarl("train point-navigation", TINY, steady, folder)[0] == 0
    assert metarl("train --iterations 3 --quiet --resume", folder)[0] == 0
    assert len((folder / "metrics.csv").read_text().splitlines()) == 4
    assert read(folder / "checkpoints" / "step-000003.json")["iteration"] == 3


def test_a_run_whose_step_sizes_have_fallen_goes_on_only_if_they_are_to_be_whole(tmp_path):
    """As before, they fall over the iterations that the run was started with, and never rise."""
    folder = tmp_path / "one"
    assert metarl("train point-navigation --lr-decay", TINY, "--quiet --run", folder)[0] == 0
    before = files(folder)
    for more in ("3", "500"):
        code, out, err = metarl("train --quiet --resume", folder, f"--iterations {more}")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"--iterations {more}" in err
        assert "--no-lr-decay" in err
    assert files(folder) == before
    code, out, err = metarl("train --no-lr-decay --iterations 3 --resume", folder)
    assert (code, err) == (0, "")
    assert read(folder / "checkpoints" / "step-000003.json")["iteration"] == 3


def test_evaluate_says_again_what_training_said(trained):
    folder, _ = trained
    code, out, err = metarl("evaluate", folder, EVALUATE_ALIKE)
    assert (code, err) == (0, "")
    assert json.loads(out) == read(folder / "evaluation.json")


def test_evaluate_shows_a_table_and_writes_json_to_a_file_only(trained, tmp_path):
    folder, _ = trained
    before = files(folder)
    words = "--split extrapolate --tasks 3 --episodes 2 --steps 2 --seed 5 --json"
    code, out, err = metarl("evaluate", folder, words, tmp_path / "it.json")
    assert (code, err) == (0, "")
    record = read(tmp_path / "it.json")
    asked = {"split": "extrapolate", "tasks": 3, "episodes": 2, "steps": 2, "seed": 5}
    assert record.items() >= asked.items()
    for k, mean in enumerate(record["return_mean"]):
        assert re.search(rf"\n\W*{k}[^\w-]+{mean:.2f}\W", out)
    assert files(folder) == before


def unboxed(text):
    return " ".join(re.sub("[─│╭╮╰╯]", " ", text).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_and_explains_every_flag(command):
    code, out, err = metarl(command, "--help")
    assert (code, err) == (0, "")
    assert COMMANDS[command].__doc__.split(";")[0] in unboxed(out)
    for field in dataclasses.fields(COMMANDS[command]):
        extras = get_type_hints(COMMANDS[command], include_extras=True)[field.name].__metadata__
        (help,) = [e.help for e in extras if getattr(e, "help", None)]
        assert help in unboxed(out)
        if field.name != POSITIONAL.get(command):
            assert "--" + field.name.replace("_", "-") in out


def test_help_without_a_command_lists_the_commands():
    for words in ("", "--help", "-h"):
        code, out, _ = metarl(words)
        assert code == 0
        for name, command in COMMANDS.items():
            assert re.search(rf"\b{name} +{command.__doc__[:20]}", unboxed(out))


def test_families_lists_all_with_what_is_hidden_and_where_from():
    code, out, err = metarl("families")
    assert (code, err) == (0, "")
    shown = json.loads(metarl("families --json")[1])
    assert [record["name"] for record in shown] == list(FAMILIES)
    for record in shown:
        assert f" {record['name']} " in out
        if "needs" in record:
            assert "pip install" in record["needs"]
            continue
        family = make_family(record["name"])
        assert (record["source"], record["unseen"]) == (family.source, unseen(family))
        assert record["validation"] == unseen(family, "validation")
        assert family.source.split()[0] in out
        assert list(record["parameters"]) == list(parameters(family))


@pytest.mark.parametrize("name", ["forager", "cartpole"])
def test_families_shows_one_in_full(name):
    code, out, err = metarl(f"families {name}")
    assert (code, err) == (0, "")
    (record,) = json.loads(metarl(f"families {name} --json")[1])
    family = make_family(name)
    for key in ("observation_space", "action_space", "gymnasium_id", "horizon", "source"):
        assert f"{key.replace('_', ' ')}: {record[key]}" in out
    assert record["observation_space"] == str(family.observation_space)
    for name, known in parameters(family).items():
        told = record["parameters"][name]
        assert (told["unit"], told["train"]) == (known.unit, str(known))
        row = rf" {name} +{re.escape(known.unit)} *{re.escape(str(known))} +"
        assert re.search(rf"{row}{re.escape(told['allowed'])} ", out)


def test_settings_come_from_family_and_algorithm_unless_given():
    got = parse(["train", "forager", "--algo", "maml", "--inner-lr", "0.5"])
    want = dataclasses.replace(preset("forager", "maml"), inner_lr=0.5)
    assert {f.name: getattr(got, f.name) for f in dataclasses.fields(want)} == vars(want)


def test_bench_prints_phases_and_writes_its_record(tmp_path):
    code, out, err = metarl("bench nav-20 --repeats 1 --json", tmp_path / "it.json")
    assert (code, err) == (0, "")
    record = read(tmp_path / "it.json")
    fields = {"seconds_per_iteration", "phases", "env_steps_per_second", "peak_rss_mb", "versions"}
    assert record.keys() >= fields
    for phase, seconds in record["phases"].items():
        assert re.search(rf" {phase} +{1e3 * seconds:.1f} ", out)


@pytest.mark.parametrize(
    ("vary", "during", "final"),
    [
        (
            "gain=1,2",
            "seen in training: there are no others",
            "seen in training: there are no others",
        ),
        (
            "gain=1,2,3 --hold-out gain=3",
            "of training: none are held out for validation",
            "unseen in",
        ),
        ("gain=1:2", "of validation, unseen in training", "tasks unseen in training"),
    ],
)
def test_a_family_without_unseen_tasks_says_so(tmp_path, vary, during, final):
    """For the final evaluation, and for those during training."""
    run = f"train gym_worlds:Counter-v0 --vary {vary} --workers 1 {TINY} --run"
    code, out, err = metarl(run, tmp_path / "run")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert final in said
    warned = "none are held out for validation (--validation NAME=VALUES)" in said
    assert warned == ("unseen" not in during)
    words = "--trust --split validation --episodes 2 --tasks 3"
    code, out, _ = metarl("evaluate", tmp_path / "run", words)
    assert code == 0
    assert during in " ".join(out.split())


def test_what_installs_a_missing_package_is_shown_in_full(monkeypatch):
    """A bracket is no markup."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, _ = metarl("families")
    assert code == 0
    assert 'pip install "metarl-toolkit[mujoco]"' in " ".join(out.split())


def test_a_gymnasium_id_is_told_what_could_vary():
    code, out, err = metarl("families CartPole-v1")
    assert (code, err) == (0, "")
    for part in ("sutton_barto_reward=False", "gravity=9.8", "masspole=0.1", "--vary gravity="):
        assert part in out
    code, out, err = metarl("families Nothing-v9")
    assert (code, out, err.count("\n")) == (2, "", 1)
