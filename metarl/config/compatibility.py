"""Settings that exclude each other."""

from __future__ import annotations

from metarl.config.settings import TrainConfig
from metarl.envs import UsageError

# Outer rules that take no derivative of a loss, and the algorithm that each is known by.
_PRESET = {"reptile": "reptile", "es": "es-maml"}


Conflict = tuple[bool, str]  # whether there is one, and what to say then


def check_combination(cfg: TrainConfig) -> None:
    """Raise UsageError that names two settings that exclude each other, and the way out."""
    every = (*_of_memory(cfg), *_of_outer(cfg), *_of_exploration(cfg), *_of_start(cfg))
    for clash, message in every:
        if clash:
            raise UsageError(message)


def _of_memory(cfg: TrainConfig) -> list[Conflict]:
    memory = cfg.memory != "none"
    return [
        (
            memory != (cfg.outer == "ppo"),
            f"--memory {cfg.memory} with --outer {cfg.outer}: trials of a memory are learned by "
            "ppo, and by it alone; give --outer ppo and --memory gru or fwp, or neither.",
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
            f"--network {cfg.network} with --memory {cfg.memory}: a memory has a network of its "
            "own, which reads images as plain numbers; leave out one of them.",
        ),
    ]


def _of_outer(cfg: TrainConfig) -> list[Conflict]:
    learned = cfg.step_size != "fixed"
    derivative_free = cfg.outer in _PRESET
    return [
        (
            cfg.epochs > 1 and cfg.outer in (*_PRESET, "trpo", "implicit"),
            f"--epochs {cfg.epochs} with --outer {cfg.outer}: it moves the weights once for what "
            "was played; give --epochs 1, or --outer gradient.",
        ),
        (
            learned and derivative_free,
            f"--step-size {cfg.step_size} with --outer {cfg.outer}: step sizes are learned from "
            "the derivative of a loss, and it has none; give --step-size fixed, as --algo "
            f"{_PRESET.get(cfg.outer)} does, or --outer gradient or trpo.",
        ),
        (
            cfg.outer == "reptile" and cfg.inner_lr == 0,
            "--inner-lr 0 with --outer reptile: it goes where inner steps lead, and they would "
            "lead nowhere; give --inner-lr 0.1, or another above 0.",
        ),
        (
            cfg.outer == "reptile" and cfg.fast != "all",
            f"--fast {cfg.fast} with --outer reptile: it would leave the other weights as they "
            "were drawn; give --fast all, or another --outer.",
        ),
        (
            cfg.multi_step and derivative_free,
            f"--multi-step with --outer {cfg.outer}: it has no loss to average; give "
            "--no-multi-step, or --outer gradient or trpo.",
        ),
    ]


def _of_start(cfg: TrainConfig) -> list[Conflict]:
    return [
        (
            cfg.normalize_return and cfg.memory == "none",
            "--normalize-return without --memory: the advantages of each task are normalised "
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
            "trained behind it too.",
        ),
        (
            bool(cfg.init_normalize) and not cfg.trust,
            f"--init-normalize {cfg.init_normalize}: it is a pickle, and code in it runs when it "
            "is read; give --trust if you know where it is from.",
        ),
        (
            bool(cfg.init_from) and cfg.normalize_obs and not cfg.init_normalize,
            f"--init-from {cfg.init_from} with --normalize-obs: its first layer was not trained on "
            "normalised observations; give the --init-normalize that it was trained behind, or "
            "leave out --normalize-obs.",
        ),
    ]


def _of_exploration(cfg: TrainConfig) -> list[Conflict]:
    return [
        (
            cfg.exploration > 0 and cfg.outer in _PRESET,
            f"--exploration {cfg.exploration:g} with --outer {cfg.outer}: it has no loss to add it "
            "to; give --exploration 0, or --outer gradient or trpo.",
        ),
        (
            cfg.exploration > 0 and cfg.task_chunk < cfg.tasks,
            f"--exploration {cfg.exploration:g} with --task-chunk {cfg.task_chunk}: tasks are "
            f"compared with each other; give --task-chunk {cfg.tasks} or more.",
        ),
    ]
