"""Gymnasium environments that are not what training takes them for; imported by workers too."""

import os
import sys
from functools import cached_property

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

POWER = 1.0
TABLE = {}


class Tell(gymnasium.Env):
    """Five steps whose reward is `told()`, what is in force, whatever is done."""

    observation_space = Box(-99, 99, (1,), np.float32)
    action_space = Discrete(2)
    steps = 5

    def __init__(self):
        self.t = 0

    def told(self):
        return 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), self.told(), False, self.t >= self.steps, {}


class Limits(Tell):
    """Ends by itself."""

    def __init__(self, max_steps=10, doubled=1):
        self.max_steps = max_steps * doubled
        self.steps = self.max_steps

    def told(self):
        return 1.0


class Torque(Tell):
    """The reward is the action that arrives; its box is as wide as an attribute says."""

    def __init__(self):
        self.torque = 1.0
        self.action_space = Box(-self.torque, 2 * self.torque, (1,), np.float32)
        self.observation_space = Box(-self.torque, self.torque, (1,), np.float32)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(action[0]), *rest


class Starts(Tell):
    """Discrete spaces that begin elsewhere in each variant."""

    def __init__(self, start=0):
        self.start = start
        self.observation_space = Discrete(6, start=start)
        self.action_space = Discrete(2, start=start)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.start, {}

    def step(self, action):
        assert self.action_space.contains(action)
        _, _, *rest = super().step(action)
        return self.start + self.t % 6, float(action), *rest


class Keys(Tell):
    """As many numbers in all variants, but in other parts."""

    def __init__(self, first=1):
        self.space = Dict({"a": Box(-9, 9, (first,)), "b": Box(-9, 9, (3 - first,))})
        self.observation_space = self.space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {k: np.zeros(s.shape, np.float32) for k, s in self.space.items()}, {}

    def step(self, action):
        _, *rest = super().step(action)
        return {k: np.ones(s.shape, np.float32) for k, s in self.space.items()}, *rest


# What reset and step give, by the name of what is wrong with it.
RESETS = {
    "reset bare": lambda obs: obs,
    "reset None as info": lambda obs: (obs, None),
    "reset three": lambda obs: (obs, {}, {}),
    "reset one number": lambda obs: (obs[:1], {}),
    "reset None": lambda obs: (None, {}),
}
STEPS = {
    "four": lambda o, r, d, t, i: (o, r, d, i),
    "none": lambda o, r, d, t, i: None,
    "obs of one": lambda o, r, d, t, i: (o[:1], r, d, t, i),
    "obs of a row": lambda o, r, d, t, i: (o[None], r, d, t, i),
    "obs number": lambda o, r, d, t, i: (0.5, r, d, t, i),
    "obs None": lambda o, r, d, t, i: (None, r, d, t, i),
    "obs text": lambda o, r, d, t, i: (np.array(["a", "b", "c"]), r, d, t, i),
    "rew None": lambda o, r, d, t, i: (o, None, d, t, i),
    "rew text": lambda o, r, d, t, i: (o, "1", d, t, i),
    "rew of two": lambda o, r, d, t, i: (o, np.ones(2), d, t, i),
    "rew nan": lambda o, r, d, t, i: (o, np.nan, d, t, i),
    "end None": lambda o, r, d, t, i: (o, r, None, t, i),
    "end text": lambda o, r, d, t, i: (o, r, "no", t, i),
    "end half": lambda o, r, d, t, i: (o, r, 0.5, t, i),
    "end of two": lambda o, r, d, t, i: (o, r, d, np.array([False, True]), i),
    "info None": lambda o, r, d, t, i: (o, r, d, t, None),
    "info text": lambda o, r, d, t, i: (o, r, d, t, "ok"),
    "success None": lambda o, r, d, t, i: (o, r, d, t, {"success": None}),
    "success text": lambda o, r, d, t, i: (o, r, d, t, {"is_success": "yes"}),
    "success 100": lambda o, r, d, t, i: (o, r, d, t, {"success": 100}),
    # What is as good as a number or a flag.
    "good plain": lambda o, r, d, t, i: (o, r, d, t, i),
    "good one": lambda o, r, d, t, i: (o, np.array([r]), np.array([d]), np.bool_(t), i),
    "good zero": lambda o, r, d, t, i: (o.tolist(), np.array(r), np.array(d), int(t), i),
    "good success": lambda o, r, d, t, i: (o, np.float32(r), d, t, {"is_success": np.array([1])}),
}


