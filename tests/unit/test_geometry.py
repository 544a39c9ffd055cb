"""Distances, coordinates from them and their comparison against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.graph import geometry
from jaxrnn.nn.geometry import DistanceNetwork

SIZES = (5, 3, 1, 2)
MASK = np.arange(5) < np.array(SIZES)[:, None]
FIRST, SECOND = np.triu_indices(5, 1)


def positions(seed=0):
    return np.where(MASK[..., None], np.random.default_rng(seed).standard_normal((4, 5, 3)), 0)


def random_rotation(rng):
    return np.linalg.qr(rng.standard_normal((3, 3)))[0]  # A reflection or not.


def test_scaling_gives_the_distances_back(x64):
    x = positions()
    expected = np.linalg.norm(x[:, FIRST] - x[:, SECOND], axis=-1)
    np.testing.assert_allclose(geometry.distances(jnp.asarray(x)), expected, rtol=1e-12)
    is_pair = MASK[:, FIRST] & MASK[:, SECOND]
    found = jax.jit(geometry.classical_scaling)(np.where(is_pair, expected, 0), MASK)
    again = np.asarray(geometry.distances(found))
    np.testing.assert_allclose(again[is_pair], expected[is_pair], rtol=1e-9)
    np.testing.assert_allclose(geometry.rmsd(found, jnp.asarray(x), MASK), 0, atol=1e-6)


def test_rmsd_is_that_of_the_best_shift_and_rotation(x64):
    x, rng = positions(), np.random.default_rng(1)
    noise = np.where(MASK[..., None], 0.1 * rng.standard_normal(x.shape), 0)
    moved = np.stack([(one + more) @ random_rotation(rng) + 2 for one, more in zip(x, noise, strict=True)])
    found = jax.jit(geometry.rmsd)(moved, x, MASK)
    for size, a, b, value in zip(SIZES, moved, x, found, strict=True):
        a, b = a[:size] - a[:size].mean(0), b[:size] - b[:size].mean(0)
        left, _, right = np.linalg.svd(a.T @ b)  # Schoenemann 1966.
        np.testing.assert_allclose(value, np.sqrt(((a @ left @ right - b) ** 2).sum() / size), atol=1e-7)


def test_the_network_is_a_function_of_pairs_whatever_their_order_and_padding(x64):
    """Against itself with the atoms of a molecule in another order, and with two more places."""
    rng, model = np.random.default_rng(2), DistanceNetwork(6, 2)
    order, wide = np.array([3, 0, 4, 1, 2]), np.triu_indices(7, 1)
    matrix = rng.standard_normal((5, 5, 4))
    matrix += matrix.transpose(1, 0, 2)
    atoms = rng.standard_normal((5, 3))
    inputs = atoms[None], matrix[FIRST, SECOND][None], np.ones((1, 10), bool)
    params = model.init(jax.random.key(0), *inputs)
    apply = jax.jit(model.apply)
    found = np.zeros((2, 5, 5))
    found[:, FIRST, SECOND] = found[:, SECOND, FIRST] = np.concatenate(apply(params, *inputs))
    moved = matrix[order][:, order]
    again = np.concatenate(apply(params, atoms[order][None], moved[FIRST, SECOND][None], inputs[2]))
    np.testing.assert_allclose(again, found[:, order][:, :, order][:, FIRST, SECOND], rtol=1e-6)
    assert (found[1, FIRST, SECOND] > 0).all()
    is_pair = wide[1] < 5
    padded = np.full((7, 7, 4), 9.0)
    padded[:5, :5] = matrix
    more = np.concatenate([atoms, np.full((2, 3), 9.0)])
    out = np.concatenate(apply(params, more[None], padded[wide][None], is_pair[None]))
    np.testing.assert_allclose(out[:, is_pair], found[:, wide[0][is_pair], wide[1][is_pair]], rtol=1e-6)
