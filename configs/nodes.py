"""Node classification, as the GCN and the GAT paper do it.

    python -m experiments.nodes --config=configs/nodes.py:gcn --config.dataset=cora --config.num_seeds=100 --workdir=DIR

Expect a mean test accuracy on Cora of 81.5 % with gcn (Kipf and Welling 2017, Table 2) and of 83.0 % with gat
(Velickovic et al. 2018, Table 2).
"""

from typing import Annotated

from ml_collections import ConfigDict
from pydantic import ConfigDict as Schema
from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.fields import Fraction, Positive, Rate, Seeds, Steps, Width


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid", use_attribute_docstrings=True))
class Config:
    """Hyperparameters; the defaults are the GCN paper's, on a graph that needs no download."""

    model: str = "gcn"
    """gcn or gat, each with its paper's stop rule; as a whole: --config=configs/nodes.py:gat."""
    dataset: str = "karate"
    """karate, sbm (a stochastic block model), cora, citeseer, or planetoid:DIR/NAME for files DIR/ind.NAME.*."""
    split: str = "public"
    """public, or random: another one for each seed; karate and sbm have no public one, and take a random one."""
    hidden_size: Width = 16
    """Hidden units, of each head."""
    num_heads: Positive = 1
    """Attention heads, concatenated; gat only."""
    num_output_heads: Positive = 1
    """Attention heads of the output, averaged; gat only."""
    dropout: Fraction = 0.5
    """Rate, on the inputs of both layers, and in gat on projected features and on attention."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    """Half of it times the squared weights joins the loss: of the first layer in gcn, of all in gat."""
    learning_rate: Annotated[tuple[Rate, ...], Field(min_length=1)] = (1e-2,)
    """One run for each learning rate and seed."""
    max_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 199
    """Index of the last epoch; a step is an epoch."""
    patience: Positive = 10
    """Epochs: gcn stops at a validation loss above its mean over so many, gat after so many without progress."""
    eval_every: Positive = 10
    """Epochs from one line of metrics to the next; the stop rules look at every epoch."""
    num_seeds: Seeds = 3
    """Seeds first_seed, first_seed + 1, ..."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    """See num_seeds."""
    seeds_per_program: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Runs that share a program; 0 is the fastest choice: one on each core of a CPU, all on an accelerator."""
    chunk_steps: Steps = 200
    """Epochs between two checkpoints."""
    precision: str = "highest"
    """Of matrix products: highest, high or default (see `jax.lax.Precision`)."""


GAT = Config(
    model="gat",
    hidden_size=8,
    num_heads=8,
    dropout=0.6,
    learning_rate=(5e-3,),
    max_steps=99_999,
    patience=100,
    eval_every=50,
)
"""The GAT paper's, for Cora and Citeseer."""


def get_config(variant: str = "gcn") -> ConfigDict:
    """The settings of the paper on a model, ready for ``--config.FIELD=VALUE``."""
    variants = {"gcn": Config(), "gat": GAT}
    if variant not in variants:
        raise ValueError(f"there is no variant {variant!r}; there are {', '.join(variants)}")
    return ConfigDict({name: getattr(variants[variant], name) for name in Config.__dataclass_fields__})
