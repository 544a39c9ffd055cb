"""A message-passing network that predicts the distances between the atoms of a molecule."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.arrays import Array


class DistanceNetwork(nn.Module):
    """Atoms and pairs of atoms exchange messages; then each pair gets a distance and its spread.

    With ``m_ij = relu(e_ij W_e + (h_i + h_j) W_h)`` a layer is ``e_ij <- norm(e_ij + m_ij W_m)`` and
    ``h_i <- norm(h_i + relu(h_i W_s + sum_j m_ij W_r))``, where ``norm`` is over the features. A pair is the same in
    both orders, so it is kept once. The distances follow a Laplace distribution, so the likelihood fits their
    median.
    """

    hidden_size: int = 64
    num_layers: int = 4

    @nn.compact
    def __call__(self, atoms_bnd: Array, pairs_bpd: Array, is_pair_bp: Array) -> tuple[Array, Array]:
        """Distances and their mean absolute deviations, ``[B, P]``, for pairs ``i < j`` as in `numpy.triu_indices`.

        Pairs where `is_pair_bp` is False have no effect on the others.
        """
        num_atoms, mask = atoms_bnd.shape[1], is_pair_bp[..., None]
        # Which atoms a pair has. Sums over a pair's atoms and over an atom's pairs are both products with this matrix.
        incidence = np.zeros((is_pair_bp.shape[1], num_atoms))
        for end in np.triu_indices(num_atoms, 1):
            incidence[np.arange(len(end)), end] = 1
        incidence_pn = jnp.asarray(incidence, atoms_bnd.dtype)

        def dense(name: str, x: Array, bias: bool = True) -> Array:
            return nn.Dense(self.hidden_size, use_bias=bias, name=name)(x)

        atoms, pairs = dense("atoms", atoms_bnd), dense("pairs", pairs_bpd)
        for layer in range(self.num_layers):
            name = f"layer_{layer}"
            both = jnp.einsum("pn,bnd->bpd", incidence_pn, dense(f"{name}_ends", atoms))
            messages = jnp.where(mask, jax.nn.relu(dense(f"{name}_pairs", pairs, bias=False) + both), 0)
            read = dense(f"{name}_read", jnp.einsum("pn,bpd->bnd", incidence_pn, messages), bias=False)
            atoms = nn.LayerNorm(name=f"{name}_atoms_norm")(atoms + jax.nn.relu(dense(f"{name}_self", atoms) + read))
            pairs = nn.LayerNorm(name=f"{name}_pairs_norm")(pairs + dense(f"{name}_message", messages))
        ends = jnp.einsum("pn,bnd->bpd", incidence_pn, dense("output_ends", atoms))
        hidden = jax.nn.relu(dense("output_pairs", pairs, bias=False) + ends)
        found = jax.nn.softplus(nn.Dense(2, name="output")(hidden))
        return found[..., 0], found[..., 1] + 1e-3
