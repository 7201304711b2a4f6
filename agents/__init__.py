"""How an agent acts and adapts. Knows nothing of files, terminals or time."""

from __future__ import annotations