class Gives(Tell):
    """Three numbers to see; a reset and a step give what `wrong` says."""

    observation_space = Box(-9, 9, (3,), np.float32)

    def __init__(self, gain=1.0, wrong="good plain", after=0):
        self.gain, self.wrong, self.after = gain, wrong, after

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        obs = np.arange(3, dtype=np.float32)
        return RESETS.get(self.wrong, lambda obs: (obs, {}))(obs)

    def step(self, action):
        _, _, end, late, info = super().step(action)
        given = np.full(3, self.gain, np.float32), self.gain, end, late, info
        wrong = STEPS.get(self.wrong, STEPS["good plain"]) if self.t > self.after else None
        return wrong(*given) if wrong else given


class Module(Tell):
    """Its power is a constant of the module."""

    def told(self):
        return POWER


def set_power(env, value):
    sys.modules[__name__].POWER = value


def multiply_power(env, value):
    env.unwrapped.power = getattr(env.unwrapped, "power", 1.0) * value


class Own(Tell):
    power = 1.0

    def told(self):
        return self.power


def set_own(env, value):
    env.unwrapped.power = value


def set_class(env, value):
    type(env.unwrapped).power = value


class Table(Tell):
    """What is computed first is kept for all."""

    def __init__(self, mass=1.0):
        self.mass = mass

    def told(self):
        return TABLE.setdefault("inverse", 1 / self.mass) + 0.1 * self.mass


class Stream(Tell):
    """Draws from the stream of the process in each step."""

    def __init__(self, mass=1.0):
        self.mass = mass

    def told(self):
        return self.mass + np.random.random()  # noqa: NPY002


class Unseeded(Tell):
    """Draws from its own stream, which no seed reaches."""

    def __init__(self, mass=1.0):
        self.mass = mass

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def told(self):
        return self.mass + float(self.np_random.random())


class Noise(Unseeded):
    """Draws from what nobody can seed."""

    def reset(self, *, seed=None, options=None):
        return Tell.reset(self, seed=seed)

    def told(self):
        return self.mass + os.urandom(1)[0] / 255


class Echo(Tell):
    """Its last position survives reset."""

    observation_space = Box(-99, 99, (2,), np.float32)

    def __init__(self, mass=1.0):
        self.mass, self.before = mass, 0.0

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed)
        return np.array([0.0, self.before], np.float32), info

    def step(self, action):
        obs, _, *rest = super().step(action)
        self.before += float(action)
        return np.array([obs[0], self.before], np.float32), self.mass, *rest


class Needle(Tell):
    """What counts is out of random play's reach."""

    def __init__(self, prize=1.0):
        self.prize = prize

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.prize * (self.t > 99), *rest


class Even(Tell):
    """The sign of the angle counts for nothing, nor does all beyond 0.6."""

    def __init__(self, angle=0.0):
        self.angle = angle

    def told(self):
        return max(0.6 - abs(self.angle), 0.0)


class Nine(Tell):
    """A hundred numbers of nine levels."""

    def __init__(self, level=0):
        self.level = level

    def told(self):
        return float(self.level % 9)


class Mask(Tell):
    def __init__(self, pay=1.0, strict=False):
        self.pay, self.strict = pay, strict

    def told(self):
        return self.pay

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": np.array([1, 0])}

    def step(self, action):
        if self.strict and action:
            raise ValueError("illegal")
        obs, rew, end, late, _ = super().step(action)
        return obs, rew, end, late, {"action_mask": np.array([1, 0])}


