"""Forecasts of signals on a graph: traffic, epidemics, anything in two CSV files.

    python -m experiments.forecast --config.dataset=los_loop --sweep=model=gru,tgcn,dcrnn --config.num_seeds=10 \
        --workdir=runs/los

Expect errors of each model with intervals over seeds, beside those of baselines that need no training. Of los_loop the
autoregression on each sensor's last hour and that of its neighbours has an RMSE of 5.22 mph 15 minutes ahead, tgcn as
published 5.13 (Zhao et al. 2019).
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Count, Rate, Steps, make_get_config

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters; what is 0 or empty is as the data set's protocol has it."""

    model: str = "tgcn"
    """gru is each node alone, tgcn the same on the graph; dcrnn differs from tgcn by its diffusion convolution."""
    dataset: str = "diffusion"
    """Or folder:DIR: DIR/signals.csv has a line of the nodes' names and then a line for each time, DIR/edges.csv lines
    source,target,weight, or DIR/adjacency.csv the matrix. diffusion needs no file."""
    horizon: Count = 3
    """Rows ahead, all of them predicted at once."""
    input_length: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Rows that are seen: 12; flu 20, chickenpox 4."""
    split: Annotated[tuple[Share, ...], Field(max_length=2)] = ()
    """Shares of the rows for training and test: (0.7,0.2); los_loop (0.8,0.2). Between them lies the validation, or it
    is the last tenth of the training part."""
    scaling: Literal["", "standard", "minmax", "max", "none"] = ""
    """By the training part: standard and minmax by node, max by the largest of all: standard."""
    season: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Rows of a season: a baseline is the mean at the same time of the season; 1 is none."""
    hidden_size: Count = 64
    """Hidden units of a node; tgc_lstm has one."""
    num_taps: Count = 3
    """Of the filters of dcrnn, graph_lstm and res_rgnn, the node itself included; of tgc_lstm, without it."""
    loss: Literal["mse", "mae"] = "mse"
    """What is trained, and by which validation error, RMSE or MAE, the weights are chosen."""
    batch_size: Count = 32
    """Windows of a step."""
    clip_norm: Rate = 5.0
    """Largest global norm of the gradient."""
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Evaluations without a lower validation error after which a run stops; 0: never."""
    max_steps: Steps = 2699
    """Index of the last step; of los_loop, 45 steps are an epoch."""
    eval_every: Count = 45
    """Steps from one evaluation to the next."""


get_config = make_get_config(Config())
