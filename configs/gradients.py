"""Gradients through time: how they decay and explode, cell by cell, and what they cost.

    python -m experiments.gradients --config=configs/gradients.py --workdir=runs/gradients

Expect the linear RNN's gradient to change by exactly the spectral radius per step, and the gradients of all other cells
to vanish at initialisation. Once trained, the peephole LSTM of Soons (2020) and the GRU keep much of their gradients
over the palindrome, the last 25 symbols or so, and lose them in the padding before it. The LSTM's gradient is gone
within ten symbols.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Count, Rate, Seeds, make_get_config


def _split(names: Any) -> Any:
    """Splits ``a,b,c``, which comes from a command line as one name."""
    one = isinstance(names, list | tuple) and len(names) == 1 and isinstance(names[0], str)
    return tuple(names[0].split(",")) if one else names


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
SomeNames = Annotated[Names, Field(min_length=1)]


@dataclass(frozen=True, config=SCHEMA)
class Config(Seeds):
    """What is measured; sizes and initialisation are the palindrome study's."""

    cells: SomeNames = ("rnn", "linear_rnn", "lstm", "peephole", "gers_peephole", "gru", "gru_cho")
    """The cells that are measured."""
    spectral_radius: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.5, 0.9, 1.1, 1.5)
    """Spectral radius of the recurrent matrix of rnn and linear_rnn, which is an orthogonal matrix times this."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """Digits of the palindromes that are the input; T in Soons (2020)."""
    hidden_size: Count = 256
    """Hidden units."""
    embedding_size: Annotated[int, Field(ge=0)] = 0
    """Width of the embedding; 0 is the rule of Soons (2020), twice the input's length."""
    batch_size: Count = 256
    """Sequences per measurement and per training step."""
    clip_norm: Rate = 10.0
    """Largest global norm of the gradient."""
    trained: Names = ()
    """Directories of palindrome runs with trained cells."""
    train_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 600
    """Index of the last step if a gated cell without such a directory is trained here, unless it converges before; 0:
    no training."""
    learning_rate: Rate = 1e-3
    """Learning rate of that training."""


get_config = make_get_config(Config())
