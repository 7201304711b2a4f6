"""The list of slow tests names tests that exist, and the marks sort every test."""

import ast
from pathlib import Path

from write_slow import slow_in

HERE = Path(__file__).parent


def functions(file):
    return {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}


def test_every_slow_test_exists():
    for name in (HERE / "slow.txt").read_text().split():
        file, _, function = name.partition("::")
        assert function in functions(HERE / f"{file}.py"), name


def test_cases_of_a_function_count_together():
    text = """
1.50s call     tests/test_a.py::test_one[x-y]
0.60s setup    tests/test_a.py::test_one[z]
1.90s call     tests/test_a.py::TestIn::test_two
9.00s call     tests/test_learning.py::test_learns
"""
    assert slow_in(text, 2.0) == ["test_a::test_one"]
    assert slow_in(text, 1.0) == ["test_a::test_one", "test_a::test_two"]
