"""Imports go down the rooms only, each heavy library has one door, and only binaries speak."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ["arrays", "data", "graph", "cells", "recurrence", "through_time", "nn", "training", "rundir", "study"]
DOORS = {
    "orbax": "jaxrnn/rundir/checkpoint.py",
    "matplotlib": "jaxrnn/study/plots.py",
    "jraph": "jaxrnn/graph/edges.py",
    "tensorboardX": "jaxrnn/rundir/events.py",
}
FILES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for folder in ("jaxrnn", "experiments", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(tree):
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(parts):
    return ROOMS.index(parts[1]) if parts[0] == "jaxrnn" and parts[1:2] and parts[1] in ROOMS else None


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_to_its_room(path):
    parts, names = path.removesuffix(".py").split("/"), imported(FILES[path])
    here = room(parts)
    is_front_door = path == "jaxrnn/__init__.py"
    assert here is not None or parts[0] != "jaxrnn" or is_front_door, "a file without a room"
    above = {"jaxrnn": ("experiments", "configs"), "configs": ("experiments", "jaxrnn"), "experiments": ()}
    for name in names:
        assert name.split(".")[0] not in above[parts[0]], name
        there = room(name.split("."))
        assert here is None or there is None or there <= here, name
        assert DOORS.get(name.split(".")[0], path) == path, name
    calls = [node.func for node in ast.walk(FILES[path]) if isinstance(node, ast.Call)]
    if parts[0] == "jaxrnn":
        assert not names & {"absl.flags", "absl.app"}
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_an_upward_import_is_noticed():
    assert room(["jaxrnn", "cells", "lstm"]) < room(["jaxrnn", "recurrence"]) < room(["jaxrnn", "training", "loop"])
    assert room(["numpy"]) is None
