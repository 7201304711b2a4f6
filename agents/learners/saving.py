"""The `save` method of agents."""

from __future__ import annotations

from pathlib import Path


class Savable:
    """Mixin for agents that can be saved to a file."""

    def save(self, path: Path | str) -> None:
        """Save the agent, adapted or not, to a file that `metarl.load_agent` opens.

        Raises:
            UsageError: the file can't be written, or the network can't be saved by name.
        """
        # Imported here, since agents must not depend on metarl at import time.
        from metarl.agent_files.agent_file import save_agent

        save_agent(self, path)  # type: ignore[arg-type]
