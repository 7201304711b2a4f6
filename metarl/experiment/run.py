"""Starting a run in a new folder, and opening one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.family_record import (
    check_belongs,
    check_same,
    family_record,
    recorded_family,
    texts,
)
from metarl.config.family_spec import build_family
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.settings_file import read_config as read_config  # for other modules
from metarl.config.settings_file import read_settings, write_config
from metarl.config.trust import check_trust, flag_for
from metarl.envs import Family, UsageError
from metarl.experiment.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from metarl.experiment.compile_mode import check_compile
from metarl.experiment.loaded_run import Run
from metarl.experiment.memory_check import check_room
from metarl.experiment.named_hooks import check_hooks
from metarl.experiment.run_folder import FolderInUse, FolderTaken, new_folder
from metarl.experiment.saved_evaluation import saved_evaluation
from metarl.outer.train_state import TrainState
from metarl.system.machine import choose_device
from metarl.system.user_errors import report_user_errors
from metarl.training.initialization import first_state
from metarl.training.meta_train import new_agent


def start(folder: Path, train: TrainConfig, run: RunConfig, family: Family | None = None) -> Run:
    """Make a new run folder, its `config.json` written before the first step.

    Raises:
        UsageError: the folder is there already, or can't be written; or settings clash.
    """
    check_compile(train, run)
    check_hooks(run)
    given = family is not None
    family = family or build_family(train, run)
    device = choose_device(run.device)
    with report_user_errors(family):
        check_belongs(train, family)
        record = family_record(train, run, family, given)
        if device.type == "cpu":
            check_room(train, family, run.processes)
        state = first_state(train, family, device)
    run = dataclasses.replace(run, threads=run.threads or torch.get_num_threads())
    try:
        with new_folder(folder):
            written = write_config(folder, train, run, record)
            if train.init_from:  # no folder may name what to begin with once more
                save_checkpoint(folder / "checkpoints", train.family, state, written.digest)
    except FolderInUse:
        raise
    except FolderTaken as error:
        raise FolderTaken(
            f"{error}: go on with `metarl train --resume {quote(str(folder))}"
            f"{flag_for(train, texts(record), run)}`, or give another --run."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder} can't be written ({error.strerror}): give a writable folder with --run."
        ) from error
    told = record, written.started_from, written.digest
    return Run(train, run, family, state, *told, folder=folder, trusted=True)


def open_run(
    folder: Path,
    device: str | None = None,
    family: Family | None = None,
    begin: bool = False,
    trust: bool = False,
    advice: str = "give trust=True, or the family object,",
) -> Run:
    """The run in a folder, at its newest checkpoint; the folder may be someone else's.

    Args:
        begin: a run that was killed before its first checkpoint starts once more.
        device: instead of the one that the run was started on.
        family: the family object, where it can't be found by its name.
        trust: import what the folder names, `module:Class` or `module:function`; training imports
            its trackers and callbacks too.
        advice: how the user says that, for errors.
    Raises:
        UsageError: no run, or a damaged one; code that isn't trusted; or another family than the
            run was started on.
    """
    found, where = read_settings(folder), folder / "checkpoints"
    if family is None:
        check_trust(folder, found.train, texts(found.family), trust, advice)
        family = recorded_family(found.train, found.run, found.family)
    else:
        check_same(found.train, family, found.family)
    if where.is_symlink():
        raise UsageError(f"{where} is a symbolic link: put the folder itself in its place.")
    chosen = choose_device(device or found.run.device)
    starts = begin and not checkpoints(where)
    if starts and any(found.started_from.values()):
        raise UsageError(
            f"{folder} was stopped before its first checkpoint, and began with a model that "
            "no folder may name: start it once more, with --init-from and another --run."
        )
    with report_user_errors(family):
        make = first_state if starts else new_agent
        made: Any = make(found.train, family, chosen)
    state = made
    if not starts:
        state = load_checkpoint(where, found.train, family, TrainState(made), found.digest)
    return Run(
        found.train,
        found.run,
        family,
        state,
        found.family,
        found.started_from,
        found.digest,
        folder,
        saved_evaluation(folder, state.env_steps),
        trust,
    )


def load(
    folder: Path | str, device: str = "cpu", family: Family | None = None, trust: bool = False
) -> AnyAgent:
    """The agent of a run.

    Args:
        family: the family object, where the run was started on one that isn't metarl's.
        trust: or import what the folder names; only for a folder of someone you trust.
    Raises:
        UsageError: as `open_run`.
    """
    return open_run(Path(folder), device, family, trust=trust).state.agent
