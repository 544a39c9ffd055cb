"""Sequences in a row: resets against sequences apart; linear recurrences, many steps at once, against a loop."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles import CELLS
from problems import AUTODIFF, MASKS, SIZES, STACKED, draw_problem, weighted_sum

from jaxrnn.cells import LinearCell
from jaxrnn.recurrence import linear_scan, unroll

# --- Resets -----------------------------------------------------------------------------------------------------------

RESETS = np.random.default_rng(2).random((12, 3, 2)) < 0.3


@functools.partial(jax.jit, static_argnums=(0, 4))
def with_resets(cell, problem, mask, reset, reverse):
    def loss(problem):
        results = unroll(cell, problem.params, problem.xs, carry=problem.carry, mask=mask, reset=reset, reverse=reverse)
        return weighted_sum(results), results

    gradient, results = jax.grad(loss, has_aux=True)(problem._replace(indices=None, embedding=None))
    return results, gradient


@pytest.mark.parametrize(
    ("name", "placement", "reverse"),
    [
        *((name, "anywhere", reverse) for name, reverse in zip(CELLS, itertools.cycle([False, True]), strict=False)),
        *(("lstm", placement, reverse) for placement in (None, "left", "right") for reverse in (False, True)),
        *(("min_gru", placement, reverse) for placement in (None, "left") for reverse in (False, True)),
    ],
)
def test_a_reset_begins_a_sequence_masked_or_not(name, placement, reverse, x64):
    problem, mask = draw_problem(name, **SIZES), MASKS.get(placement)
    found = with_resets(AUTODIFF[name], problem, mask, RESETS, reverse)
    expected = oracles.unroll(name, problem.params, problem.xs, problem.carry, mask, RESETS, reverse)
    oracles.assert_close(found[0], expected, 1e-12)
    if name in STACKED:
        oracles.assert_close(with_resets(STACKED[name], problem, mask, RESETS, reverse), found, 1e-10)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru_cho", "min_lstm", "graph_gru"])
def test_the_gradient_of_sequences_in_a_row_is_that_of_each_alone(name, reverse, x64):
    cell, problem = AUTODIFF[name], draw_problem(name, **SIZES)
    ends, begins = ([0, 5, 6], [5, 6, 12]) if not reverse else ([6, 5, 0], [12, 6, 5])

    @jax.jit
    def apart(problem):
        def loss(problem):
            ys, carry = {}, problem.carry
            for low, high in zip(ends, begins, strict=True):
                last, ys[low] = unroll(cell, problem.params, problem.xs[low:high], carry=carry, reverse=reverse)
                carry = None
            results = last, jnp.concatenate([ys[low] for low in sorted(ys)])
            return weighted_sum(results), results

        gradient, results = jax.grad(loss, has_aux=True)(problem._replace(indices=None, embedding=None))
        return results, gradient

    reset = np.zeros((12, 3, 2), bool)
    reset[[5, 6]] = True
    oracles.assert_close(with_resets(cell, problem, None, reset, reverse), apart(problem), 1e-12)


# --- Linear recurrences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_steps", [1, 7, 300, 4096])
@pytest.mark.parametrize("method", ["loop", "chunks", "whole"])
def test_many_steps_at_once_are_a_loop(method, num_steps, reverse):
    rng = np.random.default_rng(0)
    a, b, start, weights = (rng.normal(size=shape) for shape in ((num_steps, 3), (num_steps, 3), 3, (num_steps, 3)))
    a = 1 / (1 + np.exp(-3 * a))
    expected, d_b, d_a, c, d = np.zeros(b.shape), np.zeros(b.shape), np.zeros(b.shape), start, np.zeros(3)
    order = range(num_steps)[:: -1 if reverse else 1]
    for t in order:
        d_a[t], c = c, a[t] * c + b[t]
        expected[t] = c
    for t in order[::-1]:
        d_b[t] = weights[t] + d
        d_a[t] *= d_b[t]
        d = a[t] * d_b[t]

    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        with jax.enable_x64(dtype == np.float64):
            given = [x.astype(dtype) for x in (a, b, start)]
            scan = functools.partial(linear_scan, reverse=reverse, method=method)
            cs, pull_back = jax.vjp(jax.jit(scan), *given)
            oracles.assert_close((cs, *pull_back(weights.astype(dtype))), (expected, d_a, d_b, d), tolerance)


@pytest.mark.parametrize("method", ["loop", "chunks", "whole"])
def test_the_gradient_of_a_linear_recurrence_needs_memory_linear_in_time(method):
    def held(num_steps):
        xs = jax.ShapeDtypeStruct((num_steps, 4, 8), np.float32)
        scan = jax.jit(jax.grad(lambda a, b, c: linear_scan(a, b, c, method=method).sum(), argnums=(0, 1)))
        program = scan.lower(xs, xs, jax.ShapeDtypeStruct((4, 8), np.float32)).compile()
        return program.memory_analysis().temp_size_in_bytes / (num_steps * 4 * 8 * 4)

    assert held(4096) < 1.3 * held(512) + 1
    assert held(4096) < 12


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if isinstance(cell, LinearCell)])
@pytest.mark.parametrize("method", ["chunks", "whole"])
def test_a_linear_cell_is_the_same_by_any_method(name, method, x64):
    problem = draw_problem(name, **SIZES)
    loop, other = (dataclasses.replace(CELLS[name], scan=scan) for scan in ("loop", method))
    for reverse in (False, True):
        arguments = problem, MASKS["anywhere"], RESETS, reverse
        oracles.assert_close(with_resets(other, *arguments), with_resets(loop, *arguments), 1e-12)
