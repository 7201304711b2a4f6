"""Meta-reinforcement learning: agents that adapt to a new variant of their environment.

`__init__.pyi` lists the public names, each loaded when it is first used; everything else may change
between versions.
"""

from __future__ import annotations

import os

import lazy_loader

# Threads that wait for each other by spinning stall when another process wants their core: a
# meta-iteration took 0.93 s instead of 0.13 s. Spinning briefly, then sleeping, costs nothing when
# alone and takes 0.29 s there. OpenMP reads this once, when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from metarl.envs.adapters.registration import register

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register()
