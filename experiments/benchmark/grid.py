"""The suites ``grid`` and ``cells``: layers on dense inputs, as in other libraries, in one jitted call and a chunk."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.benchmark import peers
from experiments.benchmark.harness import CHUNK_STEPS, FORWARD, GRADIENT, OURS, STEP, Comparison, Variant, layer_variant
from experiments.benchmark.scan import MEMAX, memax_scan
from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import CELLS, LinearCell, ProductCell, torch_uniform
from jaxrnn.recurrence import unroll
from jaxrnn.study.page import Table

KEY = "grid"
"""The prefix of the keys of this suite's comparisons."""
PRODUCTS = "jaxrnn, its products alone"
"""A bound for the cell: the same scan and gradient, with a mean in place of its gates."""
_FLAX: Mapping[str, Sequence[type[Any]]] = {
    "lstm": (nn.OptimizedLSTMCell, nn.LSTMCell),
    "gru": (nn.GRUCell,),
    "rnn": (nn.SimpleCell,),
    "mgu": (nn.MGUCell,),
}
_MEMAX = {
    "lstm": "set_actions.lstm.LSTM",
    "gru": "set_actions.gru.GRU",
    "mgu": "set_actions.mgu.MGU",
    "lru": "semigroups.lru.LRU",
}
_TORCH = ("lstm", "gru", "rnn")


class Sizes(NamedTuple):
    """Numbers of steps, sequences in a batch, inputs and hidden units."""

    num_steps: int
    batch_size: int
    input_size: int
    hidden_size: int


SIZES = tuple(
    Sizes(*sizes)
    for sizes in (
        (512, 32, 128, 128),
        (128, 64, 256, 256),
        (128, 32, 32, 32),
        (128, 32, 8, 32),
        (64, 128, 512, 512),
        (1024, 8, 64, 64),
        (4096, 4, 64, 128),
        (30, 64, 512, 512),
        (100, 1, 128, 128),
    )
)
_EVERY = Sizes(128, 32, 128, 128)
"""The sizes of the suite ``cells``."""


def grid(
    all_sizes: Sequence[Sizes] = SIZES, names: Sequence[str] = ("lstm", "gru", "rnn", "peephole")
) -> Iterator[Comparison]:
    """Each cell at each size: forward, the gradient of parameters and inputs, and gradient descent steps in a chunk."""
    for sizes in all_sizes:
        xs = jax.random.normal(jax.random.key(0), (sizes.num_steps, sizes.batch_size, sizes.input_size))
        variants = [variant for cell in names for variant in _variants(cell, sizes, xs)]
        yield Comparison("_".join(map(str, (KEY, *sizes))), _title(sizes), variants, "step", "all products")


def cells(sizes: Sizes = _EVERY, names: Sequence[str] = tuple(CELLS)) -> Iterator[Comparison]:
    """A step of gradient descent of every cell, beside the same cell in other libraries where there is one."""
    xs = jax.random.normal(jax.random.key(0), (sizes.num_steps, sizes.batch_size, sizes.input_size))
    variants = [variant for cell in names for variant in _variants(cell, sizes, xs, (STEP,))]
    yield Comparison("cells", _title(sizes), variants, "step", "all products")


def _title(sizes: Sizes) -> str:
    return "A layer on dense inputs, T={}, B={}, D={}, H={}; chunks of {} steps".format(*sizes, CHUNK_STEPS)


