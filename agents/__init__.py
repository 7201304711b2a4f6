"""How an agent acts and adapts; independent of files, terminals and wall-clock time."""

from __future__ import annotations

if __name__ == "agents":  # a second import would duplicate every class and break isinstance
    raise ImportError("import metarl.agents, not agents")
