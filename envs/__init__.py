"""What a task is. Knows nothing of learning.

`__init__.pyi` lists the public names; each is loaded when it is first used.
"""

from __future__ import annotations

import lazy_loader

if __name__ == "envs":  # a second copy of every class would not be an instance of the first
    raise ImportError("import metarl.envs, not envs")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
