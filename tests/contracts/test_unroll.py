"""One contract for every cell and both of its gradients: against NumPy, finite differences and truncation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles import CELLS
from problems import AUTODIFF, MASKS, PRODUCT_CELLS, SIZES, STACKED, coordinates, draw_problem, stack, weighted_sum

from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.recurrence import lookup, unroll

run = jax.jit(unroll, static_argnums=0, static_argnames="reverse")


# --- Values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_steps", "batch_shape", "embedded", "with_carry", "reverse"),
    [
        pytest.param(5, (), False, True, True, id="no batch axis"),
        pytest.param(5, (2, 3), False, False, False, id="two batch axes"),
        pytest.param(5, (2,), True, False, True, id="embedding"),
        pytest.param(1, (2,), False, True, False, id="one step"),
    ],
)
@pytest.mark.parametrize("name", CELLS)
def test_unroll_is_a_loop_over_step(name, num_steps, batch_shape, embedded, with_carry, reverse, x64):
    if name in oracles.GRAPH_CELLS:
        batch_shape = batch_shape or (3,)  # The nodes.
    cell, problem = CELLS[name], draw_problem(name, num_steps, batch_shape)
    params, carry, xs, embedding, indices = problem
    if not with_carry:
        carry = cell.initial_carry(3, batch_shape, np.float64)
    arguments = {"carry": carry if with_carry else None, "reverse": reverse}
    if embedded:
        xs = embedding[indices]
        last, ys = run(cell, params, indices, embedding=embedding, **arguments)
    else:
        last, ys = run(cell, params, xs, **arguments)

    loop_carry, loop_ys = carry, np.zeros(ys.shape)
    step = jax.jit(lambda carry, x: cell.step(params, carry, cell.project(params, x))[:2])
    for t in range(num_steps)[:: -1 if reverse else 1]:
        loop_carry, loop_ys[t] = step(loop_carry, xs[t])
    oracles.assert_close((last, ys), (loop_carry, loop_ys), 1e-12)
    oracles.assert_close((last, ys), oracles.unroll(name, params, xs, carry, reverse=reverse), 1e-12)


def test_numbers_stay_in_the_inputs_precision():
    for name, cell in CELLS.items():
        params, carry, xs, embedding, indices = draw_problem(name, 2, (2,), dtype=np.float32)
        for arguments in [(xs,), (xs, None, carry), (indices, embedding), (indices, embedding, carry)]:
            results = jax.eval_shape(
                lambda p, xs, e=None, c=None, cell=cell: unroll(cell, p, xs, embedding=e, carry=c), params, *arguments
            )
            assert {np.finfo(leaf.dtype).dtype for leaf in jax.tree.leaves(results)} == {np.dtype("float32")}


def test_look_ups_are_exact_and_their_gradient_is_a_sum_over_places():
    rng = np.random.default_rng(0)
    table, indices = np.float32(rng.normal(size=(6, 4))), rng.integers(6, size=(5, 2, 3))
    cotangent = np.float32(rng.normal(size=(5, 2, 3, 4)))
    rows, pull_back = jax.vjp(lambda table: lookup(table, indices), table)
    np.testing.assert_array_equal(rows, table[indices])
    expected = np.zeros(table.shape)
    np.add.at(expected, indices, cotangent)
    np.testing.assert_allclose(pull_back(cotangent)[0], expected, rtol=1e-5, atol=1e-6)


def test_look_ups_beyond_the_table_are_as_in_jax_and_so_is_their_gradient():
    indices = jnp.array([-1, -4, -9, 4, 7, 2])
    table, cotangent = (np.float32(np.random.default_rng(0).normal(size=(n, 2))) for n in (4, 6))

    @functools.partial(jax.jit, static_argnums=0)
    def rows_and_gradient(look_up, table, indices):
        rows, pull_back = jax.vjp(lambda table: look_up(table, indices), table)
        return rows, pull_back(cotangent)

    ours, plain = (rows_and_gradient(f, table, indices) for f in (lookup, lambda table, indices: table[indices]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), ours, plain)


# --- Gradients --------------------------------------------------------------------------------------------------------


def from_vectors(cell, problem, mask=None, reverse=False):
    """`unroll` of the inputs as vectors."""
    return unroll(cell, problem.params, problem.xs, carry=problem.carry, mask=mask, reverse=reverse)


def from_tokens(cell, problem, mask=None, reverse=False):
    """`unroll` of the inputs as tokens."""
    params, carry, _, embedding, indices = problem
    return unroll(cell, params, indices, embedding=embedding, carry=carry, mask=mask, reverse=reverse)


# All cells with vectors; tokens are handled outside of the cell, so one cell stands for all. Plain autodiff is the same
# for all cells, too: those with a gradient of their own are compared with it below.
STACKED_CASES = [
    *(pytest.param(name, cell, from_vectors, id=f"{name}-stacked") for name, cell in STACKED.items()),
    pytest.param("lstm", STACKED["lstm"], from_tokens, id="lstm-stacked-tokens"),
]
AUTODIFF_CASES = [
    *(pytest.param(name, cell, from_vectors, id=name) for name, cell in CELLS.items() if name not in STACKED),
    pytest.param("lstm", AUTODIFF["lstm"], from_vectors, id="lstm-autodiff"),
    pytest.param("lstm", AUTODIFF["lstm"], from_tokens, id="lstm-autodiff-tokens"),
]


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="reverse")
def results_and_gradient(form, cell, problem, mask=None, reverse=False):
    """What `form` returns, and the gradient of its `weighted_sum` with respect to all but the indices."""

    def loss(differentiable):
        results = form(cell, differentiable._replace(indices=problem.indices), mask, reverse)
        return weighted_sum(results), results

    gradient, results = jax.grad(loss, has_aux=True)(problem._replace(indices=None))
    return results, gradient


@pytest.mark.parametrize(
    ("name", "cell", "form"),
    [*STACKED_CASES, *(case for case in AUTODIFF_CASES if case.id != "lstm-autodiff")],
)
def test_gradients_to_second_order_are_finite_differences(name, cell, form, x64):
    problem = draw_problem(name, 4, (2,))
    mask = np.array([[True, False], [True, True], [False, True], [True, True]])
    point, unravel = coordinates(problem._replace(indices=None))

    @jax.jit
    def to_second_order(point, direction):
        def loss(point):
            return weighted_sum(form(cell, unravel(point)._replace(indices=problem.indices), mask, reverse=True))

        def slope(point):
            value, gradient = jax.value_and_grad(loss)(point)
            return gradient @ direction, (value, gradient)

        curvature, (value, gradient) = jax.grad(slope, has_aux=True)(point)
        return value, gradient, curvature

    direction = oracles.draw(np.random.default_rng(2), point.size)
    _, gradient, curvature = to_second_order(point, direction)
    step = 1e-5
    differences = []
    for axis in (*np.eye(point.size), direction):
        (f_1, g_1, _), (f_2, g_2, _) = (to_second_order(point + sign * step * axis, direction) for sign in (1, -1))
        differences.append((f_1 - f_2) / (2 * step))
    np.testing.assert_allclose(gradient, differences[:-1], rtol=0, atol=1e-7)
    np.testing.assert_allclose(curvature, (g_1 - g_2) / (2 * step), rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", [from_vectors, from_tokens])
@pytest.mark.parametrize("name", CELLS)
def test_no_steps_are_the_initial_carry_and_its_gradient(name, form, x64):
    problem, mask = draw_problem(name, 0, (2,)), np.ones((0, 2), bool)
    (last, ys), gradient = results_and_gradient(form, CELLS[name], problem, mask, reverse=True)
    oracles.assert_close(last, problem.carry, 0)
    assert ys.shape == (0, 2, 3)
    oracles.assert_close(gradient.carry, jax.grad(lambda carry: weighted_sum((carry, ys)))(problem.carry), 1e-12)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient._replace(carry=None)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("name", "stacks"), [("lstm", 4 + 2 + 1), ("gru", 3 + 1 + 3 + 1)])
def test_a_gradient_of_one_run_holds_the_products_or_their_cotangents_but_not_both(name, stacks, reverse):
    """In stacks ``[T, B, H]``: products, carries, the GRU's cotangents of z, and what the weight gradient reads."""
    num_steps, batch_size, hidden_size = 64, 16, 32
    problem = draw_problem(name, num_steps, (batch_size,), hidden_size=hidden_size, dtype=np.float32)

    def loss(params, embedding):
        return weighted_sum(unroll(CELLS[name], params, problem.indices, embedding=embedding, reverse=reverse)[0])

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(problem.params, problem.embedding).compile()
    held = program.memory_analysis().temp_size_in_bytes / (4 * num_steps * batch_size * hidden_size)
    assert held < stacks + 1


