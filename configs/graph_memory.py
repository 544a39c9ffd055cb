"""Memory and time of a dense and of a sparse graph layer against the number of nodes (Soons 2020, Question 3.1b).

    python -m experiments.graph_memory --config=configs/graph_memory.py --workdir=runs/graph_memory

Expect two to three minutes and 5 GB on two CPU cores, and the dense layer to take more memory and more time than the
sparse one from about a hundred nodes on.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Count, Growing, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config:
    """The graphs and the layers."""

    max_nodes: Annotated[int, Field(ge=30), Growing()] = 1_000_000
    """Nodes of the largest graph."""
    hidden_size: Count = 16
    """Features of a node, before and after the layer."""
    mean_degree: Count = 5
    """Directed edges per node, without its self-loop."""
    graph_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random graphs."""
    precision: Literal["highest", "high", "default"] = "highest"
    """Precision of matrix products (see `jax.lax.Precision`)."""


get_config = make_get_config(Config())
