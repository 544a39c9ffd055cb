"""Forecasts on graphs: cells, baselines and errors against NumPy, and what a user does with a trained directory."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.forecast import Config
from experiments.forecast import STUDY, baselines, build, errors, results, sample
from jaxrnn.cells import tgc_lstm, torch_uniform
from jaxrnn.cells.graph_gru import graph_gru_cho
from jaxrnn.data.files import DataError
from jaxrnn.nn.forecasters import Forecaster, normalized, reached, shifts_of, walks
from jaxrnn.recurrence import unroll
from jaxrnn.rundir import archive, session
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.read import Run, read_directory
from jaxrnn.study.arms import Arm
from jaxrnn.study.study import read_evidence
from jaxrnn.study.summary import summarize
from jaxrnn.training.definition import ConfigError

NODES = ("a", "b", "c", "flat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of 90 rows of four nodes; one is constant, and some values are missing."""
    path, rng = tmp_path_factory.mktemp("network"), np.random.default_rng(0)
    values = np.cumsum(rng.standard_normal((90, 4)), axis=0)
    values[:, 3] = 7
    rows = [["" if rng.random() < 0.05 else f"{x:.4f}" for x in row] for row in values]
    (path / "signals.csv").write_text("\n".join(",".join(row) for row in [NODES, *rows]))
    (path / "edges.csv").write_text("source,target\na,b\nb,c\nc,a\n")
    return path


