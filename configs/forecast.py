"""Forecasts of signals on a graph: traffic, epidemics, anything in two CSV files.

    python -m experiments.forecast --config.dataset=los_loop --sweep=model=gru,tgcn,dcrnn --config.num_seeds=10 \
        --workdir=runs/los

Expect errors of each model with intervals over seeds, beside those of baselines that need no training. On los_loop,
15 minutes ahead, the autoregression on the last hour of each sensor and of its neighbours has an RMSE of 5.22 mph, and
tgcn as published has 5.13 (Zhao et al. 2020).
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Count, Rate, Steps, make_get_config

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters; `input_length`, `split`, `scaling` and `season`, if 0 or empty, are the data set's own."""

    model: str = "tgcn"
    """gru sees each node alone, tgcn is the same on the graph; dcrnn differs from tgcn in its diffusion convolution."""
    dataset: str = "diffusion"
    """The data set, or folder:DIR for your own: DIR/signals.csv has a line of the nodes' names and then a line for each
    time; DIR/edges.csv has lines source,target,weight, or DIR/adjacency.csv the matrix. diffusion needs no file."""
    horizon: Count = 3
    """Rows ahead that are predicted, all of them at once."""
    input_length: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Rows that the model sees; usually 12, for flu 20, for chickenpox 4."""
    split: Annotated[tuple[Share, ...], Field(max_length=2)] = ()
    """Shares of the rows for training and test; usually (0.7,0.2), for los_loop (0.8,0.2). Validation has the rows
    between them, or if there are none, the last tenth of the training part."""
    scaling: Literal["", "standard", "minmax", "max", "none"] = ""
    """Scaling by the training part: standard and minmax by node, max by the largest value of all; usually standard."""
    season: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Rows of a season; one baseline is the mean at the same time of the season. 1 is no season."""
    hidden_size: Count = 64
    """Hidden units of a node; tgc_lstm has one."""
    num_taps: Count = 3
    """Filter taps of dcrnn, graph_lstm and res_rgnn, including the node itself, and of tgc_lstm, without it."""
    loss: Literal["mse", "mae"] = "mse"
    """The training loss; it also decides whether the weights are chosen by validation RMSE or MAE."""
    batch_size: Count = 32
    """Windows per step."""
    clip_norm: Rate = 5.0
    """Largest global norm of the gradient."""
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Evaluations without a lower validation error after which a run stops; 0: never."""
    max_steps: Steps = 2699
    """Index of the last step; on los_loop, an epoch has 45 steps."""
    eval_every: Count = 45
    """Steps from one evaluation to the next."""


get_config = make_get_config(Config())
