"""A feature that spreads over a graph of six nodes (Soons 2020, Question 3.2): seconds.

    python -m experiments.toy_graph --config=configs/toy_graph.py --workdir=runs/toy_graph

Expect the feature at C to reach E in layer 4.
"""

from typing import Literal

from ml_collections import ConfigDict
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Count, fields_of


@dataclass(frozen=True, config=SCHEMA)
class Config:
    """How far the feature goes."""

    num_layers: Count = 5
    """GCN layers."""
    precision: Literal["highest", "high", "default"] = "highest"
    """Of matrix products (see `jax.lax.Precision`)."""


def get_config() -> ConfigDict:
    """The question of Soons (2020), ready for ``--config.FIELD=VALUE``."""
    return fields_of(Config())
