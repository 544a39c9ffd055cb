"""Signals on graphs: the diffusion and its best predictor, the epidemic, and the contact networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.data import on_graphs
from jaxrnn.data.files import DataError
from jaxrnn.nn.on_graphs import MODELS, SIZED, GraphForecaster


def test_a_block_graph_is_symmetric_with_largest_eigenvalue_one():
    shift = np.asarray(jax.jit(on_graphs.block_graph, static_argnums=1)(jax.random.key(0), 80))
    np.testing.assert_array_equal(shift, shift.T)
    assert not np.diagonal(shift).any()
    assert np.abs(np.linalg.eigvalsh(shift)).max() == pytest.approx(1, rel=1e-5)
    blocks, is_edge = np.arange(80) // 16, shift != 0
    same = (blocks[:, None] == blocks) & ~np.eye(80, dtype=bool)
    assert is_edge[same].mean() == pytest.approx(0.8, abs=0.04)
    assert is_edge[blocks[:, None] != blocks].mean() == pytest.approx(0.2, abs=0.04)


def test_no_filter_of_all_inputs_is_better_than_the_best_predictor():
    """Least squares on ``S^k x_s``, k <= 5, over many sequences comes as near as their number lets it."""
    num_nodes, batch, length, correlation = 12, 3000, 4, 0.3
    keys = jax.random.split(jax.random.key(1))
    shift = on_graphs.block_graph(keys[0], num_nodes)
    xs, ys = on_graphs.diffuse(shift, on_graphs.draw_diffusion(keys[1], length, num_nodes, batch, correlation))
    best = np.asarray(on_graphs.best_diffusion(shift, xs, correlation), np.float64)
    xs, ys, s = (np.asarray(a, np.float64) for a in (xs, ys, shift))
    for t in range(length):
        features = [np.linalg.matrix_power(s, k) @ xs[u] for u in range(t + 1) for k in range(6)]
        columns = np.stack([feature.ravel() for feature in features], axis=1)
        fitted = columns @ np.linalg.lstsq(columns, ys[t].ravel(), rcond=None)[0]
        errors = [np.sqrt(((guess - ys[t].ravel()) ** 2).mean()) for guess in (best[t].ravel(), fitted)]
        assert errors[0] == pytest.approx(errors[1], rel=5e-3)
        assert errors[0] < 0.98 * np.sqrt(((xs[t] - ys[t]) ** 2).mean())
    means = np.asarray(on_graphs.mean_diffusion(shift, length))[..., 0]
    np.testing.assert_allclose(ys.mean(axis=-1), means, atol=0.06)


def test_an_epidemic_is_a_loop_over_contacts():
    rng = np.random.default_rng(0)
    adjacency = (rng.random((6, 6)) < 0.5).astype(np.float32)
    adjacency = np.triu(adjacency, 1) + np.triu(adjacency, 1).T
    uniforms = rng.random((12, 6, 3)).astype(np.float32) * 0.2  # Small numbers: many are infected.
    days, infected = on_graphs.spread(jnp.asarray(adjacency), jnp.asarray(uniforms))
    for b in range(3):
        since = np.where(uniforms[0, :, b] < on_graphs.SEED_SHARE, 0, -1)
        for t in range(12):
            ill = (since >= 0) & (t - since < on_graphs.RECOVERY_DAYS)
            np.testing.assert_array_equal(infected[t, :, b], ill)
            np.testing.assert_array_equal(days[t, :, b], np.where(since >= 0, t - since + 1, 0))
            for node in np.flatnonzero(since < 0) if t < 11 else ():
                escape = (1 - on_graphs.INFECTION) ** (adjacency[node] @ ill)
                since[node] = t + 1 if uniforms[t + 1, node, b] < 1 - escape else -1

    share = on_graphs.best_epidemic(jax.random.key(0), jnp.zeros((6, 6)), days[3], 5)
    np.testing.assert_array_equal(share, (days[3] > 0) & (days[3] + on_graphs.DAYS_AHEAD <= on_graphs.RECOVERY_DAYS))


def test_a_contact_network_comes_from_a_file_or_is_generated(tmp_path):
    generated = on_graphs.contact_network("generated")
    assert generated.shape == (134, 134)
    assert generated.sum() / 2 == pytest.approx(406, abs=40)
    path = tmp_path / "edges.txt"
    path.write_text("7 9\n9\t7\n9 12\n7 7\n")
    np.testing.assert_array_equal(on_graphs.contact_network(str(path)), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    for text in ("", "a b\n", "1\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"edges\.txt"):
            on_graphs.contact_network(str(path))


@pytest.mark.parametrize("model", MODELS)
def test_models_predict_each_node_at_each_step_from_what_was_until_then(model):
    num_nodes, xs = 6, np.random.default_rng(0).normal(size=(4, 6, 2, 1)).astype(np.float32)
    shift = on_graphs.block_graph(jax.random.key(0), num_nodes)
    forecaster = GraphForecaster(model, num_nodes, hidden_size=3, num_taps=2)
    params = jax.jit(forecaster.init)(jax.random.key(1), shift, xs)
    predict = jax.jit(forecaster.apply)
    ys = predict(params, shift, xs)
    later = predict(params, shift, np.concatenate([xs[:2], -xs[2:]]))
    assert ys.shape == (4, 6, 2)
    np.testing.assert_allclose(later[:2], ys[:2], rtol=1e-5, atol=1e-6)
    assert np.abs(later[2:] - ys[2:]).min() > 0

    def size(n):
        sized = GraphForecaster(model, n, hidden_size=3, num_taps=2)
        shapes = jax.eval_shape(sized.init, jax.random.key(0), jnp.zeros((n, n)), jnp.zeros((1, n, 1, 1)))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    assert (size(6) == size(9)) == (model not in SIZED)
