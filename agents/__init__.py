"""How an agent acts and adapts. Knows nothing of files, terminals or time."""

from __future__ import annotations

if __name__ == "agents":  # a second copy of every class would not be an instance of the first
    raise ImportError("import metarl.agents, not agents")