@pytest.fixture(scope="module")
def config(folder):
    sizes = {"horizon": 2, "input_length": 3, "hidden_size": 3, "num_taps": 2, "batch_size": 8}
    steps = {"max_steps": 4, "eval_every": 2, "chunk_steps": 3, "num_seeds": 2}
    return Config(dataset=f"folder:{folder}", **sizes, **steps)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A directory of runs with and without the graph."""
    path = tmp_path_factory.mktemp("runs") / "run"
    session.start(STUDY, config, path, {"model": ["gru", "tgcn"]})
    return path


# --- The cell and the models ------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_cell_is_its_equation():
    rng = np.random.default_rng(0)
    shifts = (None, *rng.standard_normal((2, 5, 5)))
    cell = graph_gru_cho(3)
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), 2, 4, torch_uniform)
        params = params._replace(shift=tuple(None if s is None else jnp.asarray(s) for s in shifts))
        xs = rng.standard_normal((3, 5, 2, 2))
        _, ys = unroll(cell, params, jnp.asarray(xs))
    w_x, w_h, b = (np.asarray(x, np.float64) for x in params[:3])
    matrices = [np.eye(5) if s is None else s for s in shifts]

    def filtered(x, w):
        return sum(np.einsum("ij,jbd,du->ibu", s, x, w_m) for s, w_m in zip(matrices, w, strict=True))

    h = np.zeros((5, 2, 4))
    for x, y in zip(xs, ys, strict=True):
        z = filtered(x, w_x) + b
        r, u = np.split(sigmoid(z[..., :8] + filtered(h, w_h[..., :8])), 2, axis=-1)
        h = u * h + (1 - u) * np.tanh(z[..., 8:] + filtered(r * h, w_h[..., 8:]))
        np.testing.assert_allclose(y, h, atol=1e-6)


def test_the_cells_own_gradient_is_that_of_differences():
    cell = graph_gru_cho(2)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 3)
        params = cell.init(keys[0], 1, 3, torch_uniform)
        params = jax.tree.map(lambda x: x.astype(float), params)
        params = params._replace(shift=(None, jax.random.normal(keys[1], (4, 4), float)))
        xs = jax.random.normal(keys[2], (3, 4, 2, 1), float)

        @jax.jit
        def loss(params, xs):
            return jnp.sum(jnp.sin(unroll(cell, params, xs)[1]))

        found = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, xs)
        rng = np.random.default_rng(0)
        way = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), (params, xs))
        ahead, behind = (jax.tree.map(lambda x, d, s=s: x + s * 1e-5 * d, (params, xs), way) for s in (1, -1))
        slope = (loss(*ahead) - loss(*behind)) / 2e-5
        along = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(found), jax.tree.leaves(way), strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-6)


def test_the_lstm_of_nodes_is_its_equation():
    """A window after another, with the matrices of each gate as Cui et al. have them, ``[nodes, (K D + 1) nodes]``."""
    num_nodes, num_taps, size = 4, 2, 2
    rng, cell = np.random.default_rng(0), tgc_lstm(num_taps)
    reach = (rng.random((num_taps, num_nodes, num_nodes)) < 0.6).astype(float)
    xs = rng.standard_normal((3, num_nodes, 2, size))
    with jax.enable_x64(True):
        shapes = jax.eval_shape(lambda key: cell.init(key, size, num_nodes, torch_uniform), jax.random.key(0))
        params = jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape), shapes)
        (last_h, last_c), ys = unroll(cell, jax.tree.map(jnp.asarray, params._replace(shift=reach)), jnp.asarray(xs))
    assert ys.shape == (3, num_nodes, 2, 1)
    w_x, w_h, b = (np.split(w.T, 4) for w in params[1:4])
    for window in range(2):
        h, c = np.zeros((2, num_nodes))
        for t, x in enumerate(xs[:, :, window]):
            near = np.concatenate([((tap * way) @ x).ravel() for tap, way in zip(params.taps, reach, strict=True)])
            i, f, g, o = (w @ near + u @ h + b_gate for w, u, b_gate in zip(w_x, w_h, b, strict=True))
            c = sigmoid(i) * np.tanh(g) + sigmoid(f) * ((params.w_n * reach[-1]) @ c)
            h = sigmoid(o) * np.tanh(c)
            np.testing.assert_allclose(ys[t, :, window, 0], h, atol=1e-12)
        np.testing.assert_allclose(last_c[:, window, 0], c, atol=1e-12)
        np.testing.assert_allclose(last_h[:, window, 0], h, atol=1e-12)


def test_shifts_are_those_of_the_papers():
    adjacency = np.array([[0, 2, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    # From node 0 to 1, to 2, to 0: within an edge, from itself and from the one before it.
    np.testing.assert_array_equal(reached(adjacency, 2), [[[1, 0, 1], [1, 1, 0], [0, 1, 1]], np.ones((3, 3))])
    shift = adjacency.T + np.eye(3)
    degrees = np.diag(shift.sum(1) ** -0.5)
    np.testing.assert_allclose(normalized(adjacency), degrees @ shift @ degrees, rtol=1e-6)
    out, into = np.diag(1 / adjacency.sum(1)) @ adjacency, np.diag(1 / adjacency.sum(0)) @ adjacency.T
    np.testing.assert_allclose(walks(adjacency, 3), [out, out @ out, into, into @ into], rtol=1e-6)


@pytest.mark.parametrize("name", ["tgcn", "dcrnn", "graph_lstm", "res_rgnn"])
def test_relabelled_nodes_have_relabelled_forecasts(name):
    rng, order = np.random.default_rng(0), np.array([2, 0, 3, 1])
    adjacency, xs = rng.random((4, 4)).astype(np.float32), rng.standard_normal((3, 4, 2, 1)).astype(np.float32)
    model = Forecaster(name, 3, 2, 2)
    params = model.init(jax.random.key(0), xs, shifts_of(name, adjacency, 2))
    apply = jax.jit(model.apply)
    found = apply(params, xs, shifts_of(name, adjacency, 2))
    assert found.shape == (2, 4, 2)
    moved = apply(params, xs[:, order], shifts_of(name, adjacency[np.ix_(order, order)], 2))
    np.testing.assert_allclose(moved, found[:, order], atol=1e-6)


def test_a_batch_is_divided_where_its_states_are_large():
    numbers = {nodes: build.core_parts(Config(), nodes) for nodes in (20, 207, 100_000)}
    assert numbers == {20: 1, 207: 8, 100_000: 32}  # 4 of 32 windows of 207 nodes with 64 units are 53 000 numbers.
    assert build.core_parts(Config(batch_size=30), 207) == 2
    assert build.core_parts(Config(model="graph_lstm"), 207) == 1


# --- Baselines and errors ---------------------------------------------------------------------------------------------


def test_baselines_are_those_of_least_squares(config):
    """Against `numpy.linalg.lstsq` on one row for each window and node that counts."""
    problem = build.pose(config)
    found, scaled = baselines.forecasts(problem), problem.scaled.astype(float)
    length, train, test = 3, problem.parts.fitted, problem.parts.test
    np.testing.assert_array_equal(found["persistence"][:, 1], problem.values[test.starts + length - 1])

    def rows(part, h, node, series):
        return [[*np.concatenate([x[s : s + length, node] for x in series]), 1.0] for s in part.starts]

    near = scaled @ normalized(problem.signals.adjacency).T
    for name, series, shared in (
        ("shared_ar", [scaled], True),
        ("graph_ar", [scaled, near], True),
        ("own_ar", [scaled], False),
    ):
        h, x, y = 1, {}, {}
        for node in range(4):
            kept = [
                (row, scaled[s + length + h, node])
                for row, s, counts in zip(rows(train, h, node, series), train.starts, train.counts, strict=True)
                if counts[h] and problem.seen[s + length + h, node]
            ]
            x[node], y[node] = (np.array(part) for part in zip(*kept, strict=True))
        if shared:
            x, y = (dict.fromkeys(range(4), np.concatenate([*one.values()])) for one in (x, y))
        size = x[0].shape[1]
        for node in range(4):
            # A ridge of .01 is as many more rows.
            more = np.concatenate([x[node], 0.1 * np.eye(size)]), np.concatenate([y[node], np.zeros(size)])
            expected = np.array(rows(test, h, node, series)) @ np.linalg.lstsq(*more)[0]
            expected = expected * problem.scale.factor[node] + problem.scale.offset[node]
            np.testing.assert_allclose(found[name][:, h, node], expected, rtol=1e-6, atol=1e-6)


def test_the_penalty_of_the_regression_on_all_nodes_is_the_best_in_validation():
    problem, h = build.pose(Config(horizon=1, input_length=4)), 0
    values, parts = problem.values.astype(np.float64), problem.parts

    def windows(part):
        x = np.array([values[start + 1 : start + 4].ravel() for start in part.starts])
        return x, values[part.starts + 3], values[part.starts + 4 + h]

    def forecast(fitted, part, penalty):
        x, last, truth = windows(fitted)
        centre, change = x.mean(0), truth - last
        rows = np.concatenate([x - centre, penalty**0.5 * np.eye(x.shape[1])])
        targets = np.concatenate([change - change.mean(0), np.zeros((x.shape[1], values.shape[1]))])
        x, last, truth = windows(part)
        found = last + change.mean(0) + (x - centre) @ np.linalg.lstsq(rows, targets)[0]
        return found, ((found - truth) ** 2).mean()

    x, *_ = windows(parts.train)
    penalties = ((x - x.mean(0)) ** 2).sum(0).mean() * 10.0 ** np.arange(-5, 1)
    best = min(penalties, key=lambda penalty: forecast(parts.train, parts.validation, penalty)[1])
    expected, _ = forecast(parts.fitted, parts.test, best)
    np.testing.assert_allclose(baselines.forecasts(problem)["ridge_var"][:, h], expected, rtol=1e-6, atol=1e-6)


def test_seasons_have_a_mean_for_each_time():
    problem = build.pose(Config(season=24))
    values, train = problem.signals.values, problem.parts.train_rows
    start = int(problem.parts.test.starts[5])
    row = start + 12
    expected = np.mean([values[t] for t in range(train) if t % 24 == row % 24], axis=0)
    np.testing.assert_allclose(baselines.forecasts(problem)["season_mean"][5, 0], expected, rtol=1e-5)
    assert "season_mean" not in baselines.forecasts(build.pose(Config()))


def arm(sums, counts, is_trained=True):
    """An arm of runs with these sums of squares by block, of one horizon."""
    rows = [
        {"test_rmse": float(np.sqrt(np.sum(one) / np.sum(counts))), "test_squares_by_block": [[x] for x in one]}
        | {"test_counts_by_block": [[x] for x in counts]}
        for one in sums
    ]
    return Arm("", {}, "own", [Run("", i, {}, None, row) for i, row in enumerate(rows)], is_trained=is_trained)


def test_a_baseline_is_compared_by_resampled_seeds_and_blocks():
    counts, rng = [4.0, 4.0, 4.0, 2.0], np.random.default_rng(0)
    base = np.array([8.0, 10.0, 9.0, 3.0])
    better = arm(base * 0.8 + 0.1 * rng.random((5, 4)), counts)
    test = errors.forecast_error("rmse").compare(arm([base], counts, is_trained=False), better)
    assert 0 < test.low < test.difference < test.high
    assert test.p_value < 0.001
    alike = errors.forecast_error("rmse").compare(arm([base], counts, is_trained=False), arm([base], counts))
    assert (alike.difference, alike.p_value) == (0, 1)


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_results_are_the_errors_of_the_forecasts(config, run):
    """`forecast.csv` has the means over seeds: with one seed's forecasts, its errors follow from the file."""
    problem = build.pose(config)
    rows = json.loads((run / "results.json").read_text())["runs"]
    lines = [line.split(",") for line in (run / "forecast.csv").read_text().splitlines()]
    assert lines[0] == ["model", "row", "node", "horizon", "truth", "mean", "spread"]
    test = problem.parts.test
    assert len(lines) - 1 == 2 * 4 * test.counts.sum()
    by_seed = results.forecast(
        config, problem, [results.load_all(run)[row["run"]] for row in rows if row["model"] == "tgcn"]
    )
    for row, forecast in zip(rows[2:], by_seed, strict=True):
        errors = [
            [
                forecast[w, h, n] - problem.values[s + 3 + h, n]
                for w, s in enumerate(test.starts)
                for n in range(4)
                if test.counts[w, h] and problem.seen[s + 3 + h, n]
            ]
            for h in range(2)
        ]
        np.testing.assert_allclose(row["test_mae_by_horizon"], [np.abs(e).mean() for e in errors], rtol=1e-4)
        np.testing.assert_allclose(row["test_rmse"], np.sqrt(np.mean(np.square(np.concatenate(errors)))), rtol=1e-4)
        counts = np.sum(row["test_counts_by_block"], axis=0)
        np.testing.assert_allclose(counts, [len(e) for e in errors])
        assert row["best_step"] in (0, 2, 4)
    mean = [float(line[5]) for line in lines[1:] if line[0] == "tgcn" and line[2] == "b" and line[3] == "2"]
    np.testing.assert_allclose(mean, by_seed.mean(0)[test.counts[:, 1], 1, 1], rtol=1e-4, atol=1e-4)


