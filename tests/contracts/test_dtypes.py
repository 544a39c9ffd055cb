"""One contract for every cell, layer and loss: results have the promoted dtype, gradients that of their argument.

Sums over many items are those of float32, whatever the items have.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles import CELLS

from jaxrnn import graph as graphs
from jaxrnn.nn import losses
from jaxrnn.recurrence import unroll

FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
D, H, N = 3, 4, 300
"""More nodes, classes and characters than a byte can count."""


def shapes(tree, dtype):
    """In this precision; complex numbers have at least that of float32."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), of_kind(x, dtype)), tree)


def of_kind(x, dtype):
    return jnp.promote_types(dtype, jnp.complex64) if jnp.iscomplexobj(x) else jnp.dtype(dtype)


def dtypes(tree):
    """Of what is real."""
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if not jnp.iscomplexobj(leaf)}


def promoted(*names):
    return jnp.dtype(functools.reduce(jnp.promote_types, names)).name


def assert_dtypes(function, *arguments):
    """Of the results, as `jnp.promote_types` says, and of the gradient with respect to each argument."""

    def total(*arguments):
        results = function(*arguments)
        return sum(leaf.real.astype("float64").sum() for leaf in jax.tree.leaves(results)), results

    gradients, results = jax.eval_shape(jax.grad(total, range(len(arguments)), has_aux=True), *arguments)
    expected = promoted(*dtypes(arguments))
    assert all(leaf.dtype == of_kind(leaf, expected) for leaf in jax.tree.leaves(results))
    jax.tree.map(lambda gradient, argument: assert_same_type(gradient, argument), gradients, arguments)


