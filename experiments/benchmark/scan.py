"""The suite ``scan``: long sequences of dense inputs through linear and other cells, in a single jitted call."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.benchmark import peers
from experiments.benchmark.harness import OURS, Comparison, layer_variant
from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import CELLS, Cell, LinearCell, torch_uniform
from jaxrnn.recurrence import unroll

METHODS = ("loop", "chunks", "whole")
MEMAX = "memax's associative scan"
_GATES = {"min_gru": 2, "lstm": 4, "gru": 3}


def scan(
    lengths: Sequence[int] = (512, 4096, 16384), batch_size: int = 8, input_size: int = 64, hidden_size: int = 64
) -> Iterator[Comparison]:
    """Forward pass and gradient of parameters and inputs, by the length of the sequences."""
    for length in lengths:
        xs = jax.random.normal(jax.random.key(0), (length, batch_size, input_size))
        products = 6 * length * batch_size * hidden_size
        flops = {
            name: products * gates * (input_size + (0 if isinstance(CELLS[name], LinearCell) else hidden_size))
            for name, gates in _GATES.items()
        }
        ours = {name: (cell, _draw(cell, input_size, hidden_size)) for name, cell in CELLS.items() if name in _GATES}
        variants = [
            layer_variant(OURS, name, _unroll(cell), params, xs, flops[name]) for name, (cell, params) in ours.items()
        ]
        linear, params = ours["min_gru"]
        assert isinstance(linear, LinearCell)
        for method in METHODS:
            fixed = dataclasses.replace(linear, scan=method)
            variants.append(layer_variant(f"jaxrnn, {method}", "min_gru", _unroll(fixed), params, xs, flops["min_gru"]))
        if peers.version("memax"):
            variants.append(layer_variant(MEMAX, "min_gru", memax_scan(linear), params, xs, flops["min_gru"]))
        layers = {"lstm": nn.OptimizedLSTMCell(hidden_size), "gru": nn.GRUCell(hidden_size)}
        for name, cell in layers.items():
            rnn = nn.RNN(cell, time_major=True)
            drawn = rnn.init(jax.random.key(0), xs)
            flax = f"Flax nn.RNN({type(cell).__name__})"
            variants.append(layer_variant(flax, name, rnn.apply, drawn, xs, flops[name]))
        if peers.version("torch"):
            variants += [peers.torch_layer(name, np.asarray(xs), hidden_size, flops[name]) for name in layers]
        title = f"A layer on dense inputs, forward and gradient, T={length}, B={batch_size}, D={input_size}, "
        yield Comparison(f"scan_{length}", f"{title}H={hidden_size}", variants, "call", "all products")


def _draw(cell: Cell, input_size: int, hidden_size: int) -> PyTree:
    return cell.init(jax.random.key(0), input_size, hidden_size, torch_uniform)


def _unroll(cell: Cell) -> Callable[[PyTree, Array], Array]:
    return lambda params, xs: unroll(cell, params, xs)[1]


def memax_scan(cell: Any) -> Callable[[PyTree, Array], Array]:
    """The same recurrence by memax's scan, which puts a start, here with a state of 0, in front of the sequence."""
    semigroup_scan = importlib.import_module("memax.linen.scans").semigroup_scan

    def compose(before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (a_after, b_after) = before, after
        return a * a_after, a_after * b + b_after

    def outputs(params: PyTree, xs: Array) -> Array:
        a, b = cell.coefficients(params, cell.project(params, xs))
        start = jnp.ones_like(a.h[0]), jnp.zeros_like(b.h[0])
        ys: Array = semigroup_scan(compose, start, (a.h, b.h))[1]
        return ys

    return outputs
