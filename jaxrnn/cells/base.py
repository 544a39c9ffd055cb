"""What a cell is: a record of pure functions, and the functions that most cells share.

In all equations ``x`` is the input at ``t``, primes mark the carry from ``t-1``, ``sigma`` is the logistic function and
``*`` is element-wise. Matrices are stored ``[in, out]``, so ``W x`` is ``x @ w`` in code. The gates stand side by side
in one matrix, in the order that each parameter class gives.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What all cells have: pure functions of a NamedTuple of parameters.

    Attributes:
        params_type: the NamedTuple class of the parameters; its docstring gives the order of the gates.
        carry_type: the NamedTuple class of the carry, fields ``[*batch, H]``; one of them is ``h``, the hidden state.
        init: ``init(key, input_size, hidden_size, initializer) -> params``, float32.
        project: ``project(params, x [..., D]) -> z [..., Z]``: everything that does not depend on the carry.
        weight: ``weight(params) -> W [H, U]``, the recurrent matrix.
    """

    params_type: type[Any]
    carry_type: type[Any]
    init: Callable[[Key, int, int, Initializer], Any]
    project: Callable[[Any, Array], Array]
    weight: Callable[[Any], Array]

    def initial_carry(self, hidden_size: int, batch_shape: Sequence[int] = (), dtype: Any = jnp.float32) -> Any:
        """The zero carry, every field ``[*batch_shape, hidden_size]``."""
        return self.carry_type(*(jnp.zeros((*batch_shape, hidden_size), dtype) for _ in self.carry_type._fields))

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, Any]:
        """One time step: ``(carry, y [*batch, H], gates)`` from the carry and a projected input ``z [*batch, Z]``."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductCell(Cell):
    """A cell with one matrix product a step, ``u = source(carry) @ weight(params)``, and element-wise otherwise.

    Because the product is named, one custom gradient in `jaxrnn.recurrence` serves the family.

    Attributes:
        source: ``source(carry) -> s [*batch, H]``, a field of the carry.
        pointwise: ``pointwise(params, carry, z, u) -> (carry, y, gates)``; ``gates`` is a dict of activations to plot.
        elementwise: names of the parameters that `pointwise` reads; it must not read others.
        stacked_gradient: take the custom gradient (True) or plain autodiff; a static choice from the benchmark.
    """

    source: Callable[[Any], Array]
    pointwise: Callable[[Any, Any, Array, Array], tuple[Any, Array, dict[str, Array]]]
    elementwise: tuple[str, ...] = ()
    stacked_gradient: bool = True

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, Any]:
        """As in `Cell.step`: the product, then `pointwise`."""
        return self.pointwise(params, carry, z, self.source(carry) @ self.weight(params))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralCell(Cell):
    """A cell whose step is not one product and an element-wise rest; it is differentiated by plain autodiff.

    Attributes:
        advance: ``advance(params, carry, z) -> (carry, y, gates)``.
    """

    advance: Callable[[Any, Any, Array], tuple[Any, Array, dict[str, Array]]]

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, Any]:
        """As in `Cell.step`: `advance`."""
        return self.advance(params, carry, z)


def affine(params: Any, x: Array) -> Array:
    """``W_x x + b``, the `project` of a cell with parameters ``w_x`` and ``b``."""
    return x @ params.w_x + params.b


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
        role: of the recurrent matrix: ``h``, or ``c`` where it multiplies the cell state.
    """

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        k_x, k_h, k_b = jax.random.split(key, 3)
        return params_type(
            init_gates(k_x, initializer, gates, "x", (input_size,), hidden_size),
            init_gates(k_h, initializer, recurrent_gates or gates, role, (hidden_size,), hidden_size),
            init_gates(k_b, initializer, gates, "b", (), hidden_size),
        )

    return init
