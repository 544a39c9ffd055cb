"""Curves by hand, layers against NumPy, and one measurement in a process of its own."""

import json
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import graph_memory as study
from experiments import launch
from experiments.launch import ROOT, UsageError
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import Figure, Table, read_runs

GB = 10**9


def pretend(name, num_nodes, limit=4 * GB):
    """A measurement of 1000 bytes and a millisecond a node, for the dense layer times a hundredth of the nodes."""
    factor = num_nodes / 100 if name == "dense_gcn" else 1
    if (needed := int(1000 * factor * num_nodes)) > limit:
        return study.Shortage(needed, limit)
    taken = int(1000 * factor * num_nodes)
    values = (6 * num_nodes, taken, taken, taken + 10_000_000, taken + GB, 0.5, 1e-3 * factor * num_nodes, 5, 1.5)
    return dict(zip(study.METRICS, values, strict=True))


@pytest.fixture
def calls(monkeypatch):
    """What would have been measured, in order; nothing is."""
    made = []

    def stub(function, *args):
        if function is not study.measure:
            return function(*args)
        made.append(args)
        return pretend(*args)

    monkeypatch.setattr(study, "in_own_process", stub)
    # To draw takes longest.
    monkeypatch.setattr(study.plots, "png", lambda figure: b"of " + figure.axes[1].get_ylabel().encode())
    return made


def test_predictions_count_bytes():
    dense, sparse, gat = (study.LAYERS[name] for name in ("dense_gcn", "sparse_gcn", "sparse_gat"))

    # 10^10 floats of the matrix, 4 arrays of 100 000 x 16; 600 000 edges of a weight, two ends and 1 or 3 messages.
    assert study.predicted_bytes(dense, 100_000) == 40 * GB + 4 * 6_400_000
    assert study.predicted_bytes(sparse, 100_000) == 600_000 * (12 + 64) + 3 * 6_400_000
    assert study.predicted_bytes(gat, 100_000) == 600_000 * (12 + 3 * 64) + 6 * 6_400_000


@pytest.mark.parametrize("name", ["dense_gcn", "sparse_gcn", "sparse_gat"])
def test_predictions_are_close_to_the_compilers_plan(name):
    layer = study.LAYERS[name]
    _, arguments = study.operands(layer, 2000)
    plan = study.compiled(layer, arguments).memory_analysis()

    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    assert study.predicted_bytes(layer, 2000) == pytest.approx(planned, rel=0.06)


def test_dense_and_sparse_are_the_same_layer_and_its_gradients():
    (num_edges, (matrix, x, w)), (_, (edges, *same)) = (
        study.operands(study.LAYERS[name], 50) for name in ("dense_gcn", "sparse_gcn")
    )
    a = np.zeros((50, 50))
    a[edges.receivers, edges.senders] = 1
    scales = a.sum(axis=1) ** -0.5
    s, x64, w64 = scales[:, None] * a * scales, np.array(x, np.float64), np.array(w, np.float64)
    y = s @ x64 @ w64

    assert num_edges == np.count_nonzero(a) == np.count_nonzero(matrix)
    assert (np.diagonal(a) == 1).all()
    for operand, arrays in ((matrix, (x, w)), (edges, same)):
        layer = study.LAYERS["dense_gcn" if operand is matrix else "sparse_gcn"]
        value, gradients = study.compiled(layer, (operand, *arrays))(operand, *arrays)
        # The loss is half the sum of y^2, so its gradient with respect to y is y.
        np.testing.assert_allclose(value, 0.5 * (y**2).sum(), rtol=1e-5)
        np.testing.assert_allclose(gradients[0], s.T @ y @ w64.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gradients[1], x64.T @ s.T @ y, rtol=1e-4, atol=1e-3)


def test_a_process_of_its_own_measures_what_the_matrix_takes():
    found = study.in_own_process(study.measure, "dense_gcn", 4000)

    matrix = 4 * 4000**2
    assert found.keys() == {*study.METRICS}
    assert matrix < found["planned_bytes"] < matrix + 2_000_000
    assert matrix - 1_000_000 < found["peak_bytes"] < matrix + 50_000_000
    assert found["process_bytes"] > found["peak_bytes"] + 50_000_000  # Python and JAX themselves.
    assert found["edges"] == pytest.approx(6 * 4000, rel=0.05)
    assert found["repeats"] >= 5
    assert found["seconds"] > 0


