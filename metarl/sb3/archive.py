"""Read Stable-Baselines3 models without running code from their files.

In SB3's zip, `policy.pth` contains the weights, read by `torch_archive`. `data` is JSON; its
objects are pickles, which are not opened, accompanied by their attributes as text.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.agents.networks.policy import Params
from metarl.envs import UsageError
from metarl.sb3.torch_archive import Damaged, open_zip, read_member, read_tensors
from metarl.system.files import MB, read_limited

ACTOR = r"(mlp_extractor\.policy_net\.\d{1,4}|action_net)\.(weight|bias)|log_std"
CRITIC = r"(mlp_extractor\.value_net\.\d{1,4}|value_net)\.(weight|bias)"
DATA, WEIGHTS = 64 * MB, 4096 * MB  # size limits of a model's JSON and weights
NORMALIZER = 64 * MB


class Model(NamedTuple):
    """The actor of a PPO, A2C or TRPO with MlpPolicy."""

    weights: Params  # by SB3's names
    sizes: tuple[int, ...]  # inputs, hidden layers, outputs
    observation_shape: tuple[int, ...] | None  # None unless it is a Box or MultiBinary
    action_kind: str  # Box, Discrete, ...
    low: Tensor | None = None  # (A,) float64, for Box actions
    high: Tensor | None = None


class Normalizer(NamedTuple):
    """Running moments of observations, float64."""

    steps: Tensor  # ()
    mean: Tensor  # (*obs)
    var: Tensor  # (*obs)
    epsilon: float  # added to the variance


def read_model(name: str) -> Model:
    """Read the model in SB3's zip; nothing is unpickled.

    Raises:
        UsageError: no such file, not an SB3 model, or a model with another policy.
    """
    flag = f"--init-from {name}"
    try:
        return _read(Path(name))
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error
    except OSError as error:
        raise UsageError(f"{flag}: {error.strerror or error}: give SB3's zip.") from error
    except Exception as error:  # a damaged zip, JSON or pickle may raise anything
        reason = " ".join(str(error).split()).split(". ")[0].strip("\"'")[:200]
        reason = reason or type(error).__name__
        raise UsageError(
            f"{flag}: not an SB3 model ({reason}): give a file written by save()."
        ) from error


def _read(path: Path) -> Model:
    if not path.is_file():
        raise OSError("not a regular file" if path.exists() else "No such file")
    with path.open("rb") as file, open_zip(file) as archive:
        about = json.loads(read_member(archive, "data", DATA))
        weights = read_tensors(read_member(archive, "policy.pth", WEIGHTS))
    _check_policy(about, weights)
    weights = {k: w.double() for k, w in weights.items() if re.fullmatch(ACTOR, k)}
    actions, observations = about["action_space"], about["observation_space"]
    sizes, kind = _sizes(weights), _kind(actions)
    low = high = None
    if kind == "Box":
        low, high = (_numbers(actions, end, len(weights["log_std"])) for end in ("low", "high"))
    known = _kind(observations) in ("Box", "MultiBinary")
    shape = tuple(observations["_shape"]) if known else None
    if shape is not None and not all(type(n) is int and n >= 0 for n in shape):
        raise Damaged("its observations have no shape")
    return Model(weights, sizes, shape, kind, low, high)


def _check_policy(about: Any, weights: Params) -> None:
    """Raise UsageError unless the policy consists of tanh layers only."""
    if not isinstance(about, dict):
        raise Damaged("its data are not a JSON object")
    unknown = [k for k in weights if not re.fullmatch(f"{ACTOR}|{CRITIC}", k)]
    missing = {"action_net.weight", "action_net.bias"} - set(weights)
    if unknown or missing:
        raise UsageError(
            "not an MlpPolicy of PPO, A2C or TRPO: it "
            + (f"has {unknown[0][:100]}" if unknown else f"lacks {min(missing)}")
            + ": give a model of these."
        )
    if not all(isinstance(about.get(k), dict) for k in ("action_space", "observation_space")):
        raise UsageError("its data don't contain its spaces: save it with SB3 2 or newer.")
    activation = about.get("policy_kwargs", {}).get("activation_fn", "Tanh")
    if "Tanh" not in activation:
        raise UsageError(
            f"its activation is {_last_name(activation)}, metarl's is Tanh: give a model with Tanh."
        )
    if about.get("use_sde"):
        raise UsageError("trained with use_sde, which metarl doesn't support: give one without.")
    if _kind(about["observation_space"]) in ("Dict", "Tuple"):
        raise UsageError("its observations are a Dict: give a model with flat observations.")


def _kind(space: dict[str, Any]) -> str:
    """`Box` for `<class 'gymnasium.spaces.box.Box'>`."""
    return _last_name(space.get(":type:", ""))


def _last_name(shown: str) -> str:
    """The last part of a class's repr, truncated."""
    return shown[:200].removesuffix("'>").rpartition(".")[2]


