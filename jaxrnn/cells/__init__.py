"""Recurrent cells as records of pure functions.

In all equations ``x`` is the input at ``t``, primes mark the carry from ``t-1``, ``sigma`` is the logistic function and
``*`` is element-wise. Matrices are stored ``[in, out]``, so ``W x`` is ``x @ w`` in code. The blocks of all gates stand
side by side in one matrix, in the order that each parameter class gives.

A new cell is one entry here, in `CELLS`; it then works in `jaxrnn.recurrence`, in the trainer, in Flax's ``nn.RNN`` and
in the contract test.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key


@dataclasses.dataclass(frozen=True)
class Cell:
    """What all cells have: pure functions of a NamedTuple of parameters.

    Attributes:
        params_type: the NamedTuple class of the parameters; its docstring gives the order of the gates.
        init: ``init(key, input_size, hidden_size, initializer) -> params``, float32.
        project: ``project(params, x [..., D]) -> z [..., Z]``: everything that does not depend on the carry.
        carry_type: the NamedTuple class of the carry, fields ``[*batch, H]``; one of them is ``h``, the hidden state.
        weight: ``weight(params) -> W [H, U]``, the recurrent matrix.
    """

    params_type: type[Any]
    init: Callable[[Key, int, int, Initializer], Any]
    project: Callable[[Any, Array], Array]
    carry_type: type[Any]
    weight: Callable[[Any], Array]

    def initial_carry(self, hidden_size: int, batch_shape: Sequence[int] = (), dtype: Any = jnp.float32) -> Any:
        """The zero carry, every field ``[*batch_shape, hidden_size]``."""
        return self.carry_type(*(jnp.zeros((*batch_shape, hidden_size), dtype) for _ in self.carry_type._fields))

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, Any]:
        """One time step: ``(carry, y [*batch, H], gates)`` from the carry and a projected input ``z [*batch, Z]``."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ProductCell(Cell):
    """A cell with one matrix product a step, ``u = source(carry) @ weight(params)``, and element-wise otherwise.

    Because the product is named, one custom gradient in `jaxrnn.recurrence` serves the family.

    Attributes:
        source: ``source(carry) -> s [*batch, H]``, a field of the carry.
        pointwise: ``pointwise(params, carry, z, u) -> (carry, y, gates)``; ``gates`` is a dict of what is worth a look.
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


@dataclasses.dataclass(frozen=True)
class GeneralCell(Cell):
    """A cell whose step is not one product and an element-wise rest; it is differentiated by plain autodiff.

    Attributes:
        advance: ``advance(params, carry, z) -> (carry, y, gates)``.
    """

    advance: Callable[[Any, Any, Array], tuple[Any, Array, dict[str, Array]]]

    def step(self, params: Any, carry: Any, z: Array) -> tuple[Any, Array, Any]:
        """As in `Cell.step`: `advance`."""
        return self.advance(params, carry, z)


# --- Initialisers -----------------------------------------------------------------------------------------------------
# A block is named by gate and role: `g_x` and `g_h` multiply input and carry, `g_b` is a bias, `i_p` a peephole.


def kaiming(key: Key, block: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """The report's rule: normal with deviation ``gain / sqrt(shape[1])``; vectors are zero.

    The gain is 5/3 for the tanh candidate ``g`` of an LSTM and 1 elsewhere. It is PyTorch's ``kaiming_normal_`` applied
    to ``[in, out]`` matrices, where "fan in" becomes the second dimension.
    """
    del hidden_size
    if len(shape) == 1:
        return jnp.zeros(shape)
    gain = 5 / 3 if block.startswith("g_") else 1.0
    return gain / shape[1] ** 0.5 * jax.random.normal(key, shape)


def torch_uniform(key: Key, block: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """PyTorch's default for `nn.LSTM`, `nn.GRU`, `nn.RNN` and the head: ``U(-1/sqrt(H), 1/sqrt(H))`` everywhere.

    A bias ``*_b`` is the sum of two draws, since it stands for PyTorch's ``b_ih + b_hh``.
    """
    draws = 2 if block.endswith("_b") else 1
    bound = hidden_size**-0.5
    return jax.random.uniform(key, (draws, *shape), minval=-bound, maxval=bound).sum(0)


def orthogonal(spectral_radius: Array | float) -> Initializer:
    """`kaiming`, but for matrices that multiply a carry, ``*_h [H, H]``: an orthogonal one times `spectral_radius`."""

    def initializer(key: Key, block: str, shape: tuple[int, ...], hidden_size: int) -> Array:
        if block.endswith("_h"):
            return spectral_radius * jax.random.orthogonal(key, shape[0])
        return kaiming(key, block, shape, hidden_size)

    return initializer


INITIALIZERS: dict[str, Initializer] = {"kaiming": kaiming, "torch": torch_uniform}


def _gates(key: Key, initializer: Initializer, names: str, role: str, rows: tuple[int, ...], hidden_size: int) -> Array:
    """The blocks of the gates `names`, each ``[*rows, H]``, side by side."""
    keys = jax.random.split(key, len(names))
    shape = (*rows, hidden_size)
    blocks = [initializer(k, f"{n}_{role}", shape, hidden_size) for k, n in zip(keys, names, strict=True)]
    return jnp.concatenate(blocks, axis=-1)


def _affine_init(
    params_type: type[Any], gates: str, recurrent_gates: str | None = None, role: str = "h"
) -> Callable[[Key, int, int, Initializer], Any]:
    """The `init` of cells whose parameters start with input matrix, recurrent matrix and bias, in this order.

    Args:
        params_type: the NamedTuple of the three.
        gates: their letters, in the order of the blocks.
        recurrent_gates: those that see the carry; all by default.
        role: of the recurrent blocks: ``h``, or ``c`` where they look at the cell state.
    """

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        k_x, k_h, k_b = jax.random.split(key, 3)
        return params_type(
            _gates(k_x, initializer, gates, "x", (input_size,), hidden_size),
            _gates(k_h, initializer, recurrent_gates or gates, role, (hidden_size,), hidden_size),
            _gates(k_b, initializer, gates, "b", (), hidden_size),
        )

    return init


def _affine(params: Any, x: Array) -> Array:
    return x @ params.w_x + params.b


def _hidden(carry: Any) -> Array:
    return carry.h


def _recurrent(params: Any) -> Array:
    return params.w_h


# --- Vanilla RNN ------------------------------------------------------------------------------------------------------


class RNNCarry(NamedTuple):
    """Hidden state ``h [*batch, H]``."""

    h: Array


class RNNParams(NamedTuple):
    """``w_x [D, H]``, ``w_h [H, H]``, ``b [H]``: ``H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _rnn_pointwise(activation: Callable[[Array], Array]) -> Callable[..., Any]:
    def pointwise(params: RNNParams, carry: RNNCarry, z: Array, u: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
        """``h = activation(W_hx x + W_hh h' + b_h)`` (report, Question 1.1)."""
        h = activation(z + u)
        return RNNCarry(h), h, {}

    return pointwise


def _rnn(activation: Callable[[Array], Array]) -> ProductCell:
    return ProductCell(
        RNNParams, _affine_init(RNNParams, "h"), _affine, RNNCarry, _recurrent, _hidden, _rnn_pointwise(activation)
    )


# --- LSTM and its peepholes -------------------------------------------------------------------------------------------


class LSTMCarry(NamedTuple):
    """Hidden state ``h`` and cell state ``c``, both ``[*batch, H]``."""

    h: Array
    c: Array


class LSTMParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_h [H, 4H]``, ``b [4H]``, gates in the order i, f, g, o: ``4H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


_init_lstm = _affine_init(LSTMParams, "ifgo")


def _lstm_pointwise(
    params: LSTMParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """``c = g*i + c'*f``, ``h = tanh(c)*o``, with ``g`` a tanh and ``i, f, o`` logistic (report, Question 1.2)."""
    i, f, g, o = jnp.split(z + u, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = g * i + carry.c * f
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"i": i, "f": f, "g": g, "o": o}


class PeepholeParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_c [H, 3H]``, ``b [4H]``, gates in the order f, i, o, c; ``w_c`` has the first three.

    ``4H (D + 1) + 3H^2`` numbers.
    """

    w_x: Array
    w_c: Array
    b: Array


def _peephole_pointwise(
    params: PeepholeParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """The report's peephole LSTM (Question 1.4): the gates look at ``c'`` through full matrices, ``h`` does not recur.

    ``f, i, o = sigma(W_.x x + W_.h c' + b_.)``, ``c = sigma(W_cx x + b_c)*i + c'*f``, ``h = tanh(c)*o``.
    """
    gated, candidate = jnp.split(z, [u.shape[-1]], axis=-1)
    f, i, o = jnp.split(jax.nn.sigmoid(gated + u), 3, axis=-1)
    g = jax.nn.sigmoid(candidate)
    c = g * i + carry.c * f
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"f": f, "i": i, "o": o, "g": g}


class GersParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_h [H, 4H]``, ``b [4H]`` in the order i, f, g, o, and the peepholes ``p_i, p_f, p_o [H]``.

    ``4H (D + H + 1) + 3H`` numbers.
    """

    w_x: Array
    w_h: Array
    b: Array
    p_i: Array
    p_f: Array
    p_o: Array


def _init_gers(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GersParams:
    k_lstm, k_i, k_f, k_o = jax.random.split(key, 4)
    lstm = _init_lstm(k_lstm, input_size, hidden_size, initializer)
    return GersParams(
        w_x=lstm.w_x,
        w_h=lstm.w_h,
        b=lstm.b,
        p_i=initializer(k_i, "i_p", (hidden_size,), hidden_size),
        p_f=initializer(k_f, "f_p", (hidden_size,), hidden_size),
        p_o=initializer(k_o, "o_p", (hidden_size,), hidden_size),
    )


def _gers_pointwise(
    params: GersParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """The LSTM whose ``i, f`` also see ``p*c'`` and whose ``o`` sees ``p*c`` (Gers and Schmidhuber 2000).

    It is what ONNX and TensorFlow mean by "peephole".
    """
    i, f, g, o = jnp.split(z + u, 4, axis=-1)
    i = jax.nn.sigmoid(i + params.p_i * carry.c)
    f = jax.nn.sigmoid(f + params.p_f * carry.c)
    g = jnp.tanh(g)
    c = g * i + carry.c * f
    o = jax.nn.sigmoid(o + params.p_o * c)
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"i": i, "f": f, "g": g, "o": o}


# --- GRU --------------------------------------------------------------------------------------------------------------


class GRUParams(NamedTuple):
    """``w_x [D, 3H]``, ``w_h [H, 3H]``, ``b [3H]`` in the order r, u, n, and ``b_n [H]``.

    ``3H (D + H + 1) + H`` numbers; ``b_n`` is the candidate's second bias, inside the reset gate.
    """

    w_x: Array
    w_h: Array
    b: Array
    b_n: Array


def _init_gru(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GRUParams:
    k_x, k_h, k_b, k_bx, k_bh = jax.random.split(key, 5)
    # The two biases of the candidate stay apart, so each is one draw: roles `bx` and `bh`.
    gates = _gates(k_b, initializer, "ru", "b", (), hidden_size)
    candidate = _gates(k_bx, initializer, "n", "bx", (), hidden_size)
    return GRUParams(
        w_x=_gates(k_x, initializer, "run", "x", (input_size,), hidden_size),
        w_h=_gates(k_h, initializer, "run", "h", (hidden_size,), hidden_size),
        b=jnp.concatenate([gates, candidate]),
        b_n=_gates(k_bh, initializer, "n", "bh", (), hidden_size),
    )


def _gru_pointwise(params: GRUParams, carry: RNNCarry, z: Array, u: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(W_nx x + b + r*(W_nh h' + b_n))``, as in cuDNN and PyTorch."""
    u_r, u_u, u_n = jnp.split(u, 3, axis=-1)
    reset = jax.nn.sigmoid(z[..., : u_r.shape[-1]] + u_r)
    # Side by side again, they reach memory: of the whole step XLA's CPU compiler makes one loop, without vectors.
    gated = jnp.concatenate([u_r, u_u, reset * (u_n + params.b_n)], axis=-1)
    _, a_u, a_n = jnp.split(z + gated, 3, axis=-1)
    update, candidate = jax.nn.sigmoid(a_u), jnp.tanh(a_n)
    h = (1 - update) * candidate + update * carry.h
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


class GRUChoParams(NamedTuple):
    """``w_x [D, 3H]``, ``w_h [H, 3H]``, ``b [3H]`` in the order r, u, n: ``3H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _gru_cho_advance(params: GRUChoParams, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(W_nx x + b + W_nh (r*h'))``, as printed in Cho et al. 2014."""
    hidden_size = carry.h.shape[-1]
    w_gates, w_candidate = jnp.split(params.w_h, [2 * hidden_size], axis=-1)
    z_gates, z_candidate = jnp.split(z, [2 * hidden_size], axis=-1)
    reset, update = jnp.split(jax.nn.sigmoid(z_gates + carry.h @ w_gates), 2, axis=-1)
    candidate = jnp.tanh(z_candidate + (reset * carry.h) @ w_candidate)
    h = (1 - update) * candidate + update * carry.h
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


CELLS: dict[str, Cell] = {
    "rnn": _rnn(jnp.tanh),
    "linear_rnn": _rnn(lambda a: a),
    "lstm": ProductCell(LSTMParams, _init_lstm, _affine, LSTMCarry, _recurrent, _hidden, _lstm_pointwise),
    "peephole": ProductCell(
        PeepholeParams,
        _affine_init(PeepholeParams, "fioc", recurrent_gates="fio", role="c"),
        _affine,
        LSTMCarry,
        weight=lambda params: params.w_c,
        source=lambda carry: carry.c,
        pointwise=_peephole_pointwise,
    ),
    "gers_peephole": ProductCell(
        GersParams,
        _init_gers,
        _affine,
        LSTMCarry,
        _recurrent,
        _hidden,
        _gers_pointwise,
        elementwise=("p_i", "p_f", "p_o"),
    ),
    "gru": ProductCell(
        GRUParams, _init_gru, _affine, RNNCarry, _recurrent, _hidden, _gru_pointwise, elementwise=("b_n",)
    ),
    "gru_cho": GeneralCell(
        GRUChoParams, _affine_init(GRUChoParams, "run"), _affine, RNNCarry, _recurrent, _gru_cho_advance
    ),
}
"""All cells by name. ``peephole`` is the report's, ``gers_peephole`` the one of the literature."""