def test_a_process_that_dies_is_reported():
    with pytest.raises(RunError, match=r"the process of raise_signal\(.*\) ended with exit code -9 and no result"):
        study.in_own_process(signal.raise_signal, signal.SIGKILL)


@pytest.mark.parametrize(("limits", "expected"), [([], 8e9), (["max"], 8e9), (["3000000000"], 3e9), (["9" * 19], 8e9)])
def test_what_is_available_is_the_systems_or_the_control_groups(tmp_path, monkeypatch, limits, expected):
    monkeypatch.setattr(study, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(launch, "_LIMITS", [tmp_path / "absent", *(tmp_path / str(i) for i in range(len(limits)))])
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemAvailable:    7812500 kB\n")
    for i, limit in enumerate(limits):
        (tmp_path / str(i)).write_text(f"{limit}\n")

    assert study.available_bytes() == expected


def test_an_accelerator_says_what_its_programs_take(monkeypatch):
    stats = {"bytes_limit": 500_000_000, "bytes_in_use": 1_000_000, "peak_bytes_in_use": 66_000_000}
    monkeypatch.setattr(study, "_device_stats", lambda: stats)

    assert study.measure("dense_gcn", 300)["peak_bytes"] == 65_000_000
    # A matrix of 400 MB would fit into 499, but not with a fifth to spare.
    needed = 1.2 * study.predicted_bytes(study.LAYERS["dense_gcn"], 10_200)
    shortage = study.measure("dense_gcn", 10_200)
    assert shortage == study.Shortage(int(needed), 499_000_000)
    assert str(shortage) == "needs 503 MB with a fifth to spare, 499 MB are there"


def test_curves_cross_on_straight_lines_between_logarithms():
    nodes = np.array([10, 100, 1000])

    # n^2 and 300 n.
    assert study.crossing(nodes, nodes**2.0, 300.0 * nodes) == pytest.approx(300)
    assert study.crossing(nodes, nodes**2.0, nodes / 2) == 10
    assert study.crossing(nodes, nodes**2.0, 2000.0 * nodes) is None
    noisy = np.where(nodes == nodes[0], 1e9, nodes**2.0)  # More at first, but not from there on.
    assert study.crossing(nodes, noisy, 300.0 * nodes) == pytest.approx(300)


def test_a_run_goes_as_far_as_memory_does(tmp_path, calls):
    study.run(tmp_path, 5000, resume=False)

    # 10 n^2 bytes: 3000 nodes take 90 MB, and are in the 4 GB; GAT is measured at the end alone.
    grid = [30, 100, 300, 1000, 3000, 5000]
    gcns = [(name, size) for size in grid for name in ("dense_gcn", "sparse_gcn")]
    assert calls == [*gcns, ("sparse_gat", 5000)]

    calls.clear()
    study.run(tmp_path, 40_000, resume=True)
    # 30 000 nodes would take 9 GB: 40 000 are not tried.
    expected = [("dense_gcn", 10_000), ("dense_gcn", 30_000), *(("sparse_gcn", n) for n in (10_000, 30_000, 40_000))]
    assert sorted(calls) == [*expected[:2], ("sparse_gat", 40_000), *expected[2:]]

    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["experiment"], saved["config"]["max_nodes"]) == ("graph memory", 40_000)
    assert saved["device"]["platform"] == jax.devices()[0].platform
    results = json.loads((tmp_path / "results.json").read_text())
    dense, sparse, gat = results["runs"]
    assert results["complete"]
    assert (dense["nodes"], dense["beyond"]) == (
        10_000,
        "30000 nodes: needs 9 GB with a fifth to spare, 4 GB are there",
    )
    assert (sparse["nodes"], sparse["peak_bytes"], "beyond" in sparse) == (40_000, 50_000_000, False)
    assert (gat["nodes"], gat["edges"]) == (40_000, 240_000)
    assert results["crossing_nodes"] == pytest.approx({"planned_bytes": 100, "seconds": 100})


def test_an_interrupted_run_measures_what_is_missing(tmp_path, calls):
    study.run(tmp_path, 300, resume=False)
    metrics = tmp_path / "metrics.jsonl"
    whole = metrics.read_bytes()
    done, expected = list(calls), (tmp_path / "results.json").read_bytes()
    calls.clear()
    study.run(tmp_path, None, resume=True)
    assert calls == []

    metrics.write_bytes(whole[: whole.rindex(b"load") - 5])
    (tmp_path / "results.json").unlink()
    study.run(tmp_path, None, resume=True)
    assert calls == done[-1:]
    assert metrics.read_bytes() == whole
    assert (tmp_path / "results.json").read_bytes() == expected