def assert_same_type(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


def assert_near(ours, exact, tolerance):
    """Each array to within a share of its largest number."""
    ours, exact = (jax.tree.map(np.float64, tree) for tree in (ours, exact))
    oracles.assert_close(ours, exact, tolerance)


def assert_gradients_are_those_of_float32(function, arguments):
    """At the same numbers, stored in bfloat16: a sum of them in bfloat16 stops at 256 times the size of its items."""
    arguments = jax.tree.map(lambda x: jnp.asarray(x, "bfloat16"), arguments)
    gradient = jax.jit(jax.grad(lambda arguments: function(*arguments)))
    assert_near(gradient(arguments), gradient(jax.tree.map(jnp.float32, arguments)), 0.1)


# --- Cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_params", FLOATS)
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_in_every_dtype(name, of_params, x64):
    cell, rng = CELLS[name], np.random.default_rng(0)
    params, table = shapes(oracles.draw_params(rng, name, D, H), of_params), np.zeros((N, D))
    for number, of_inputs in enumerate(FLOATS):
        xs = shapes(np.zeros((3, 2, D)), of_inputs)
        if of_inputs != of_params:
            assert_dtypes(lambda params, xs: unroll(cell, params, xs), params, xs)
        else:
            carry = shapes(oracles.draw_carry(rng, name, 2, H), "float32")
            assert_dtypes(lambda params, xs, carry: unroll(cell, params, xs, carry=carry), params, xs, carry)
        tokens, flags = (np.ones((3, 2), INTEGERS[2 * number + k]) for k in range(2))

        def of_tokens(params, table, tokens=tokens, flags=flags):
            return unroll(cell, params, tokens, embedding=table, mask=flags, reset=flags)

        assert_dtypes(of_tokens, params, shapes(table, of_inputs))


# Of the relu's, only sums: the gradient of a single input jumps where rounding moves a number across zero.
@pytest.mark.parametrize(
    ("name", "has_tokens"),
    [*((name, name == "relu_rnn") for name in CELLS), ("gru_cho", True), ("lstm", True), ("min_gru", True)],
)
def test_a_cells_gradient_is_summed_over_many_steps_and_rows(name, has_tokens):
    rng, rows = np.random.default_rng(0), 2 if name in oracles.GRAPH_CELLS else 32
    params = jax.tree.map(lambda leaf: 0.3 * leaf, oracles.draw_params(rng, name, D, H))
    tokens = rng.integers(5, size=(400, rows))

    table = 0.5 + oracles.draw(rng, 5, D)

    def total(params, inputs):
        arguments = {"xs": tokens, "embedding": inputs} if has_tokens else {"xs": inputs}
        return jnp.float32(unroll(CELLS[name], params, **arguments)[1]).sum()

    assert_gradients_are_those_of_float32(total, (params, table if has_tokens else table[tokens]))


# --- Layers on graphs -------------------------------------------------------------------------------------------------


def a_graph(index="int32"):
    """Every node sends to node 0, and 0 to every node."""
    others = np.arange(1, N)
    zeros = np.zeros_like(others)
    graph = graphs.build(np.r_[others, zeros], np.r_[zeros, others], N)
    return graph._replace(senders=graph.senders.astype(index), receivers=graph.receivers.astype(index))


def gat(graph, x, w, a_sender, a_receiver):
    return graphs.gat(graph, graphs.project(x, w), a_sender, a_receiver)


SPARSE = graphs.sparse_rows(np.ones((N, D)))
LAYERS = {
    "propagate": (graphs.propagate, [(N, H)]),
    "propagate by weights": (graphs.propagate, [(N, H), (3 * N - 2,)]),
    "gcn": (graphs.gcn, [(N, D), (D, H)]),
    "graph filter": (graphs.graph_filter, [(N, D), (2, D, H)]),
    "gat": (gat, [(N, D), (D, 2, H), (2, H), (2, H)]),
    "edge softmax": (lambda graph, x: graphs.edge_softmax(graph, x, N), [(3 * N - 2, 2)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_every_dtype(name, x64):
    layer, (first, *others) = LAYERS[name]
    for of_x in FLOATS:
        for of_weights in FLOATS:
            arguments = [jax.ShapeDtypeStruct(first, of_x), *(jax.ShapeDtypeStruct(s, of_weights) for s in others)]
            assert_dtypes(functools.partial(layer, a_graph()), *arguments)
            weights = jax.ShapeDtypeStruct((D, H), of_weights)
            found = jax.eval_shape(graphs.project, SPARSE, weights)
            assert found.dtype.name == promoted("float32", of_weights)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_sums_over_many_edges(name):
    layer, sizes = LAYERS[name]
    rng = np.random.default_rng(1)

    def total(*arguments):
        y = jnp.float32(layer(a_graph(), *arguments))
        return (y * jnp.linspace(1, 2, y.shape[-1])).sum()

    assert_gradients_are_those_of_float32(total, [rng.uniform(-0.5, 1, size) for size in sizes])


def test_a_sparse_products_sums_over_many_nodes():
    def total(w):
        return jnp.float32(graphs.project(SPARSE, w)).sum()

    assert_gradients_are_those_of_float32(total, [np.ones((D, H))])


@pytest.mark.parametrize("index", INTEGERS)
def test_every_integer_is_an_index_and_a_label(index, x64):
    few = 127 if index == "int8" else 255
    x, graph = np.arange(N * H, dtype=float).reshape(N, H), a_graph()
    is_small = (graph.senders <= few) & (graph.receivers <= few)
    small = graph._replace(**{name: getattr(graph, name)[is_small] for name in ("senders", "receivers", "edges")})
    ours = small._replace(senders=small.senders.astype(index), receivers=small.receivers.astype(index))
    weights = [x, np.ones((H, 2, H)), np.ones((2, H)), np.ones((2, H))]
    for layer, arguments in ((graphs.propagate, [x]), (gat, weights)):
        np.testing.assert_allclose(layer(ours, *arguments), layer(small, *arguments), rtol=1e-12)
    labels, mask = np.arange(few), np.arange(few) % 3
    for loss in (losses.cross_entropy, losses.accuracy):
        found = loss(np.eye(few, N), labels.astype(index), mask.astype(index))
        assert found == pytest.approx(float(loss(np.eye(few, N), labels, mask > 0)), rel=1e-12)


# --- Losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.accuracy])
def test_losses_are_means_over_more_items_than_a_dtype_can_count(loss, x64):
    rng = np.random.default_rng(2)
    logits, labels, mask = rng.normal(size=(70_000, 2)), rng.integers(2, size=70_000), rng.random(70_000) < 0.999
    for dtype in FLOATS:
        own = jnp.asarray(logits, dtype)
        for given in (None, mask):
            exact = loss(np.float64(own), labels, given)
            assert float(loss(own, labels, given)) == pytest.approx(float(exact), rel=4e-3)
            assert_dtypes(lambda logits, given=given: loss(logits, labels, given), own)
