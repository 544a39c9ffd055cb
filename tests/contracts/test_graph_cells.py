"""Cells on graphs: every kind against its loop in NumPy, in each form of a shift; what graphs promise beside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles import GRAPH_CELLS, NUM_NODES, PLAIN_CELLS
from problems import weighted_sum

from jaxrnn import graph
from jaxrnn.cells import gated_cell, graph_cell, graph_gru_cho
from jaxrnn.recurrence import unroll

T, N, B, D, H = 3, NUM_NODES, 2, 2, 3
# Directed and weighted; nodes 3 and 4 have no edges to the others, and the last has none at all.
IS_EDGE = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
run = jax.jit(unroll, static_argnums=0)


def draw(name, seed=0):
    """Parameters without a shift, inputs, and a shift for each member of the batch."""
    rng = np.random.default_rng(seed)
    params = oracles.draw_params(rng, name, D, H)._replace(shift=None)
    return params, oracles.draw(rng, T, N, B, D), IS_EDGE * oracles.draw(rng, B, N, N)


def on_edges(shift):
    """A shift as a graph; an edge of weight 0 is padding."""
    receivers, senders = np.nonzero(shift)
    built = graph.build(senders, receivers, N, self_loops=False)
    padded, _ = graph.pad(built._replace(edges=shift[receivers, senders]), N + 1, len(senders) + 2)
    return padded._replace(n_node=np.array([N]), receivers=np.minimum(padded.receivers, N - 1))


@pytest.mark.parametrize("name", GRAPH_CELLS)
def test_every_kind_is_its_loop_on_a_graph_for_each_member_of_the_batch(name, x64):
    cell = GRAPH_CELLS[name]
    params, xs, shifts = draw(name)
    mask = np.ones((T, N, B), bool)
    mask[:, 1, 0] = False  # A node.
    mask[1, :, 1] = False  # A step.
    reset = np.zeros((T, N, B), bool)
    reset[2] = True
    carry, ys = run(cell, params._replace(shift=shifts), xs, mask=mask, reset=reset)
    for b, shift in enumerate(shifts):
        alone = [np.ascontiguousarray(a[:, :, b]) for a in (xs, mask, reset)]
        start = cell.initial_carry(H, (N,), np.float64)
        expected = oracles.unroll(name, params._replace(shift=shift), alone[0], start, *alone[1:])
        found = jax.tree.map(lambda a, b=b: a[:, b], carry), ys[:, :, b]
        oracles.assert_close(found, expected, 1e-12)


@functools.partial(jax.jit, static_argnums=0)
def results_and_gradient(cell, params, weights, shift_of, xs):
    def loss(params, weights):
        results = unroll(cell, params._replace(shift=shift_of(weights)), xs)
        return weighted_sum(results), results

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, weights)


@pytest.mark.parametrize("name", ["graph_gru", "gated_edge"])
def test_edges_are_the_matrix_and_so_are_their_gradients(name, x64):
    params, xs, (shift, _) = draw(name)
    edges = on_edges(shift)
    ends = edges.receivers, edges.senders
    as_edges = jax.tree_util.Partial(lambda edges, weights: edges._replace(edges=weights), edges)
    as_matrix = jax.tree_util.Partial(lambda ends, weights: jnp.zeros((N, N)).at[ends].add(weights), ends)
    found, expected = (
        results_and_gradient(GRAPH_CELLS[name], params, edges.edges, form, xs) for form in (as_edges, as_matrix)
    )
    is_real = edges.edges != 0
    (found, expected) = (((p, w[is_real]), results) for (p, w), results in (found, expected))
    oracles.assert_close(found, expected, 1e-10)


@pytest.mark.parametrize("name", GRAPH_CELLS)
def test_relabelling_the_nodes_relabels_the_outputs(name, x64):
    params, xs, (shift, _) = draw(name)
    order = np.array([3, 0, 4, 2, 1])
    _, ys = run(GRAPH_CELLS[name], params._replace(shift=shift), xs)
    _, relabelled = run(GRAPH_CELLS[name], params._replace(shift=shift[order][:, order]), xs[:, order])
    error = np.abs(relabelled - ys[:, order]).max()
    assert error < 1e-13 if name != "gated_time_vec" else error > 1e-3


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_one_node_and_one_tap_are_the_plain_cell(name, x64):
    cell = graph_gru_cho(1) if name == "gru_cho" else graph_cell(PLAIN_CELLS[name], 1)
    rng = np.random.default_rng(1)
    plain, xs = oracles.draw_params(rng, name, D, H), oracles.draw(rng, T, 1, B, D)
    taps = [leaf[None] if leaf.ndim == 2 else leaf for leaf in plain]
    on_graph = run(cell, cell.params_type(*taps, np.zeros((1, 1))), xs)
    oracles.assert_close(on_graph, run(PLAIN_CELLS[name], plain, xs), 1e-12)


def test_shifts_of_any_kind_are_added(x64):
    """A step of DCRNN, and of T-GCN, against products of matrices."""
    rng = np.random.default_rng(2)
    walks, xs = oracles.draw(rng, 2, N, N), oracles.draw(rng, T, N, B, D)
    cell, shifts = graph_gru_cho(5), (None, *(np.linalg.matrix_power(walk, k) for walk in walks for k in (1, 2)))
    params = cell.init(jax.random.key(0), D, H, lambda key, name, shape, H: jax.random.normal(key, shape))
    assert params.w_h.shape == (5, H, 3 * H)
    products = [np.eye(N), *shifts[1:]]
    expected = np.concatenate([shift @ xs[0, :, 0] for shift in products], axis=-1)
    found = cell.project(params._replace(shift=shifts), xs[0])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)

    cell, taps = graph_gru_cho(1), [leaf[:1] if leaf.ndim > 1 else leaf for leaf in params[:3]]
    w_x, w_h, b = (np.asarray(leaf) for leaf in taps)
    _, ys = run(cell, cell.params_type(*taps, (walks[0],)), xs)
    h = np.zeros((N, H))
    for x in xs[:, :, 0]:
        r, u = np.split(
            oracles.sigma(walks[0] @ (x @ w_x[0] + h @ w_h[0]) + b)[:, : 2 * H],
            2,
            axis=1,
        )
        n = np.tanh(walks[0] @ (x @ w_x[0] + (r * h) @ w_h[0])[:, 2 * H :] + b[2 * H :])
        h = (1 - u) * n + u * h
    np.testing.assert_allclose(ys[-1, :, 0], h, rtol=1e-12)


LARGE_N, LARGE_E, LARGE_B, LARGE_H = 10_000, 100_000, 8, 32


def planned_bytes(cell, num_steps):
    """Of a gradient on a large graph, by XLA's plan, arguments and results included; nothing is run."""

    def loss(params, graph, xs):
        return (unroll(cell, params._replace(shift=graph), xs)[1] ** 2).mean()

    params = jax.eval_shape(
        lambda: cell.init(jax.random.key(0), 1, LARGE_H, lambda k, name, shape, H: jnp.zeros(shape))
    )
    ends, weights = (jax.ShapeDtypeStruct((LARGE_E,), dtype) for dtype in (np.int32, np.float32))
    large = on_edges(IS_EDGE)._replace(senders=ends, receivers=ends, edges=weights)
    xs = jax.ShapeDtypeStruct((num_steps, LARGE_N, LARGE_B, 1), np.float32)
    plan = jax.jit(jax.grad(loss)).lower(params, large, xs).compile().memory_analysis()
    return plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes


@pytest.mark.parametrize("cell", [graph_gru_cho(2), gated_cell("edge", 3)], ids=["gru_cho", "edge"])
def test_a_gradient_on_a_large_graph_needs_memory_linear_in_time(cell):
    twelve, twice = (planned_bytes(cell, num_steps) for num_steps in (12, 24))
    assert twelve < 4e9
    assert twice < 2.1 * twelve
