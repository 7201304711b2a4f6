"""`python tests/write_families.py` writes what `metarl families` lists; it needs every extra."""

import importlib.util
import json
from unittest import mock

from metarl.cli.family_records import record
from metarl.cli.listing import FILE
from metarl.envs import FAMILIES
from metarl.envs.gym.specs import PACKAGES, SUITES

NEEDED = {package for suite in SUITES.values() for package in suite.packages}
NEEDED |= {package for package, _ in PACKAGES.values()}


def lacking(missing):
    """Python as it is where some packages aren't installed."""
    there = importlib.util.find_spec
    return mock.patch.object(
        importlib.util, "find_spec", lambda name: None if name in missing else there(name)
    )


def without(name):
    """What a person without a package is told who wants a family, by package."""
    told = {}
    for package in sorted(NEEDED):
        with lacking({package}):
            told[package] = record(name).get("needs")
    return {package: said for package, said in told.items() if said}


def text():
    """A line for each family, made from the families themselves."""
    lines = [json.dumps({**record(name), "without": without(name)}) for name in FAMILIES]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(text())
