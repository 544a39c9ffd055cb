"""Models that read a batch of molecules: neural fingerprint, Weave and GCN, each with a head that predicts a number.

They normalise by the means and deviations of the batch in training, and by running ones otherwise, so that a prediction
does not depend on the other molecules. The running ones are parameters too. They follow those of the batches by
plain gradient descent, at the rate `RUNNING_RATE`, on what `apply` gives in the collection ``"running"``.

There is no bias directly before a norm. It would change nothing, so its gradient would be rounding errors alone, which
Adam turns into whole steps.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxrnn.arrays import Array, PyTree
from jaxrnn.graph import molecules as graph
from jaxrnn.graph.molecules import MoleculeBatch

RUNNING = "running"
RUNNING_RATE = 0.02
# From Kearnes et al. 2016: means and deviations of the memberships in their Gaussian histogram.
_HISTOGRAM = np.array(
    [(0, 0.114), (0.228, 0.114), (0.468, 0.118), (0.739, 0.134), (1.080, 0.170), (1.645, 0.283)], np.float64
)
HISTOGRAM = np.concatenate([_HISTOGRAM[:0:-1] * [-1, 1], _HISTOGRAM])


def is_running(path: tuple[Any, ...]) -> bool:
    """Whether a parameter, by its path in the tree, is a running mean or deviation."""
    return str(getattr(path[-1], "key", "")).startswith(RUNNING)


def with_running(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer of the weights, joined with that of the running means and deviations."""

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: is_running(path), params)

    return optax.partition({False: optimizer, True: optax.sgd(RUNNING_RATE)}, labels)


def drift(variables: PyTree) -> Array:
    """Zero, with the gradient that lets running parameters follow the batch; `variables` are what `apply` also gave."""
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables)) + jnp.zeros(())
    return total - jax.lax.stop_gradient(total)


class RunningNorm(nn.Module):
    """``(x - mean) / (deviation + offset)`` over the rows of ``x [N, H]`` where ``mask [N]`` is True.

    The offset is 1 in Duvenaud's code; with 0 a scale and a bias follow, as usual.
    """

    offset: float = 0.0

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        """``[N, H]``; in training `apply` needs ``mutable=["running"]``."""
        width, dtype = x.shape[-1], x.dtype
        mean = self.param("running_mean", nn.initializers.zeros, (width,), dtype)
        deviation = self.param("running_deviation", nn.initializers.ones, (width,), dtype)
        if train:
            mean_of = partial(jnp.dot, mask.astype(dtype) / jnp.maximum(mask.sum(), 1), precision="highest")
            batch_mean = mean_of(x)
            batch_deviation = jnp.sqrt(mean_of((x - batch_mean) ** 2) + 1e-5)
            for running, now in ((mean, batch_mean), (deviation, batch_deviation)):
                self.sow(RUNNING, "drift", 0.5 * jnp.sum((running - jax.lax.stop_gradient(now)) ** 2))
            mean, deviation = batch_mean, batch_deviation
        y = (x - mean) * (1 / (deviation + self.offset))
        if self.offset:
            return y
        scale = self.param("scale", nn.initializers.ones, (width,), dtype)
        return y * scale + self.param("bias", nn.initializers.zeros, (width,), dtype)


class Head(nn.Module):
    """Hidden layers with a norm, ReLU and dropout, then a number ``[B]``; linear without hidden layers.

    Outputs of mean 0 and deviation 1 are scaled to the mean and deviation of the targets.
    """

    hidden_sizes: tuple[int, ...]
    dropout: float = 0.0
    offset: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        """A number for each row of ``x [B, H]``; in training `apply` needs ``rngs={"dropout": key}``."""
        for i, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, use_bias=False, name=f"hidden_{i}")(x)
            x = jax.nn.relu(RunningNorm(self.offset, name=f"norm_{i}")(x, mask, train))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(1, name="output")(x)[:, 0] * self.deviation + self.mean


class NeuralFingerprint(nn.Module):
    """Duvenaud et al. 2015: ``f = sum_l sum_i softmax(a_i V_l + c_l)`` over layers l and atoms i.

    ``a_i <- relu(norm(a_i W_self + (sum_j a_j, sum_j e_ij) W_deg(i)))`` over the neighbours j, with a matrix for
    each degree; the last six features of an atom are the sum of those of its bonds.
    """

    hidden_size: int
    num_layers: int
    fingerprint_size: int
    head: Head

    @nn.compact
    def __call__(self, batch: MoleculeBatch, train: bool = False) -> Array:
        """Predictions ``[B]``, as `Head`."""
        a, bonds = batch.features[:, :-6], batch.features[:, -6:]
        written = jnp.zeros((len(a), self.fingerprint_size), a.dtype)
        for layer in range(self.num_layers + 1):
            if layer:
                a = self._update(layer - 1, batch, a, bonds, train)
            written += jax.nn.softmax(nn.Dense(self.fingerprint_size, name=f"write_{layer}")(a))
        return self.head(graph.sum_atoms(batch, written), batch.is_whole, train)

    def _update(self, layer: int, batch: MoleculeBatch, a: Array, bonds: Array, train: bool) -> Array:
        read = jnp.concatenate([graph.sum_neighbours(batch, a), bonds], 1)
        products = [
            nn.Dense(self.hidden_size, use_bias=False, name=f"layer_{layer}_degree_{degree}")(block)
            for degree, block in enumerate(graph.by_degree(batch, read))
        ]
        own = nn.Dense(self.hidden_size, use_bias=False, name=f"layer_{layer}_self")(a)
        total = own + jnp.concatenate(products)
        return jax.nn.relu(RunningNorm(1.0, name=f"layer_{layer}_norm")(total, batch.mask, train))


