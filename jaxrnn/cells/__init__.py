"""Recurrent cells as records of pure functions, a file a family.

A new cell is one record in a file here and its entry in `CELLS`; it then works in `jaxrnn.recurrence`, in the trainer,
in Flax's ``nn.RNN`` and in the contract test.
"""

from jaxrnn.cells.base import Cell, GeneralCell, ProductCell
from jaxrnn.cells.gru import GRU, GRU_CHO
from jaxrnn.cells.initializers import INITIALIZERS, kaiming, orthogonal, torch_uniform
from jaxrnn.cells.lstm import GERS_PEEPHOLE, LSTM, PEEPHOLE, LSTMCarry, LSTMParams, PeepholeParams
from jaxrnn.cells.rnn import LINEAR_RNN, RNN

__all__ = [
    "CELLS",
    "INITIALIZERS",
    "Cell",
    "GeneralCell",
    "LSTMCarry",
    "LSTMParams",
    "PeepholeParams",
    "ProductCell",
    "kaiming",
    "orthogonal",
    "torch_uniform",
]

CELLS: dict[str, Cell] = {
    "rnn": RNN,
    "linear_rnn": LINEAR_RNN,
    "lstm": LSTM,
    "peephole": PEEPHOLE,
    "gers_peephole": GERS_PEEPHOLE,
    "gru": GRU,
    "gru_cho": GRU_CHO,
}
"""All cells by name. ``peephole`` is that of Soons (2020), ``gers_peephole`` that of Gers and Schmidhuber (2000)."""
