"""Steps against the equations, parameter counts against the formulas, initialisers against their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats
from oracles import CELLS, PLAIN_CELLS

from jaxrnn.cells import CELLS as JAXRNN_CELLS
from jaxrnn.cells import INITIALIZERS, Cell
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.recurrence import Phase, last_carry, unroll

D, H = 5, 3


@pytest.mark.parametrize("name", CELLS)
def test_a_step_and_its_gates_are_the_equations(name, x64):
    rng, cell = np.random.default_rng(0), CELLS[name]
    nodes = (2,) if name in oracles.GRAPH_CELLS else ()
    params, carry = oracles.draw_params(rng, name, D, H), oracles.draw_carry(rng, name, *nodes, H)
    x = oracles.draw(rng, *nodes, D)
    new_carry, y, gates = cell.step(params, carry, cell.project(params, x))
    expected_carry, expected_gates = oracles.CELL_ORACLES[name].step(params, carry, x)
    assert type(new_carry) is type(carry)
    assert gates.keys() == expected_gates.keys()
    for ours, expected in [(new_carry._asdict(), expected_carry), (gates, expected_gates)]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, expected)
    np.testing.assert_array_equal(y, new_carry.h)


@pytest.mark.parametrize("name", CELLS)
def test_parameters_and_carries_have_the_documented_form(name):
    cell = CELLS[name]
    assert isinstance(cell, Cell)
    assert len({cell, *CELLS.values()}) == len(CELLS)  # hashable, hence static under jit
    params = cell.init(jax.random.key(0), D, H, INITIALIZERS["torch"])
    assert isinstance(params, cell.params_type)
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    assert sum(leaf.size for leaf in leaves) == oracles.CELL_ORACLES[name].num_params(D, H)

    carry = cell.start(params, (4, 2), jnp.float16)
    jax.tree.map(np.testing.assert_array_equal, carry, cell.initial_carry(H, (4, 2), jnp.float16))
    assert carry.h.shape == (4, 2, H)
    assert all(field.shape[:2] == (4, 2) for field in carry)
    assert {field.dtype.name for field in carry} <= {"float16", "complex64"}  # Half of a complex64 has no type.


@pytest.mark.parametrize("name", CELLS)
def test_every_draw_of_an_initialisation_is_another(name):
    key, other_key = jax.random.split(jax.random.key(0))
    params, again, other = (
        CELLS[name].init(k, D, H, INITIALIZERS["torch"]) for k in (key.copy(), key.copy(), other_key)
    )
    jax.tree.map(np.testing.assert_array_equal, params, again)
    numbers = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves((params, other))])
    assert np.unique(numbers).size == numbers.size


CANDIDATE = {"lstm": 2, "gers_peephole": 2, "slstm": 2}
"""Which gate is the tanh candidate of an LSTM, the only one with the gain 5/3 (the code of Soons 2020)."""
OWN = ("nu", "theta", "gamma")
"""Fields that do not start by an initialiser, but by a rule of their cell."""


@pytest.mark.parametrize("name", PLAIN_CELLS)
def test_kaiming_is_normal_by_the_second_dimension_with_zero_vectors(name):
    input_size, hidden_size = 40, 160
    params = CELLS[name].init(jax.random.key(1), input_size, hidden_size, INITIALIZERS["kaiming"])
    drawn = [leaf for field, leaf in params._asdict().items() if field not in OWN]
    matrices, vectors = ([leaf for leaf in drawn if leaf.ndim == ndim] for ndim in (2, 1))
    assert {len(matrix) for matrix in matrices} <= {input_size, hidden_size, 8}
    for matrix in matrices:
        for index, gate in enumerate(np.split(matrix, max(1, matrix.shape[1] // hidden_size), axis=1)):
            normal = scipy.stats.norm(scale=(5 / 3 if index == CANDIDATE.get(name) else 1) / gate.shape[1] ** 0.5)
            assert gate.std() == pytest.approx(normal.std(), rel=max(0.04, 3 * gate.size**-0.5))
            assert scipy.stats.kstest(gate.ravel(), normal.cdf).pvalue > 1e-3
    assert bool(vectors) == (name != "lru")
    assert not any(vector.any() for vector in vectors)


UNIFORM, SUM_OF_TWO = scipy.stats.uniform(-1, 2), scipy.stats.triang(0.5, -2, 4)
BIASES = {"gru": {"b": [SUM_OF_TWO, SUM_OF_TWO, UNIFORM]}}
"""Gates that are not drawn as the rest: the two biases of PyTorch's GRU candidate cannot be added up."""