def test_baselines_stand_beside_what_was_trained(run):
    evidence = read_evidence(STUDY, [(read_directory(run), "own")], cite=lambda paths: "")
    models = [arm.setting["model"] for arm in evidence.found.arms]
    assert models[:3] == ["gru", "tgcn", "persistence"]
    assert [arm.count for arm in evidence.found.arms[1:3]] == ["2", "-"]
    lines = summarize(STUDY, run)
    assert lines[0].startswith(f"{len(models)} settings")
    assert any("persistence" in line for line in lines)


def test_what_an_archive_keeps_needs_no_data(run, tmp_path):
    archive.copy(run, tmp_path / "archive")
    assert not (tmp_path / "archive/forecast.csv").exists()
    evidence = read_evidence(STUDY, [(read_directory(tmp_path / "archive"), "archive")], cite=lambda paths: "")
    assert "graph_ar" in [arm.setting["model"] for arm in evidence.found.arms]


def test_recent_rows_are_forecast(config, run, folder, tmp_path):
    names, *rows = [line.split(",") for line in (folder / "signals.csv").read_text().splitlines()]
    (tmp_path / "recent.csv").write_text("\n".join(",".join(row[::-1]) for row in [names, *rows[-13:]]))
    found = sample.forecast_next(run, "model=tgcn", tmp_path / "recent.csv")
    assert [row["node"] for row in found] == list(NODES)
    problem = build.pose(config)
    # The same rows, as if they were the last window of the test part.
    starts = np.array([len(problem.values) - 3], np.int32)
    at_end = problem._replace(parts=problem.parts._replace(test=problem.parts.test._replace(starts=starts)))
    params = [one for name, one in results.load_all(run).items() if "model=tgcn" in name]
    expected = results.forecast(config, at_end, params).mean(0)[0]
    np.testing.assert_allclose([row["forecast"] for row in found], expected.T, rtol=1e-4)


def test_errors_of_recent_rows_are_said(run, tmp_path):
    file = tmp_path / "recent.csv"
    for text, said in (
        ("a,b\n1,2\n", "no 'c'"),
        ("a,b,c,flat,d\n1,2,3,4,5\n", "'d'"),
        ("a,b,c,flat\n1,2,3,4\n", "1 rows"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            sample.forecast_next(run, "model=gru", file)
    with pytest.raises(RunError, match=r"which setting.*model=gru"):
        sample.forecast_next(run, None, file)
    with pytest.raises(DataError, match=r"no .*gone.csv"):
        sample.forecast_next(run, "model=gru", tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "gcn"}, "model"),
        ({"dataset": "metro"}, "dataset"),
        ({"horizon": 600}, "horizon"),
        ({"input_length": 700}, "horizon"),
        ({"split": (0.5,)}, "split"),
        ({"split": (0.9, 0.2)}, "split"),
        ({"split": (0.01, 0.2)}, "split"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(fields, field):
    with pytest.raises(ConfigError) as error:
        STUDY.validate(Config(**fields))
    assert error.value.field == field


def test_a_column_that_does_not_change_is_said(config, caplog):
    assert STUDY.data(config)["flat"] == ["flat"]
    assert "flat" in caplog.text
