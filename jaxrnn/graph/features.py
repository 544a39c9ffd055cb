"""Features of nodes: arrays ``[N, D]`` or `SparseRows`, their product with weights, and their dropout."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # Its modules load when they are first used.
from jax.extend.random import threefry_2x32

from jaxrnn.arrays import Array, Key, at_least_float32
from jaxrnn.graph.edges import GraphsTuple, segment_sum


class RowSegments(NamedTuple):
    """The places of the entries of a sparse matrix, each row cut into segments of at most L entries.

    Rows padded to the length of the longest would be mostly padding. With single entries, a product would be a
    scatter of all of them, which a CPU does in one thread.

    Attributes:
        columns: integers ``[L, segments]``; 0 where a segment is shorter than L.
        rows: the row of each segment, integers ``[segments]``, sorted.
    """

    columns: Array | np.ndarray
    rows: Array | np.ndarray


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values", "segments", "slots", "transposed"], meta_fields=["shape"]
)
@dataclasses.dataclass(frozen=True)
class SparseRows:
    """A matrix ``[N, D]`` that stores only its nonzero entries.

    Attributes:
        values: ``[L, segments]``, or ``[L, segments, K]`` where each of K heads has values of its own; 0 where a
            segment is shorter than L.
        segments: the places of the entries.
        slots: the same entries by column, for the product's gradient: indices into `values`, flattened; the index
            ``L * segments`` stands for no entry; integers ``[L', segments']``.
        transposed: the places of the entries in the transposed matrix.
        shape: ``(N, D)``.
    """

    values: Array | np.ndarray
    segments: RowSegments
    slots: Array | np.ndarray
    transposed: RowSegments
    shape: tuple[int, int]


Features = Array | SparseRows
"""``[N, D]``; where each of K heads has features of its own, an array is ``[N, K, D]``."""


def sparse_rows(matrix: Any) -> SparseRows:
    """`SparseRows` of anything that `scipy.sparse.csr_array` takes, float32, as NumPy arrays."""
    matrix = scipy.sparse.csr_array(matrix)
    # After the entries of the matrix comes a zero, which fills the shorter segments.
    data, columns = np.append(matrix.data, 0).astype(np.float32), np.append(matrix.indices, 0).astype(np.int32)
    entries, rows = _cut(np.diff(matrix.indptr))
    slots = np.empty(data.size, np.int32)
    slots[entries] = np.arange(entries.size).reshape(entries.shape)
    slots[-1] = entries.size

    by_column = np.append(np.argsort(columns[:-1], kind="stable"), matrix.nnz)
    row_of = np.append(np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), 0).astype(np.int32)
    nth, column_of_segment = _cut(np.bincount(columns[:-1], minlength=matrix.shape[1]))
    transposed = by_column[nth]
    return SparseRows(
        values=data[entries],
        segments=RowSegments(columns[entries], rows),
        slots=slots[transposed],
        transposed=RowSegments(row_of[transposed], column_of_segment),
        shape=matrix.shape,
    )


def rows_of(graph: GraphsTuple) -> SparseRows:
    """The graph's shift as a matrix: ``project(rows_of(graph), x)`` is ``propagate(graph, x)`` in another order.

    `project` is faster if a graph stays the same for many products, since `propagate` has one thread on a CPU.
    """
    num_nodes = int(np.asarray(graph.n_node).sum())
    weights = np.ones(len(graph.senders)) if graph.edges is None else graph.edges
    ends = graph.receivers, graph.senders
    return sparse_rows(scipy.sparse.csr_array((weights, ends), shape=(num_nodes, num_nodes)))


def _cut(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts rows of the given `lengths`, stored one after the other, into segments.

    Returns:
        The places of the entries ``[L, segments]``, which are the sum of the lengths where a segment is shorter than L,
        and the row of each segment ``[segments]``.
    """
    # The cost of a segment is its slots, padding included, and about one more for the sum into its row. Segments of
    # twice the mean length cost more than those of one entry, so longer ones are not tried, and the search takes
    # about as many operations as there are entries.
    different, counts = np.unique(lengths[lengths > 0], return_counts=True)
    longest = min(different.max(initial=1), 2 * lengths.sum() // max(counts.sum(), 1))
    widths = np.arange(1, max(longest, 1) + 1)
    segments = sum((count * -(-length // widths) for length, count in zip(different, counts, strict=True)), 0 * widths)
    width = widths[np.argmin((widths + 1) * segments)]
    segments = -(-lengths // width)
    rows = np.repeat(np.arange(len(lengths)), segments)
    nth = np.arange(rows.size) - np.repeat(np.cumsum(segments) - segments, segments)
    ends = np.cumsum(lengths)
    places = (ends - lengths)[rows] + width * nth + np.arange(width)[:, None]
    return np.where(places < ends[rows], places, lengths.sum()), rows.astype(np.int32)


def project(x: Features, w: Array) -> Array:
    """The product ``[N, H]`` with weights ``[D, H]``, or for K heads ``[N, K, H]`` with ``[D, K, H]``."""
    if isinstance(x, SparseRows):
        dtype = jnp.promote_types(x.values.dtype, w.dtype)
        values, w = (at_least_float32(jnp.asarray(array, dtype)) for array in (x.values, w))
        return _sparse_product(dataclasses.replace(x, values=values), w).astype(dtype)
    return jnp.einsum("nkd,dkh->nkh", x, w) if x.ndim == 3 else jnp.tensordot(x, w, 1)


@jax.custom_vjp
def _sparse_product(x: SparseRows, w: Array) -> Array:
    return _sum_segments(jnp.asarray(x.values), x.segments, w, x.shape[0])


def _sum_segments(values: Array, segments: RowSegments, w: Array, num_rows: int) -> Array:
    """Sums slot after slot of all segments, so that each step of the loop works on numbers that fit the cache."""
    columns = jnp.asarray(segments.columns)

    def product(slot: Array | int) -> Array:
        return with_axes_of(values[slot], w) * w[columns[slot]]

    total = jax.lax.fori_loop(1, len(columns), lambda slot, total: total + product(slot), product(0))
    return segment_sum(total, segments.rows, num_rows, indices_are_sorted=True)


def _sparse_backward(residuals: tuple[SparseRows, Array], d_y: Array) -> tuple[SparseRows, Array]:
    """The gradient of ``w`` is a product with the transposed matrix; autodiff would scatter entry by entry."""
    x, w = residuals
    flat = jnp.reshape(x.values, (-1, *x.values.shape[2:]))
    values = flat.at[x.slots].get(mode="fill", fill_value=0)
    d_w = _sum_segments(values, x.transposed, d_y, x.shape[1])

    def by_slot(column: Array) -> Array:
        return (d_y[x.segments.rows] * w[column]).sum(range(x.values.ndim - 1, d_y.ndim))

    # Rarely needed; the compiler drops it if no gradient of the values is taken.
    d_values = jax.lax.map(by_slot, x.segments.columns)
    blank = jax.tree.map(lambda a: np.zeros(np.shape(a), jax.dtypes.float0), x)
    return dataclasses.replace(blank, values=d_values), d_w


_sparse_product.defvjp(lambda x, w: (_sparse_product(x, w), (x, w)), _sparse_backward)


def dropout(key: Key, rate: float, x: Array) -> Array:
    """`x` with each entry zeroed with probability `rate` in ``[0, 1)``, and the others divided by ``1 - rate``.

    The rate is rounded to a multiple of ``2^-10`` below 1, because an entry uses a third of a word of Threefry, a sixth
    of what `jax.random.bernoulli` computes. The key of Threefry is the first two words of `key`.
    """
    dropped = min(round(rate * 2**10), 2**10 - 1)
    words = threefry_2x32(jax.random.key_data(key)[:2], jnp.arange(-(-x.size // 3), dtype=jnp.uint32))
    keep = jnp.stack([words >> shift & (2**10 - 1) >= dropped for shift in (0, 10, 20)])
    # Without the barrier, XLA draws the mask again for every use, and a GAT's gradient takes a third longer.
    keep = jax.lax.optimization_barrier(keep).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(keep, x * (2**10 / (2**10 - dropped)), 0)


def drop_features(key: Key, rate: float, x: Features, num_heads: int | None = None) -> Features:
    """`dropout` of features; with `num_heads`, a copy for each head with a mask of its own.

    In `SparseRows`, only the stored entries have a mask.
    """
    values = jnp.asarray(x.values if isinstance(x, SparseRows) else x)
    if num_heads is not None:
        axis = 2 if isinstance(x, SparseRows) else 1
        values = jnp.repeat(jnp.expand_dims(values, axis), num_heads, axis)
    values = dropout(key, rate, values)
    return dataclasses.replace(x, values=values) if isinstance(x, SparseRows) else values


def with_axes_of(x: Array, y: Array) -> Array:
    """`x`, which has the leading axes of `y`, reshaped to broadcast against it."""
    return jnp.reshape(x, x.shape + (1,) * (y.ndim - x.ndim))
