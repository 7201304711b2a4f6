"""What can be known of a model of Stable-Baselines3 without running code that its files hold.

In SB3's zip `policy.pth` holds weights, which `torch_archive` reads; `data` is JSON, whose objects
are pickles, which stay closed, with their attributes in words beside them.
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
DATA, WEIGHTS = 64 * MB, 4096 * MB  # most bytes of a model's JSON, and of its weights
NORMALIZER = 64 * MB


class Model(NamedTuple):
    """The actor of a PPO, A2C or TRPO with MlpPolicy."""

    weights: Params  # by SB3's names
    sizes: tuple[int, ...]  # inputs, hidden layers, outputs
    observation_shape: tuple[int, ...] | None  # None where it isn't a Box or MultiBinary
    action_kind: str  # Box, Discrete, ...
    low: Tensor | None = None  # (A,) float64, of a Box of actions
    high: Tensor | None = None


class Normalizer(NamedTuple):
    """Running moments of observations, float64."""

    steps: Tensor  # ()
    mean: Tensor  # (*obs)
    var: Tensor  # (*obs)
    epsilon: float  # added to the variance


def read_model(name: str) -> Model:
    """The model in SB3's zip; nothing is unpickled.

    Raises:
        UsageError: no such file, no model of SB3, or one with another policy.
    """
    said = f"--init-from {name}"
    try:
        return _read(Path(name))
    except UsageError as error:
        raise UsageError(f"{said}: {error}") from error
    except OSError as error:
        raise UsageError(f"{said}: {error.strerror or error}: give SB3's zip.") from error
    except Exception as error:  # whatever a damaged zip, JSON or pickle raises
        reason = " ".join(str(error).split()).split(". ")[0].strip("\"'")[:200]
        reason = reason or type(error).__name__
        raise UsageError(f"{said}: no model of SB3 ({reason}): give what save() wrote.") from error


def _read(path: Path) -> Model:
    if not path.is_file():
        raise OSError(f"{'no regular' if path.exists() else 'No such'} file")
    with path.open("rb") as file, open_zip(file) as archive:
        about = json.loads(read_member(archive, "data", DATA))
        weights = read_tensors(read_member(archive, "policy.pth", WEIGHTS))
    _check_policy(about, weights)
    weights = {k: w.double() for k, w in weights.items() if re.fullmatch(ACTOR, k)}
    acts, seen = about["action_space"], about["observation_space"]
    sizes, kind = _sizes(weights), _kind(acts)
    low = high = None
    if kind == "Box":
        low, high = (_numbers(acts, end, len(weights["log_std"])) for end in ("low", "high"))
    shape = tuple(seen["_shape"]) if _kind(seen) in ("Box", "MultiBinary") else None
    if shape is not None and not all(type(n) is int and n >= 0 for n in shape):
        raise Damaged("its observations have no shape")
    return Model(weights, sizes, shape, kind, low, high)


def _check_policy(about: Any, weights: Params) -> None:
    """Raise UsageError unless it is tanh layers and nothing else."""
    if not isinstance(about, dict):
        raise Damaged("its data are no JSON object")
    strange = [k for k in weights if not re.fullmatch(f"{ACTOR}|{CRITIC}", k)]
    missing = {"action_net.weight", "action_net.bias"} - set(weights)
    if strange or missing:
        raise UsageError(
            "not an MlpPolicy of PPO, A2C or TRPO: it "
            + (f"has {strange[0][:100]}" if strange else f"lacks {min(missing)}")
            + ": give a model of these."
        )
    if not all(isinstance(about.get(k), dict) for k in ("action_space", "observation_space")):
        raise UsageError("its data don't say its spaces: save it with SB3 2 or newer.")
    activation = about.get("policy_kwargs", {}).get("activation_fn", "Tanh")
    if "Tanh" not in activation:
        raise UsageError(
            f"its layers are {_last_name(activation)}, metarl's are Tanh: give a model of these."
        )
    if about.get("use_sde"):
        raise UsageError("trained with use_sde, which metarl has not: give one without.")
    if _kind(about["observation_space"]) in ("Dict", "Tuple"):
        raise UsageError("it sees a Dict: give a model of one flat observation.")


def _kind(space: dict[str, Any]) -> str:
    """`Box` for `<class 'gymnasium.spaces.box.Box'>`."""
    return _last_name(space.get(":type:", ""))


def _last_name(shown: str) -> str:
    """Of a class as Python shows it; what is longer than any such is cut."""
    return shown[:200].removesuffix("'>").rpartition(".")[2]


def _numbers(space: dict[str, Any], end: str, size: int) -> Tensor:
    """One end of a Box of `size` numbers, from the words beside its pickle."""
    words, most = space.get(end), 64 * (size + 1)
    numbers: list[float] = []
    if isinstance(words, str) and len(words) <= most:
        numbers = [float(word) for word in re.sub(r"[\[\],]", " ", words).split()]
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise UsageError("the bounds of its actions can't be read: save it with SB3 2.")
    return torch.tensor(numbers, dtype=torch.float64)


def _sizes(weights: Params) -> tuple[int, ...]:
    """Inputs, hidden layers and outputs.

    Raises:
        Damaged: layers that don't fit each other, or numbers that aren't finite.
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
    """SB3's VecNormalize, unpickled: code in the file runs.

    Raises:
        UsageError: no such file, something else, or one that normalises no flat observations.
    """
    said = f"--init-normalize {name}"
    try:
        found = pickle.loads(read_limited(Path(name), NORMALIZER))
        moments, epsilon = found.obs_rms, float(found.epsilon)
        numbers = moments.count, moments.mean, moments.var
    except OSError as error:
        raise UsageError(
            f"{said}: {error.strerror or error}: give what VecNormalize's save wrote."
        ) from error
    except Exception as error:  # whatever unpickling raises
        raise UsageError(
            f"{said}: no VecNormalize of one observation ({type(error).__name__}: {error}): give "
            "what its save() wrote, of an environment without a Dict."
        ) from error
    if not found.norm_obs:
        raise UsageError(f"{said}: it has norm_obs=False: leave it out, it changes nothing here.")
    steps, mean, var = (torch.as_tensor(x, dtype=torch.float64) for x in numbers)
    return Normalizer(steps, mean, var, epsilon)
