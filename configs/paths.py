"""Recurrent networks as graph networks: palindromes as path graphs, where a model sees as far as it is deep.

    python -m experiments.paths --config=configs/paths.py --config.digits=10 --sweep=depth=8,16,24,32 \
        --config.readout=last --workdir=runs/paths

Expect the accuracy of every depth to stay below the Bayes accuracy of what the readout sees, and to come near it.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Count, Rate, Steps, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters."""

    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """The length of a palindrome in decimal digits."""
    depth: Count = 8
    """Layers; each carries what a node knows along one edge."""
    readout: Literal["last", "max"] = "last"
    """last: the last node of a directed path, all layers with the same weights; max: the maximum over the nodes of an
    undirected path, each layer with weights of its own."""
    cell: str = "gru"
    """How a layer updates a node's state with readout=last; rnn is tanh(S Z W_h + X W_x + b)."""
    hidden_size: Count = 64
    """Size of a node's state."""
    batch_size: Count = 256
    """Samples per step."""
    clip_norm: Rate = 10.0
    """Largest global norm of the gradient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.005
    """A run stops when `patience` evaluations in a row had at most this loss."""
    patience: Count = 3
    """Evaluations in a row with a loss of at most `tolerance`."""
    test_samples: Count = 5000
    """New samples for the test accuracy with readout=max; with last, all sequences are counted."""
    max_steps: Steps = 3000


get_config = make_get_config(Config())
