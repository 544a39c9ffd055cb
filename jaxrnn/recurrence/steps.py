"""The steps of a sequence: their inputs, and which of them count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree, wide


class Inputs(NamedTuple):
    """Projected inputs ``z [T, *batch, Z]``, or a table ``[V, Z]`` of them with ``indices [T, *batch]``."""

    values: Array
    indices: Array | None


@jax.custom_vjp
def lookup(table_vz: Array, indices: Array) -> Array:
    """Rows of ``table_vz [V, Z]`` at integer ``indices [...]``, exactly: ``[..., Z]``.

    Indices beyond the table behave as in JAX: a negative index counts from the end, any other reads the nearest row and
    gives it no gradient. The table's gradient is a one-hot product at highest precision, since a scatter-add is slow on
    some devices.
    """
    return table_vz[wide(indices)]


def _lookup_forward(table_vz: Array, indices: Array) -> tuple[Array, tuple[Array, Array]]:
    return table_vz[wide(indices)], (table_vz, indices)


def lookup_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, None]:
    """The table's cotangent from that of the rows; the residuals are table and indices."""
    table_vz, indices = residuals
    size = table_vz.shape[0]
    indices = wide(indices)
    from_start = jnp.where(indices < 0, indices + size, indices)
    # Reshaped to matrices, because XLA copies arrays with more axes.
    one_hot = jax.nn.one_hot(from_start.reshape(-1), size, dtype=cotangent.dtype)
    rows = cotangent.reshape(from_start.size, cotangent.shape[-1])
    return jnp.matmul(one_hot.T, rows, precision="highest").astype(table_vz.dtype), None


lookup.defvjp(_lookup_forward, lookup_backward)


class Steps(NamedTuple):
    """The inputs of all steps, and booleans ``[T, *batch]``: which of them count, and which go on from the last carry.

    Without `mask`, all count; without `goes_on`, all go on.
    """

    inputs: Inputs
    mask: Array | None
    goes_on: Array | None


class Step(NamedTuple):
    """One step's slice of `Steps`, in a scan; `input` is its projected input or its index."""

    input: Array
    mask: Array | None
    goes_on: Array | None


def scanned(steps: Steps) -> Step:
    """All steps, stacked, as a scan takes them."""
    inputs = steps.inputs
    return Step(inputs.values if inputs.indices is None else inputs.indices, steps.mask, steps.goes_on)


def projected(inputs: Inputs, step: Step) -> Array:
    """The projected input of a step; zero where it is masked, since a derivative at infinity times zero is NaN."""
    z = step.input if inputs.indices is None else inputs.values[step.input]
    return where(step.mask, z, jnp.zeros_like(z))


def where(condition: Array | None, tree: PyTree, other: PyTree) -> PyTree:
    """Chooses between two trees' arrays ``[*axes, ...]`` by booleans ``[*axes]``; without booleans, takes the first."""
    if condition is None:
        return tree

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(jnp.expand_dims(condition, tuple(range(condition.ndim, x.ndim))), x, y)

    return jax.tree.map(choose, tree, other)


def masked(mask: Array | None, new_carry: PyTree, carry: PyTree, y: Array) -> tuple[PyTree, Array]:
    """The carry and output of a step: the old carry and zero where the step is masked."""
    return where(mask, new_carry, carry), where(mask, y, jnp.zeros_like(y))
