"""Checks with random actions that an environment meets the assumptions of training.

Each variant first runs alone in a fresh process, as a reference. Its episodes must be the same when
they run together with other variants, as in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.bound_env import Settings, find_setters
from metarl.envs.gym.checks.duplicate_levels import count_alike
from metarl.envs.gym.checks.fresh_env import alone
from metarl.envs.gym.checks.random_episodes import (
    Episode,
    Facts,
    facts_of,
    run_alone,
    show,
    take,
    telling,
)
from metarl.envs.gym.checks.trace import Trace, difference, random_rollout
from metarl.envs.gym.worker_envs import Agreed, WorkerEnvs, check_form

STEPS = 200  # random steps within which a parameter must show an effect
SEEDS = (0, 1, 2)
AFTER = 20  # steps run together after the first step at which variants differ
ANOTHER = 17  # seed of an intermediate episode
NEVER = 2**31  # a horizon that no episode reaches


class Probe(NamedTuple):
    """Variants that differ only in one parameter.

    Attributes:
        telling: variants that should behave differently.
        all_kinds: variants with values from all splits, including the ends; each must be possible.
        held_out, train: variants that must not be duplicates of each other.
        is_known: the parameter is known to have an effect, so it isn't checked.
    """

    telling: list[Settings]
    all_kinds: list[Settings]
    held_out: list[Settings]
    train: list[Settings]
    is_known: bool


def explore(
    worker_envs: WorkerEnvs, defaults: Settings, probes: Mapping[str, Probe], exact: bool = True
) -> dict[str, Any]:
    """Check the environment and return what the family needs to know about it.

    Args:
        defaults: the default variant.
        probes: variants to check, by parameter.
        exact: refuse environments that aren't reproducible.

    Raises:
        UsageError: a parameter doesn't exist or has no effect, or the environment violates the
            interface, isn't reproducible, or is affected by other environments.
        Failure: an environment can't be made, or raises, for some variant.
    """
    worker_envs.setters = alone(lambda: find_setters(worker_envs.env_config, defaults))
    facts = run_alone(worker_envs, defaults, SEEDS[0], STEPS)
    worker_envs.agreed = Agreed(worker_envs.setters, facts.form, NEVER)
    _check_finite(facts.trace, defaults)
    if exact:
        check_repeats(worker_envs, defaults, facts)
    pairs = {
        name: check_effect(worker_envs, name, probe)
        for name, probe in probes.items()
        if not probe.is_known
    }
    if exact:
        other = run_alone(worker_envs, defaults, SEEDS[1], STEPS)
        pair = [Episode(defaults, SEEDS[0], facts.trace), Episode(defaults, SEEDS[1], other.trace)]
        check_together(worker_envs, None, pair)
        for name, pair in pairs.items():
            check_together(worker_envs, name, pair)
    variants = [s for probe in probes.values() for s in probe.all_kinds]
    every = [facts, *(_facts_of_variant(worker_envs, setting) for setting in variants)]
    combined = longest(defaults, probes, every[1:])
    every += [_facts_of_variant(worker_envs, setting) for setting in combined]
    limits = [one.limit for one in every]
    return {
        "observation_space": _union([one.observation_space for one in every]),
        "action_space": facts.action_space,
        "limit": None if None in limits else max(limits),  # type: ignore[type-var]
        "success": any(event.value is not None for event in facts.trace if event.what == "success"),
        "about": facts.about,
        "has_mask": any(one.has_mask for one in every),
        "setters": worker_envs.setters,
        "form": facts.form,
        "alike": {
            name: count_alike(worker_envs, probe.held_out, probe.train)
            for name, probe in probes.items()
            if exact and probe.held_out and not probe.is_known
        },
    }


def draws(worker_envs: WorkerEnvs, defaults: Settings, agreed: Agreed) -> bool:
    """Whether an environment renders images (H, W, 3) uint8."""
    worker_envs.setters = agreed.setters
    env = worker_envs.take(defaults, render=True)
    try:
        env.begin(defaults, SEEDS[0])
        image = np.asarray(env.env.render())
        return image.ndim == 3 and image.shape[-1] == 3 and image.dtype == np.uint8
    finally:
        worker_envs.release(env)


def _check_finite(trace: Trace, defaults: Settings) -> None:
    for event in trace:
        if event.what in ("observation", "reward") and not np.isfinite(event.value).all():
            raise UsageError(
                f"{event.what} isn't finite after step {event.step} of random actions with "
                f"{show(defaults)}: make it finite, or narrow the ranges."
            )


def check_repeats(worker_envs: WorkerEnvs, defaults: Settings, first: Facts) -> None:
    """Raise UsageError unless the same seed and actions give the same episode in a new process."""
    again = run_alone(worker_envs, defaults, SEEDS[0], STEPS)
    if found := difference(first.trace, again.trace):
        advice = (
            "draw all randomness from self.np_random, or from random or numpy.random in reset"
            if first.seeded
            else "call super().reset(seed=seed) in reset, and pass seed on in wrappers"
        )
        raise UsageError(
            f"the same seed and actions don't give the same episode twice: {found}: {advice}; or "
            "give up exact resume with --no-exact-replay (exact_replay=False in Python)."
        )


def check_effect(worker_envs: WorkerEnvs, name: str, probe: Probe) -> list[Episode]:
    """Find two variants of a parameter that differ in observations or other step results.

    Raises:
        UsageError: there are none.
    """
    for seed in SEEDS:
        episodes = []
        for setting in probe.telling:
            facts = run_alone(worker_envs, setting, seed, STEPS)
            check_form(facts.form, worker_envs.agreed.form)
            episodes.append(Episode(setting, seed, facts.trace))
            if difference(episodes[0].trace, episodes[-1].trace):
                return [episodes[0], episodes[-1]]
    kind = worker_envs.setters[name].kind
    values = ", ".join(str(setting[name]) for setting in probe.telling[:5])
    raise UsageError(
        f"'{name}' ({kind}) changes nothing in {STEPS} random steps, with values {values}: give "
        f"another parameter, with --set a setting under which it has an effect, or --live {name} "
        "if you know that it has an effect that random actions don't reach."
    )


def check_together(worker_envs: WorkerEnvs, name: str | None, variants: Sequence[Episode]) -> None:
    """Raise UsageError if interleaved episodes of variants differ from those run alone.

    They are checked first in new environments, then, after other episodes, in reused ones, with
    variants swapped between environments where possible.
    """
    steps = min(_first_difference(variants) + AFTER, STEPS) if name else STEPS
    worker_envs.drop_idle()
    for again in (False, True):
        envs = [take(worker_envs, episode.setting, len(variants)) for episode in variants]
        rollouts = [
            random_rollout(env, episode.setting, episode.seed, steps)
            for env, episode in zip(envs, variants, strict=True)
        ]
        traces: list[Trace] = [[] for _ in variants]
        for step in zip(*rollouts, strict=True):
            worker_envs.show_progress(-1)
            for trace, events in zip(traces, step, strict=True):
                trace += events
        for trace, episode in zip(traces, variants, strict=True):
            if found := difference(episode.trace[: len(trace)], trace):
                raise UsageError(_disturbed(worker_envs, name, episode.setting, found, again))
        for env, episode in zip(envs, variants, strict=True):
            for _ in random_rollout(env, episode.setting, ANOTHER, AFTER):
                worker_envs.show_progress(-1)
            worker_envs.release(env)  # `take` returns the last one released, which swaps them


def _first_difference(variants: Sequence[Episode]) -> int:
    """First step at which the first two variants differ."""
    step = 0
    for a, b in zip(variants[0].trace, variants[1].trace, strict=False):
        if difference([a], [b]):
            break
        step += a.what == "reward"
    return step


def _disturbed(
    worker_envs: WorkerEnvs, name: str | None, setting: Settings, found: str, again: bool
) -> str:
    what = f"'{name}' ({worker_envs.setters[name].kind}): " if name else ""
    if again:
        functions = [k for k, setter in worker_envs.setters.items() if setter.kind == "function"]
        by = f" (or {', '.join(functions)} accumulates changes)" if functions else ""
        return (
            f"{what}something survives reset{by}: with {show(setting)}, a used environment "
            f"differs from a new one: {found}: restore everything in reset, set values that don't "
            "depend on earlier ones, or give up exact resume with --no-exact-replay."
        )
    return (
        f"{what}interleaved episodes in one process affect each other, with {show(setting)}: "
        f"{found}: keep what they share in the environment itself, such as a constant of a module "
        "or class, or a random stream of the process."
    )


def _facts_of_variant(worker_envs: WorkerEnvs, setting: Settings) -> Facts:
    """Check that a variant can be made and started, and that its spaces match the others."""
    env = take(worker_envs, setting)
    with telling(env, setting):
        worker_envs.show_progress(-1)
        trace = [e for events in random_rollout(env, setting, SEEDS[0], 1) for e in events]
    check_form(env.encoding.form, worker_envs.agreed.form)
    worker_envs.release(env)
    return facts_of(env, trace, SEEDS[0])


def longest(
    defaults: Settings, probes: Mapping[str, Probe], made: Sequence[Facts]
) -> list[Settings]:
    """The variant that combines the values with the longest time limits, if several affect it.

    Args:
        made: facts of the `all_kinds` variants of all probes, in order.
    """
    combined, several, done = dict(defaults), 0, 0
    for name, probe in probes.items():
        limits = [one.limit or 0 for one in made[done : done + len(probe.all_kinds)]]
        done += len(probe.all_kinds)
        if limits and max(limits) > min(limits):
            combined[name] = probe.all_kinds[int(np.argmax(limits))][name]
            several += 1
    return [combined] if several > 1 else []


def _union(spaces: Sequence[Box]) -> Box:
    """The smallest Box that contains those of all variants."""
    first = spaces[0]
    low = np.min([space.low for space in spaces], axis=0)
    high = np.max([space.high for space in spaces], axis=0)
    return Box(low, high, dtype=first.dtype.type)
