"""Imports go one way: envs <- agents <- metarl; and each layer keeps to what it may know."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {"envs": {"envs"}, "agents": {"envs", "agents"}, "metarl": {"envs", "agents", "metarl"}}
# Files, terminals, time and logging belong to metarl alone.
OUTSIDE = {"time", "pathlib", "os", "sys", "logging", "rich", "tyro", "tensorboard", "safetensors"}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module.split(".")[0]


# What starts and ends worker processes, shares memory with them, and loads a user's modules.
OF_PROCESSES = {
    *("alone.py", "pool.py", "worker.py", "shared_memory.py", "free_memory.py"),
    *("own_code.py", "derived.py", "provenance.py"),
}


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_nothing_above_it(layer):
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        ours = set(imported(file)) & set(ALLOWED)
        assert ours <= ALLOWED[layer], f"{file} imports {ours - ALLOWED[layer]}"


@pytest.mark.parametrize("layer", ["envs", "agents"])
def test_only_metarl_knows_files_terminals_and_time(layer):
    for file in (ROOT / layer).rglob("*.py"):
        may = {"os", "sys", "pathlib", "time"} if file.name in OF_PROCESSES else set()
        assert not set(imported(file)) & OUTSIDE - may, file
        assert "print(" not in file.read_text(), file


def test_a_users_folder_of_the_same_name_is_named_and_not_imported(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import metarl"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: another 'agents' (")
    assert str(tmp_path / "agents") in last
    assert "rename it" in last
