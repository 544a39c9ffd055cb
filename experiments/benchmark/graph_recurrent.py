"""The suite ``graph_recurrent``: steps of recurrent cells on a graph, beside PyTorch Geometric Temporal and PyTorch."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import peers
from experiments.benchmark.harness import OURS, STEP, Comparison, Variant, layer_variant
from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import CELLS, Cell, ProductCell, gated_cell, graph_cell, graph_gru_cho, torch_uniform
from jaxrnn.cells.gated import Kind
from jaxrnn.recurrence import unroll

TGCN, TGCN_TORCH = "PyTorch Geometric Temporal TGCN2", "PyTorch, T-GCN as its authors wrote it"
GRNN_TORCH = "PyTorch, loop over t"
GATES: tuple[Kind, ...] = ("time", "node", "edge")


class Sizes(NamedTuple):
    """Numbers of nodes, sequences in a batch, steps, hidden units, and taps of a filter."""

    num_nodes: int
    batch_size: int
    num_steps: int
    hidden_size: int
    num_taps: int


_TRAFFIC, _KSTEP = Sizes(207, 64, 12, 64, 1), Sizes(80, 100, 5, 20, 5)


def graph_recurrent(traffic: Sizes = _TRAFFIC, kstep: Sizes = _KSTEP) -> Iterator[Comparison]:
    """A step of gradient descent of T-GCN (Zhao et al. 2020) and of GRNNs (Ruiz et al. 2020), one feature per node."""
    shift, xs = _problem(traffic)
    flops, cell = _flops(traffic, 3, traffic.hidden_size), graph_gru_cho(1)
    variants = [_ours(cell, "tgcn", (shift,), xs, traffic, flops)]
    if peers.version("torch_geometric_temporal"):
        variants.append(_torch(TGCN, "tgcn", _tgcn2, shift, xs, traffic, flops))
    if peers.version("torch"):
        variants.append(_torch(TGCN_TORCH, "tgcn", tgcn_layer, shift, xs, traffic, flops))
    yield Comparison("tgcn", f"A T-GCN step, {_title(traffic)}", variants, "step", "the products with weights")

    shift, xs = _problem(kstep)
    rnn = CELLS["rnn"]
    assert isinstance(rnn, ProductCell)
    flops = _flops(kstep, 1, kstep.num_taps * kstep.hidden_size)
    variants = [_ours(graph_cell(rnn, kstep.num_taps), "grnn", shift, xs, kstep, flops)]
    if peers.version("torch"):
        variants.append(_torch(GRNN_TORCH, "grnn", grnn_layer, shift, xs, kstep, flops))
    for kind in GATES:  # Three recurrences: that of the state, and one for each of two gates.
        variants.append(_ours(gated_cell(kind, kstep.num_taps), kind, shift, xs, kstep, 3 * flops))
    yield Comparison("grnn", f"A GRNN step, {_title(kstep)}", variants, "step", "the products with weights")


def _title(sizes: Sizes) -> str:
    return "N={}, B={}, T={}, H={}, taps {}".format(*sizes)


def _flops(sizes: Sizes, gates: int, rows: int) -> int:
    """FLOPs of the recurrent products, once forward and twice backward."""
    return 6 * sizes.num_steps * sizes.num_nodes * sizes.batch_size * rows * gates * sizes.hidden_size


def _problem(sizes: Sizes) -> tuple[np.ndarray, Array]:
    """A normalised symmetric shift ``[N, N]`` of about ten edges per node, and inputs ``[T, N, B, 1]``."""
    rng = np.random.default_rng(0)
    edges = np.triu(rng.random((sizes.num_nodes, sizes.num_nodes)) < min(1, 10 / sizes.num_nodes), 1)
    shift = (edges + edges.T + np.eye(sizes.num_nodes)).astype(np.float32)
    scale = shift.sum(0) ** -0.5
    shape = (sizes.num_steps, sizes.num_nodes, sizes.batch_size, 1)
    return scale[:, None] * shift * scale, jax.random.normal(jax.random.key(0), shape)


def _ours(cell: Cell, group: str, shift: Any, xs: Array, sizes: Sizes, flops: int) -> Variant:
    shift = jax.tree.map(jnp.asarray, shift)

    def outputs(params: Any, xs: Array) -> Array:
        return unroll(cell, params._replace(shift=shift), xs)[1]

    params: PyTree = cell.init(jax.random.key(0), 1, sizes.hidden_size, torch_uniform)
    return layer_variant(OURS, group, outputs, params, xs, flops, STEP)


# --- PyTorch ----------------------------------------------------------------------------------------------------------

Layer = Callable[[Any, Any], Any]
"""``layer(x, h) -> h``: a step on ``x [B, N, 1]`` and ``h [B, N, H]``, as PyTorch's layers order the axes."""


