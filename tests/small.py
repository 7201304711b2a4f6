"""Small settings, states and runs for tests."""

import contextlib
import dataclasses
import io
import json
import os
import signal
from functools import lru_cache
from unittest import mock

from metarl.cli.main import main
from metarl.config.presets import preset
from metarl.config.settings_file import digest_of
from metarl.envs import make_family
from metarl.outer.train_state import TrainState
from metarl.training.meta_train import meta_train, new_agent

TINY = "--iterations 2 --tasks 2 --episodes 2 --hidden 8 --eval-steps 1"


def small(name, algo="promp", **more):
    """A family's own settings, but for their size."""
    size = {"tasks": 3, "episodes": 2, "iterations": 3, "hidden": (8,), "lr_decay": False}
    if algo == "promp":
        size |= {"step_size": "per-weight"}
    return dataclasses.replace(preset(name, algo), **{**size, **more})


@lru_cache
def start(name="point-navigation", **more):
    """Settings, family and an untrained state; shared, and never changed."""
    cfg, family = small(name, **more), make_family(name)
    return cfg, family, TrainState(new_agent(cfg, family))


@lru_cache
def trained():
    """The state after two iterations; shared, and never changed."""
    return list(meta_train(*start(iterations=2)))[-1]


def at(state, iteration):
    """The state as another iteration's, recognizable by its counters."""
    skipped = 0 if state.opt else iteration  # without moments of Adam nothing was learned
    counters = {"iteration": iteration, "env_steps": 100 * iteration, "skipped": skipped}
    return dataclasses.replace(state, **counters)


def sign(run, record):
    """Write a run's settings with a right digest, which its checkpoints name as their own."""
    config = digest_of({k: v for k, v in record.items() if k != "sha256"})
    (run / "config.json").write_text(json.dumps({**record, "sha256": config}))
    for path in (run / "checkpoints").glob("*.json"):
        found = {**json.loads(path.read_text()), "config_sha256": config}
        own = digest_of({k: v for k, v in found.items() if k != "sha256"})
        path.write_text(json.dumps({**found, "sha256": own}))


def files(folder):
    """Content of all files below a folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def metarl(*words):
    """Exit code, stdout and stderr of a command in this process; texts are split at spaces."""
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    argv = []
    for word in words:
        argv += word.split() if isinstance(word, str) else [str(word)]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, COLUMNS="80"),
    ):
        try:
            code = main(argv)
        except SystemExit as stop:  # --help
            code = stop.code
        except KeyboardInterrupt:
            code = "not caught"
        finally:
            signal.signal(signal.SIGTERM, handler)
    return code, out.getvalue(), err.getvalue()


def refused(*words, code, parts):
    """The command says in one line what is wrong, and nothing else."""
    got, out, err = metarl(*words)
    assert (got, err.count("\n")) == (code, 1), err
    assert err.startswith("metarl: ")
    for part in parts:
        assert part in err
    return out
