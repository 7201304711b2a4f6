"""What TensorBoard shows of two runs in one folder, asked of its real server over HTTP."""

import csv
import io
import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import pytest
from PIL import Image
from small import metarl

from metarl.envs import make_family
from metarl.tracking.metric_names import (
    DISTRIBUTIONS,
    IMPLICIT,
    PICTURES,
    SCALARS,
    SUCCESS,
    TEXTS,
    columns,
    layout,
)

SETTINGS = (
    "forager --iterations 3 --tasks 2 --episodes 2 --hidden 8 --eval-every 2 --eval-steps 2 --quiet"
)
RUNS = ("one", "two")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A folder of runs, seeds 0 and 1, and `get(path)` of a TensorBoard server that shows it."""
    logdir = tmp_path_factory.mktemp("runs")
    for seed, run in enumerate(RUNS):
        code, _, err = metarl("train", SETTINGS, f"--seed {seed} --run", logdir / run)
        assert code == 0, err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def get(path, **query):
        asked = "&".join(f"{k}={quote(str(v))}" for k, v in query.items())
        address = f"http://127.0.0.1:{port}/data/plugin/{path}" + (f"?{asked}" if asked else "")
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.read()

    try:
        wait_until_shown(server, get)
        yield logdir, get
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_shown(server, get):
    """The last that a run writes is there, for both."""
    deadline = time.monotonic() + 120
    while True:
        try:
            if all(ended(get, run) for run in RUNS):
                return
        except OSError:
            pass
        assert server.poll() is None
        assert time.monotonic() < deadline, "TensorBoard didn't show the runs within two minutes"
        time.sleep(0.2)


def ended(get, run):
    """The final evaluation is there."""
    return len(json.loads(get("scalars/scalars", tag="eval/gain", run=run))) == 1


def record(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run", RUNS)
def test_scalars_have_the_values_of_the_record(board, run):
    logdir, get = board
    rows = record(logdir / run)
    tags = set(json.loads(get("scalars/tags"))[run])
    for tag in (name for name in rows[0] if "/" in name):
        assert tag in tags
        shown = json.loads(get("scalars/scalars", tag=tag, run=run))
        kept = [(int(r["env_steps"]), float(r[tag])) for r in rows if r[tag]]
        assert kept, tag
        times = len(kept)  # an evaluation at the end that the record has no line for comes after
        found = [(s, v) for _, s, v in shown[:times]]
        assert [(s, pytest.approx(v, rel=1e-6)) for s, v in kept] == found


@pytest.mark.parametrize("run", RUNS)
def test_curves_have_one_point_a_step_and_reach_the_end_of_training(board, run):
    """Also in a run that ends between two evaluations."""
    logdir, get = board
    end = int(record(logdir / run)[-1]["env_steps"])
    for tag in (t for t in json.loads(get("scalars/tags"))[run] if t.startswith("eval/")):
        steps = [s for _, s, _ in json.loads(get("scalars/scalars", tag=tag, run=run))]
        assert steps == sorted(set(steps)), tag
        assert steps[-1] == end, tag


def test_the_final_evaluation_is_shown_at_the_end(board):
    logdir, get = board
    returns = json.loads((logdir / "two" / "evaluation.json").read_text())["return_mean"]
    (point,) = json.loads(get("scalars/scalars", tag="eval/gain", run="two"))
    assert point[1] == int(record(logdir / "two")[-1]["env_steps"])
    assert point[2] == pytest.approx(returns[-1] - returns[0], rel=1e-5)


def general(tag):
    """A run's own tag as `metarl.tracking.metric_names` has it."""
    tag = re.sub(r"return_step_\d+$", "return_step_K", tag)
    return re.sub(r"^(step_size|weight_change)/.*", r"\1/LAYER", tag)


def test_every_tag_is_known_and_every_known_tag_is_shown(board):
    _, get = board
    for plugin, known in (
        ("scalars", SCALARS.keys() - SUCCESS.keys() - IMPLICIT.keys()),
        ("histograms", DISTRIBUTIONS.keys()),
        ("distributions", DISTRIBUTIONS.keys()),
        ("images", PICTURES.keys()),
        ("text", {f"{tag}/text_summary" for tag in TEXTS}),
    ):
        for run in RUNS:
            shown = json.loads(get(f"{plugin}/tags"))[run]
            assert {general(tag) for tag in shown} == known, plugin


def test_a_chart_explains_itself(board):
    tags = json.loads(board[1]("scalars/tags"))["one"]
    for name, about in tags.items():
        meaning = SCALARS[general(name)].meaning
        assert meaning in about["description"].replace("&#39;", "'"), name