@pytest.mark.usefixtures("calls")
def test_a_run_that_is_interrupted_while_it_grows_is_not_complete(tmp_path, monkeypatch):
    study.run(tmp_path, 300, resume=False)

    def interrupted(directory):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_measure_missing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(tmp_path, 1000, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["max_nodes"] == 1000
    assert not json.loads((tmp_path / "results.json").read_text())["complete"]


def test_what_cannot_stand_beside_the_saved_measurements_is_refused(tmp_path, calls):
    study.run(tmp_path, 300, resume=False)
    calls.clear()

    with pytest.raises(UsageError, match=r"^--max_nodes=100: the run was started with 300, which may only grow$"):
        study.run(tmp_path, 100, resume=True)
    with pytest.raises(RunError, match="holds a run already; --resume"):
        study.run(tmp_path, 300, resume=False)
    config = json.loads((tmp_path / "config.json").read_text())
    for changed, message in (
        ({"device": {**config["device"], "kind": "abacus"}}, "another device: .*abacus"),
        ({"config": {**config["config"], "hidden_size": 8}}, "other settings: .*'hidden_size': 8"),
        ({"experiment": "text"}, "holds a run of experiment 'text'"),
        ({"config": {}}, "config.json: does not say max_nodes"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(RunError, match=message):
            study.run(tmp_path, None, resume=True)
    assert calls == []


@pytest.mark.usefixtures("calls")
def test_the_page_shows_each_run(tmp_path):
    study.run(tmp_path / "here", 40_000, resume=False)
    study.run(tmp_path / "small", 30, resume=False)
    damaged = tmp_path / "damaged"
    study.run(damaged, 30, resume=False)
    (damaged / "metrics.jsonl").write_text("{}\n")
    found = read_runs(tmp_path, "this machine")
    (section,) = study.sections(found)

    tables = [block for block in section.blocks if isinstance(block, Table)]
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    texts = [block for block in section.blocks if isinstance(block, str)]
    assert [len(table.rows) for table in tables] == [6 + 8 + 1, 1 + 1 + 1]
    assert len({figure.path for figure in figures}) == 2
    assert [figure.png for figure in figures] == [b"of time, seconds"] * 2
    assert "more memory (by XLA's buffers) than the sparse one from about 100 nodes on" in texts[0]
    assert "No further: dense_gcn, 30000 nodes: needs 9 GB with a fifth to spare, 4 GB are there." in texts[0]
    assert "more time than the sparse one at no size that was measured" in texts[1]
    (row,) = [row for row in tables[0].rows if row[:2] == ["dense GCN", "10000"]]
    assert row[2:] == ["60000", "1 GB", "1 GB", "1.01 GB", "2 GB", "1000000", "0.50"]
    assert "load before a measurement 1.5 to 1.5" in tables[0].caption
    assert (tmp_path / "here" / "graph_memory.png").read_bytes() == b"of time, seconds"
    assert "| dense GCN | 10000 |" in (tmp_path / "here" / "graph_memory.md").read_text()
    assert not found[1].remarks
    assert study.sections([]) == []


def test_figures_are_drawn_where_memory_is_sure(tmp_path, calls):
    del calls
    study.run(tmp_path, 40_000, resume=False)
    (run,) = read_runs(tmp_path, "this machine")
    memory, times = study.figure(run).axes

    drawn, timed = ({line.get_label(): list(line.get_xdata()) for line in axes.lines} for axes in (memory, times))
    grid = [30, 100, 300, 1000, 3000, 10_000, 30_000, 40_000]
    assert drawn["dense GCN"] == [3000, 10_000]  # 10 n^2 > 2e7
    assert drawn["sparse GCN"] == [30_000, 40_000]  # 1000 n > 2e7
    assert drawn["dense GCN, formula"] == grid
    assert drawn["crossing"] == pytest.approx([100, 100])
    assert timed["dense GCN"] == grid[:6]
    assert [axes.get_xscale() + axes.get_yscale() for axes in (memory, times)] == ["loglog"] * 2


def test_a_signal_ends_the_processes_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.graph_memory", f"--workdir={path}"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not (path / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        # A process that was left behind would hold this pipe open.
        _, said = process.communicate(timeout=20)

    assert process.returncode == 75, said
    assert said.splitlines()[-1] == f"saved; go on with --resume --workdir={path}"
