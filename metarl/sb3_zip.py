"""What can be known of a model of Stable-Baselines3 without running code that its files hold.

In SB3's zip `policy.pth` holds weights, which torch reads as such; `data` is JSON, whose objects
are pickles, which stay closed, with their attributes in words beside them.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.policy import Params
from envs import UsageError

ACTOR = r"(mlp_extractor\.policy_net\.\d+|action_net)\.(weight|bias)|log_std"
DAMAGED = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
)
CRITIC = r"(mlp_extractor\.value_net\.\d+|value_net)\.(weight|bias)"


class Model(NamedTuple):
    """The actor of a PPO, A2C or TRPO with MlpPolicy."""

    weights: Params  # by SB3's names
    sizes: tuple[int, ...]  # inputs, hidden layers, outputs
    observation_shape: tuple[int, ...] | None  # None where it isn't a Box or MultiBinary
    action_kind: str  # Box, Discrete, ...
    low: Tensor | None = None  # (A,) float64, of a Box of actions
    high: Tensor | None = None


class Normaliser(NamedTuple):
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
        with zipfile.ZipFile(name) as archive:
            about = json.loads(archive.read("data"))
            content = io.BytesIO(archive.read("policy.pth"))
        weights = torch.load(content, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"{said}: {error.strerror or error}: give SB3's zip.") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split()).split(". ")[0].strip("\"'")
        raise UsageError(f"{said}: no model of SB3 ({reason}): give what save() wrote.") from error
    _check_policy(said, about, weights)
    weights = {k: w.double() for k, w in weights.items() if re.fullmatch(ACTOR, k)}
    acts, seen = about["action_space"], about["observation_space"]
    kind = _kind(acts)
    low = high = None
    if kind == "Box":
        low, high = (_numbers(said, acts, end, len(weights["log_std"])) for end in ("low", "high"))
    shape = tuple(seen["_shape"]) if _kind(seen) in ("Box", "MultiBinary") else None
    return Model(weights, _sizes(weights), shape, kind, low, high)


def _check_policy(said: str, about: Any, weights: Any) -> None:
    """Raise UsageError unless it is tanh layers and nothing else."""
    if not (isinstance(about, dict) and isinstance(weights, dict)):
        raise UsageError(f"{said}: no model of SB3: give what save() wrote.")
    strange = [k for k in weights if not re.fullmatch(f"{ACTOR}|{CRITIC}", k)]
    missing = {"action_net.weight", "action_net.bias"} - set(weights)
    if strange or missing:
        raise UsageError(
            f"{said}: not an MlpPolicy of PPO, A2C or TRPO: it "
            + (f"has {strange[0]}" if strange else f"lacks {min(missing)}")
            + ": give a model of these."
        )
    if not all(isinstance(about.get(k), dict) for k in ("action_space", "observation_space")):
        raise UsageError(f"{said}: its data don't say its spaces: save it with SB3 2 or newer.")
    activation = about.get("policy_kwargs", {}).get("activation_fn", "Tanh")
    if "Tanh" not in activation:
        name = re.sub(r".*\.|'>", "", activation)
        raise UsageError(
            f"{said}: its layers are {name}, metarl's are Tanh: give a model of these."
        )
    if about.get("use_sde"):
        raise UsageError(f"{said}: trained with use_sde, which metarl has not: give one without.")
    if _kind(about["observation_space"]) in ("Dict", "Tuple"):
        raise UsageError(f"{said}: it sees a Dict: give a model of one flat observation.")


def _kind(space: dict[str, Any]) -> str:
    """`Box` for `<class 'gymnasium.spaces.box.Box'>`."""
    return re.sub(r".*\.|'>", "", space.get(":type:", ""))


def _numbers(said: str, space: dict[str, Any], end: str, size: int) -> Tensor:
    """One end of a Box of `size` numbers, from the words beside its pickle."""
    try:
        numbers = [float(word) for word in re.sub(r"[\[\],]", " ", space[end]).split()]
    except (KeyError, ValueError, TypeError):
        numbers = []
    if len(numbers) != size:
        raise UsageError(f"{said}: the bounds of its actions can't be read: save it with SB3 2.")
    return torch.tensor(numbers, dtype=torch.float64)


def _sizes(weights: Params) -> tuple[int, ...]:
    names = sorted((k for k in weights if "policy_net" in k and k.endswith("weight")), key=_layer)
    layers = [weights[k] for k in (*names, "action_net.weight")]
    return (layers[0].shape[1], *(len(w) for w in layers))


def _layer(name: str) -> int:
    return int(name.split(".")[2])


def read_normaliser(name: str) -> Normaliser:
    """SB3's VecNormalize, unpickled: code in the file runs.

    Raises:
        UsageError: no such file, something else, or one that normalises no flat observations.
    """
    said = f"--init-normalize {name}"
    try:
        found = pickle.loads(Path(name).read_bytes())
        moments, epsilon = found.obs_rms, float(found.epsilon)
        numbers = moments.count, moments.mean, moments.var
    except OSError as error:
        raise UsageError(
            f"{said}: {error.strerror}: give what VecNormalize's save wrote."
        ) from error
    except Exception as error:  # whatever unpickling raises
        raise UsageError(
            f"{said}: no VecNormalize of one observation ({type(error).__name__}: {error}): give "
            "what its save() wrote, of an environment without a Dict."
        ) from error
    if not found.norm_obs:
        raise UsageError(f"{said}: it has norm_obs=False: leave it out, it changes nothing here.")
    steps, mean, var = (torch.as_tensor(x, dtype=torch.float64) for x in numbers)
    return Normaliser(steps, mean, var, epsilon)