def _torch(name: str, group: str, make: Callable[..., Any], shift: Any, xs: Array, sizes: Sizes, flops: int) -> Variant:
    torch = peers.load_torch()
    device = peers.torch_device(torch)
    layer, parameters = make(torch, torch.tensor(shift, device=device), sizes)
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    inputs = torch.tensor(np.moveaxis(np.asarray(xs), 2, 1), device=device)

    def step() -> None:
        optimizer.zero_grad()
        ys, h = [], inputs.new_zeros(sizes.batch_size, sizes.num_nodes, sizes.hidden_size)
        for x in inputs:
            h = layer(x, h)
            ys.append(h)
        (torch.stack(ys) ** 2).mean().backward()
        optimizer.step()
        ys[-1][-1, -1, -1].item()  # Waits for the device.

    return Variant(name, group, step, 1, flops)


def _weights(torch: Any, device: Any, hidden_size: int, *shapes: Sequence[int]) -> list[Any]:
    bound = hidden_size**-0.5
    return [torch.empty(*shape, device=device).uniform_(-bound, bound).requires_grad_() for shape in shapes]


def _tgcn2(torch: Any, shift: Any, sizes: Sizes) -> tuple[Layer, Any]:
    """The layer TGCN2, which convolves the inputs but not the state."""
    # The package imports a class from a package that it does not need.
    stub: Any = types.ModuleType("torch_sparse")
    stub.SparseTensor = importlib.import_module("torch_geometric.typing").SparseTensor
    sys.modules.setdefault("torch_sparse", stub)
    module = importlib.import_module("torch_geometric_temporal.nn.recurrent.temporalgcn")
    layer = module.TGCN2(1, sizes.hidden_size, sizes.batch_size).to(shift.device)
    ends = shift.nonzero().T
    return (lambda x, h: layer(x, ends, None, h)), layer.parameters()


def tgcn_layer(torch: Any, shift: Any, sizes: Sizes) -> tuple[Layer, Any]:
    """``A [x, h] W`` for the gates, and once more for the candidate; nodes are the first axis in the product with A."""
    width, size = 1 + sizes.hidden_size, sizes.hidden_size
    shapes = (width, 2 * size), (2 * size,), (width, size), (size,)
    w_gates, b_gates, w_candidate, b_candidate = weights = _weights(torch, shift.device, size, *shapes)

    def convolve(x: Any, h: Any, w: Any, b: Any) -> Any:
        both = torch.cat([x, h], 2).permute(1, 2, 0).reshape(sizes.num_nodes, -1)
        seen = (shift @ both).reshape(sizes.num_nodes, width, -1).permute(2, 0, 1)
        return seen.reshape(-1, width) @ w + b

    def layer(x: Any, h: Any) -> Any:
        gates = torch.sigmoid(convolve(x, h, w_gates, b_gates)).reshape(*h.shape[:2], 2 * size)
        r, u = gates.chunk(2, 2)
        c = torch.tanh(convolve(x, r * h, w_candidate, b_candidate)).reshape(h.shape)
        return u * h + (1 - u) * c

    return layer, weights


def grnn_layer(torch: Any, shift: Any, sizes: Sizes) -> tuple[Layer, Any]:
    """``tanh(sum_k S^k x A_k + b + sum_k S^k h B_k)``."""
    size, taps = sizes.hidden_size, sizes.num_taps
    w_x, w_h, b = weights = _weights(torch, shift.device, size, (taps, size), (taps * size, size), (size,))

    def powers(x: Any) -> Any:
        found = [x]
        for _ in range(taps - 1):
            found.append(shift @ found[-1])
        return torch.cat(found, 2)

    return (lambda x, h: torch.tanh(powers(x) @ w_x + powers(h) @ w_h + b)), weights
