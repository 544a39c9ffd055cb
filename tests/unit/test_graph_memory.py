"""Curves by hand, layers against NumPy, and runs that measure next to nothing."""

import json

import numpy as np
import pytest
from directories import blocks_of_page

from configs.graph_memory import Config
from experiments import graph_memory as study
from jaxrnn.rundir import session
from jaxrnn.study.page import Table

GB = 10**9
NAMES = ("dense_gcn", "sparse_gcn", "sparse_gat")


@pytest.fixture
def calls(monkeypatch):
    """What would have been measured, in order: 1000 bytes and 1 ms a node, for the dense layer times N / 100."""
    made = []

    def stub(config, name, num_nodes):
        made.append((name, num_nodes))
        taken = num_nodes * (num_nodes / 100 if name == "dense_gcn" else 1)
        values = {"edges": 6 * num_nodes, "predicted_bytes": 1000 * taken, "planned_bytes": 1000 * taken}
        return {**values, "process_bytes": GB, "seconds": 1e-3 * taken, "load": 1.5}

    monkeypatch.setattr(study, "measure_layer", stub)
    monkeypatch.setattr(study, "available_bytes", lambda: 4 * GB)
    return made


def test_predictions_count_bytes():
    # 10^10 floats of the matrix, 4 arrays of 100 000 x 16; 600 000 edges of a weight, two ends and 1 or 3 messages.
    dense, sparse, gat = (study.predict_bytes(Config(), name, 100_000) for name in NAMES)
    assert dense == 40 * GB + 4 * 6_400_000
    assert sparse == 600_000 * (12 + 64) + 3 * 6_400_000
    assert gat == 600_000 * (12 + 3 * 64) + 6 * 6_400_000


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_close_to_the_compilers_plan(name):
    found = study.measure_layer(Config(), name, 2000)
    assert found["predicted_bytes"] == pytest.approx(found["planned_bytes"], rel=0.06)
    assert found["edges"] == pytest.approx(6 * 2000, rel=0.05)
    assert found["seconds"] > 0
    assert found["process_bytes"] > 50_000_000  # Python and JAX themselves.


def test_dense_and_sparse_are_the_same_layer_and_its_gradients():
    (num_edges, (matrix, x, w)), (_, (edges, *same)) = (study.make_operands(Config(), name, 50) for name in NAMES[:2])
    a = np.zeros((50, 50))
    a[edges.receivers, edges.senders] = 1
    scales = a.sum(axis=1) ** -0.5
    s, x64, w64 = scales[:, None] * a * scales, np.array(x, np.float64), np.array(w, np.float64)
    y = s @ x64 @ w64

    assert num_edges == np.count_nonzero(a) == np.count_nonzero(matrix)
    assert (np.diagonal(a) == 1).all()
    for name, operands in (("dense_gcn", (matrix, x, w)), ("sparse_gcn", (edges, *same))):
        value, gradients = study.compile_layer(name, operands)(*operands)
        # The loss is half the sum of y^2, so its gradient with respect to y is y.
        np.testing.assert_allclose(value, 0.5 * (y**2).sum(), rtol=1e-5)
        np.testing.assert_allclose(gradients[0], s.T @ y @ w64.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gradients[1], x64.T @ s.T @ y, rtol=1e-4, atol=1e-3)


def test_curves_cross_on_straight_lines_between_logarithms():
    nodes = np.array([10, 100, 1000])

    # n^2 and 300 n.
    assert study.find_crossing(nodes, nodes**2.0, 300.0 * nodes) == pytest.approx(300)
    assert study.find_crossing(nodes, nodes**2.0, nodes / 2) == 10
    assert study.find_crossing(nodes, nodes**2.0, 2000.0 * nodes) is None
    noisy = np.where(nodes == nodes[0], 1e9, nodes**2.0)  # More at first, but not from there on.
    assert study.find_crossing(nodes, noisy, 300.0 * nodes) == pytest.approx(300)


def test_a_run_goes_as_far_as_memory_does_and_grows(tmp_path, calls):
    session.start(study.STUDY, Config(max_nodes=5000), tmp_path)
    # GAT is measured at the end alone.
    grid = [30, 100, 300, 1000, 3000, 5000]
    gcns = {name: [(name, size) for size in grid] for name in ("sparse_gcn", "dense_gcn")}
    assert calls == [*gcns["sparse_gcn"], ("sparse_gat", 5000), *gcns["dense_gcn"]]

    calls.clear()
    rows = session.resume(study.STUDY, tmp_path, {"max_nodes": 40_000})
    # A matrix of 30 000 nodes fits 3.6 GB, but not with a fifth to spare: 40 000 are not tried.
    grown = [("sparse_gcn", n) for n in (10_000, 30_000, 40_000)]
    assert calls == [*grown, ("sparse_gat", 40_000), ("dense_gcn", 10_000)]
    assert [row["run"] for row in rows] == ["sparse_gcn", "sparse_gat", "dense_gcn"]
    assert [(row["nodes"], bool(row["beyond"])) for row in rows] == [(40_000, False), (40_000, False), (10_000, True)]


def test_an_interrupted_run_measures_what_is_missing(tmp_path, calls):
    session.start(study.STUDY, Config(max_nodes=300), tmp_path)
    metrics, results = tmp_path / "metrics.jsonl", tmp_path / "results.json"
    whole, expected = metrics.read_bytes(), results.read_bytes()
    done = list(calls)
    calls.clear()
    session.resume(study.STUDY, tmp_path)
    assert calls == []

    metrics.write_bytes(whole[:-20])
    results.write_text(json.dumps({"study": "graph_memory", "complete": False, "runs": []}))
    session.resume(study.STUDY, tmp_path)
    assert calls == done[-1:]
    assert (metrics.read_bytes(), results.read_bytes()) == (whole, expected)


@pytest.mark.usefixtures("calls")
def test_the_page_shows_each_run(tmp_path):
    session.start(study.STUDY, Config(max_nodes=40_000), tmp_path / "here")
    session.start(study.STUDY, Config(max_nodes=30), tmp_path / "small")
    large, small = blocks_of_page(study.STUDY, tmp_path, str)
    assert "more memory (by XLA's buffers) than the sparse one from about 100 nodes on" in large
    assert "No further: 30000 nodes need " in large
    assert "more time than the sparse one at no size that was measured" in small
    tables = blocks_of_page(study.STUDY, tmp_path, Table)
    assert [len(table.rows) for table in tables] == [8 + 1 + 6, 1 + 1 + 1]
    (row,) = [row for row in tables[0].rows if row[:2] == ["dense GCN", "10000"]]
    assert row[2:] == ["60000", "1 GB", "1 GB", "1000000"]