def geometric_means(measured: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The fastest peers' times relative to ours, over sizes, by cell and work; no table without the grid."""
    ratios: dict[str, list[float]] = {}
    for comparison in measured:
        if comparison["key"].startswith(KEY):
            for group in dict.fromkeys(row["group"] for row in comparison["rows"]):
                peer = [
                    row["ratio"]
                    for row in comparison["rows"]
                    if row["group"] == group and row["name"] not in (OURS, PRODUCTS)
                ]
                if peer and None not in peer:
                    ratios.setdefault(group, []).append(min(peer))
    rows = [
        [group, f"{np.exp(np.mean(np.log(found))):.2f}", f"{min(found):.2f}", f"{max(found):.2f}", str(len(found))]
        for group, found in ratios.items()
    ]
    caption = "The time of the fastest peer at each size of the grid, ours being 1"
    columns = ("cell and work", "geometric mean", "least", "greatest", "sizes")
    return [Table(caption, columns, rows)] if rows else []


def _variants(
    cell: str, sizes: Sizes, xs: Array, works: Sequence[str] = (FORWARD, GRADIENT, STEP)
) -> Iterator[Variant]:
    params = CELLS[cell].init(jax.random.key(0), sizes.input_size, sizes.hidden_size, torch_uniform)
    layers: dict[str, tuple[Callable[[PyTree, Array], Array], PyTree]] = {
        OURS: (lambda params, xs: unroll(CELLS[cell], params, xs)[1], params)
    }
    if cell in _TORCH:
        layers[PRODUCTS] = lambda params, xs: unroll(_products_alone(cell), params, xs)[1], params
    for flax_cell in _FLAX.get(cell, ()):
        rnn = nn.RNN(flax_cell(sizes.hidden_size), time_major=True)
        layers[f"Flax nn.RNN({flax_cell.__name__})"] = rnn.apply, rnn.init(jax.random.key(0), xs)
    # memax's layers have as many inputs as units.
    if cell in _MEMAX and sizes.input_size == sizes.hidden_size and peers.version("memax"):
        layers[f"memax {_MEMAX[cell].split('.')[-1]}"] = _memax(cell, sizes)
    ours = CELLS[cell]
    if isinstance(ours, LinearCell) and ours.readout is None and peers.version("memax"):
        layers[MEMAX] = memax_scan(ours), params
    products = 2 * sizes.num_steps * sizes.batch_size
    forward = products * sum(leaf.size for leaf in params if leaf.ndim == 2)
    # In a chunk, the inputs get no gradient.
    flops = {FORWARD: forward, GRADIENT: 3 * forward, STEP: 3 * forward - products * params.w_x.size}
    for work in works:
        group = f"{cell}, {work}"
        for name, (outputs, drawn) in layers.items():
            yield layer_variant(name, group, outputs, drawn, xs, flops[work], work)
        if cell in _TORCH and peers.version("torch"):
            yield peers.torch_layer(cell, np.asarray(xs), sizes.hidden_size, flops[work], work)._replace(group=group)


def _products_alone(name: str) -> ProductCell:
    """A cell with the parameters and products of the named one, and almost no other work."""
    cell = cast(ProductCell, CELLS[name])

    def pointwise(params: PyTree, carry: Any, z: Array, u: Array) -> tuple[Any, Array, dict[str, Array]]:
        num_gates = z.shape[-1] // carry.h.shape[-1]
        h = jnp.stack(jnp.split(z + u, num_gates, axis=-1)).mean(axis=0)
        return carry._replace(h=h), h, {}

    return dataclasses.replace(cell, pointwise=pointwise)


def _memax(cell: str, sizes: Sizes) -> tuple[Callable[[PyTree, Array], Array], PyTree]:
    """The memax layer, mapped over a batch; its parameters are the arrays of an Equinox module."""
    equinox = importlib.import_module("equinox")
    module, kind = _MEMAX[cell].rsplit(".", 1)
    # An LRU takes the size of its outputs besides that of its state.
    widths = [sizes.hidden_size] * (2 if kind == "LRU" else 1)
    layer = getattr(importlib.import_module(f"memax.equinox.{module}"), kind)(*widths, key=jax.random.key(0))
    params, rest = equinox.partition(layer, equinox.is_inexact_array)
    starts = jnp.zeros(sizes.num_steps, bool)

    def outputs(params: PyTree, xs: Array) -> Array:
        layer = equinox.combine(params, rest)

        def one(x: Array) -> Array:
            ys: Array = layer(layer.initialize_carry(), (x, starts))[1]
            return ys

        return jax.vmap(one, in_axes=1, out_axes=1)(xs)

    return outputs, params
