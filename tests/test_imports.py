"""Imports go down the layers only, and each heavy library has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["arrays", "data", "graph", "cells", "recurrence", "through_time", "nn", "training", "rundir", "study"]
DOORS = {
    "orbax": "jaxrnn/rundir/checkpoint.py",
    "matplotlib": "jaxrnn/study/plots.py",
    "jraph": "jaxrnn/graph/edges.py",
    "tensorboardX": "jaxrnn/rundir/events.py",
}
FILES = sorted(
    p.relative_to(ROOT) for folder in ("jaxrnn", "experiments", "configs") for p in (ROOT / folder).rglob("*.py")
)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(module: str) -> int | None:
    parts = module.split(".")
    if parts[0] != "jaxrnn" or len(parts) < 2:
        return None
    return LAYERS.index(parts[1]) if parts[1] in LAYERS else None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    module = ".".join(path.with_suffix("").parts)
    here = layer(module)
    if path.parts[0] == "jaxrnn" and path.name != "__init__.py":
        assert here is not None, f"{path} has no layer"
    for name in imported(path):
        if path.parts[0] == "jaxrnn":
            assert not name.startswith(("experiments", "configs")), f"{path} imports {name}"
        if path.parts[0] == "configs":
            assert not name.startswith(("experiments", "jaxrnn")), f"{path} imports {name}"
        there = layer(name)
        if here is not None and there is not None and path.name != "loop.py":
            assert there <= here, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_come_through_their_door(path):
    for name in imported(path):
        door = DOORS.get(name.split(".")[0])
        assert door in (None, str(path)), f"{path} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "jaxrnn"], ids=str)
def test_the_library_does_not_print_or_read_flags(path):
    assert not imported(path) & {"absl.flags", "absl.app"}
    calls = [node.func for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_an_upward_import_is_noticed():
    assert layer("jaxrnn.cells.lstm") < layer("jaxrnn.recurrence") < layer("jaxrnn.training.loop")
    assert layer("numpy") is None
