"""A mistake ends in one line that names the thing, the value and what to do, and writes nothing."""

import pytest
import torch
from small import TINY, at, files, metarl, refused, small, trained

from metarl.config.settings import RunConfig
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import start

USAGE = 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a run with a checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    start(folder, small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(folder / "checkpoints", "point-navigation", at(trained(), 2))
    return folder


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--learn-rate 3", ("--learn-rate", "metarl train --help")),
        ("forager cartpole", ("cartpole", "metarl train --help")),
        ("labyrinth", ("'labyrinth'", "metarl families", "module:Class")),
        ("--inner-lr quick", ("--inner-lr", "quick", "in [0, 100]")),
        ("--inner-lr -1", ("--inner-lr -1.0", "[0, 100]")),
        ("--gamma nan", ("--gamma nan", "[0, 1]")),
        ("--clip inf", ("--clip inf", ">= 0")),
        ("--hidden 8 0", ("--hidden 0", "in [1, 16384]")),
        ("--tasks 0", ("--tasks 0", "in [1, 100000]")),
        ("--tasks 2.5", ("--tasks", "2.5", "in [1, 100000]")),
        ("--algo sac", ("sac", "--algo", "promp", "maml")),
        ("--step-size big", ("big", "--step-size", "fixed", "per-weight")),
        ("--device tpu", ("--device tpu", "auto, cpu, cuda or cuda:N")),
        ("--device meta", ("--device meta", "auto, cpu, cuda or cuda:N")),
        ("--device cuda:99", ("--device cuda:99", "give auto or cpu")),
        ("no_such:World", ("'no_such:World'", "can be imported")),
        ("json:World", ("'json:World'", "has no attribute 'World'", "check the class name")),
        ("json:", ("'json:'", "module:Class")),
        ("json:loads", ("'json:loads'", "loads() raised TypeError", "give")),
        ("json:JSONDecoder", ("'json:JSONDecoder'", "observation_space")),
    ],
)
def test_a_mistake_in_training_says_what_to_give(words, parts, tmp_path):
    run = ("--run", tmp_path / "new")
    assert refused("train", TINY, words, *run, code=USAGE, parts=parts) == ""
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--tasks 1", ("--tasks 1", "in [2, 10000]")),
        ("--episodes 0", ("--episodes 0", "in [2, 100000]")),
        ("--steps -1", ("--steps -1", "[0, 100]")),
        ("--seed -1", ("--seed -1", ">= 0")),
        ("--split later", ("later", "--split", "extrapolate")),
        ("--steps few", ("--steps", "few", "in [0, 100]")),
        ("--device tpu", ("--device tpu", "auto, cpu, cuda or cuda:N")),
        ("other", ("other", "metarl evaluate --help")),
    ],
)
def test_a_mistake_in_evaluation_says_what_to_give(words, parts, finished):
    assert refused("evaluate", finished, words, code=USAGE, parts=parts) == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("trian", ("trian", "train, evaluate, compare, export, watch, families, algos, bench")),
        ("evaluate", ("RUN", "metarl evaluate --help")),
        ("evaluate nowhere", ("no config.json in nowhere", "give the folder of a run")),
        ("train --resume nowhere", ("no config.json in nowhere", "give the folder of a run")),
        ("families all", ("'all'", "`metarl families` lists")),
        ("bench nav-7", ("'nav-7'", "nav-20, nav-200")),
        ("bench --repeats 0", ("--repeats 0", ">= 1")),
        ("bench --threads -1", ("--threads -1", "[0, 1024]")),
    ],
)
def test_a_mistake_in_another_command_says_what_to_give(words, parts):
    assert refused(words, code=USAGE, parts=parts) == ""


@pytest.mark.parametrize("words", ["train forager", "evaluate RUN"])
def test_a_cuda_device_that_is_not_there_is_refused(words, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = words.replace("RUN", str(finished))
    more = ("--run", tmp_path / "new") if "train" in words else ()
    parts = ("--device cuda", "0 CUDA devices", "give auto or cpu")
    assert refused(words, "--device cuda", *more, code=USAGE, parts=parts) == ""
    assert not files(tmp_path)


def test_a_module_that_cannot_be_read_is_named_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("class World(\n")
    monkeypatch.syspath_prepend(tmp_path)
    parts = ("'half_written:World'", "half_written.py", "line 1")
    refused("train half_written:World", TINY, "--run", tmp_path / "new", code=USAGE, parts=parts)


def test_a_record_that_cannot_be_written_names_flag_and_file(finished, tmp_path):
    where = tmp_path / "nowhere" / "it.json"
    words = ("--tasks 2 --episodes 2 --steps 0 --json", where)
    refused("evaluate", finished, *words, code=USAGE, parts=(f"--json {where}", "give"))


@pytest.mark.parametrize(("local", "says"), [("0", True), ("1", False)])
def test_of_several_ranks_the_first_of_each_machine_tells_a_mistake(monkeypatch, local, says):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", local)
    code, _, err = metarl("train nowhere")
    assert code == USAGE
    assert ("'nowhere'" in err) == says
