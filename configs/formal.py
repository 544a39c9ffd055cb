"""Sequence tasks: a recurrent classifier reads a word and predicts its label.

    python -m experiments.formal --config=configs/formal.py --config.task=random_combinations --config.cell=gru \
        --workdir=runs/random_gru

Expect all runs to converge within some 240 steps, and a test accuracy of 1.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Absent, Count, Layers, Rate, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Layers):
    """Hyperparameters; the defaults are those of Soons (2020), section 1.3, and of the author's code."""

    task: str = "palindrome"
    """What is learned."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """The length that is trained on; T in Soons (2020)."""
    test_lengths: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Absent(())] = ()
    """Lengths at which the trained model is tested besides: results.json then has accuracy_by_length. Of
    random_combinations the model knows as many symbols as the longest one has."""
    cell: str = "lstm"
    """Of all layers."""
    bidirectional: bool = False
    """Each layer has a second one that walks backwards."""
    num_layers: Annotated[Count, Absent(1)] = 1
    """Recurrent layers."""
    hidden_size: Count = 256
    """Hidden units of a layer."""
    embedding_size: Annotated[int, Field(ge=0)] = 0
    """0 is the rule of Soons (2020), twice the input's length."""
    initializer: str = "kaiming"
    """Of the weights: kaiming is that of Soons (2020), torch is PyTorch's default."""
    batch_size: Count = 256
    """Samples of a step."""
    clip_norm: Rate = 10.0
    """Largest global norm of the gradient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.005
    """A run stops when `patience` evaluations in a row had at most this loss."""
    patience: Count = 3
    """Evaluations in a row, with at most `tolerance`."""
    test_samples: Count = 5000
    """New samples for the test accuracy."""


get_config = make_get_config(Config())
