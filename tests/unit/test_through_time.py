"""Gradients through time against the trained path's autodiff, closed forms and a hand-made chain rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxrnn import through_time
from jaxrnn.cells import CELLS, kaiming, orthogonal
from jaxrnn.recurrence import unroll

T, D, H = 7, 4, 3


def draw(name, *batch, dtype=np.float64):
    rng = np.random.default_rng(0)
    params = jax.tree.map(dtype, oracles.draw_params(rng, name, D, H))
    target = dtype(oracles.draw(rng, H))
    return params, dtype(oracles.draw(rng, T, *batch, D)), lambda h: jnp.sin(h @ target).sum()


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        *((name, np.float64, 1e-10) for name, cell in CELLS.items() if through_time.weight_of(cell)),
        ("lstm", np.float32, 1e-5),
    ],
)
def test_the_terms_add_up_to_the_gradient_that_training_takes(name, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        params, xs, loss = draw(name, dtype=dtype)
        gradient = jax.grad(lambda params: loss(unroll(CELLS[name], params, xs)[0].h))(params)
        expected = np.float64(through_time.weight_of(CELLS[name])(gradient))
        terms = through_time.weight_gradient_terms(CELLS[name], params, xs, loss)
        total, shares = jax.tree.map(np.asarray, terms)
    assert total.dtype == dtype
    assert np.linalg.norm(total - expected) <= tolerance * np.linalg.norm(expected)
    assert shares.sum() == pytest.approx(1, abs=tolerance)
    assert shares[0] == 0  # The first step starts from zeros, which its matrix multiplies.


def test_the_terms_of_a_linear_rnn_by_hand(x64):
    params, xs, _ = draw("linear_rnn")
    target = np.arange(1.0, H + 1)
    hs = [np.zeros(H)]
    for x in xs:
        hs.append(x @ params.w_x + hs[-1] @ params.w_h + params.b)
    terms = [np.outer(hs[i], np.linalg.matrix_power(params.w_h, T - 1 - i) @ target) for i in range(T)]

    found = through_time.weight_gradient_terms(CELLS["linear_rnn"], params, xs, lambda h: h @ target)

    np.testing.assert_allclose(found.total, sum(terms), rtol=1e-12)
    np.testing.assert_allclose(
        found.shares, [(term * sum(terms)).sum() / (sum(terms) ** 2).sum() for term in terms], rtol=1e-10, atol=1e-14
    )


def test_a_cell_without_a_recurrent_matrix_is_refused():
    params, xs, loss = draw("min_gru")
    with pytest.raises(ValueError, match="no recurrent matrix"):
        through_time.weight_gradient_terms(CELLS["min_gru"], params, xs, loss)


def test_without_a_gradient_no_term_has_a_share():
    params, xs, loss = draw("linear_rnn", dtype=np.float32)
    # One step begins with zeros, which its matrix multiplies.
    terms = through_time.weight_gradient_terms(CELLS["linear_rnn"], params, xs[:1], loss)
    np.testing.assert_array_equal(terms.shares, [0])


@pytest.mark.parametrize("size", [1.0, 1e30, 1e-30, 0.0])
def test_norms_do_not_square_what_has_no_square(size):
    x = np.float32(size) * np.float32([[3, 4], [0, 0], [5, -12]])
    np.testing.assert_allclose(
        through_time.euclidean_norm(x, (1,)), np.float32(size) * np.float32([5, 0, 13]), rtol=1e-6
    )
    np.testing.assert_allclose(through_time.euclidean_norm(x, (0, 1)), size * np.sqrt(194), rtol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_carry_gradients_are_differences_of_the_loss(name, x64):
    cell = CELLS[name]
    params, xs, loss = draw(name, 2)
    gradients = jax.tree.map(np.asarray, through_time.carry_gradients(cell, params, xs, loss))

    @functools.partial(jax.jit, static_argnums=0)
    def loss_from(t, carry):
        return loss(unroll(cell, params, xs[t + 1 :], carry=carry)[0].h if t + 1 < T else carry.h)

    assert gradients.h.shape == (T, 2, H)
    for t in (2, T - 1):
        carry, _ = unroll(cell, params, xs[: t + 1])
        for field, gradient in zip(carry._fields, gradients, strict=True):
            direction = np.random.default_rng(t).normal(size=gradient[t].shape)
            if np.iscomplexobj(gradient):  # The gradient with respect to c is dL/da - i dL/db of c = a + i b.
                direction = direction + 1j * direction[::-1]
            part, numbers = tuple(map(slice, direction.shape)), getattr(carry, field)
            moved = [numbers.at[part].add(e * direction) for e in (1e-6, -1e-6)]
            ends = [loss_from(t, carry._replace(**{field: one})) for one in moved]
            expected = (gradient[t] * direction).sum().real
            assert expected == pytest.approx(float(ends[0] - ends[1]) / 2e-6, abs=1e-8)
    if name == "peephole":
        # Its hidden state does not recur.
        assert not gradients.h[:-1].any()
        assert gradients.c[:-1].all()
    if "c" in gradients._fields:
        assert not gradients.c[-1].any()


@pytest.mark.parametrize("radius", [0.5, 1.5])
def test_a_linear_rnns_gradient_decays_at_its_spectral_radius(radius, x64):
    params = CELLS["linear_rnn"].init(jax.random.key(0), D, H, orthogonal(radius))
    np.testing.assert_allclose(params.w_h @ params.w_h.T, radius**2 * np.eye(H), atol=1e-6)
    _, xs, loss = draw("linear_rnn", 5)
    norms = np.linalg.norm(through_time.carry_gradients(CELLS["linear_rnn"], params, xs, loss).h, axis=-1)
    np.testing.assert_allclose(norms[:-1] / norms[1:], radius, rtol=1e-6)


def test_the_decay_rate_is_the_slope_of_the_logarithm():
    assert through_time.decay_rate(3 * 0.7 ** np.arange(20)) == pytest.approx(0.7, rel=1e-12)
    assert through_time.decay_rate([0, *(2.0 ** np.arange(5))]) == pytest.approx(2)
    assert through_time.decay_rate(np.ones(9)) == pytest.approx(1)
    assert through_time.decay_rate([1, 0, 0]) is None


def test_only_recurrent_matrices_are_orthogonal():
    key, other = jax.random.split(jax.random.key(0))
    for name, shape in [("g_x", (D, H)), ("g_b", (H,)), ("head", (H, 2))]:
        ours, expected = (make(jax.random.clone(key), name, shape, H) for make in (orthogonal(0.5), kaiming))
        np.testing.assert_array_equal(ours, expected)
    drawn = [orthogonal(0.5)(k, "i_h", (H, H), H) for k in (key, other)]
    assert not np.allclose(*drawn)


@pytest.mark.parametrize("name", CELLS)
def test_gates_are_those_of_the_steps(name):
    cell = CELLS[name]
    params, xs, _ = draw(name, 2, dtype=np.float32)
    found = through_time.gates(cell, params, xs)
    carry = cell.initial_carry(H, (2,))
    for t in range(T):
        carry, _, activations = cell.step(params, carry, cell.project(params, xs[t]))
        assert found.keys() == activations.keys()
        for gate, values in activations.items():
            np.testing.assert_allclose(found[gate][t], values, rtol=1e-5, atol=1e-6)
