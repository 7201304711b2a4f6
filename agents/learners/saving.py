"""`agent.save`: the one place where agents know of files."""

from __future__ import annotations

from pathlib import Path


class Savable:
    """An agent that can be written to a file."""

    def save(self, path: Path | str) -> None:
        """Write the agent, adapted or not, to one file, which `metarl.load_agent` opens.

        Raises:
            UsageError: it can't be written there; or its network is of a kind of your own.
        """
        # What writes files lies above agents, so it is imported when it is asked for.
        from metarl.agent_files.agent_file import save_agent

        save_agent(self, path)  # type: ignore[arg-type]
