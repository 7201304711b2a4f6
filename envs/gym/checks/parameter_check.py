"""Is an environment what training takes it for? Found out by playing, before training starts.

Every variant is first played alone, in a process in which nothing was played before. That is what
it is; together with others, as in training, it must be the same.
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

STEPS = 200  # of random play in which a parameter has to show itself
SEEDS = (0, 1, 2)
AFTER = 20  # steps to go on, together, after the first in which variants differ
ANOTHER = 17  # seed of an episode in between
NEVER = 2**31  # a horizon that no episode exceeds


class Probe(NamedTuple):
    """Variants that differ in one parameter alone.

    Attributes:
        telling: values that should differ in what they do.
        all_kinds: these, and the ends of all splits: each must be possible.
        held_out, train: values whose levels must not be the same.
        is_known: it has an effect, which random play might not find.
    """

    telling: list[Settings]
    all_kinds: list[Settings]
    held_out: list[Settings]
    train: list[Settings]
    is_known: bool


def explore(
    worker_envs: WorkerEnvs, defaults: Settings, probes: Mapping[str, Probe], exact: bool = True
) -> dict[str, Any]:
    """What the family needs to know of its environment, once it is as it should be.

    Args:
        usual: a variant to start from.
        trials: variants by parameter.
        exact: refuse an environment that doesn't repeat itself.
    Raises:
        UsageError: a parameter that isn't found or has no effect; an environment that gives what
            the interface forbids, doesn't repeat itself, or is changed by others.
        Failure: an environment that can't be made, or raises, in a variant.
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
    made = [facts, *(_made(worker_envs, setting) for setting in variants)]
    made += [_made(worker_envs, setting) for setting in longest(defaults, probes, made[1:])]
    limits = [one.limit for one in made]
    return {
        "observation_space": _union([one.observation_space for one in made]),
        "action_space": facts.action_space,
        "limit": None if None in limits else max(limits),  # type: ignore[type-var]
        "success": any(event.value is not None for event in facts.trace if event.what == "success"),
        "about": facts.about,
        "has_mask": any(one.has_mask for one in made),
        "setters": worker_envs.setters,
        "form": facts.form,
        "alike": {
            name: count_alike(worker_envs, probe.held_out, probe.train)
            for name, probe in probes.items()
            if exact and probe.held_out and not probe.is_known
        },
    }


def draws(worker_envs: WorkerEnvs, defaults: Settings, agreed: Agreed) -> bool:
    """Whether an environment gives a picture, (H, W, 3) uint8."""
    worker_envs.setters = agreed.setters
    made = worker_envs.take(defaults, render=True)
    try:
        made.begin(defaults, SEEDS[0])
        picture = np.asarray(made.env.render())
        return picture.ndim == 3 and picture.shape[-1] == 3 and picture.dtype == np.uint8
    finally:
        worker_envs.release(made)


def _check_finite(trace: Trace, defaults: Settings) -> None:
    for event in trace:
        if event.what in ("observation", "reward") and not np.isfinite(event.value).all():
            raise UsageError(
                f"{event.what} isn't finite after step {event.step} of random play with "
                f"{show(defaults)}: make it finite, or narrow the ranges."
            )


def check_repeats(worker_envs: WorkerEnvs, defaults: Settings, first: Facts) -> None:
    """Raise UsageError unless the same seed and actions give the same play in another process."""
    again = run_alone(worker_envs, defaults, SEEDS[0], STEPS)
    if told := difference(first.trace, again.trace):
        advice = (
            "draw all randomness from self.np_random, or from random or numpy.random in reset"
            if first.seeded
            else "call super().reset(seed=seed) in reset, and pass seed on in wrappers"
        )
        raise UsageError(
            f"the same seed and actions don't give the same episode twice: {told}: {advice}; or "
            "give up exact resume with --no-exact-replay (exact_replay=False in Python)."
        )