@pytest.mark.parametrize("name", PLAIN_CELLS)
def test_torch_uniform_has_pytorchs_bounds_and_a_bias_stands_for_two(name):
    hidden_size = 400
    params = CELLS[name].init(jax.random.key(2), 3, hidden_size, INITIALIZERS["torch"])._asdict()
    for field, leaf in params.items():
        if field in OWN:
            continue
        num_gates = max(1, leaf.shape[-1] // hidden_size)
        distributions = [SUM_OF_TWO if field == "b" else UNIFORM] * num_gates
        distributions = BIASES.get(name, {}).get(field, distributions)
        for gate, distribution in zip(np.split(leaf, num_gates, axis=-1), distributions, strict=True):
            unit = np.ravel(gate) * hidden_size**0.5
            low, high = distribution.support()
            assert low <= unit.min() and unit.max() <= high
            assert scipy.stats.kstest(unit, distribution.cdf).pvalue > 1e-3


def test_the_eigenvalues_of_an_lru_start_uniform_on_the_unit_disk():
    params = CELLS["lru"].init(jax.random.key(0), 1, 2000, INITIALIZERS["kaiming"])
    radius, phase = np.exp(-np.exp(params.nu)), np.exp(params.theta)
    assert scipy.stats.kstest(radius**2, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(phase / (2 * np.pi), "uniform").pvalue > 1e-3
    assert abs(scipy.stats.pearsonr(radius, phase).statistic) < 0.1
    np.testing.assert_allclose(np.exp(params.gamma) ** 2, 1 - radius**2, rtol=1e-3, atol=1e-6)


def test_the_stabiliser_of_an_slstm_bears_any_gate_and_changes_nothing():
    """Gates far beyond where their exponentials overflow; a constant added to all logarithms of gates cancels."""
    rng, cell = np.random.default_rng(6), CELLS["slstm"]
    params = oracles.in_precision(np.float32, oracles.draw_params(rng, "slstm", D, H))
    xs = np.float32(500 * oracles.draw(rng, 20, 2, D))

    def outputs(params):
        return unroll(cell, params, xs)[1]

    gradient = jax.grad(lambda params: outputs(params).sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((outputs(params), gradient)))
    assert np.abs(outputs(params)).max() <= 1
    xs = xs / 500
    shifted = params._replace(b=params.b + np.repeat(np.float32([7, 0, 0, 0]), H))
    np.testing.assert_allclose(outputs(shifted), outputs(params), rtol=1e-4, atol=1e-5)


def test_a_stack_takes_what_the_steps_can_push_and_no_more(x64):
    rng, cell = np.random.default_rng(7), JAXRNN_CELLS["stack_rnn"]
    params, xs = oracles.draw_params(rng, "stack_rnn", D, H), oracles.draw(rng, 6, 2, D)
    whole = cell.initial_carry(H, (2,), np.float64)
    found, expected = (unroll(cell, params, xs, carry=carry) for carry in (None, whole))
    oracles.assert_close(found, expected, 1e-12)
    np.testing.assert_array_equal(found[0].s[:, 6:], -1)
    tokens, table = np.array([[0, 0], [0, 1], [2, 3]]), oracles.draw(rng, 4, D)
    phases = Phase(1, 1), Phase(2, 3)
    shared = last_carry(cell, params, tokens, embedding=table, phases=phases)
    oracles.assert_close(shared, unroll(cell, params, tokens, embedding=table)[0], 1e-12)
    equations = jax.make_jaxpr(lambda params: unroll(cell, params, xs)[1])(params).jaxpr.eqns
    (scan,) = (equation for equation in equations if equation.primitive.name == "scan")
    assert [var.aval.shape for var in scan.outvars] == [(2, H), (2, 6, 8), (6, 2, H)]


def test_a_stack_rnn_that_pushes_and_then_pops_reverses(x64):
    """Its actions set by hand: three numbers come out in the order in which they did not go in."""
    cell = JAXRNN_CELLS["stack_rnn"]
    params = cell.init(jax.random.key(0), 2, 2, lambda key, name, shape, size: jnp.zeros(shape))
    # A hidden unit that is one where it pushes, and one with what is pushed, or stands on top.
    params = params._replace(
        w_x=jnp.array([[60.0, 0], [0, 1]]),
        b=jnp.array([-30.0, 0]),
        w_v=jnp.zeros((2, 8)).at[1, 0].set(1),
        w_s=jnp.zeros((8, 2)).at[0, 1].set(1),
        w_a=jnp.array([[90.0, 0, 0], [0, 0, 0]]) + jnp.array([[0.0, 0, 0], [0, 60, 0]]),
    )
    pushed = jnp.array([0.3, -1.2, 2.0])
    xs = jnp.concatenate([jnp.stack([jnp.ones(3), pushed], 1), jnp.zeros((3, 2))])
    _, ys = unroll(cell, params, xs)
    stack = [-1.0]
    for number in pushed:
        stack.append(oracles.sigma(oracles.sigma(number + stack[-1])))
    np.testing.assert_allclose(ys[3:, 1], oracles.sigma(np.array(stack[:0:-1])), rtol=1e-6)


def test_gers_peephole_without_peepholes_is_the_lstm(x64):
    rng = np.random.default_rng(3)
    gers = oracles.draw_params(rng, "gers_peephole", D, H)
    lstm = CELLS["lstm"].params_type(gers.w_x, gers.w_h, gers.b)
    xs, carry = oracles.draw(rng, 6, 2, D), oracles.draw_carry(rng, "lstm", 2, H)
    expected = unroll(CELLS["lstm"], lstm, xs, carry=carry)
    no_peepholes = gers._replace(p_i=np.zeros(H), p_f=np.zeros(H), p_o=np.zeros(H))
    ours = unroll(CELLS["gers_peephole"], no_peepholes, xs, carry=carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, expected)
    for peephole in ("p_i", "p_f", "p_o"):
        with_one = no_peepholes._replace(**{peephole: getattr(gers, peephole)})
        _, ys = unroll(CELLS["gers_peephole"], with_one, xs, carry=carry)
        assert np.abs(ys - expected[1]).max() > 1e-3


def test_the_linear_rnn_is_a_sum_of_matrix_powers(x64):
    """``h_T = W^T h_0 + sum_t W^(T-t) (W_x x_t + b)``, and its gradient with respect to ``h_0`` is ``W^T``."""
    rng, num_steps = np.random.default_rng(4), 7
    params = oracles.draw_params(rng, "linear_rnn", D, H)
    xs, h = oracles.draw(rng, num_steps, D), oracles.draw(rng, H)
    powers = [np.linalg.matrix_power(params.w_h.T, k) for k in range(num_steps + 1)]
    expected = powers[num_steps] @ h
    for t, x in enumerate(xs, start=1):
        expected += powers[num_steps - t] @ (params.w_x.T @ x + params.b)

    cell = CELLS["linear_rnn"]
    carry, ys = unroll(cell, params, xs, carry=RNNCarry(h))
    np.testing.assert_allclose(carry.h, expected, rtol=1e-12)
    np.testing.assert_allclose(ys[-1], expected, rtol=1e-12)
    jacobian = jax.jacrev(lambda h: unroll(cell, params, xs, carry=RNNCarry(h))[0].h)(h)
    np.testing.assert_allclose(jacobian, powers[num_steps], rtol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_in_the_papers_peephole_nothing_flows_through_h(num_steps):
    def gradient(name):
        rng = np.random.default_rng(5)
        params, xs = oracles.draw_params(rng, name, D, H), oracles.draw(rng, num_steps, 2, D)
        carry = oracles.draw_carry(rng, name, 2, H)
        return jax.grad(lambda carry: unroll(CELLS[name], params, xs, carry=carry)[1][-1].sum())(carry)

    jax.tree.map(lambda field: np.testing.assert_array_less(1e-6, np.abs(field)), gradient("lstm"))
    peephole = gradient("peephole")
    np.testing.assert_array_equal(peephole.h, 0)
    np.testing.assert_array_less(1e-6, np.abs(peephole.c))
