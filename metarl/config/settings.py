"""Settings: each has one default, one range and one help text, all here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from metarl.config.named_code import check_callbacks, check_track
from metarl.config.validation import check, name_in, number
from metarl.config.warm_start import WarmStart


@dataclass(frozen=True)
class TrainConfig(WarmStart):
    """Meta-train an agent over a family of variants."""

    family: Annotated[
        Positional[str],
        arg(help="family (see `metarl families`), your own as module:Class, or any Gymnasium id"),
    ] = "forager"
    vary: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="what is hidden: NAME=LOW:HIGH[:log][:int] or NAME=A,B,C; once for each parameter",
        ),
    ] = ()
    hold_out: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="values that training never sees and test tasks have: NAME=LOW:HIGH or NAME=A,B",
        ),
    ] = ()
    validation: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="values that only validation tasks have, those of the evaluations in training; "
            "without them these have values of training, never of --hold-out",
        ),
    ] = ()
    extrapolate: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="wider range, or further values, for `evaluate --split extrapolate`",
        ),
    ] = ()
    set: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(metavar="NAME=VALUE", help="constant of the world, such as max_episode_steps=200"),
    ] = ()
    live: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME",
            help="parameter that has an effect where random actions don't lead; once for each",
        ),
    ] = ()
    image: Annotated[
        Literal["auto", "channels-first", "channels-last", "vector"],
        arg(
            help="where a Gymnasium environment's images have their channels, or to take them as "
            "plain numbers; auto: told by the shape, and printed"
        ),
    ] = "auto"
    algo: Annotated[
        str,
        *name_in(
            "metarl.config.published:ALGORITHMS",
            "published algorithm: defaults of what follows (see `metarl algos`)",
        ),
    ] = "promp"
    seed: Annotated[int, *number("seed of weights, tasks and episodes", 0)] = 0
    iterations: Annotated[int, *number("meta-iterations in the whole run", 1)] = 200
    tasks: Annotated[int, *number("tasks in a meta-iteration", 1, 100_000)] = 20
    task_chunk: Annotated[
        int, *number("tasks in one tensor program; bounds memory, changes no gradient", 1, 100_000)
    ] = 50
    episodes: Annotated[
        int, *number("episodes of each task before and after each inner step", 2, 100_000)
    ] = 20
    inner_steps: Annotated[int, *number("gradient steps of adaptation in training", 0, 20)] = 1
    fast: Annotated[
        str,
        *name_in(
            "metarl.agents.inner.fast_weights:FAST",
            "weights that a task changes: all (MAML), head (ANIL), body (BOIL), context (CAVIA), "
            "lora (low-rank adapters)",
        ),
    ] = "all"
    context: Annotated[int, *number("numbers in the context, with --fast context", 1, 1024)] = 8
    rank: Annotated[int, *number("rank of the adapters, with --fast lora", 1, 1024)] = 4
    inner_lr: Annotated[float, *number("step size of adaptation, where it starts", 0, 100)] = 0.1
    step_size: Annotated[
        Literal["fixed", "per-tensor", "per-weight", "per-step"],
        arg(
            help="fixed: inner-lr throughout; meta-learned: one a tensor, one a weight (Meta-SGD), "
            "or one a step and tensor (MAML++)"
        ),
    ] = "per-weight"
    positive_steps: Annotated[bool, arg(help="keep learned step sizes at 0 or more")] = False
    estimator: Annotated[
        str,
        *name_in(
            "metarl.agents.inner.estimators:ESTIMATORS",
            "inner loss: lvc (likelihood ratio), dice, or log-likelihood, whose meta-gradient is "
            "biased",
        ),
    ] = "lvc"
    dice_lambda: Annotated[
        float, *number("weight of credit to earlier actions, for each step, with dice", 0, 1)
    ] = 1.0
    second_order_steps: Annotated[
        int,
        *number("last inner steps that keep second derivatives; 0 is first order (FOMAML)", 0, 20),
    ] = 20
    inner_entropy: Annotated[
        float, *number("weight of an entropy bonus in the inner loss, per nat", 0, 100)
    ] = 0.0
    inner_max_norm: Annotated[
        float, *number("clip each task's inner gradient to this L2 norm; 0 does not", 0)
    ] = 0.0
    inner_iterations: Annotated[
        int,
        *number(
            "gradients in each inner step, each taken where the last led: 1 is a gradient step, "
            "many tend to the proximal point (iMAML)",
            1,
            1000,
        ),
    ] = 1
    baseline: Annotated[
        Literal["linear", "learned", "none"],
        arg(
            help="of advantages, fitted to each task: linear in fixed features, in meta-learned "
            "ones, or none"
        ),
    ] = "linear"
    multi_step: Annotated[
        bool, arg(help="train the return after every inner step, not after the last alone")
    ] = False
    gamma: Annotated[float, *number("discount per step", 0, 1)] = 0.99
    gae_lambda: Annotated[float, *number("lambda of the advantage estimate", 0, 1)] = 1.0
    outer: Annotated[
        str,
        *name_in(
            "metarl.outer:OUTER",
            "outer update: gradient (Adam), implicit (iMAML), trpo, reptile, es (evolution "
            "strategies), or ppo (over trials of a memory)",
        ),
    ] = "gradient"
    meta_lr: Annotated[float, *number("Adam step size of the slow weights", 0, 1)] = 1e-3
    meta_lr_of_steps: Annotated[
        float, *number("Adam step size of the learned step sizes", 0, 1)
    ] = 1e-3
    lr_decay: Annotated[
        bool,
        arg(
            help="let these, and a memory's entropy bonus, fall linearly to 0 over the iterations "
            "that the run is started with; more of them then need --no-lr-decay, and have whole "
            "step sizes"
        ),
    ] = False
    max_grad_norm: Annotated[float, *number("clip the meta-gradient to this L2 norm", 1e-9)] = 1.0
    epochs: Annotated[int, *number("outer updates on each batch", 1, 100)] = 5
    clip: Annotated[float, *number("clip the outer ratio to 1 +- this; 0 does not clip", 0)] = 0.3
    inner_kl: Annotated[
        float, *number("weight of the KL of the policies before each inner step", 0)
    ] = 5e-4
    exploration: Annotated[
        float,
        *number("weight of the credit of episodes before for returns after (E-MAML)", 0, 1e3),
    ] = 0.0
    max_kl: Annotated[float, *number("trpo: bound of the KL of an outer update, nats", 1e-9)] = 0.01
    cg_steps: Annotated[
        int, *number("trpo, implicit: steps in which a linear system is solved", 1, 1000)
    ] = 10
    damping: Annotated[float, *number("trpo: added to the curvature's diagonal", 0)] = 1e-5
    curvature: Annotated[
        Literal["exact", "first-order"],
        arg(
            help="trpo: KL through adaptation; first-order takes the adaptation's derivative as 1, "
            "and steps may be far too long where adaptation goes far"
        ),
    ] = "exact"
    curvature_share: Annotated[
        float,
        *number(
            "trpo: share of each task's episodes that the curvature is taken from; 0.25 is near to "
            "all of them, and three times as fast",
            0.001,
            1,
        ),
    ] = 1.0
    line_search: Annotated[
        int, *number("trpo: step lengths tried, each 0.8 of the last", 1, 100)
    ] = 15
    pairs: Annotated[int, *number("es: antithetic pairs of agents for each task", 1, 10_000)] = 1
    sigma: Annotated[float, *number("es: standard deviation of perturbations", 1e-6, 10)] = 0.1
    policy: Annotated[
        Literal["auto", "mlp", "cnn"],
        arg(help="network; auto: cnn for images (C, H, W) of 8 x 8 or more, else mlp"),
    ] = "auto"
    hidden: Annotated[
        tuple[int, ...],
        *number("units in each hidden layer; a cnn has one such layer, the last", 1, 16_384),
    ] = (64, 64)
    log_std_init: Annotated[
        float, *number("first log standard deviation, in half action boxes", -10, 3)
    ] = 0.0
    memory: Annotated[
        Literal["none", "gru", "fwp"],
        arg(
            help="what adapts: none: weights; gru (RL2) or fwp (fast-weight programmer): the state "
            "of a network that reads the whole trial"
        ),
    ] = "none"
    trial: Annotated[int, *number("episodes of one task that a memory lasts", 1, 1000)] = 2
    minibatches: Annotated[
        int, *number("parts of a batch of trials, with an update after each", 1, 1000)
    ] = 4
    value_weight: Annotated[float, *number("weight of a memory's value loss", 0)] = 0.5
    entropy: Annotated[float, *number("weight of a memory's entropy bonus, nats", 0)] = 0.01

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class RunConfig:
    """What a run does besides learning.

    Numbers in another order or of another precision lead to another run: with another `device`,
    number of `threads`, `matmul` or choice of `compile` it is equal in kind and not to the bit;
    with another number of `processes`, episodes come from other streams. The rest changes nothing
    that is learned.
    """

    device: Annotated[
        str, arg(help="auto, cpu, cuda or cuda:N; auto is CUDA where there is one")
    ] = "auto"
    threads: Annotated[
        int, *number("CPU threads; the same for bit-equal results; 0 is torch's choice", 0, 1024)
    ] = 0
    compile: Annotated[
        Literal["auto", "on", "off"],
        arg(
            help="make programs of rollout, adaptation and meta-gradient by torch.compile; auto: "
            "where a run is so long that it pays"
        ),
    ] = "auto"
    matmul: Annotated[
        Literal["float32", "tf32", "bf16"],
        arg(
            help="numbers that matrix products are made of where the device has faster ones; their "
            "sums stay float32"
        ),
    ] = "float32"
    save_every: Annotated[int, *number("iterations between checkpoints", 1)] = 10
    eval_every: Annotated[int, *number("iterations between evaluations on validation tasks", 1)] = (
        25
    )
    eval_steps: Annotated[int, *number("inner steps in evaluations", 0, 20)] = 3
    track: Annotated[
        str,
        arg(
            metavar="NAMES",
            help="what takes the metrics, with commas: tensorboard (and metrics.csv), csv "
            "(metrics.csv alone), none, or your own as module:Class, which is called with the run",
        ),
    ] = "tensorboard"
    callback: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="MODULE:FUNCTION",
            help="called with the TrainState after each meta-iteration; training stops when it "
            "returns True; once for each function",
        ),
    ] = ()
    workers: Annotated[
        int, *number("processes that step a Gymnasium environment; 0 is one a thread", 0, 1024)
    ] = 0
    processes: Annotated[
        int,
        *number("processes on this machine, each with a part of the tasks", 1, 1024),
    ] = 1
    rank_timeout: Annotated[
        float, *number("seconds after which a process that doesn't answer counts as hung", 1, 1e6)
    ] = 600.0
    step_timeout: Annotated[
        float, *number("seconds after which a step of an environment counts as hung", 0.1, 1e6)
    ] = 60.0
    exact_replay: Annotated[
        bool,
        arg(
            help="demand that a Gymnasium environment repeats itself; without, as for hardware, "
            "training can't be resumed exactly"
        ),
    ] = True

    def __post_init__(self) -> None:
        check(self)
        check_track(self.track)
        check_callbacks(self.callback)
