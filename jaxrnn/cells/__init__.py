"""Recurrent cells as records of pure functions, one file per family.

To add a cell, add one file here with an entry in its `CELLS`. The cell then works in `jaxrnn.recurrence`, in the
trainer, in Flax and in every study that runs over cells. The contract test requires its step in NumPy.
"""

import importlib
import pkgutil

from jaxrnn.cells.base import Cell, GeneralCell, LinearCell, ProductCell
from jaxrnn.cells.gated import gated_cell
from jaxrnn.cells.graph import graph_cell
from jaxrnn.cells.graph_gru import graph_gru_cho, residual_graph_gru
from jaxrnn.cells.initializers import INITIALIZERS, kaiming, orthogonal, torch_uniform
from jaxrnn.cells.lstm import LSTMCarry, LSTMParams, PeepholeParams
from jaxrnn.cells.tgc import tgc_lstm
from jaxrnn.cells.wrappers import in_dtype, with_dropout

__all__ = [
    "CELLS",
    "INITIALIZERS",
    "Cell",
    "GeneralCell",
    "LSTMCarry",
    "LSTMParams",
    "LinearCell",
    "PeepholeParams",
    "ProductCell",
    "gated_cell",
    "graph_cell",
    "graph_gru_cho",
    "in_dtype",
    "kaiming",
    "orthogonal",
    "residual_graph_gru",
    "tgc_lstm",
    "torch_uniform",
    "with_dropout",
]

_FAMILIES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
CELLS: dict[str, Cell] = {
    name: cell for family in _FAMILIES for name, cell in sorted(getattr(family, "CELLS", {}).items())
}
"""All cells by name."""
