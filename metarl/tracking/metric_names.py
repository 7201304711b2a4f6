"""All names of tracked quantities with unit and meaning; names are stable across versions."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from metarl.evaluation.evaluate import Evaluation


class Tag(NamedTuple):
    """Unit and meaning of a tracked quantity."""

    unit: str
    meaning: str


# The unit of every return is that of the family's reward, undiscounted.
TRAIN = {
    "train/return_before": Tag("return", "training tasks before adaptation, mean"),
    "train/return_after": Tag("return", "training tasks after adaptation, mean"),
    "train/adaptation_gain": Tag("return", "return_after minus return_before"),
    "train/meta_loss": Tag("1", "outer loss before the update; only sudden jumps are informative"),
    "train/kl": Tag("nats", "KL between the unadapted policies before and after the update"),
    "train/entropy": Tag("nats", "entropy of the adapted policy; may be negative for Box actions"),
    "train/grad_norm": Tag("1", "L2 norm of the meta-gradient before clipping, mean over epochs"),
    "train/skipped_updates": Tag("updates", "skipped so far because a gradient was not finite"),
    "train/diverged": Tag("episodes", "of the iteration that ended because the simulator diverged"),
    "train/episode_length": Tag("steps", "of an episode after adaptation, mean"),
    "train/meta_lr": Tag("1", "learning rate of the outer update; trpo has none"),
    "train/meta_lr_of_steps": Tag("1", "learning rate of learned step sizes"),
}
SUCCESS = {
    "train/success_before": Tag("share", "of successful episodes before adaptation"),
    "train/success_after": Tag("share", "of successful episodes after adaptation"),
}
IMPLICIT = {
    "train/unsolved_tasks": Tag(
        "tasks", "imaml: whose linear system was not solved; the update is then skipped"
    ),
    "train/system_residual": Tag(
        "1", "imaml: relative residual of the linear systems, mean over tasks"
    ),
    "train/proximal_residual": Tag(
        "1", "imaml: one more inner iteration relative to the step; 0 at the proximal point"
    ),
}
EVAL = {
    "eval/return_step_K": Tag("return", "mean over validation tasks after K inner steps"),
}
ORACLE = {
    "eval/oracle": Tag("return", "of a policy that knows the task, mean over the same tasks"),
}
INNER = {
    "inner/step_size": Tag("1", "absolute step size of adaptation, mean over fast weights"),
    "inner/weight_change": Tag(
        "weights", "L2 norm of the change by adaptation, root mean square over tasks"
    ),
}
TIME = {
    "time/seconds": Tag("s", "since start or resume"),
    "time/env_steps_per_second": Tag("1/s", "of a meta-iteration, including the update"),
}
# From the final evaluation, on test tasks: one point at each end of training. TensorBoard shows the
# first five metrics by name next to the hyperparameters.
FINAL = {
    "eval/gain": Tag(
        "return",
        "final evaluation, on test tasks: return_after minus return_before",
    ),
    "eval/return_after": Tag(
        "return", "final evaluation on test tasks: mean after all inner steps"
    ),
    "eval/return_before": Tag("return", "final evaluation on test tasks: mean before adaptation"),
}
CLOCK = {"time/iterations": Tag("iterations", "meta-iterations so far")}
DISTRIBUTIONS = {
    "step_size/LAYER": Tag("1", "learned step size of each weight, tensor or step"),
    "weight_change/LAYER": Tag(
        "weights", "change of each weight by adaptation, root mean square over tasks"
    ),
}
PICTURES = {
    "pictures/adaptation_curve": Tag("return", "against steps of adaptation: tasks, mean, oracle"),
    "pictures/gain_map": Tag("return", "gain over the parameters that explain most of it"),
    "pictures/episode_before_and_after": Tag(
        "frames", "an unseen task before and after adaptation"
    ),
}
TEXTS = {"about/run": Tag("text", "command, settings and versions")}

SCALARS = {
    **TRAIN,
    **SUCCESS,
    **IMPLICIT,
    **EVAL,
    **ORACLE,
    **INNER,
    **FINAL,
    **TIME,
    **CLOCK,
}
TAGS = {**SCALARS, **DISTRIBUTIONS, **PICTURES, **TEXTS}

# Custom scalars, most important first. Each line of a chart is a regular expression.
LAYOUT = {
    "1. Does it adapt?": {
        "return before and after adaptation (training tasks)": [
            "train/return_before",
            "train/return_after",
        ],
        "adaptation gain (training tasks)": ["train/adaptation_gain"],
        "return after 0, 1, ... steps (validation tasks)": [
            r"eval/return_step_\d+",
            "eval/oracle",
        ],
        "share of successes before and after": ["train/success_before", "train/success_after"],
    },
    "2. Is it healthy?": {
        "KL of the meta-update (nats)": ["train/kl"],
        "entropy after adaptation (nats)": ["train/entropy"],
        "norm of the meta-gradient": ["train/grad_norm"],
        "skipped updates, diverged episodes": ["train/skipped_updates", "train/diverged"],
        "steps of an episode": ["train/episode_length"],
        "learning rates": ["train/meta_lr", "train/meta_lr_of_steps"],
        "imaml: residuals": ["train/system_residual", "train/proximal_residual"],
        "imaml: unsolved tasks": ["train/unsolved_tasks"],
    },
    "3. How does it adapt?": {
        "step size of adaptation": ["inner/step_size"],
        "change of the weights by adaptation": ["inner/weight_change"],
    },
    "4. How fast?": {
        "environment steps a second": ["time/env_steps_per_second"],
    },
}


def columns(
    eval_steps: int,
    success: bool = False,
    inner: bool = False,
    oracle: bool = False,
    implicit: bool = False,
) -> tuple[str, ...]:
    """The header of `metrics.csv`.

    Args:
        success: simulators report which episodes succeeded.
        inner: the agent adapts its weights by inner steps.
        oracle: the family has an oracle.
        implicit: the outer rule solves linear systems.
    """
    returns = tuple(f"eval/return_step_{k}" for k in range(eval_steps + 1))
    optional = (
        *(SUCCESS if success else ()),
        *(IMPLICIT if implicit else ()),
        *returns,
        *(ORACLE if oracle else ()),
        *(INNER if inner else ()),
    )
    return ("iteration", "env_steps", *TRAIN, *optional, *TIME)


def eval_metrics(result: Evaluation) -> dict[str, float]:
    """Metrics of a periodic evaluation, for any number of steps."""
    steps = {f"eval/return_step_{k}": float(mean) for k, mean in enumerate(result.mean)}
    oracle = {} if result.oracle is None else {"eval/oracle": float(result.oracle.mean())}
    return {**steps, **oracle}


def final(result: Evaluation) -> dict[str, float]:
    """Metrics of the final evaluation."""
    before, after = float(result.mean[0]), float(result.mean[-1])
    return dict(zip(FINAL, (after - before, after, before), strict=True))


def layout(names: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """The charts of `LAYOUT` that show at least one of these names."""

    def shown(patterns: list[str]) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns for name in names)

    charts = {c: {t: p for t, p in titles.items() if shown(p)} for c, titles in LAYOUT.items()}
    return {category: titles for category, titles in charts.items() if titles}


def described(name: str) -> Tag | None:
    """Unit and meaning of a scalar; None for a user-defined one."""
    known = "eval/return_step_K" if name.startswith("eval/return_step_") else name
    return SCALARS.get(known)
