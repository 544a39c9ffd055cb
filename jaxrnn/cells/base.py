"""Cells as records of pure functions, and the functions that most cells share.

In all equations ``x`` is the input at ``t``, primes mark the carry from ``t-1``, ``sigma`` is the logistic function and
``*`` is element-wise. Matrices are stored ``[in, out]``, so ``W x`` is ``x @ w`` in code. The gates stand side by side
in one matrix, in the order that each parameter class gives.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key, PyTree, at_least_float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """The interface of all cells: pure functions of a NamedTuple of parameters.

    Attributes:
        params_type: the NamedTuple class of the parameters; its docstring gives the order of the gates.
        init: ``init(key, input_size, hidden_size, initializer) -> params``, float32.
        start: ``start(params, batch_shape, dtype) -> carry``: a NamedTuple of arrays ``[*batch, ...]``, of which ``h``
            is the hidden state. It reads the shapes of the parameters, not their values.
        reach: ``reach(start, T) -> carry``: the first entries of each field, as many as T steps from the start can
            read or change. The default keeps all entries; with fewer, short sequences take less time.
        project: ``project(params, x [..., D]) -> z [..., Z]``: everything that does not depend on the carry.
        projects_in_steps: whether dense inputs may be projected step by step, where that is faster.
        is_rowwise: whether `project` treats each vector ``x [D]`` alone. Otherwise, it treats the inputs of a step,
            ``[*batch, D]``, together.
    """

    params_type: type[Any]
    init: Callable[[Key, int, int, Initializer], Any]
    start: Callable[[Any, Sequence[int], Any], Any]
    project: Callable[[Any, Array], Array]
    reach: Callable[[Any, int], Any] = lambda start, num_steps: start
    is_rowwise: bool = True
    projects_in_steps: bool = True

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, dict[str, Array]]:
        """One time step: ``(carry, y [*batch, H], gates)`` from the carry and a projected input ``z [*batch, Z]``.

        The output y is the new carry's ``h``, which models read at the end of a sequence. The gates are activations to
        plot, by name.
        """
        raise NotImplementedError

    def project_all(self, params: Any, xs: Array) -> Array:
        """Applies `project` to all steps at once, or to the rows of a table: ``z [T, *batch, Z]``."""
        return self.project(params, xs) if self.is_rowwise else jax.vmap(self.project, (None, 0))(params, xs)

    def initial_carry(self, hidden_size: int, batch_shape: Sequence[int] = (), dtype: Any = jnp.float32) -> Any:
        """The carry with which sequences start, for parameters of this size."""
        params = jax.eval_shape(lambda key: self.init(key, 1, hidden_size, _no_draw), jax.random.key(0))
        return self.start(params, batch_shape, dtype)


def _no_draw(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    del key, name, hidden_size
    return jnp.zeros(shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralCell(Cell):
    """A cell without further structure, differentiated by plain autodiff.

    Attributes:
        advance: ``advance(params, carry, z) -> (carry, y, gates)``, the step.
        weight: ``weight(params) -> W [H, U]``, where there is one recurrent matrix.
    """

    advance: Callable[[Any, Any, Array], tuple[Any, Array, dict[str, Array]]]
    weight: Callable[[Any], Array] | None = None

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, dict[str, Array]]:
        """As in `Cell.step`."""
        return self.advance(params, carry, z)


class Product:
    """The product of a step, ``u = apply(weight, s)``, linear in both, and what its gradient needs."""

    def prepare(self, weight: PyTree) -> PyTree:
        """The weights as `apply` and `pull_source` take them; this is done once for all steps."""
        return weight

    def apply(self, weight: PyTree, s: Array) -> Array:
        """From prepared weights and ``s [*batch, H]`` to ``u [*batch, U]``."""
        raise NotImplementedError

    def pull_source(self, weight: PyTree, s: Array) -> Callable[[Array], Array]:
        """The map from the cotangent of ``u`` to that of ``s``, an array like the given one, for prepared weights."""
        transposed = jax.linear_transpose(lambda s: self.apply(weight, s), s)
        return lambda d_u: transposed(d_u)[0]

    def pull_weight(self, weight: PyTree, s: Array, d_u: Array) -> PyTree:
        """The cotangent of the weights from ``d_u [T, *batch, U]`` and ``s [T, *batch, H]`` of all steps.

        It may have a higher precision than the weights.
        """

        def steps(weight: PyTree) -> Array:
            return jax.vmap(self.apply, in_axes=(None, 0))(self.prepare(weight), s)

        return jax.vjp(steps, weight)[1](d_u)[0]


@dataclasses.dataclass(frozen=True)
class MatrixProduct(Product):
    """``s @ W`` with one matrix ``W [H, U]``.

    Attributes:
        dtype: the dtype of both factors, such as bfloat16; sums are then float32. None leaves the factors as they are.
    """

    dtype: Any = None

    def prepare(self, weight: Array) -> Array:
        """As in `Product`."""
        return weight if self.dtype is None else weight.astype(self.dtype)

    def apply(self, weight: Array, s: Array) -> Array:
        """As in `Product`."""
        if self.dtype is None:
            return s @ weight
        return jnp.matmul(s.astype(self.dtype), weight, preferred_element_type=jnp.float32)

    def pull_source(self, weight: Array, s: Array) -> Callable[[Array], Array]:
        """As in `Product`."""
        # Without the barrier XLA moves the transpose into the loop over time.
        weight_t = jax.lax.optimization_barrier(weight.T)
        return lambda d_u: self.apply(weight_t, d_u)

    def pull_weight(self, weight: Array, s: Array, d_u: Array) -> Array:
        """As in `Product`."""
        if self.dtype is not None:
            s, d_u = s.astype(self.dtype), d_u.astype(self.dtype)
        # Reshaped to matrices, because XLA copies arrays with more axes.
        rows = math.prod(d_u.shape[:-1])
        s, d_u = s.reshape(rows, s.shape[-1]), d_u.reshape(rows, d_u.shape[-1])
        sums = jnp.promote_types(d_u.dtype, jnp.float32)
        if self.dtype is not None:
            # XLA's CPU product of bfloat16 takes no transposed factors; with a second axis of rows, it copies one.
            return jnp.einsum("rih,riu->hu", s[:, None], d_u[:, None], preferred_element_type=sums)
        return jnp.matmul(s.T, d_u, preferred_element_type=sums)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductCell(Cell):
    """A cell with one product per step, ``u = product(weight(params), source(carry))``, and otherwise element-wise.

    Because the product is named, one custom gradient in `jaxrnn.recurrence` serves the family.

    Attributes:
        weight: ``weight(params) -> W``, the recurrent matrix ``[H, U]``, or whatever else `product` takes.
        source: ``source(carry) -> s [*batch, H]``.
        pointwise: ``pointwise(params, carry, z, u) -> (carry, y, gates)``.
        elementwise: names of the parameters that `pointwise` reads; it must not read others.
        is_additive: whether `pointwise` reads z and u only as their sum.
        product: the product of the weights and the source.
        stacked_gradient: whether to use the custom gradient or plain autodiff; a static choice from the benchmark.
    """

    weight: Callable[[Any], Any]
    source: Callable[[Any], Array]
    pointwise: Callable[[Any, Any, Array, Array], tuple[Any, Array, dict[str, Array]]]
    elementwise: tuple[str, ...] = ()
    is_additive: bool = False
    product: Product = MatrixProduct()
    stacked_gradient: bool = True

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, dict[str, Array]]:
        """As in `Cell.step`: the product, then `pointwise`."""
        return self.pointwise(
            params, carry, z, self.product.apply(self.product.prepare(self.weight(params)), self.source(carry))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearCell(Cell):
    """A cell whose carry follows ``c_t = a_t * c_{t-1} + b_t``, where a and b do not depend on the carry.

    This lets `jaxrnn.recurrence` take many steps at once. Fields may be complex; the output, ``h``, is real.

    Attributes:
        coefficients: ``coefficients(params, z) -> (a, b)``: two carries, computed from each ``z`` alone.
        readout: ``readout(params, carry, z) -> h``, where ``h`` does not recur but is read from the other fields.
            Then ``h`` is None in the coefficients.
        gates: ``gates(params, z) -> gates``, to plot.
        scan: how steps are taken: "loop", "chunks" or "whole" (see `jaxrnn.recurrence.linear_scan`); "auto" is the
            fastest for the backend.
    """

    coefficients: Callable[[Any, Array], tuple[Any, Any]]
    readout: Callable[[Any, Any, Array], Array] | None = None
    gates: Callable[[Any, Array], dict[str, Array]] = lambda params, z: {}
    scan: str = "auto"

    def recurring(self, carry: Any) -> Any:
        """The fields of the carry that `coefficients` gives."""
        return carry if self.readout is None else carry._replace(h=None)

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, dict[str, Array]]:
        """As in `Cell.step`."""
        a, b = self.coefficients(params, z)
        new = jax.tree.map(lambda a, c, b: a * c + b, a, self.recurring(carry), b)
        if self.readout is not None:
            h = self.readout(params, new, z)
            new = new._replace(h=h.astype(jnp.promote_types(z.dtype, carry.h.dtype)))
        return new, new.h, self.gates(params, z)


def with_field(params_type: type[Any], prefix: str, field: str) -> Any:
    """A NamedTuple class of parameters with one more field, which is None by default."""
    make: Any = collections.namedtuple  # The class is made here, where no type checker can read it.
    return make(f"{prefix}{params_type.__name__}", (*params_type._fields, field), defaults=[None])


def zero_start(
    carry_type: type[Any], matrix: Callable[[Any], Any] = lambda params: params.w_h
) -> Callable[[Any, Sequence[int], Any], Any]:
    """The `start` of a carry whose fields are zeros ``[*batch, H]``, where H is the number of rows of a parameter."""

    def start(params: Any, batch_shape: Sequence[int], dtype: Any) -> Any:
        shape = (*batch_shape, matrix(params).shape[-2])
        return carry_type(*(jnp.zeros(shape, dtype) for _ in carry_type._fields))

    return start


def spread(vector: Array, rows: Array) -> Array:
    """Repeats a parameter ``[H]`` for each of the rows ``[..., H]``; its gradient is summed in at least float32.

    In lower precision, a sum over many rows stops growing.
    """
    summed = jax.tree.map(at_least_float32, vector)  # None if `elementwise` lacks it; the caller's sum then fails.
    return vector if summed is vector else jnp.broadcast_to(summed, rows.shape).astype(vector.dtype)


def multiply(x: Array, matrix: Array) -> Array:
    """``x W``; the gradient of W is summed in at least float32, which not every compiler does by itself."""
    dtype = jnp.result_type(x, matrix)
    # Reshaped to matrices, because XLA copies arrays with more axes for the gradient of W.
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = jnp.matmul(rows, matrix, preferred_element_type=jnp.promote_types(dtype, jnp.float32))
    return y.astype(dtype).reshape(*x.shape[:-1], matrix.shape[-1])


def affine(params: Any, x: Array, multiply: Callable[[Array, Array], Array] = multiply) -> Array:
    """``W_x x + b``, the `project` of a cell with parameters ``w_x`` and, where it has a bias, ``b``."""
    z = multiply(x, params.w_x)
    return z + spread(params.b, z) if "b" in params._fields else z


def hidden_state(carry: Any) -> Array:
    """``h``, the `source` of a cell whose hidden state recurs."""
    return carry.h


def recurrent_matrix(params: Any) -> Array:
    """``w_h``, the `weight` of a cell with a parameter of this name."""
    return params.w_h


def init_gates(
    key: Key, initializer: Initializer, gates: str, role: str, rows: tuple[int, ...], hidden_size: int
) -> Array:
    """The parameters of the gates with these letters and one role, each ``[*rows, H]``, side by side."""
    keys = jax.random.split(key, len(gates))
    shape = (*rows, hidden_size)
    drawn = [initializer(k, f"{gate}_{role}", shape, hidden_size) for k, gate in zip(keys, gates, strict=True)]
    return jnp.concatenate(drawn, axis=-1)


def affine_init(
    params_type: type[Any], gates: str, recurrent_gates: str | None = None, role: str = "h"
) -> Callable[[Key, int, int, Initializer], Any]:
    """The `init` of cells whose parameters start with input matrix, recurrent matrix and bias, in this order.

    Args:
        params_type: the NamedTuple of the three.
        gates: their letters, in the order of the columns.
        recurrent_gates: the gates that see the carry; all by default.
        role: the role of the recurrent matrix, ``h``, or ``c`` if it multiplies the cell state.
    """

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        k_x, k_h, k_b = jax.random.split(key, 3)
        return params_type(
            init_gates(k_x, initializer, gates, "x", (input_size,), hidden_size),
            init_gates(k_h, initializer, recurrent_gates or gates, role, (hidden_size,), hidden_size),
            init_gates(k_b, initializer, gates, "b", (), hidden_size),
        )

    return init
