"""Gradients through time: how they decay and explode, cell by cell, and what they cost.

    python -m experiments.gradients --config=configs/gradients.py --workdir=runs/gradients

Expect the linear RNN's gradient to change by exactly the spectral radius a step, and all other cells' as initialised to
vanish. Once trained, the peephole LSTM of Soons (2020) and the GRU keep much of theirs over the palindrome, the last 25
symbols or so, and lose it in the padding before; the LSTM's is gone within ten.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Count, Rate, Seeds, make_get_config


def _split(names: Any) -> Any:
    """``a,b,c`` comes from a command line as one name."""
    one = isinstance(names, list | tuple) and len(names) == 1 and isinstance(names[0], str)
    return tuple(names[0].split(",")) if one else names


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
SomeNames = Annotated[Names, Field(min_length=1)]


@dataclass(frozen=True, config=SCHEMA)
class Config(Seeds):
    """What is measured; sizes and initialisation are the palindrome study's."""

    cells: SomeNames = ("rnn", "linear_rnn", "lstm", "peephole", "gers_peephole", "gru", "gru_cho")
    """What is measured."""
    spectral_radius: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.5, 0.9, 1.1, 1.5)
    """Of rnn's and linear_rnn's recurrent matrix, an orthogonal one times this."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """Of the palindromes that are the input; T in Soons (2020)."""
    hidden_size: Count = 256
    """Hidden units."""
    embedding_size: Annotated[int, Field(ge=0)] = 0
    """0 is the rule of Soons (2020), twice the input's length."""
    batch_size: Count = 256
    """Sequences of a measurement, and of a training step."""
    clip_norm: Rate = 10.0
    """Largest global norm of the gradient."""
    trained: Names = ()
    """Directories of palindrome runs with trained cells."""
    train_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 600
    """Index of the last step of training a gated cell without such a directory here, unless it converges; 0: none."""
    learning_rate: Rate = 1e-3
    """Of that training."""


get_config = make_get_config(Config())
