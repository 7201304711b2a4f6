"""Settings, each with its default, range and help text."""

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
            help="hidden parameter: NAME=LOW:HIGH[:log][:int], or values NAME=A,B,C; once for each",
        ),
    ] = ()
    hold_out: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="values of test tasks, excluded from training: NAME=LOW:HIGH or NAME=A,B",
        ),
    ] = ()
    validation: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="values of validation tasks, for evaluations during training, excluded from "
            "training; by default they have training values, never those of --hold-out",
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
        arg(
            metavar="NAME=VALUE", help="constant of the environment, such as max_episode_steps=200"
        ),
    ] = ()
    live: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME",
            help="parameter whose effect random actions don't show; once for each",
        ),
    ] = ()
    image: Annotated[
        Literal["auto", "channels-first", "channels-last", "vector"],
        arg(
            help="channel layout of a Gymnasium environment's images; vector: treat them as plain "
            "numbers; auto: infer it from the shape and print it"
        ),
    ] = "auto"
    algo: Annotated[
        str,
        *name_in(
            "metarl.config.published:ALGORITHMS",
            "published algorithm, which sets the defaults of other flags (see `metarl algos`)",
        ),
    ] = "promp"
    seed: Annotated[int, *number("seed of weights, tasks and episodes", 0)] = 0
    iterations: Annotated[int, *number("meta-iterations in the whole run", 1)] = 200
    tasks: Annotated[int, *number("tasks in a meta-iteration", 1, 100_000)] = 20
    task_chunk: Annotated[
        int, *number("tasks processed at once; bounds memory, changes no gradient", 1, 100_000)
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
    context: Annotated[int, *number("size of the context, with --fast context", 1, 1024)] = 8
    rank: Annotated[int, *number("rank of the adapters, with --fast lora", 1, 1024)] = 4
    inner_lr: Annotated[float, *number("step size of adaptation, or its start", 0, 100)] = 0.1
    step_size: Annotated[
        Literal["fixed", "per-tensor", "per-weight", "per-step"],
        arg(
            help="fixed: --inner-lr throughout; meta-learned: one per tensor, one per weight "
            "(Meta-SGD), or one per step and tensor (MAML++)"
        ),
    ] = "per-weight"
    positive_steps: Annotated[bool, arg(help="keep learned step sizes >= 0")] = False
    estimator: Annotated[
        str,
        *name_in(
            "metarl.agents.inner.estimators:ESTIMATORS",
            "inner loss: lvc (likelihood ratio), dice, or log-likelihood, whose meta-gradient is "
            "biased",
        ),
    ] = "lvc"
    dice_lambda: Annotated[
        float, *number("dice: decay per step of the credit of earlier actions", 0, 1)
    ] = 1.0
    second_order_steps: Annotated[
        int,
        *number("number of last inner steps with second derivatives; 0 is FOMAML", 0, 20),
    ] = 20
    inner_entropy: Annotated[
        float, *number("weight of an entropy bonus in the inner loss, per nat", 0, 100)
    ] = 0.0
    inner_max_norm: Annotated[
        float, *number("clip each task's inner gradient to this L2 norm; 0 does not clip", 0)
    ] = 0.0
    inner_iterations: Annotated[
        int,
        *number(
            "gradient iterations in each inner step: 1 is a gradient step, many converge to the "
            "proximal point (iMAML)",
            1,
            1000,
        ),
    ] = 1
    baseline: Annotated[
        Literal["linear", "learned", "none"],
        arg(
            help="baseline of advantages, fitted to each task: linear in fixed features, linear in "
            "meta-learned features, or none"
        ),
    ] = "linear"
    multi_step: Annotated[
        bool, arg(help="optimize the return after every inner step, not only after the last")
    ] = False
    gamma: Annotated[float, *number("discount per step", 0, 1)] = 0.99
    gae_lambda: Annotated[float, *number("lambda of the advantage estimate", 0, 1)] = 1.0
    outer: Annotated[
        str,
        *name_in(
            "metarl.outer:OUTER",
            "outer update: gradient (Adam), implicit (iMAML), trpo, reptile, es (evolution "
            "strategies), or ppo (over trials, with --memory)",
        ),
    ] = "gradient"
    meta_lr: Annotated[float, *number("Adam step size of the slow weights", 0, 1)] = 1e-3
    meta_lr_of_steps: Annotated[
        float, *number("Adam step size of the learned step sizes", 0, 1)
    ] = 1e-3
    lr_decay: Annotated[
        bool,
        arg(
            help="decay both learning rates, and --entropy, linearly to 0 over the --iterations "
            "that the run is started with; to add iterations later, give --no-lr-decay, which "
            "restores the full learning rates"
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
        *number("credit of episodes before adaptation for returns after it (E-MAML)", 0, 1e3),
    ] = 0.0
    max_kl: Annotated[float, *number("trpo: bound on the KL of an outer update, nats", 1e-9)] = 0.01
    cg_steps: Annotated[int, *number("trpo, implicit: steps of the linear solver", 1, 1000)] = 10
    damping: Annotated[float, *number("trpo: added to the curvature's diagonal", 0)] = 1e-5
    curvature: Annotated[
        Literal["exact", "first-order"],
        arg(
            help="trpo: exact differentiates the KL through adaptation; first-order takes the "
            "derivative of adaptation as 1, and steps may be far too long if adaptation is large"
        ),
    ] = "exact"
    curvature_share: Annotated[
        float,
        *number(
            "trpo: share of each task's episodes that the curvature is computed from; 0.25 is "
            "nearly as good as 1, and three times as fast",
            0.001,
            1,
        ),
    ] = 1.0
    line_search: Annotated[
        int, *number("trpo: step lengths to try, each 0.8 times the last", 1, 100)
    ] = 15
    pairs: Annotated[int, *number("es: antithetic pairs of agents for each task", 1, 10_000)] = 1
    sigma: Annotated[float, *number("es: standard deviation of perturbations", 1e-6, 10)] = 0.1
    network: Annotated[
        str,
        arg(
            metavar="{auto,mlp,cnn,module:NAME}",
            aliases=("--policy",),
            help="auto: cnn for images (C, H, W) of 8 x 8 or more, else mlp; or a custom one: "
            "a torch.nn.Module class or function of (observation_space, out)",
        ),
    ] = "auto"
    hidden: Annotated[
        tuple[int, ...],
        *number("units in each hidden layer; a cnn has one such layer, the last", 1, 16_384),
    ] = (64, 64)
    log_std_init: Annotated[
        float, *number("initial log standard deviation, in half action ranges", -10, 3)
    ] = 0.0
    memory: Annotated[
        Literal["none", "gru", "fwp"],
        arg(
            help="none: the agent adapts its weights; gru (RL2) or fwp (fast weights, delta rule): "
            "it adapts the hidden state of a recurrent network over a whole trial"
        ),
    ] = "none"
    trial: Annotated[int, *number("with --memory: episodes in a trial", 1, 1000)] = 2
    minibatches: Annotated[
        int, *number("with --memory: minibatches in each epoch over the trials", 1, 1000)
    ] = 4
    value_weight: Annotated[float, *number("with --memory: weight of the value loss", 0)] = 0.5
    entropy: Annotated[float, *number("with --memory: weight of the entropy bonus", 0)] = 0.01

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class RunConfig:
    """Settings of the machine, recording and evaluation of a run.

    Changing `device`, `threads`, `matmul` or `compile` changes the order or the precision of
    floating-point operations: results are statistically equivalent, but not bit for bit equal. A
    different number of `processes` draws episodes from other random streams. The other settings
    don't affect what is learned.
    """

    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N; auto is CUDA if available")] = (
        "auto"
    )
    threads: Annotated[
        int,
        *number("CPU threads, which results depend on bit for bit; 0 is torch's default", 0, 1024),
    ] = 0
    compile: Annotated[
        Literal["auto", "on", "off"],
        arg(
            help="compile rollout, adaptation and meta-gradient with torch.compile; auto: in runs "
            "that are long enough to benefit"
        ),
    ] = "auto"
    matmul: Annotated[
        Literal["float32", "tf32", "bf16"],
        arg(
            help="precision of the inputs of matrix products, if the device supports it; sums stay "
            "in float32"
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
            help="where metrics go, separated by commas: tensorboard (and metrics.csv), csv "
            "(metrics.csv alone), none, or a custom tracker as module:Class",
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
        int, *number("processes that step a Gymnasium environment; 0 is one per thread", 0, 1024)
    ] = 0
    processes: Annotated[
        int,
        *number("processes on this machine, each with a share of the tasks", 1, 1024),
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
            help="require a Gymnasium environment to be reproducible; without it, as for hardware, "
            "training can't be resumed exactly"
        ),
    ] = True

    def __post_init__(self) -> None:
        check(self)
        check_track(self.track)
        check_callbacks(self.callback)
