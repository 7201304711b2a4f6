"""Runs of `metarl train` as processes of their own, that tests begin, watch and end."""

import os
import subprocess
import sys
import time

from safetensors.torch import load_file

METARL = ["-m", "metarl", "train"]
BY_TORCHRUN = ["-m", "--", "metarl", "train"]  # else it takes --run for an option of its own
WORLD = "point-navigation --tasks 5 --episodes 4 --hidden 8 --eval-steps 1 --eval-every 1000"
SMALL = f"{WORLD} --iterations 40 --save-every 4 --threads 1 --quiet"
# A store of its own for each start, else torch finds the addresses of processes that are gone.
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def begin(words, start=(sys.executable,), cwd=None, **env):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A session of its own, as a terminal gives it, so that what it leaves behind can be found.
    return subprocess.Popen(
        [*start, *(BY_TORCHRUN if len(start) > 1 else METARL), *words.split()],
        cwd=cwd,
        env={**ENV, **env},
        start_new_session=True,
        **pipes,
    )


def finish(process, seconds=240):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def metarl(words, **how):
    return finish(begin(words, **how))


def weights(folder, iteration=40):
    return load_file(folder / "checkpoints" / f"step-{iteration:06d}.safetensors")


def until(ready, seconds=90):
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found