def loop_bodies(jaxpr):
    """Those of all scans in it."""
    for eqn in jaxpr.eqns:
        for inner in eqn.params.values():
            if hasattr(inner, "jaxpr"):
                if eqn.primitive.name == "scan":
                    yield inner.jaxpr
                yield from loop_bodies(inner.jaxpr)


@pytest.mark.parametrize("name", STACKED)
def test_no_step_of_a_gradients_gradient_passes_over_the_whole_sequence(name):
    num_steps = 61
    problem = draw_problem(name, num_steps, (2,), dtype=np.float32)

    def slope(params):
        return weighted_sum(jax.grad(lambda params: weighted_sum(unroll(STACKED[name], params, problem.xs)))(params))

    bodies = list(loop_bodies(jax.make_jaxpr(jax.grad(slope))(problem.params).jaxpr))
    assert len(bodies) >= 4  # forward and backward, of each order
    assert not [eqn for body in bodies for eqn in body.eqns for var in eqn.outvars if num_steps in var.aval.shape]


def assert_stacked_is_autodiff(name, tolerance, form, problem, **arguments):
    stacked = results_and_gradient(form, STACKED[name], problem, **arguments)
    autodiff = results_and_gradient(form, AUTODIFF[name], problem, **arguments)
    oracles.assert_close(stacked, autodiff, tolerance)


