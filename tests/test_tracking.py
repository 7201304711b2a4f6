"""What TensorBoard shows, read back from its real server over HTTP."""

import csv
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from PIL import Image

from metarl.cli import main
from metarl.tracking import CsvTracker, columns

TRAIN = (
    "forager --iterations 4 --tasks 2 --episodes 2 --hidden 8 --eval-every 2 --eval-steps 2 --quiet"
)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A run named `one`, and `get(path)` of a TensorBoard server that shows it."""
    logdir = tmp_path_factory.mktemp("runs")
    assert main(["train", *TRAIN.split(), "--run", str(logdir / "one")]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logdir),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--load_fast", "false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return answer.read()

    deadline = time.monotonic() + 60
    while True:
        try:
            if json.loads(get("data/plugin/scalars/tags")).get("one"):
                break
        except OSError:
            pass
        assert server.poll() is None
        assert time.monotonic() < deadline, "TensorBoard didn't show the run within a minute"
        time.sleep(0.2)
    yield logdir / "one", get
    server.terminate()
    server.wait()


def test_scalars_have_their_names_and_the_values_of_the_record(board):
    folder, get = board
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tags = set(json.loads(get("data/plugin/scalars/tags"))["one"])
    wanted = {k for k in rows[0] if "/" in k} | {"time/iterations"}
    assert tags >= wanted
    for tag in wanted - {"time/iterations"}:
        shown = json.loads(get(f"data/plugin/scalars/scalars?tag={tag}&run=one"))
        kept = [(int(r["env_steps"]), float(r[tag])) for r in rows if r[tag]]
        assert [(s, pytest.approx(v, rel=1e-6)) for s, v in kept] == [(s, v) for _, s, v in shown]


def test_evaluation_scalars_stand_for_every_inner_step(board):
    tags = json.loads(board[1]("data/plugin/scalars/tags"))["one"]
    assert {f"eval/return_step_{k}" for k in range(3)} <= set(tags)


@pytest.mark.parametrize(
    ("tag", "kind"), [("eval/adaptation_curve", "PNG"), ("eval/episode_before_and_after", "GIF")]
)
def test_pictures_can_be_fetched_and_the_episode_moves(board, tag, kind):
    _, get = board
    (entry,) = json.loads(get(f"data/plugin/images/images?tag={tag}&run=one&sample=0"))
    image = Image.open(io.BytesIO(get("data/plugin/images/individualImage?" + entry["query"])))
    assert image.format == kind
    assert min(image.size) > 100
    assert (getattr(image, "n_frames", 1) > 10) == (kind == "GIF")


def test_hyper_parameters_are_shown_with_final_returns(board):
    _, get = board
    request = json.dumps(
        {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 10,
        }
    )
    path = "data/plugin/hparams/session_groups?request=" + urllib.parse.quote(request)
    (group,) = json.loads(get(path))["sessionGroups"]
    assert group["hparams"]["family"] == "forager"
    assert group["hparams"]["inner_lr"] == 2.0
    names = {m["name"]["tag"] for m in group["metricValues"]}
    assert "eval/return_step_2" in names


def test_going_on_cuts_the_record_to_the_checkpoint(tmp_path):
    path, header = tmp_path / "metrics.csv", columns(1)
    tracker = CsvTracker(path, header, 0)
    for it in range(1, 6):
        tracker.write(it, 10 * it, {"train/kl": 0.1 * it})
    tracker.close()
    with path.open("a") as file:
        file.write("6,60,0.5")  # the power went
    CsvTracker(path, header, 3).close()
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(header)
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