def check_effect(worker_envs: WorkerEnvs, name: str, probe: Probe) -> list[Episode]:
    """Two variants of a parameter that differ in what an agent sees or gets.

    Raises:
        UsageError: there are none.
    """
    for seed in SEEDS:
        plays = []
        for setting in probe.telling:
            facts = run_alone(worker_envs, setting, seed, STEPS)
            check_form(facts.form, worker_envs.agreed.form)
            plays.append(Episode(setting, seed, facts.trace))
            if difference(plays[0].trace, plays[-1].trace):
                return [plays[0], plays[-1]]
    kind = worker_envs.setters[name].kind
    values = ", ".join(str(setting[name]) for setting in probe.telling[:5])
    raise UsageError(
        f"'{name}' ({kind}) changes nothing in {STEPS} steps of random play, be it {values}: give "
        f"another parameter, with --set what makes it count, or --live {name} if you know that it "
        "counts where random play doesn't lead."
    )


def check_together(worker_envs: WorkerEnvs, name: str | None, variants: Sequence[Episode]) -> None:
    """Raise UsageError if variants that are played in turns differ from each played alone.

    First in new environments; then, after other episodes, in the same ones, of which each gets the
    other variant where it can.
    """
    steps = min(_first_difference(variants) + AFTER, STEPS) if name else STEPS
    worker_envs.drop_idle()
    for again in (False, True):
        made = [take(worker_envs, play.setting, len(variants)) for play in variants]
        turns = [
            random_rollout(env, play.setting, play.seed, steps)
            for env, play in zip(made, variants, strict=True)
        ]
        traces: list[Trace] = [[] for _ in variants]
        for turn in zip(*turns, strict=True):
            worker_envs.show_progress(-1)
            for trace, events in zip(traces, turn, strict=True):
                trace += events
        for trace, play in zip(traces, variants, strict=True):
            if told := difference(play.trace[: len(trace)], trace):
                raise UsageError(_disturbed(worker_envs, name, play.setting, told, again))
        for env, play in zip(made, variants, strict=True):
            for _ in random_rollout(env, play.setting, ANOTHER, AFTER):
                worker_envs.show_progress(-1)
            worker_envs.release(env)  # the last that is put by is the first to be taken


def _first_difference(variants: Sequence[Episode]) -> int:
    """Step of the whole play in which the first two differ."""
    step = 0
    for a, b in zip(variants[0].trace, variants[1].trace, strict=False):
        if difference([a], [b]):
            break
        step += a.what == "reward"
    return step


def _disturbed(
    worker_envs: WorkerEnvs, name: str | None, setting: Settings, told: str, again: bool
) -> str:
    what = f"'{name}' ({worker_envs.setters[name].kind}): " if name else ""
    if again:
        functions = [k for k, setter in worker_envs.setters.items() if setter.kind == "function"]
        by = f" (or {', '.join(functions)} adds to it)" if functions else ""
        return (
            f"{what}something survives reset{by}: with {show(setting)}, an environment that played "
            f"before isn't as a new one: {told}: set everything anew in reset, let no value "
            "depend on what was set before, or give up exact resume with --no-exact-replay."
        )
    return (
        f"{what}episodes that are played in turns in one process disturb each other, with "
        f"{show(setting)}: {told}: keep in the environment itself what they share, such as a "
        "constant of a module or class, or a random stream of the process."
    )


def _made(worker_envs: WorkerEnvs, setting: Settings) -> Facts:
    """A variant that can be made, looks and acts as the others, and starts."""
    made = take(worker_envs, setting)
    with telling(made, setting):
        worker_envs.show_progress(-1)
        trace = [e for events in random_rollout(made, setting, SEEDS[0], 1) for e in events]
    check_form(made.encoding.form, worker_envs.agreed.form)
    worker_envs.release(made)
    return facts_of(made, trace, SEEDS[0])


def longest(
    defaults: Settings, probes: Mapping[str, Probe], made: Sequence[Facts]
) -> list[Settings]:
    """The variant of those values that each make for the longest episodes, if they are several."""
    together, several, done = dict(defaults), 0, 0
    for name, probe in probes.items():
        limits = [one.limit or 0 for one in made[done : done + len(probe.all_kinds)]]
        done += len(probe.all_kinds)
        if limits and max(limits) > min(limits):
            together[name] = probe.all_kinds[int(np.argmax(limits))][name]
            several += 1
    return [together] if several > 1 else []


def _union(spaces: Sequence[Box]) -> Box:
    """The box that holds those of all variants."""
    first = spaces[0]
    low = np.min([space.low for space in spaces], axis=0)
    high = np.max([space.high for space in spaces], axis=0)
    return Box(low, high, dtype=first.dtype.type)