@pytest.mark.parametrize("name", STACKED)
def test_the_stacked_gradient_is_that_of_autodiff_in_float32(name):
    problem = draw_problem(name, **SIZES, dtype=np.float32)
    assert_stacked_is_autodiff(name, 1e-5, from_tokens, problem)


@pytest.mark.parametrize("name", STACKED)
def test_the_stacked_gradient_is_that_of_autodiff_in_float64_with_a_mask_and_reverse(name, x64):
    problem = draw_problem(name, **SIZES)
    assert_stacked_is_autodiff(name, 1e-12, from_vectors, problem, mask=MASKS["anywhere"], reverse=True)


@pytest.mark.parametrize("name", STACKED)
def test_forward_mode_says_that_it_is_not_there(name):
    problem = draw_problem(name, 2, (2,))

    def tangent(cell, params):
        return jax.jvp(lambda params: unroll(cell, params, problem.xs), (params,), (params,))

    with pytest.raises(TypeError, match="custom_vjp"):
        tangent(STACKED[name], problem.params)
    jax.eval_shape(functools.partial(tangent, AUTODIFF[name]), problem.params)


@pytest.mark.parametrize(
    ("name", "forgotten"), [(name, field) for name, cell in PRODUCT_CELLS.items() for field in cell.elementwise]
)
def test_a_parameter_that_pointwise_reads_must_be_declared(name, forgotten):
    cell = PRODUCT_CELLS[name]
    declared = tuple(field for field in cell.elementwise if field != forgotten)
    problem = draw_problem(name, 2, (2,))
    with pytest.raises(TypeError, match="NoneType"):
        unroll(dataclasses.replace(cell, elementwise=declared), problem.params, problem.xs)


# --- Masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell", "form", "placement"),
    [
        pytest.param(*case.values, placement, id=f"{case.id}-{placement}")
        for case in STACKED_CASES + AUTODIFF_CASES
        for placement in (MASKS if case.values[0] in ("lstm", "min_gru") else ["anywhere"])
    ],
)
def test_masked_is_truncated_whatever_stands_there(name, cell, form, placement, x64):
    problem, mask = draw_problem(name, **SIZES), MASKS[placement]
    params, carry, xs, embedding, indices = problem
    results, gradient = results_and_gradient(form, cell, problem, mask, reverse=True)

    inputs = xs if form is from_vectors else embedding[indices]
    oracles.assert_close(results, oracles.unroll(name, params, inputs, carry, mask, reverse=True), 1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    if form is from_vectors:
        np.testing.assert_array_equal(gradient.xs.any(axis=-1), mask)

    for vector, token in [(np.nan, 10**9), (np.inf, -1), (1e300, -(10**9))]:
        xs = np.where(mask[..., None], problem.xs, vector)
        indices = np.where(mask, problem.indices, np.int32(token))
        with_garbage = results_and_gradient(form, cell, problem._replace(xs=xs, indices=indices), mask, reverse=True)
        jax.tree.map(np.testing.assert_array_equal, with_garbage, (results, gradient))


@pytest.mark.parametrize(("name", "cell", "form"), STACKED_CASES + AUTODIFF_CASES)
def test_all_masked_gives_the_initial_carry_and_no_gradient(name, cell, form, x64):
    problem = draw_problem(name, **SIZES)
    problem = problem._replace(xs=np.full_like(problem.xs, np.nan), indices=np.full_like(problem.indices, -7))
    (last, ys), gradient = results_and_gradient(form, cell, problem, np.zeros((12, 3, 2), bool), reverse=True)
    jax.tree.map(np.testing.assert_array_equal, last, problem.carry)
    np.testing.assert_array_equal(ys, 0)
    jax.tree.map(np.testing.assert_array_equal, gradient.carry, jax.grad(weighted_sum)((last, ys))[0])
    for leaf in jax.tree.leaves((gradient.params, gradient.xs, gradient.embedding)):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("name", ["lstm", "gru_cho", "min_gru", "graph_gru"])
def test_a_row_of_the_embedding_that_only_masked_steps_read_may_be_anything(name, row, x64):
    params, carry, _, embedding, indices = draw_problem(name, **SIZES)
    mask = (indices != row) & MASKS["anywhere"]

    @jax.jit
    def of_embedding(embedding):
        def loss(params, embedding):
            results = unroll(CELLS[name], params, indices, embedding=embedding, carry=carry, mask=mask)
            return weighted_sum(results), results

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, embedding)

    for anything in (np.nan, np.inf):
        found = of_embedding(np.where(np.arange(len(embedding))[:, None] == row, anything, embedding))
        jax.tree.map(np.testing.assert_array_equal, found, of_embedding(embedding))


