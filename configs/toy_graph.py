"""A feature that spreads over a graph of six nodes (Soons 2020, Question 3.2), in seconds.

    python -m experiments.toy_graph --config=configs/toy_graph.py --workdir=runs/toy_graph

Expect the feature at C to reach E in layer 4.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Count, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config:
    """How far the feature goes."""

    num_layers: Count = 5
    """GCN layers."""
    precision: Literal["highest", "high", "default"] = "highest"
    """Precision of matrix products (see `jax.lax.Precision`)."""


get_config = make_get_config(Config())
