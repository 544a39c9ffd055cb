"""Question 3.2 by hand: the matrix as it is printed, walks counted by matrix powers, distances breadth first."""

import numpy as np
import pytest
from directories import blocks_of_page

from configs.toy_graph import Config
from experiments import toy_graph
from jaxrnn.rundir import session
from jaxrnn.study import plots
from jaxrnn.study.page import Table

# Soons (2020), Question 3.2a; typed from its page.
PRINTED = np.array([[*map(int, row)] for row in ("110011", "110100", "001100", "011101", "100010", "100101")])


def distances(source: str) -> dict[str, int]:
    """Edges on a shortest path from `source`."""
    far, queue = {source: 0}, [source]
    for node in queue:
        for other in np.flatnonzero(PRINTED["ABCDEF".index(node)]):
            if (name := "ABCDEF"[other]) not in far:
                far[name] = far[node] + 1
                queue.append(name)
    return far


def test_values_are_powers_of_the_normalized_matrix():
    np.testing.assert_array_equal(toy_graph.make_matrix(), PRINTED)
    scales = PRINTED.sum(axis=1) ** -0.5
    a = scales[:, None] * PRINTED * scales
    expected = [np.linalg.matrix_power(a, k)[:, 2] for k in range(7)]

    np.testing.assert_allclose(toy_graph.spread("C", 6), expected, rtol=1e-5, atol=0)
    # Two walks lead from C to E in four steps, C-D-B-A-E and C-D-F-A-E; with 2, 4, 3, 4, 2 entries in their rows,
    # each weighs 1 / (sqrt(2) 4 3 4 sqrt(2)).
    assert toy_graph.spread("C", 4)[4, 4] == pytest.approx(2 / 96)


@pytest.mark.parametrize("source", "ABCDEF")
def test_a_node_has_a_value_after_as_many_layers_as_it_is_edges_away(source):
    assert toy_graph.find_first_layers(toy_graph.spread(source, 5)) == distances(source)


def test_a_run_has_a_page(tmp_path):
    (row,) = session.start(toy_graph.STUDY, Config(), tmp_path / "run")
    assert row["matrix"] == PRINTED.tolist()
    assert row["first_layers"] == distances("C")
    short = session.start(toy_graph.STUDY, Config(num_layers=3), tmp_path / "short")
    assert short[0]["first_layers"]["E"] is None

    matrix, _, values, _ = blocks_of_page(toy_graph.STUDY, tmp_path, Table)
    texts = " ".join(blocks_of_page(toy_graph.STUDY, tmp_path, str))
    assert [row[1:] for row in matrix.rows] == [[str(entry) for entry in row] for row in PRINTED]
    # No figure of zero digits stands where nothing has arrived.
    arrived = [[cell != "-" for cell in row[1:]] for row in values.rows]
    assert arrived == [[distances("C")[node] <= layer for node in "ABCDEF"] for layer in range(6)]
    assert "reaches E in layer 4; Soons (2020) says 4" in texts
    assert "does not reach E" in texts
    assert "is the published one" in texts


def test_the_picture_colours_the_nodes_that_have_a_value():
    panels = {"first": [0, 1, 0.01], "second": [0.25, 0.25, 0]}
    places = [(0, 0), (1, 0), (2, 1)]
    first, second, *_ = plots.node_values(panels, "XYZ", places, np.array([[0, 1], [1, 2]])).axes

    assert [axes.get_title("left") for axes in (first, second)] == ["first", "second"]
    _, discs = first.collections
    none, full, little = discs.get_alpha()
    assert none == 0
    assert full == 1
    assert 0.1 < little < 0.5
    np.testing.assert_array_equal(discs.get_offsets(), places)
    assert [text.get_text() for text in first.texts] == ["X", "Y", "1.000", "Z", "0.010"]
