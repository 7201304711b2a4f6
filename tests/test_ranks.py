"""Two processes that share a meta-batch do what one does with all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sharing import SETTINGS
from torch.testing import assert_close

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Updates of one process, and of two together."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for name, start in (("one", [sys.executable]), ("two", [*torchrun, "--nproc-per-node", "2"])):
        command = [*start, HERE / "sharing.py", folder / name]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return torch.load(folder / "one"), torch.load(folder / "two")


@pytest.mark.parametrize("algo", SETTINGS)
def test_two_ranks_make_the_same_update_as_one(found, algo):
    (one, measured), (two, measured_too) = (each[algo] for each in found)
    assert_close(two, one, rtol=1e-6, atol=1e-9)
    assert measured_too == pytest.approx(measured, rel=1e-6)
