"""Each setting has one default, one range and one help text, and says so when it is misused."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from reference import TENSOR

from metarl.cli.arguments import Algos, Bench, Evaluate, Families, Train
from metarl.config.presets import FAMILY_SETTINGS, PAIR_SETTINGS, preset
from metarl.config.published import ALGORITHMS
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.settings_file import from_record
from metarl.config.validation import Within
from metarl.envs import FAMILIES, UsageError, make_family
from metarl.outer import OUTER
from metarl.training.meta_train import new_agent

KINDS = (TrainConfig, RunConfig, Evaluate, Bench)
NEEDED = {Evaluate: {"run": Path("runs/one")}}  # what has no default


def make(kind, **settings):
    return kind(**{**NEEDED.get(kind, {}), **settings})


def annotations(kind, name):
    """The type of a setting, its help text, and its range or None."""
    hint = get_type_hints(kind, include_extras=True)[name]
    extras = getattr(hint, "__metadata__", ())
    help = next((e.help for e in extras if getattr(e, "help", None)), None)
    within = next((e for e in extras if isinstance(e, Within)), None)
    return (get_args(hint)[0] if extras else hint), help, within


ALL = (Train, *KINDS, Families, Algos)
SETTINGS = [(kind, f.name) for kind in ALL for f in dataclasses.fields(kind)]
NUMBERS = [(kind, name) for kind, name in SETTINGS if kind in KINDS and annotations(kind, name)[2]]
WRONG = [
    (kind, name, value)
    for kind, name in NUMBERS
    for hint, _, within in [annotations(kind, name)]
    for value in (within.low - 1, within.high + 1, -math.inf, math.inf, math.nan)
    if hint is float or isinstance(value, int)
]


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_every_setting_has_a_help_text_and_every_number_a_range_in_it(kind, name):
    hint, help, within = annotations(kind, name)
    assert help, "no help text"
    assert help == help.strip().rstrip(".")
    if hint in (int, float) or hint == tuple[int, ...]:
        open_end = f">= {within.low:g}"
        interval = f"in [{within.low:g}, {within.high:g}]"
        assert help.endswith("; " + (open_end if within.high == math.inf else interval))


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_lies_in_its_range(kind):
    make(kind)


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_both_ends_of_a_range_are_allowed(kind, name):
    _, _, within = annotations(kind, name)
    for end in (within.low, within.high):
        if end != math.inf:
            make(kind, **{name: (end,) if name == "hidden" else end})


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_a_number_out_of_range_names_flag_value_and_interval(kind, name, value):
    """Infinity is in no range: no setting means anything at it."""
    _, _, within = annotations(kind, name)
    with pytest.raises(UsageError) as error:
        make(kind, **{name: (8, value) if name == "hidden" else value})
    flag = "--" + name.replace("_", "-")
    assert str(error.value) == f"{flag} {value}: out of range; give a value {within}."


@pytest.mark.parametrize(
    ("name", "value"),
    [("tasks", None), ("iterations", 2.5), ("hidden", 64), ("gamma", "0.9"), ("multi_step", "no")],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} .*{value}.*give"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        (TrainConfig, "algo", ", ".join(ALGORITHMS)),
        (TrainConfig, "outer", ", ".join(OUTER)),
        (TrainConfig, "estimator", "lvc, dice, log-likelihood"),
        (TrainConfig, "fast", "all, head, body, context, lora"),
        (TrainConfig, "step_size", "fixed, per-tensor, per-weight, per-step"),
        (Evaluate, "split", "train, validation, test, extrapolate"),
    ],
)
def test_an_unknown_word_says_which_are_known(kind, name, allowed):
    advice = f"--{name.replace('_', '-')} other: unknown; give one of {allowed}"
    with pytest.raises(UsageError, match=re.escape(advice)):
        make(kind, **{name: "other"})


@pytest.mark.parametrize("family", [*TENSOR, "module:Class"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_there_is_a_preset_for_every_family_and_algorithm(family, algo):
    cfg = preset(family, algo)
    assert (cfg.family, cfg.algo) == (family, algo)
    fixed = {**ALGORITHMS[algo].settings, **PAIR_SETTINGS.get((family, algo), {})}
    for name, value in {**FAMILY_SETTINGS.get(family, {}), **fixed}.items():
        assert getattr(cfg, name) == value
    if family in TENSOR:
        assert new_agent(cfg, make_family(family)).params


def test_only_known_families_and_algorithms_have_presets():
    assert FAMILY_SETTINGS.keys() <= FAMILIES.keys()
    assert {family for family, _ in PAIR_SETTINGS} <= FAMILIES.keys()
    assert {algo for _, algo in PAIR_SETTINGS} <= ALGORITHMS.keys()


def test_maml_is_one_plain_policy_gradient_step():
    for family in FAMILIES:
        cfg = preset(family, "maml")
        assert (cfg.epochs, cfg.clip, cfg.inner_kl) == (1, 0.0, 0.0)


def test_an_unknown_algorithm_says_which_are_known():
    with pytest.raises(UsageError, match=r"--algo sac: unknown; give one of promp, maml, .*fwp\."):
        preset("forager", "sac")


@pytest.mark.parametrize("cfg", [TrainConfig(hidden=(8, 9)), TrainConfig(hidden=()), RunConfig()])
def test_settings_come_back_from_their_json(cfg):
    assert from_record(type(cfg), json.loads(json.dumps(dataclasses.asdict(cfg)))) == cfg


@pytest.mark.parametrize(("first_order", "steps"), [(True, 0), (False, 20)])
def test_a_run_of_format_2_says_first_order_and_is_still_read(first_order, steps):
    record = dataclasses.asdict(TrainConfig())
    del record["second_order_steps"]
    got = from_record(TrainConfig, {**record, "first_order": first_order})
    assert got == TrainConfig(second_order_steps=steps)