def _numbers(space: dict[str, Any], end: str, size: int) -> Tensor:
    """One bound of a Box of `size` numbers, from the text that accompanies its pickle."""
    text, most = space.get(end), 64 * (size + 1)
    numbers: list[float] = []
    if isinstance(text, str) and len(text) <= most:
        numbers = [float(word) for word in re.sub(r"[\[\],]", " ", text).split()]
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise UsageError("the bounds of its actions can't be read: save it with SB3 2 or newer.")
    return torch.tensor(numbers, dtype=torch.float64)


def _sizes(weights: Params) -> tuple[int, ...]:
    """Sizes of inputs, hidden layers and outputs.

    Raises:
        Damaged: layers don't fit together, or numbers are not finite.
    """
    hidden = sum("policy_net" in k and k.endswith("weight") for k in weights)
    names = [*(f"mlp_extractor.policy_net.{2 * i}" for i in range(hidden)), "action_net"]
    sizes = [weights[f"{names[0]}.weight"].shape[-1]]
    for name in names:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if weight.shape != (len(bias), sizes[-1]) or bias.dim() != 1:
            raise Damaged(f"{name} doesn't fit the layer before it")
        sizes.append(len(bias))
    if weights.keys() - {f"{n}.{kind}" for n in names for kind in ("weight", "bias")} - {"log_std"}:
        raise Damaged("a layer without a weight")
    if "log_std" in weights and weights["log_std"].shape != (sizes[-1],):
        raise Damaged("log_std doesn't fit its actions")
    if wrong := [k for k, w in weights.items() if not w.isfinite().all()]:
        raise Damaged(f"{wrong[0]} holds a number that is not finite")
    return tuple(sizes)


def read_normalizer(name: str) -> Normalizer:
    """Unpickle SB3's VecNormalize, which can run code from the file.

    Raises:
        UsageError: no such file, another kind of file, or it doesn't normalize flat observations.
    """
    flag = f"--init-normalize {name}"
    try:
        found = pickle.loads(read_limited(Path(name), NORMALIZER))
        moments, epsilon = found.obs_rms, float(found.epsilon)
        numbers = moments.count, moments.mean, moments.var
    except OSError as error:
        raise UsageError(
            f"{flag}: {error.strerror or error}: give a file written by VecNormalize.save."
        ) from error
    except Exception as error:  # unpickling may raise anything
        raise UsageError(
            f"{flag}: not a VecNormalize of flat observations ({type(error).__name__}: {error}): "
            "give a file written by VecNormalize.save, for observations that are not a Dict."
        ) from error
    if not found.norm_obs:
        raise UsageError(f"{flag}: it has norm_obs=False: leave it out, it changes nothing here.")
    steps, mean, var = (torch.as_tensor(x, dtype=torch.float64) for x in numbers)
    return Normalizer(steps, mean, var, epsilon)
