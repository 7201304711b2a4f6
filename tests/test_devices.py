"""What a GPU needs: every random draw on the device of its generator, and a check to run there."""

import ast
import subprocess
import sys
from pathlib import Path

from test_layers import MODULES

ROOT = Path(__file__).parent.parent
DRAWS = {"rand", "randn", "randint", "randperm", "normal"}
ON_CPU = {"metarl.envs.checks.contract", "metarl.envs.checks.random_play"}  # families on the CPU
SEEDS = {"metarl.agents.networks.module_policy"}  # a seed, drawn on the CPU on purpose


def draws(tree):
    """Calls of torch's functions that draw, and the names of their keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and node.func.attr in DRAWS:
                yield node, {keyword.arg for keyword in node.keywords}


def test_every_draw_names_the_device_of_its_generator():
    """A generator of a GPU draws nothing on the CPU; this is where `bench --device cuda` failed."""
    found = 0
    for name, file in MODULES.items():
        if name in ON_CPU | SEEDS:
            continue
        for node, keywords in draws(ast.parse(file.read_text())):
            if "generator" in keywords:
                found += 1
                assert "device" in keywords, f"{file}:{node.lineno}"
    assert found > 10


def test_the_check_of_a_device_passes_on_the_cpu():
    command = [sys.executable, str(ROOT / "tests" / "device_check.py"), "cpu", "--small"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all agree"