class Attribute(Tell):
    """The base of those whose attribute varies; the reward should be its value."""


class Plain(Attribute):
    def __init__(self):
        self.mass = 1.0

    def told(self):
        return self.mass


class Derived(Attribute):
    def __init__(self):
        self.mass: float = 2 * 0.5
        self.half = 0.5 * self.mass

    def told(self):
        return 2 * self.half


def build(env):
    env.copy = env.mass


class Helper(Derived):
    def __init__(self):
        super().__init__()
        build(self)

    def told(self):
        return self.copy


class Vars(Derived):
    def __init__(self):
        super().__init__()
        self.copies = dict(vars(self))

    def told(self):
        return self.copies["mass"]


class Cached(Plain):
    @cached_property
    def kept(self):
        return self.mass

    def told(self):
        return self.kept


class FirstReset(Plain):
    kept = None

    def reset(self, *, seed=None, options=None):
        if self.kept is None:
            self.kept = self.mass
        return super().reset(seed=seed)

    def told(self):
        return self.kept


class Closure(Attribute):
    def __init__(self):
        self.mass, self.other = 1.0, 2.0
        mass = self.mass
        self.tell = lambda: mass

    def told(self):
        return self.tell()


class Moon(Attribute):
    def __init__(self):
        if self.steps > 3:
            self.mass = 1.0
        else:
            self.mass = 2.0
        self.copy = self.mass

    def told(self):
        return self.copy


class Constant(Attribute):
    bulk = 1.0

    def __init__(self):
        self.copy = self.bulk

    def told(self):
        return self.copy


class Local(Attribute):
    def __init__(self):
        mass = 1.0
        self.mass = mass
        self.copy = mass

    def told(self):
        return 0.5 * (self.copy + self.mass)


class Chained(Attribute):
    def __init__(self):
        self.mass = self.copy = 1.0

    def told(self):
        return 0.5 * (self.copy + self.mass)


class Argument(Attribute):
    def __init__(self, *, kilograms=1.0):
        self.mass = kilograms
        self.copy = 1 * kilograms

    def told(self):
        return 0.5 * (self.copy + self.mass)


class Child(Argument):
    def __init__(self):
        super().__init__(kilograms=1.0)


class Loop(Attribute):
    def __init__(self):
        for name, value in {"mass": 1.0, "copy": 1.0}.items():
            setattr(self, name, value)

    def told(self):
        return 0.5 * (self.copy + self.mass)


class Update(Attribute):
    def __init__(self):
        vars(self).update(mass=1.0, copy=1.0)

    def told(self):
        return 0.5 * (self.copy + self.mass)


class Again(Attribute):
    def __init__(self):
        self.mass = 1.0
        self.copy = self.mass
        self.mass = 2.0

    def told(self):
        return 0.5 * (self.copy + self.mass)


class ClassBody(Attribute):
    mass = 1.0
    copy = mass * 1.0

    def told(self):
        return 0.5 * (self.copy + self.mass)


class ByClass(Attribute):
    weight = 1.0

    def told(self):
        return 0.5 * (type(self).weight + self.weight)


class Default(Attribute):
    tonnes = 1.0

    def told(self, copy=tonnes):
        return 0.5 * (copy + self.tonnes)


class Inherited(ClassBody):
    mass = 1.0


class Property(Attribute):
    def __init__(self):
        self._mass = 1.0
        self.copy = self._mass

    @property
    def mass(self):
        return self._mass

    @mass.setter
    def mass(self, value):
        self._mass = value

    def told(self):
        return 0.5 * (self.copy + self._mass)


class Reassigned(Plain):
    def reset(self, *, seed=None, options=None):
        self.mass = 1.0
        return super().reset(seed=seed)


class Global(Attribute):
    def __init__(self):
        self.mass = POWER

    def told(self):
        return 0.5 * (POWER + self.mass)
