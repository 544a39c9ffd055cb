"""Coordinates from distances, and how far two sets of coordinates are from each other."""

import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array


def distances(positions_bnc: Array) -> Array:
    """Distances between atoms ``i < j`` in the order of `numpy.triu_indices`: ``[B, N, 3]`` to ``[B, P]``."""
    first, second = np.triu_indices(positions_bnc.shape[1], 1)
    squares = ((positions_bnc[:, first] - positions_bnc[:, second]) ** 2).sum(-1)
    # The gradient of a distance of 0 would be NaN.
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def classical_scaling(distances_bp: Array, mask_bn: Array) -> Array:
    """Coordinates ``[B, N, 3]`` with these distances, or nearly so, from the three largest axes of the centred squares.

    Atoms where the mask is False have coordinates of 0, and their distances do not count.
    """
    first, second = np.triu_indices(mask_bn.shape[1], 1)
    squares = (
        jnp.zeros((*mask_bn.shape, mask_bn.shape[1]), distances_bp.dtype).at[:, first, second].set(distances_bp**2)
    )
    squares += squares.swapaxes(1, 2)
    both = mask_bn[:, :, None] & mask_bn[:, None, :]
    counts = jnp.maximum(mask_bn.sum(1), 1)[:, None, None]
    centering = jnp.where(both, jnp.eye(mask_bn.shape[1]) - 1 / counts, 0)
    values, vectors = jnp.linalg.eigh(-0.5 * centering @ squares @ centering)
    return vectors[:, :, -3:] * jnp.sqrt(jnp.maximum(values[:, None, -3:], 0))


def rmsd(a_bnc: Array, b_bnc: Array, mask_bn: Array) -> Array:
    """Root mean square distance between atoms after the best shift, rotation and reflection, ``[B]``.

    Distances do not tell a molecule from its mirror image, hence the reflection.
    """
    counts = jnp.maximum(mask_bn.sum(1), 1)

    def centred(x: Array) -> Array:
        x = jnp.where(mask_bn[..., None], x, 0)
        return jnp.where(mask_bn[..., None], x - x.sum(1, keepdims=True) / counts[:, None, None], 0)

    a, b = centred(a_bnc), centred(b_bnc)
    overlap = jnp.linalg.svd(jnp.einsum("bni,bnj->bij", a, b), compute_uv=False).sum(-1)
    return jnp.sqrt(jnp.maximum((a**2).sum((1, 2)) + (b**2).sum((1, 2)) - 2 * overlap, 0) / counts)
