"""Task families and environments; independent of learning.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

from __future__ import annotations

import lazy_loader

if __name__ == "envs":  # a second import would duplicate every class and break isinstance
    raise ImportError("import metarl.envs, not envs")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