class Weave(nn.Module):
    """Kearnes et al. 2016 in DeepChem's form: atoms and pairs exchange messages, then a Gaussian histogram of atoms.

    ``A' = act((act(A W_AA), sum_j act(P_ij W_PA)) W_A)`` and
    ``P'_ij = act((act((A_i, A_j) W_AP) + act((A_j, A_i) W_AP), act(P_ij W_PP)) W_P)``, where ``act`` is a norm and
    ReLU; the last layer has no new pairs.
    """

    hidden_size: int
    num_layers: int
    fingerprint_size: int
    head: Head

    @nn.compact
    def __call__(self, batch: MoleculeBatch, train: bool = False) -> Array:
        """Predictions ``[B]``, as `Head`."""
        atoms, pairs, mask = batch.features, batch.pairs.features, batch.mask

        def act(name: str, x: Array, mask: Array) -> Array:
            return jax.nn.relu(RunningNorm(name=f"{name}_norm")(x, mask, train))

        def dense(name: str, x: Array) -> Array:
            return nn.Dense(self.hidden_size, use_bias=False, name=name)(x)

        for layer in range(self.num_layers):
            name, of_pairs = f"layer_{layer}", batch.pairs.mask
            own = act(f"{name}_aa", dense(f"{name}_aa", atoms), mask)
            told = act(f"{name}_pa", dense(f"{name}_pa", pairs), of_pairs)
            read = jnp.concatenate([own, graph.sum_pairs(batch, told)], 1)
            if layer < self.num_layers - 1:
                # The product of two atoms side by side is the sum of a product for each.
                one, other = dense(f"{name}_ap", atoms), dense(f"{name}_ap_other", atoms)
                both = graph.at_firsts(batch, one) + graph.at_seconds(batch, other)
                both = act(f"{name}_ap", both, of_pairs)
                kept = act(f"{name}_pp", dense(f"{name}_pp", pairs), of_pairs)
                joined = jnp.concatenate([both + graph.reversed_pairs(batch, both), kept], 1)
                pairs = act(f"{name}_p", dense(f"{name}_p", joined), of_pairs)
            atoms = act(f"{name}_a", dense(f"{name}_a", read), mask)
        atoms = jnp.tanh(nn.Dense(self.fingerprint_size, name="atoms")(atoms))
        atoms = RunningNorm(name="atoms_norm")(atoms, mask, train)
        totals = [graph.sum_atoms(batch, memberships) for memberships in histogram(atoms)]
        return self.head(jnp.concatenate(totals, 1), batch.is_whole, train)


def histogram(x: Array) -> list[Array]:
    """The memberships of each number in 11 Gaussians, which sum to 1; each has the shape of `x`."""
    # One array for each Gaussian, since a CPU is slow at sums over a last axis of 11 numbers.
    logits = [-0.5 * ((x - mean) / deviation) ** 2 for mean, deviation in HISTOGRAM.tolist()]
    # Relative to the outermost Gaussian, the widest, which is the largest far from all means: no zero divides zero.
    mean, deviation = HISTOGRAM[-1].tolist()
    outermost = jax.lax.stop_gradient(-0.5 * ((jnp.abs(x) - mean) / deviation) ** 2)
    parts = [jnp.exp(one - outermost) for one in logits]
    share = 1 / sum(parts)
    return [part * share for part in parts]


class MoleculeGCN(nn.Module):
    """Layers ``relu(norm(A_hat A W))`` of Kipf and Welling 2017, then a tanh layer that is summed over the atoms."""

    hidden_size: int
    num_layers: int
    fingerprint_size: int
    head: Head

    @nn.compact
    def __call__(self, batch: MoleculeBatch, train: bool = False) -> Array:
        """Predictions ``[B]``, as `Head`."""
        atoms = batch.features
        for layer in range(self.num_layers):
            x = graph.gcn_propagate(batch, nn.Dense(self.hidden_size, name=f"layer_{layer}")(atoms))
            atoms = jax.nn.relu(RunningNorm(name=f"layer_{layer}_norm")(x, batch.mask, train))
        atoms = jnp.tanh(nn.Dense(self.fingerprint_size, name="atoms")(atoms))
        return self.head(graph.sum_atoms(batch, atoms), batch.is_whole, train)


MODELS: dict[str, Any] = {"fingerprint": NeuralFingerprint, "weave": Weave, "gcn": MoleculeGCN}
