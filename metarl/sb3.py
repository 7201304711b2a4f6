"""What metarl and Stable-Baselines3 give each other; SB3 is imported when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envs import Family

if TYPE_CHECKING:
    from envs.vec_view import VecView


def to_vec_env(family: Family, task: Any, copies: int = 1, unit_actions: bool = False) -> VecView:
    """Tasks as a vectorised environment of Stable-Baselines3, all stepped in one program.

    Args:
        task: N tasks, as `make_task` or `sample_tasks` give them.
        copies: environments of each task, side by side: N * copies in all.
        unit_actions: take boxes of actions in units of their half, [-1, 1]^A, which suits SB3's
            settings better; policies exported by metarl act in the box itself.
    """
    from envs.vec_view import VecView

    return VecView(family, task, copies, unit_actions)
