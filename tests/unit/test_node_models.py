"""The node classifiers against the papers' equations in NumPy, and what their dropout does."""

import functools

import jax
import numpy as np
import pytest

from jaxrnn import graph as graphs
from jaxrnn.nn.modules import GAT, GCN
from jaxrnn.nn.nodes import GATClassifier, GCNClassifier

N, D, C = 12, 30, 3
RNG = np.random.default_rng(0)
EDGES = RNG.integers(0, N, (2, 20))
X = (RNG.uniform(size=(N, D)) < 0.2).astype(np.float32)
GRAPH = graphs.build(*np.concatenate([EDGES, EDGES[::-1]], axis=1), N)
NORMALIZED = graphs.normalize(GRAPH)
ADJACENT = np.eye(N, dtype=bool)
ADJACENT[tuple(EDGES)] = ADJACENT[tuple(EDGES[::-1])] = True
ALONE = graphs.build([], [], 50)


def shapes(params):
    return jax.tree.map(lambda leaf: leaf.shape, params)


def drawn(model, graph, x, seed=0):
    """Parameters of the model's shapes, all of them drawn."""
    rng = np.random.default_rng(seed)
    params = jax.eval_shape(model.init, jax.random.key(0), graph, x)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)


@pytest.mark.parametrize("x", [X, graphs.sparse_rows(X)], ids=["dense", "sparse"])
def test_gcn_is_the_papers(x):
    model = GCNClassifier(C)
    params = drawn(model, NORMALIZED, x)
    assert shapes(params) == {"layer_0": {"w": (D, 16)}, "layer_1": {"w": (16, C)}}
    logits, hidden = jax.jit(model.apply)({"params": params}, NORMALIZED, x)
    a = ADJACENT.astype(float)
    a[np.arange(N), np.arange(N)] += (EDGES[0] == EDGES[1]) @ (EDGES[0][:, None] == np.arange(N)) > 0
    a = a / np.sqrt(a.sum(0) * a.sum(1)[:, None])
    expected = np.maximum(a @ X @ params["layer_0"]["w"], 0)
    np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, a @ expected @ params["layer_1"]["w"], rtol=1e-4, atol=1e-5)


def by_nodes(h, p):
    """All heads of a layer, node after node: ``[N, K, F]``."""
    rows = []
    for i in range(N):
        j = np.flatnonzero(ADJACENT[i])
        projected = np.einsum("jd,dkf->jkf", h[j], p["w"])
        own = np.einsum("d,dkf->kf", h[i], p["w"])
        scores = (own * p["a_receiver"]).sum(-1) + (projected * p["a_sender"]).sum(-1)
        weights = np.exp(np.where(scores > 0, scores, 0.2 * scores))
        rows.append(np.einsum("jk,jkf->kf", weights / weights.sum(0), projected) + p["b"])
    return np.array(rows)


@pytest.mark.parametrize("output_heads", [1, 8])
def test_gat_is_the_papers(output_heads):
    model = GATClassifier(C, num_output_heads=output_heads)
    x = graphs.sparse_rows(X)
    params = jax.tree.map(lambda leaf: 0.3 * leaf, drawn(model, GRAPH, x))
    heads = (output_heads, C)
    assert shapes(params) == {
        "layer_0": {"w": (D, 8, 8), "a_sender": (8, 8), "a_receiver": (8, 8), "b": (8, 8)},
        "layer_1": {"w": (64, *heads), "a_sender": heads, "a_receiver": heads, "b": heads},
    }
    logits, hidden = jax.jit(model.apply)({"params": params}, GRAPH, x)
    expected = by_nodes(X, params["layer_0"]).reshape(N, -1)
    expected = np.where(expected > 0, expected, np.expm1(np.minimum(expected, 0)))
    np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-5)
    expected = by_nodes(expected, params["layer_1"]).mean(1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_weights_start_as_glorots_for_each_head():
    x = np.zeros((50, 300), np.float32)
    params = jax.jit(GAT(8, 40).init)(jax.random.key(0), ALONE, x)["params"]
    gcn = jax.jit(GCN(40).init)(jax.random.key(0), ALONE, x)["params"]
    assert not params["b"].any()
    for name, values, fans in [("w", params["w"], 340), ("gcn", gcn["w"], 340), *(
        (name, params[name], 41) for name in ("a_sender", "a_receiver")
    )]:  # fmt: skip
        bound = (6 / fans) ** 0.5
        assert 0.97 * bound < np.abs(values).max() <= bound, name
        np.testing.assert_allclose(np.std(values), bound / 3**0.5, rtol=0.07, err_msg=name)
    assert not np.array_equal(params["a_sender"], params["a_receiver"])


def test_gcn_drops_its_input():
    x = np.ones((50, 40), np.float32)
    params = {"w": np.eye(40, dtype=np.float32)}
    for given in (x, graphs.sparse_rows(x)):
        apply = functools.partial(GCN(40, 0.5).apply, {"params": params}, ALONE, given)
        y = np.asarray(apply(deterministic=False, rngs={"dropout": jax.random.key(0)}))
        assert set(np.unique(y)) == {0, 2}
        assert abs((y == 0).mean() - 0.5) < 4.5 * 0.5 / y.size**0.5
        np.testing.assert_array_equal(apply(), x)


@pytest.mark.parametrize("sparse", [False, True])
def test_gat_drops_inputs_features_and_attention_of_each_head(sparse):
    # A node alone with one feature: input, projected feature and attention are one number each, all of them 1.
    x = np.ones((50, 1), np.float32)
    heads = 400
    params = {"w": np.ones((1, heads, 1)), "a_sender": np.ones((heads, 1)), "a_receiver": np.ones((heads, 1))}
    params = jax.tree.map(np.float32, params | {"b": np.zeros((heads, 1))})
    apply = functools.partial(GAT(heads, 1, dropout=0.6).apply, {"params": params}, ALONE)
    given = graphs.sparse_rows(x) if sparse else x
    y = np.asarray(apply(given, deterministic=False, rngs={"dropout": jax.random.key(0)}))
    kept = y > 0
    np.testing.assert_allclose(y[kept], (1024 / 410) ** 3, rtol=1e-4)  # 0.6 is dropped as 614 / 1024.
    share = 0.4**3
    assert abs(kept.mean() - share) < 4.5 * (share * (1 - share) / y.size) ** 0.5
    # Were one mask shared by the heads of a node, their number would vary a lot more from node to node.
    assert kept.sum(1).var() < 2.2 * heads * share * (1 - share)
    np.testing.assert_array_equal(apply(given), np.ones_like(y))


@pytest.mark.parametrize("layer", [GCN(4, 0.5), GAT(2, 2, dropout=0.6)], ids=["gcn", "gat"])
def test_runs_are_the_same_alone_and_beside_others(layer):
    x = graphs.sparse_rows(X)
    runs = jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn(layer, NORMALIZED, x, seed) for seed in range(3)))
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def gradients(params, key):
        def loss(params):
            y = layer.apply({"params": params}, NORMALIZED, x, deterministic=False, rngs={"dropout": key})
            return (y**2).sum()

        return jax.grad(loss)(params)

    together = jax.jit(jax.vmap(gradients))(runs, keys)
    alone = gradients(jax.tree.map(lambda leaf: leaf[2], runs), keys[2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[2], b, rtol=1e-4, atol=1e-4), together, alone)
    assert all(np.abs(leaf[0] - leaf[2]).max() > 1e-3 for leaf in jax.tree.leaves(together))
