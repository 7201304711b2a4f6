"""Imports go one way, between folders and between files; each layer keeps to what it may know."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A folder imports from itself and from those after it in its line. `metarl` imports from all of
# `agents` and `envs`; `agents` from `envs.core`, the registry's names and what it plays.
LINES = {
    "envs": (
        "checks adapters registry suites gym games classic_control bandits mujoco core",
        {"games", "classic_control", "bandits", "mujoco", "gym"},  # not from each other
    ),
    "agents": ("learners inner rollouts networks rng compilation classical", {"classical"}),
    "metarl": (
        "plot cli bench comparison baselines agent_files experiment tracking plotting training "
        "outer evaluation config distributed sb3 system",
        {"tracking", "training"},
    ),
}
# Files, terminals, time and logging belong to metarl alone.
OUTSIDE = {"time", "pathlib", "os", "sys", "logging", "rich", "tyro", "tensorboard", "safetensors"}
# What starts and ends worker processes, shares memory with them, and loads a user's modules.
OF_PROCESSES = {
    *("fresh_env.py", "worker_pool.py", "worker.py", "shared_memory.py", "free_memory.py"),
    *("user_code.py", "derived_attributes.py", "attribute_sources.py"),
}

# `agent.save` writes a file, and imports what does when it is called: the one exception to both.
SAVING = "metarl.agents.learners.saving"
OF_FILES = {"saving.py"}


def source_files(layer):
    """All of a layer, without what `metarl/envs` and `metarl/agents` link to."""
    inside = ("metarl/envs", "metarl/agents")
    return sorted(
        file
        for file in (ROOT / layer).rglob("*.py")
        if not str(file.relative_to(ROOT)).startswith(inside)
    )


def module(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "metarl" else ("metarl", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for layer in LINES for file in source_files(layer)}


def imports(file):
    """Names of the modules and packages that a file imports, also within functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in MODULES else node.module


def own_imports(file):
    names = {name for name in imports(file) if name in MODULES}
    return names - {"metarl.agent_files.agent_file"} if file == MODULES[SAVING] else names


def place(name):
    """(layer, room) of a module: ("envs", "core"), ("metarl", "outer")."""
    parts = name.split(".")[1:]
    layer = parts.pop(0) if parts and parts[0] in ("envs", "agents") else "metarl"
    return layer, parts[0] if parts and parts[0] != "__main__" else ""


def wrong_edges(modules):
    """Imports against the direction, as (importer, imported)."""
    order = {layer: line.split() for layer, (line, _) in LINES.items()}
    for name, file in modules.items():
        layer, room = place(name)
        for other in own_imports(file):
            to_layer, to_room = place(other)
            layers = ["metarl", "agents", "envs"]
            if layers.index(to_layer) < layers.index(layer):
                yield name, other
            if layer != to_layer or room == to_room or not room or not to_room:
                continue
            line, apart = order[layer], LINES[layer][1]
            if line.index(to_room) < line.index(room) or {room, to_room} <= apart:
                yield name, other


def test_folders_import_in_one_direction():
    assert not sorted(wrong_edges(MODULES))


@pytest.mark.parametrize("upward", [("envs/core/family.py", "metarl.envs.registry")])
def test_an_import_against_the_direction_is_found(tmp_path, upward):
    file, name = upward
    copy = tmp_path / Path(file).name
    copy.write_text((ROOT / file).read_text() + f"\nfrom {name} import FAMILIES\n")
    found = list(wrong_edges({**MODULES, module(ROOT / file): copy}))
    assert found == [(module(ROOT / file), name)]


def test_no_file_imports_itself_through_others():
    graph = {name: own_imports(file) - {name} for name, file in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_is_in_the_plan_and_small():
    for layer, (line, _) in LINES.items():
        folders = {place(name)[1] for name in MODULES if place(name)[0] == layer} - {""}
        assert folders == set(line.split()), layer
    for folder in {file.parent for file in MODULES.values()}:
        assert len([*folder.glob("*.py")]) <= 17, folder
        assert folder.name not in ("utils", "misc", "common")


@pytest.mark.parametrize("layer", ["envs", "agents"])
def test_only_metarl_knows_files_terminals_and_time(layer):
    for file in source_files(layer):
        may = {"os", "sys", "pathlib", "time"} if file.name in OF_PROCESSES else set()
        may |= {"pathlib"} if file.name in OF_FILES else set()
        assert not {name.split(".")[0] for name in imports(file)} & OUTSIDE - may, file
        assert "print(" not in file.read_text(), file


@pytest.mark.parametrize("order", ["import metarl, envs, agents", "import agents, envs, metarl"])
def test_a_users_folders_called_envs_and_agents_are_the_users(tmp_path, order):
    for name in ("envs", "agents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("whose = 'mine'\n")
    code = f"{order}; from metarl.envs import Family; print(envs.whose, agents.whose, Family)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "mine mine <class 'metarl.envs.core.family.Family'>\n", done.stderr


@pytest.mark.parametrize("layer", ["envs", "agents"])
def test_the_folders_are_not_imported_by_their_bare_names(layer):
    done = subprocess.run(
        [sys.executable, "-c", f"import {layer}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: import metarl.{layer}, not {layer}"
