"""Files are replaced whole, never through a symbolic link, and only where a file can be."""

import os
from pathlib import Path

import pytest
from small import at, metarl, refused, small, trained

from metarl.config.settings import RunConfig
from metarl.envs import UsageError
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import start
from metarl.experiment.train_run import train_in
from metarl.system.files import check_output, read_json, read_limited, write_atomically
from metarl.tracking.trackers import CsvTracker

USAGE = 2
SMALL = "--tasks 2 --episodes 2 --steps 0"


@pytest.fixture
def run(tmp_path):
    job = start(tmp_path / "run", small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(tmp_path / "run/checkpoints", "point-navigation", at(trained(), 3), job.digest)
    return tmp_path / "run"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("kept")
    for name in ("file", "file.part", ".file.part"):
        (tmp_path / name).symlink_to(mine)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()
    assert mine.read_text() == "kept"
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"mine", "file", "file.part", ".file.part"}


def test_a_run_writes_through_no_link_in_its_folder(tmp_path):
    """A folder of someone else's, which is resumed."""
    cfg = small("point-navigation", iterations=1)
    folder, mine = tmp_path / "run", tmp_path / "bashrc"
    job = start(folder, cfg, RunConfig(track="csv", eval_every=100))
    mine.write_text("kept")
    (folder / "checkpoints").mkdir()
    for name in (
        "metrics.csv",
        "checkpoints/step-000001.json",
        "checkpoints/step-000001.safetensors",
    ):
        (folder / f"{name}.part").symlink_to(mine)
        (folder / name).symlink_to(mine)
    train_in(folder, job)
    assert mine.read_text() == "kept"
    assert (folder / "metrics.csv").read_text().startswith("iteration,")
    assert not list((folder / "checkpoints").glob("*.part"))


def test_lines_are_not_added_through_a_link(tmp_path):
    path, mine = tmp_path / "metrics.csv", tmp_path / "mine"
    mine.write_text("kept")
    tracker = CsvTracker(path, ("iteration",), 0)
    tracker.close()
    path.unlink()
    path.symlink_to(mine)
    again = CsvTracker(path, ("iteration",), 0)
    again.write(1, 1, {})
    again.close()
    assert mine.read_text() == "kept"


def test_checkpoints_of_another_folder_are_not_written(run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "others")
    (run / "checkpoints").symlink_to(tmp_path / "others")
    parts = (f"{run / 'checkpoints'} is a symbolic link",)
    refused("train --iterations 4 --resume", run, code=USAGE, parts=parts)


WRITES = {
    "evaluate --json": ("evaluate {run} " + SMALL + " --json", ""),
    "evaluate --plot": ("evaluate {run} " + SMALL + " --plot", ".png"),
    "compare --json": ("compare {run} --json", ""),
    "compare --out": ("compare {run} --out", ".csv"),
    "export --out": ("export {run} --out", ""),
    "watch --out": ("watch {run} --out", ".gif"),
    "bench --json": ("bench --repeats 1 --json", ""),
    "bench --profile": ("bench --repeats 1 --profile", ""),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_is_no_place_for_a_file_is_refused_before_anything_runs(run, tmp_path, what):
    words, ending = WRITES[what]
    flag = words.split()[-1]
    pipe = tmp_path / f"pipe{ending}"  # as a device: it would be replaced
    os.mkfifo(pipe)
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / f"link{ending}").symlink_to(pipe)
    places = {
        pipe: "not a regular file",
        tmp_path / f"link{ending}": "not a regular file",
        tmp_path / f"folder{ending}": "a folder",
        tmp_path / "nowhere" / f"x{ending}": "no folder",
        tmp_path / "file" / f"x{ending}": "no folder",
        tmp_path / f"{300 * 'x'}{ending}": "",
        Path(f"/dev/x{ending}"): "not a regular file",
        Path(f"/proc/self/x{ending}"): "not a regular file",
    }
    for place, part in places.items():
        parts = (f"{flag} {place}: ", part)
        assert refused(words.format(run=run), f"{place}", code=USAGE, parts=parts) == ""
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", [".", "..", "/", "/dev/null", "/dev/stdout"])
def test_what_is_no_file_is_refused(place):
    with pytest.raises(UsageError, match="--out"):
        check_output("--out", Path(place))


def test_a_file_that_is_there_may_be_replaced(tmp_path):
    (tmp_path / "old").touch()
    (tmp_path / "link").symlink_to(tmp_path / "old")
    for name in ("old", "link", "new"):
        check_output("--out", tmp_path / name)
    check_output("--out", None)


def test_a_pipe_is_not_waited_for_and_a_long_file_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is not a regular file"):
        read_limited(tmp_path / "pipe", 10)
    (tmp_path / "long").write_bytes(11 * b"1")
    with pytest.raises(OSError, match="long has 11 bytes, 10 at most"):
        read_limited(tmp_path / "long", 10)
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path)


@pytest.mark.parametrize("content", [b"1,2\n", b'"' + 200_000 * b"x", b"\xff\x00\r\r"], ids=len)
def test_any_metrics_of_a_run_are_taken_or_refused_in_one_line(run, content):
    (run / "metrics.csv").write_bytes(content)
    for words in (
        ("compare", run, "--out", run / "x.png", SMALL),
        ("train --iterations 4 --quiet --resume", run),
    ):
        code, _, err = metarl(*words)
        assert code == 0 or (code == USAGE and "metrics.csv" in err and err.count("\n") == 1), err


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        9000 * b"[",
        b"{}",
        b'{"per_task": []}',
        b'{"per_task": [{"params": {}}]}',
        b"\xff",
    ],
)
def test_any_evaluation_of_a_run_is_taken_or_made_anew(run, content):
    (run / "evaluation.json").write_bytes(content)
    code, shown, err = metarl("compare", run, "--tasks 40 --steps 0")
    assert (code, err) == (0, "")
    assert "point-navigation: 40 test tasks" in shown
