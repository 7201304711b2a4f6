"""Settings that exclude each other."""

from __future__ import annotations

from metarl.config.settings import TrainConfig
from metarl.envs import UsageError

# Outer rules without an outer loss, with the algorithm that uses each.
_PRESET = {"reptile": "reptile", "es": "es-maml"}


Conflict = tuple[bool, str]  # whether the settings conflict, and the message


def check_combination(cfg: TrainConfig) -> None:
    """Raise UsageError for the first pair of settings that exclude each other."""
    conflicts = (
        *_memory_conflicts(cfg),
        *_outer_conflicts(cfg),
        *_exploration_conflicts(cfg),
        *_warm_start_conflicts(cfg),
    )
    for conflict, message in conflicts:
        if conflict:
            raise UsageError(message)


def _memory_conflicts(cfg: TrainConfig) -> list[Conflict]:
    memory = cfg.memory != "none"
    return [
        (
            memory != (cfg.outer == "ppo"),
            f"--memory {cfg.memory} with --outer {cfg.outer}: --memory needs --outer ppo, and "
            "ppo needs --memory; give --outer ppo and --memory gru or fwp, or neither.",
        ),
        (
            memory and cfg.fast != "all",
            f"--fast {cfg.fast} with --memory {cfg.memory}: a memory changes no weights; leave out "
            "one of them.",
        ),
        (
            memory and cfg.baseline != "linear",
            f"--baseline {cfg.baseline} with --memory {cfg.memory}: a memory has its own critic; "
            "leave out one of them.",
        ),
        (
            memory and cfg.network not in ("auto", "mlp"),
            f"--network {cfg.network} with --memory {cfg.memory}: a memory has its own network, "
            "which takes images as flat vectors; leave out one of them.",
        ),
    ]


def _outer_conflicts(cfg: TrainConfig) -> list[Conflict]:
    learned = cfg.step_size != "fixed"
    derivative_free = cfg.outer in _PRESET
    return [
        (
            cfg.epochs > 1 and cfg.outer in (*_PRESET, "trpo", "implicit"),
            f"--epochs {cfg.epochs} with --outer {cfg.outer}: it makes a single update on each "
            "batch; give --epochs 1, or --outer gradient.",
        ),
        (
            learned and derivative_free,
            f"--step-size {cfg.step_size} with --outer {cfg.outer}: step sizes are learned from "
            "the gradient of an outer loss, and it has none; give --step-size fixed, as --algo "
            f"{_PRESET.get(cfg.outer)} does, or --outer gradient or trpo.",
        ),
        (
            cfg.outer == "reptile" and cfg.inner_lr == 0,
            "--inner-lr 0 with --outer reptile: it moves toward the adapted weights, which would "
            "not differ; give --inner-lr 0.1, or another value above 0.",
        ),
        (
            cfg.outer == "reptile" and cfg.fast != "all",
            f"--fast {cfg.fast} with --outer reptile: it would not train the other weights; give "
            "--fast all, or another --outer.",
        ),
        (
            cfg.multi_step and derivative_free,
            f"--multi-step with --outer {cfg.outer}: it has no loss to average; give "
            "--no-multi-step, or --outer gradient or trpo.",
        ),
    ]


def _warm_start_conflicts(cfg: TrainConfig) -> list[Conflict]:
    return [
        (
            cfg.normalize_return and cfg.memory == "none",
            "--normalize-return without --memory: the advantages of each task are normalized "
            "already, so it would change nothing; leave it out.",
        ),
        (
            bool(cfg.init_from) and cfg.memory != "none",
            f"--init-from {cfg.init_from} with --memory {cfg.memory}: an MlpPolicy has no memory "
            "to start from; leave out one of them.",
        ),
        (
            bool(cfg.init_normalize) and not cfg.init_from,
            f"--init-normalize {cfg.init_normalize} without --init-from: give the model that was "
            "trained with it too.",
        ),
        (
            bool(cfg.init_normalize) and not cfg.trust,
            f"--init-normalize {cfg.init_normalize}: it is a pickle, and reading it can run code; "
            "give --trust if you trust its source.",
        ),
        (
            bool(cfg.init_from) and cfg.normalize_obs and not cfg.init_normalize,
            f"--init-from {cfg.init_from} with --normalize-obs: its first layer was not trained on "
            "normalized observations; give the --init-normalize that it was trained with, or "
            "leave out --normalize-obs.",
        ),
    ]


def _exploration_conflicts(cfg: TrainConfig) -> list[Conflict]:
    return [
        (
            cfg.exploration > 0 and cfg.outer in _PRESET,
            f"--exploration {cfg.exploration:g} with --outer {cfg.outer}: it has no outer loss; "
            "give --exploration 0, or --outer gradient or trpo.",
        ),
        (
            cfg.exploration > 0 and cfg.task_chunk < cfg.tasks,
            f"--exploration {cfg.exploration:g} with --task-chunk {cfg.task_chunk}: it normalizes "
            f"over all tasks; give --task-chunk {cfg.tasks} or more.",
        ),
    ]