# --- Compilation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_runs_are_separate_calls_and_new_values_compile_nothing(name):
    gradient = functools.partial(results_and_gradient, from_tokens, CELLS[name])
    runs = [draw_problem(name, **SIZES, seed=seed, dtype=np.float32) for seed in range(3)]
    separate = [gradient(runs[0])]
    num_compiled = results_and_gradient._cache_size()
    separate += [gradient(run) for run in runs[1:]]
    assert results_and_gradient._cache_size() == num_compiled
    together = jax.jit(jax.vmap(gradient))(stack(runs))
    oracles.assert_close(together, stack(separate), 1e-5)


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_belong_together_are_refused():
    params, _, xs, embedding, indices = draw_problem("lstm", 5, (2,))
    lstm = CELLS["lstm"]
    with pytest.raises(ValueError, match="need an embedding"):
        unroll(lstm, params, indices)
    with pytest.raises(ValueError, match="inputs are integers"):
        unroll(lstm, params, xs, embedding=embedding)
    with pytest.raises(ValueError, match="not of shape"):
        unroll(lstm, params, xs[0, 0])
    with pytest.raises(ValueError, match="not of shape"):
        unroll(lstm, params, jnp.asarray(indices[0, 0]), embedding=embedding)
    for shape in [(5,), (2, 5), (5, 1), (5, 2, 1), (4, 2)]:
        for inputs in ({"xs": xs}, {"xs": indices, "embedding": embedding}):
            with pytest.raises(ValueError, match="mask has shape"):
                unroll(lstm, params, **inputs, mask=np.ones(shape, bool))


def test_a_carry_of_another_form_is_refused():
    params, carry, xs, *_ = draw_problem("lstm", 5, (2,))
    for other in (tuple(carry), carry.h, jax.tree.map(lambda field: field[:1], carry), RNNCarry(carry.h)):
        with pytest.raises(ValueError, match="the carry is"):
            unroll(CELLS["lstm"], params, xs, carry=other)


@pytest.mark.parametrize(("name", "dtype"), [("lstm", np.uint8), ("min_gru", np.int8)])
def test_tokens_of_bytes_reach_every_row_of_a_table(name, dtype):
    params = draw_problem(name, 1, (), dtype=np.float32).params
    embedding = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    tokens = np.array([0, 127, 5, 100], dtype)

    def loss(params, embedding, tokens, mask):
        return weighted_sum(unroll(CELLS[name], params, tokens, embedding=embedding, mask=mask))

    for mask in (None, np.array([True, False, True, True])):
        found, expected = (
            jax.grad(loss, argnums=(0, 1))(params, embedding, tokens.astype(kind), mask) for kind in (dtype, np.int32)
        )
        oracles.assert_close(found, expected, 1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_after_a_reset_nothing_of_before_is_left(name):
    problem = draw_problem(name, 5, (2,), dtype=np.float32)
    xs, carry = problem.xs.copy(), jax.tree.map(lambda field: np.full_like(field, np.nan), problem.carry)
    xs[1] = np.inf
    reset = np.zeros((5, 2), bool)
    reset[3] = True
    (last, ys), (_, expected) = (
        unroll(CELLS[name], problem.params, inputs, carry=start, reset=reset)
        for inputs, start in ((xs, carry), (problem.xs, None))
    )
    np.testing.assert_array_equal(ys[3:], expected[3:])
    assert all(np.isfinite(field).all() for field in last)
