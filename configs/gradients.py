"""Gradients through time: how they decay and explode, cell by cell, and what they cost.

    python -m experiments.gradients --config=configs/gradients.py --workdir=runs/gradients

Expect the linear RNN's gradient to change by exactly the spectral radius a step, and all other cells' as initialised to
vanish. Once trained, the report's peephole LSTM and the GRU keep much of theirs over the palindrome, the last 25
symbols or so, and lose it in the padding before; the LSTM's is gone within ten.
"""

from typing import Annotated

from ml_collections import ConfigDict
from pydantic import ConfigDict as Schema
from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.fields import Batch, ClipNorm, Names, Rate, Seeds, Width


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid", use_attribute_docstrings=True))
class Config:
    """What is looked at; sizes and initialisation are the palindrome study's."""

    cells: Annotated[Names, Field(min_length=1)] = (
        "rnn",
        "linear_rnn",
        "lstm",
        "peephole",
        "gers_peephole",
        "gru",
        "gru_cho",
    )
    """Names in `jaxrnn.cells.CELLS`."""
    spectral_radius: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.5, 0.9, 1.1, 1.5)
    """Of rnn's and linear_rnn's recurrent matrix, an orthogonal one times this."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """Of the palindromes that are the input; the report's T."""
    hidden_size: Width = 256
    """Hidden units."""
    embedding_size: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """0 is the report's rule, twice the input's length."""
    batch_size: Batch = 256
    """Sequences of a measurement, and of a training step."""
    clip_norm: ClipNorm = 10.0
    """Largest global norm of the gradient."""
    trained: Names = ()
    """Directories of palindrome runs with trained cells, also given as --trained=DIR, once for each."""
    train_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 600
    """Index of the last step of training a gated cell without such a directory here, unless it converges; 0: none."""
    num_seeds: Seeds = 3
    """Seeds first_seed, first_seed + 1, ...: of the initialisation, of the sequences, of the training."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    """See num_seeds."""
    learning_rate: Annotated[tuple[Rate, ...], Field(min_length=1, max_length=1)] = (1e-3,)
    """Of that training."""
    precision: str = "highest"
    """Of matrix products: highest, high or default (see `jax.lax.Precision`)."""


def get_config() -> ConfigDict:
    """The whole study, ready for ``--config.FIELD=VALUE``."""
    config = Config()
    return ConfigDict({name: getattr(config, name) for name in Config.__dataclass_fields__})
