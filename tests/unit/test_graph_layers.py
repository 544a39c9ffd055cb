"""Graph layers against their dense twins: matrix products with the adjacency matrix, and masked dense attention."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.test_util import check_grads

from jaxrnn import graph as graphs

N, D, K, F = 7, 5, 3, 4
# A repeated edge, an edge in both directions, a self-loop; nobody sends to 0, and 6 is alone.
EDGES = np.array([(0, 1), (0, 1), (1, 2), (2, 1), (3, 3), (4, 3), (2, 3), (0, 5), (5, 4)])
KINDS = [{"undirected": u, "self_loops": s} for u in (False, True) for s in (False, True)]


def dense(undirected, self_loops):
    """The shift matrix, edge by edge."""
    s = np.zeros((N, N))
    for j, i in EDGES:
        for row, column in {(i, j), (j, i)} if undirected else {(i, j)}:
            s[row, column] = 1
    return s + np.eye(N) if self_loops else s


def sparse(undirected, self_loops):
    edges = np.concatenate([EDGES, EDGES[:, ::-1]]) if undirected else EDGES
    return graphs.build(*edges.T, N, self_loops=self_loops)


def as_matrix(graph, num_nodes=N):
    s = np.zeros((num_nodes, num_nodes))
    np.add.at(s, (graph.receivers, graph.senders), graph.edges)
    return s


# --- The layers, functions of a graph and a dict of arrays, and their twins, of a matrix and the same dict ------------


def features(a):
    return jnp.tensordot(a["x"], a["w_heads"], 1)


def dense_gat(s, a):
    """Dense attention; an edge counts once, whatever its weight is."""
    h = features(a)
    by_sender, by_receiver = ((h * a[name]).sum(-1) for name in ("a_sender", "a_receiver"))
    logits = by_receiver[:, None] + by_sender[None]
    is_edge = s[..., None] > 0
    logits = jnp.where(is_edge, jnp.where(logits > 0, logits, 0.2 * logits), -1e30)
    exps = is_edge * jnp.exp(logits - logits.max(1, keepdims=True))
    return jnp.einsum("ijk,jkf->ikf", exps / jnp.maximum(exps.sum(1, keepdims=True), 1e-30), h)


LAYERS = {
    "gcn": (lambda g, a: graphs.gcn(g, a["x"], a["w"]), lambda s, a: s @ a["x"] @ a["w"]),
    "filter": (
        lambda g, a: graphs.graph_filter(g, a["x"], a["taps"]),
        lambda s, a: sum(jnp.linalg.matrix_power(s, k) @ a["x"] @ a["taps"][k] for k in range(K)),
    ),
    "gat": (
        lambda g, a: graphs.gat(g, graphs.project(a["x"], a["w_heads"]), a["a_sender"], a["a_receiver"]),
        dense_gat,
    ),
}


def draw(seed, *lead):
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (N, D), "w": (D, F), "taps": (K, D, F), "w_heads": (D, K, F), "a_sender": (K, F),
        "a_receiver": (K, F),
    }  # fmt: skip
    return {name: rng.normal(size=(*lead, *shape)) for name, shape in shapes.items()}


def value_and_gradients(layer, structure, arrays):
    """The output, and the gradients of a sum of it with uneven weights."""

    def total(arrays):
        y = layer(structure, arrays)
        return (y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum(), y

    gradients, y = jax.grad(total, has_aux=True)(arrays)
    return y, gradients


def assert_close(ours, expected, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, expected)


@pytest.mark.parametrize(
    ("shape", "heads"), [((N,), ()), ((N, F), ()), ((N, K), (K,)), ((N, K, F), ()), ((N, K, F), (K,))]
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_propagate_weighs_every_edge_exactly(shape, heads, dtype):
    rng = np.random.default_rng(2)
    senders = np.array([3, 0, 6, 2, 2, 1, 5])
    graph = graphs.build(senders, np.arange(N), N, self_loops=False)  # one edge into each node: nothing is summed
    weights, x = rng.normal(size=(N, *heads)).astype(dtype), rng.normal(size=shape).astype(dtype)
    weights[0], x[6] = np.inf, np.nan
    spread = weights.reshape(*weights.shape, *[1] * (x.ndim - weights.ndim))
    np.testing.assert_array_equal(graphs.propagate(graph, x, weights), spread * x[senders])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_layers_and_gradients_equal_their_dense_twins(name, dtype, tolerance, x64):
    layer, twin = LAYERS[name]
    ours = jax.jit(functools.partial(value_and_gradients, layer))
    ours_padded = jax.jit(functools.partial(value_and_gradients, lambda g, a: layer(g, a)[:N]))
    theirs = jax.jit(functools.partial(value_and_gradients, twin))
    arrays = jax.tree.map(lambda a: a.astype(dtype), draw(0))
    more = arrays | {"x": np.concatenate([arrays["x"], np.ones((3, D), dtype)])}
    for kind in KINDS:
        graph, s = sparse(**kind), dense(**kind)
        if name in ("gcn", "filter"):
            graph = graphs.normalize(graph)
            roots = np.where(s.sum(1) > 0, np.maximum(s.sum(1), 1e-30) ** -0.5, 0)
            s = np.diag(roots) @ s @ np.diag(roots)
        expected = theirs(s.astype(dtype), arrays)
        if kind == KINDS[1] and dtype == "float32":  # each size of graph is compiled anew
            assert_close(ours(graph, arrays), expected, tolerance)
        padded, real = graphs.pad(graph, N + 3, 32)
        y, gradients = ours_padded(padded, more)
        np.testing.assert_array_equal(real, [True] * N + [False] * 3)
        assert not np.any(gradients["x"][N:])
        assert_close((y, gradients | {"x": gradients["x"][:N]}), expected, tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_runs_and_graphs_can_be_mapped_over(name, x64):
    layer, twin = LAYERS[name]
    runs = draw(1, 3)
    kinds = [{"undirected": u, "self_loops": u} for u in (False, True)]
    mapped = jax.jit(jax.vmap(functools.partial(value_and_gradients, layer), (None, 0)))
    expected = jax.jit(jax.vmap(functools.partial(value_and_gradients, twin), (None, 0)))
    assert_close(mapped(sparse(**kinds[1]), runs), expected(dense(**kinds[1]), runs), 1e-12)

    # Different graphs of one padded size, one in each run.
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *(graphs.pad(sparse(**kind), 8, 32)[0] for kind in kinds))
    two = draw(2, 2)
    y = jax.jit(jax.vmap(layer))(many, two | {"x": np.pad(two["x"], ((0, 0), (0, 1), (0, 0)))})[:, :N]
    assert_close(y, jax.vmap(twin)(np.stack([dense(**kind) for kind in kinds]), two), 1e-12)


def test_whole_numbers_are_propagated_by_weights_that_are_none():
    graph = graphs.normalize(sparse(undirected=True, self_loops=True))
    y = graphs.propagate(graph, jnp.arange(N))
    np.testing.assert_allclose(y, as_matrix(graph) @ np.arange(N), rtol=1e-6)


def test_rows_that_are_not_the_graphs_nodes_are_refused():
    graph = sparse(undirected=True, self_loops=True)
    with pytest.raises(ValueError, match=f"{N - 1} rows .* {N} nodes"):
        graphs.propagate(graph, jnp.ones((N - 1, 2)))
    with pytest.raises(ValueError, match=f"{N + 1} rows"):
        graphs.edge_softmax(graph, jnp.ones(len(graph.senders)), N + 1)
    padded, _ = graphs.pad(graph, N + 3, len(graph.senders) + 2)
    with pytest.raises(ValueError, match=f"{N} rows .* {N + 3} nodes"):
        graphs.gcn(padded, jnp.ones((N, 2)), jnp.ones((2, 2)))


# --- Graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_graph_is_its_matrix_sorted_by_receiver(kind):
    graph = sparse(**kind)
    np.testing.assert_array_equal(as_matrix(graph), dense(**kind))
    assert (np.diff(graph.receivers) >= 0).all()
    assert graph.n_edge == len(graph.edges) == len(graph.senders)
    assert graph.n_node == N
    assert len({*zip(graph.senders, graph.receivers, strict=True)}) == len(graph.senders)


def test_weights_stay_with_their_edges_and_those_of_one_edge_are_summed():
    graph = graphs.build([1, 0, 2, 0], [0, 2, 1, 2], 3, weights=[10, 2, 21, 0.5], self_loops=False)
    np.testing.assert_array_equal(as_matrix(graph, 3), [[0, 10, 0], [0, 0, 21], [2.5, 0, 0]])
    assert len(graph.edges) == 3
    graph = graphs.build([1, 1], [0, 1], 2, weights=[-3, 4])
    np.testing.assert_array_equal(as_matrix(graph, 2), [[1, -3], [0, 5]])
    with pytest.raises(ValueError, match=r"\(3,\) for edges of shape \(2,\)"):
        graphs.build([1, 1], [0, 1], 2, weights=[1, 2, 3])


@pytest.mark.parametrize(
    ("weights", "node"), [([1, -2, 3], 2), ([0.1 + 0.2, 1, 1, -0.3], 1), ([1, np.nan, 3], 2), ([1, 1, np.inf], 0)]
)
def test_weights_that_cannot_be_normalized_are_refused_by_node(weights, node):
    senders, receivers = (np.array(ends)[: len(weights)] for ends in ([0, 1, 2, 2], [1, 2, 0, 1]))
    graph = graphs.build(senders, receivers, 3, weights=weights, self_loops=False)
    with pytest.raises(ValueError, match=f"into node {node} sum to"):
        graphs.normalize(graph)


def test_attention_sees_every_edge_whatever_its_weight():
    path = graphs.build([0, 1], [1, 2], 3, self_loops=False)
    x, w, a = jnp.array([[1.0], [2], [4]]), jnp.ones((1, 1, 1)), jnp.ones((1, 1))
    for graph in (path, graphs.normalize(path), path._replace(edges=np.array([0, -1]))):
        y = graphs.gat(graph, graphs.project(x, w), a, a)
        np.testing.assert_allclose(y[:, 0, 0], [0, 1, 2])


def test_a_graph_of_any_arrays_is_an_argument_or_part_of_a_program():
    host = graphs.normalize(sparse(undirected=True, self_loops=True))
    a = jax.tree.map(jnp.float32, draw(3))
    layers = [functools.partial(layer, a=a) for layer, _ in LAYERS.values()]
    expected = [layer(host) for layer in layers]
    for graph in (host, jax.tree.map(jnp.asarray, host)):
        for found in (
            [layer(graph) for layer in layers],
            jax.jit(lambda graph=graph: [layer(graph) for layer in layers])(),
            jax.jit(lambda graph: [layer(graph) for layer in layers])(graph),
        ):
            assert_close(found, expected, 1e-5)
        assert_close(graphs.normalize(graph).edges, graphs.normalize(host).edges, 1e-6)
        assert graphs.pad(graph, N + 1, 40)[1].sum() == N


def test_a_graph_without_weights_has_ones():
    graph = sparse(undirected=True, self_loops=False)
    bare = graph._replace(edges=None)
    x = np.arange(N, dtype=np.float32)
    np.testing.assert_array_equal(graphs.propagate(bare, x), graphs.propagate(graph, x))
    np.testing.assert_array_equal(graphs.normalize(bare).edges, graphs.normalize(graph).edges)
    padded, _ = graphs.pad(bare, N + 1, 40)
    np.testing.assert_array_equal(graphs.propagate(padded, np.pad(x, (0, 1)))[:N], graphs.propagate(graph, x))


def test_a_batch_of_graphs_is_padded_behind_all_of_them():
    graph = sparse(undirected=False, self_loops=True)
    both = graph._replace(
        n_node=np.array([N, N], np.int32),
        n_edge=np.repeat(graph.n_edge, 2),
        **{end: np.concatenate([getattr(graph, end), N + getattr(graph, end)]) for end in ("senders", "receivers")},
        edges=np.tile(graph.edges, 2),
    )
    padded, real = graphs.pad(both, 2 * N + 3, 40)
    assert padded.n_node.tolist() == [N, N, 3]
    np.testing.assert_array_equal(real, np.arange(2 * N + 3) < 2 * N)
    x = np.arange(2 * N + 3, dtype=np.float32)
    expected = np.concatenate([as_matrix(graph) @ part for part in np.split(x[:-3], 2)])
    np.testing.assert_allclose(graphs.propagate(padded, x)[: 2 * N], expected)


@pytest.mark.parametrize("edge", [(0, 7), (-1, 2), (0.5, 1)])
def test_an_edge_to_no_node_is_refused(edge):
    with pytest.raises(ValueError, match=f"nodes are the integers from 0 to {N - 1}"):
        graphs.build([0, edge[0]], [1, edge[1]], N)
    with pytest.raises(ValueError, match="senders of shape"):
        graphs.build([0], [1, 2], N)


def test_padding_stays_behind_the_graph():
    graph = sparse(undirected=False, self_loops=True)
    padded, _ = graphs.pad(graph, N + 2, 20)
    behind = slice(len(graph.edges), None)
    assert (padded.senders[behind] >= N).all()
    assert (padded.receivers[behind] >= N).all()
    assert not padded.edges[behind].any()
    assert (np.diff(padded.receivers) >= 0).all()
    for size in [(N, 20), (N + 1, len(graph.edges) - 1)]:
        with pytest.raises(RuntimeError, match="too large"):
            graphs.pad(graph, *size)


# --- Softmax ----------------------------------------------------------------------------------------------------------


def test_edge_softmax_is_stable_and_right_where_there_is_nothing():
    # Node 0 has far logits, 1 has equal ones, 2 has a single one, 3 has masked ones, 4 has no edge, 5 has both kinds.
    receivers = np.array([0, 0, 1, 1, 1, 2, 3, 3, 5, 5], np.int32)
    logits = np.array([1e4, -1e4, -3e38, -3e38, -3e38, 80, -np.inf, -np.inf, -1e4, -np.inf], np.float32)
    expected = np.array([1, 0, 1 / 3, 1 / 3, 1 / 3, 1, 0, 0, 1, 0])
    graph = graphs.build([], [], 6)._replace(edges=None, receivers=receivers, senders=receivers)

    def total(logits):
        alpha = graphs.edge_softmax(graph, logits, 6)
        return (alpha * np.arange(10)).sum(), alpha

    for run in (total, jax.jit(total)):
        gradient, alpha = jax.grad(run, has_aux=True)(logits)
        np.testing.assert_allclose(alpha, expected, rtol=1e-6)
        # alpha_i (i - mean): only the three equal ones have a slope.
        np.testing.assert_allclose(gradient, [0, 0, -1 / 3, 0, 1 / 3, 0, 0, 0, 0, 0], atol=1e-6)


# --- Sparse features --------------------------------------------------------------------------------------------------


def a_matrix(kind, rng):
    if kind == "identity":
        return np.eye(9)
    if kind == "zero":
        return np.zeros((4, 3))
    lengths = {"words": rng.integers(0, 9, 40), "skewed": np.r_[60, 0, 1, 2, np.ones(20, int), 0]}[kind]
    matrix = np.zeros((len(lengths), 60))
    for row, length in zip(matrix, lengths, strict=True):
        row[rng.choice(60, length, replace=False)] = rng.normal(size=length)
    return matrix


@pytest.mark.parametrize("kind", ["words", "skewed", "identity", "zero"])
def test_sparse_features_are_multiplied_as_the_dense_ones(kind, x64):
    rng = np.random.default_rng(0)
    matrix = a_matrix(kind, rng).astype(np.float32).astype(float)
    x = graphs.sparse_rows(matrix)
    assert x.shape == matrix.shape
    for segments, entries in ((x.segments, x.values), (x.transposed, np.append(x.values, 0)[x.slots])):
        assert (np.diff(segments.rows) >= 0).all()
        assert segments.columns.shape == entries.shape
        assert entries.size <= 2.5 * np.count_nonzero(matrix) + 1
    probe = rng.normal(size=(len(matrix), K, F))
    for w in (rng.normal(size=(matrix.shape[1], F)), rng.normal(size=(matrix.shape[1], K, F))):

        def both(features, w):
            y = graphs.project(features, w)
            return (y * probe[:, : y.shape[1]] if y.ndim == 3 else y * probe[:, 0]).sum(), y

        ours, theirs = (jax.jit(jax.grad(both, 1, has_aux=True))(f, w) for f in (x, jnp.asarray(matrix)))
        assert_close(ours, theirs, 1e-12)
    assert_close(graphs.project(graphs.sparse_rows(scipy.sparse.csr_matrix(matrix)), w), theirs[1], 1e-12)


def test_numerical_gradients_of_the_sparse_product(x64):
    rng = np.random.default_rng(1)
    x = graphs.sparse_rows(a_matrix("words", rng))
    heads = rng.normal(size=(*x.values.shape, K)) * (x.values != 0)[..., None]
    for given, w, order in [(x.values, rng.normal(size=(60, F)), 1), (heads, rng.normal(size=(60, K, F)), 2)]:

        def product(values, w, is_entry=given != 0):
            # What fills a segment is no entry, and stays zero.
            return graphs.project(dataclasses.replace(x, values=values * is_entry), w)

        check_grads(jax.jit(product), (given.astype(float), w), order=order, modes=["rev"])


# --- Dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.6])
def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(rate):
    x = jnp.full((2**18 + 1,), 2.0)
    y = np.asarray(graphs.dropout(jax.random.key(0), rate, x))
    kept = y != 0
    exact = round(1024 * rate) / 1024
    assert abs(kept.mean() - (1 - exact)) <= 4.5 * (rate * (1 - rate) / x.size) ** 0.5
    np.testing.assert_allclose(y[kept], 2 / (1 - exact), rtol=1e-6)
    if rate:
        # Neighbours, the thirds of one word and entries of other keys are independent.
        other = np.asarray(graphs.dropout(jax.random.key(1), rate, x)) != 0
        third = -(-x.size // 3)
        pairs = [(kept[n:], kept[:-n]) for n in (1, 2, 3, third, 2 * third)] + [(kept, other)]
        assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.012 for a, b in pairs)


def test_dropout_of_nearly_everything_keeps_some():
    y = np.asarray(graphs.dropout(jax.random.key(0), 0.999999, jnp.ones(2**13)))
    assert 1 <= np.count_nonzero(y) <= 30  # 8 in the mean.
    assert np.isfinite(y).all()


def test_a_run_drops_the_same_alone_and_beside_others():
    keys = jax.random.split(jax.random.key(0), 3)
    drop = functools.partial(graphs.dropout, rate=0.5, x=jnp.ones((5, 7)))
    together = jax.vmap(lambda key: drop(key))(keys)
    np.testing.assert_array_equal(together, np.stack([drop(key) for key in keys]))
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("num_heads", [None, K])
def test_sparse_and_dense_features_are_dropped_for_each_head(num_heads):
    matrix = a_matrix("words", np.random.default_rng(2))
    w = np.eye(60)[:, None].repeat(K, 1) if num_heads else np.eye(60)
    for x in (graphs.sparse_rows(matrix), jnp.asarray(matrix, jnp.float32)):
        dropped = graphs.project(graphs.drop_features(jax.random.key(0), 0.5, x, num_heads), jnp.asarray(w))
        copies = np.asarray(dropped).transpose(1, 0, 2) if num_heads else np.asarray(dropped)[None]
        for copy in copies:
            kept = copy != 0
            np.testing.assert_allclose(copy[kept], 2 * matrix[kept], rtol=1e-6)
            assert 0.3 < kept[matrix != 0].mean() < 0.7
        assert len({copy.tobytes() for copy in copies}) == (num_heads or 1)
