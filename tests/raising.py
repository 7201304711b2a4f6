"""Families of which one method or property raises, at once or from some call on."""

from dataclasses import dataclass

from metarl.envs.classic_control.point_navigation import PointNavigation


def raising(place, error, after=0):
    """PointNavigation whose `place` raises an error when it was used `after` times."""
    was, used = getattr(PointNavigation, place, None), []

    def use(*args):
        used.append(args)
        if len(used) > after:
            raise error
        if isinstance(was, property):
            return was.fget(*args)
        return was(*args) if callable(was) else was

    replaced = use if callable(was) else property(use)
    return dataclass(frozen=True)(type("Raising", (PointNavigation,), {place: replaced}))
