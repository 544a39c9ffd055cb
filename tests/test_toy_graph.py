"""Question 3.2 by hand: the matrix as the report prints it, walks counted by matrix powers, distances breadth first."""

import json

import numpy as np
import pytest

from experiments import toy_graph
from jaxrnn.rundir.directory import RunError
from jaxrnn.study import plots
from jaxrnn.study.report import Figure, Table, read_runs

# Report, Question 3.2a; typed from its page.
PRINTED = np.array(
    [
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 1, 0, 1],
    ]
)


def distances(source: str) -> dict[str, int]:
    """Edges on a shortest path from `source`."""
    far, queue = {source: 0}, [source]
    for node in queue:
        for other in np.flatnonzero(PRINTED["ABCDEF".index(node)]):
            if (name := "ABCDEF"[other]) not in far:
                far[name] = far[node] + 1
                queue.append(name)
    return far


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "toy_graph"
    toy_graph.run(path)
    return path


def test_the_matrix_made_from_the_edges_is_the_one_in_the_report(monkeypatch):
    np.testing.assert_array_equal(toy_graph.matrix(), PRINTED)
    assert toy_graph.difference() == []

    monkeypatch.setattr(toy_graph, "REPORTED_MATRIX", "110011 110100 001110 011101 100010 000101")
    assert toy_graph.difference() == ["CE", "FA"]


def test_values_are_powers_of_the_normalized_matrix():
    scales = PRINTED.sum(axis=1) ** -0.5
    a = scales[:, None] * PRINTED * scales
    expected = [np.linalg.matrix_power(a, k)[:, 2] for k in range(7)]

    np.testing.assert_allclose(toy_graph.spread("C", 6), expected, rtol=1e-5, atol=0)
    # Two walks lead from C to E in four steps, C-D-B-A-E and C-D-F-A-E; with 2, 4, 3, 4, 2 entries in their rows,
    # each weighs 1 / (sqrt(2) 4 3 4 sqrt(2)).
    assert toy_graph.spread("C", 4)[4, 4] == pytest.approx(2 / 96)


@pytest.mark.parametrize("source", "ABCDEF")
def test_a_node_has_a_value_after_as_many_layers_as_it_is_edges_away(source):
    assert toy_graph.first_layers(toy_graph.spread(source, 5)) == distances(source)


def test_a_node_that_is_not_reached_has_no_layer():
    assert toy_graph.first_layers(toy_graph.spread("C", 3))["E"] is None


def test_the_run_says_four_layers(workdir, capsys):
    (result,) = json.loads((workdir / "results.json").read_text())["runs"]
    assert result["matrix"] == PRINTED.tolist()
    assert result["differs_from_report"] == []
    assert result["first_layers"] == {"A": 3, "B": 2, "C": 0, "D": 1, "E": 4, "F": 2}

    looks = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [0, 1, 2, 3, 4, 5]
    assert [look["E"] > 0 for look in looks] == [False] * 4 + [True] * 2
    assert "reaches E in layer 4; the report says 4" in (workdir / "report.md").read_text()
    assert (workdir / "figures" / "toy_graph.png").read_bytes().startswith(b"\x89PNG")

    with pytest.raises(RunError, match="holds a run already"):
        toy_graph.run(workdir)


def test_the_page_shows_one_of_several_runs(workdir):
    found = read_runs(workdir, "this machine")
    assert not found[0].remarks
    (section,) = toy_graph.sections([*found, *found])

    matrix, values = (block for block in section.blocks if isinstance(block, Table))
    assert [row[1:] for row in matrix.rows] == [[str(entry) for entry in row] for row in PRINTED]
    # No figure of zero digits stands where nothing has arrived.
    arrived = [[cell != "-" for cell in row[1:]] for row in values.rows]
    assert arrived == [[distances("C")[node] <= layer for node in "ABCDEF"] for layer in range(6)]
    assert sum(isinstance(block, Figure) for block in section.blocks) == 1
    assert toy_graph.sections([]) == []


def test_the_picture_colours_the_nodes_that_have_a_value():
    panels = {"first": [0, 1, 0.01], "second": [0.25, 0.25, 0]}
    places = [(0, 0), (1, 0), (2, 1)]
    first, second, *_ = plots.node_values(panels, "XYZ", places, np.array([[0, 1], [1, 2]])).axes

    assert [axes.get_title() for axes in (first, second)] == ["first", "second"]
    _, discs = first.collections
    none, full, little = discs.get_alpha()
    assert none == 0
    assert full == 1
    assert 0.1 < little < 0.5
    np.testing.assert_array_equal(discs.get_offsets(), places)
    assert [text.get_text() for text in first.texts] == ["X", "Y", "1.000", "Z", "0.010"]
    # One line an edge.
    np.testing.assert_array_equal([line.get_xdata() for line in first.lines], [[0, 1], [1, 2]])