def test_the_layout_puts_adaptation_first_and_has_no_empty_chart(board):
    _, get = board
    answer = json.loads(get("custom_scalars/layout"))
    shown = {
        category["title"]: {c["title"]: c["multiline"]["tag"] for c in category["chart"]}
        for category in answer["category"]
    }
    assert shown == layout(columns(2, inner=True, oracle=True))
    assert list(shown) == sorted(shown)
    first = next(iter(next(iter(shown.values())).values()))
    assert first == ["train/return_before", "train/return_after"]
    for charts in shown.values():
        for regex in (tag for tags in charts.values() for tag in tags):
            for run in RUNS:
                lines = json.loads(get("custom_scalars/scalars", tag=regex, run=run))
                assert lines["regex_valid"]
                assert any(lines["tag_to_events"].values()), regex


@pytest.mark.parametrize("tag", PICTURES)
def test_pictures_can_be_fetched_and_the_episode_moves(board, tag):
    _, get = board
    (entry,) = json.loads(get("images/images", tag=tag, run="one", sample=0))
    image = Image.open(io.BytesIO(get("images/individualImage?" + entry["query"])))
    moving = tag == "pictures/episode_before_and_after"
    assert image.format == ("GIF" if moving else "PNG")
    assert min(image.size) > 100
    assert (getattr(image, "n_frames", 1) > 10) == moving


def test_distributions_have_all_step_sizes_and_are_of_each_evaluation(board):
    logdir, get = board
    steps = [int(r["env_steps"]) for r in record(logdir / "one")]
    shown = json.loads(get("histograms/histograms", tag="step_size/layers.0", run="one"))
    assert [s for _, s, _ in shown] == steps[1:]  # at the second, an evaluation, and at the end
    inputs = math.prod(make_family("forager").observation_space.shape)
    for _, _, buckets in shown:
        assert sum(count for _, _, count in buckets) == inputs * 8 + 8  # weights, biases
    assert shown[0][2][0][0] <= 2.0 <= shown[0][2][-1][1]  # --inner-lr, where they start


def test_the_text_has_the_command_that_starts_the_run_again(board):
    _, get = board
    for seed, run in enumerate(RUNS):
        (entry,) = json.loads(get("text/text", tag="about/run/text_summary", run=run))
        assert "metarl train forager" in entry["text"]
        assert ("--seed 1" in entry["text"]) == (seed == 1)
        assert re.search(r"<td>inner_lr</td>\s*<td>2.0</td>", entry["text"])
        assert re.search(r"<td>torch</td>\s*<td>\d+\.\d+", entry["text"])


def hparams(get, what, **request):
    return json.loads(get(f"hparams/{what}", request=json.dumps({"experimentName": "", **request})))


def test_settings_are_typed_columns_of_which_the_seed_differs(board):
    experiment = hparams(board[1], "experiment", includeMetrics=True)
    infos = {info["name"]: info for info in experiment["hparamInfos"]}
    kinds = {"inner_lr": "FLOAT64", "tasks": "FLOAT64", "lr_decay": "BOOL", "algo": "STRING"}
    for name, kind in kinds.items():
        assert infos[name]["type"] == f"DATA_TYPE_{kind}"
    assert infos["seed"]["domainInterval"] == {"minValue": 0, "maxValue": 1}
    assert infos["algo"]["domainDiscrete"] == ["promp"]  # what can be filtered
    assert [name for name, info in infos.items() if info.get("differs")] == ["seed"]
    # TensorBoard shows the first five metrics.
    metrics = [m["name"]["tag"] for m in experiment["metricInfos"]]
    assert {"eval/gain", "eval/return_after", "eval/return_before"} < set(metrics[:5])


def test_runs_can_be_sorted_by_the_return_after_adaptation(board):
    logdir, get = board
    after = {
        run: json.loads((logdir / run / "evaluation.json").read_text())["return_mean"][-1]
        for run in RUNS
    }
    for order in ("ASC", "DESC"):
        metric = {"tag": "eval/return_after", "group": ""}
        groups = hparams(
            get,
            "session_groups",
            allowedStatuses=["STATUS_SUCCESS"],
            colParams=[
                {"metric": metric, "order": f"ORDER_{order}", "includeInResult": True},
                {"hparam": "family", "includeInResult": True},
            ],
            startIndex=0,
            sliceSize=10,
        )["sessionGroups"]
        shown = [
            (group["sessions"][0]["name"], value["value"])
            for group in groups
            for value in group["metricValues"]
            if value["name"] == metric
        ]
        wanted = sorted(after.items(), key=lambda item: item[1], reverse=order == "DESC")
        assert shown == [(run, pytest.approx(value, rel=1e-5)) for run, value in wanted]
        assert groups[0]["hparams"]["family"] == "forager"
