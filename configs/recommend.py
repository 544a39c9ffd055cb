"""Recommendation: ratings, or the items that a user takes next, from the graph of users and items.

    python -m experiments.recommend --sweep=model=mf,lightgcn --config.num_seeds=10 --workdir=runs/ranking
    python -m experiments.recommend --config=configs/recommend.py:gcmc --config.num_seeds=10 --workdir=runs/ml100k
    python -m experiments.recommend --config=configs/recommend.py:lightgcn --sweep=trust=0.0,1.0 --workdir=runs/lastfm

Expect errors or hits of each model with intervals over seeds, beside those of baselines that need no training. On
ml100k GC-MC as published has an RMSE of .910 (Berg et al. 2017), user and item biases .954. On lastfm, the closed-form
filter finds .271 of what users took among its first 20 items.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Count, Fraction, Rate, Steps, make_get_config

Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters."""

    task: Literal["ranking", "rating"] = "ranking"
    """ranking: which items a user takes, whatever the rating; rating: what a user's rating of an item is."""
    model: str = "lightgcn"
    """mf is matrix factorisation for either task; lightgcn ranks; gcmc predicts ratings."""
    dataset: str = "generated"
    """The data set, or ratings:FILE with a line of user, item and optionally rating and time for each pair, or an NPZ
    file. generated needs no file."""
    split: Literal["random", "last"] = "random"
    """Test part of data that have none: a random share of the pairs, or each user's last one."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the pairs in a random test part."""
    validation: Fraction = 0.1
    """Share of the training part by which the weights are chosen; with 0, the last or averaged weights are tested."""
    trust: Weight = 0.0
    """Weight of an edge between two users, such as a friendship, against that of a pair; 0 leaves them out."""
    hidden_size: Count = 64
    """Numbers for each user and item."""
    num_layers: Annotated[int, Field(ge=0, le=100)] = 3
    """Steps along the edges; lightgcn only."""
    message_size: Count = 500
    """Hidden units of a node, divided among the different ratings; gcmc only."""
    dropout: Fraction = 0.7
    """Dropout rate of a node's messages, and of hidden units; gcmc only."""
    weight_decay: Weight = 1e-4
    """Half of it times the squared numbers of a sample's users and items is added to the loss; not in gcmc."""
    averaging: Fraction = 0.0
    """Decay of the running mean of the weights, which is tested if there is no validation; 0 tests the last weights."""
    batch_size: Annotated[int, Field(ge=0, lt=2**31)] = 2048
    """Samples per step, drawn anew; with 0, a step has all ratings."""
    learning_rate: Rate = 5e-3
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 10
    """Evaluations without a lower validation error after which a run stops; 0: never."""
    max_steps: Steps = 1999
    eval_every: Count = 50


GCMC = Config(
    task="rating",
    model="gcmc",
    dataset="ml100k",
    validation=0.0,
    hidden_size=75,
    averaging=0.995,
    batch_size=0,
    learning_rate=0.01,
    max_steps=999,
)
"""As published for MovieLens 100K; for Flixster with max_steps=199."""

LIGHTGCN = Config(dataset="lastfm", validation=0.0, learning_rate=1e-3, max_steps=20_999, eval_every=210)
"""As published: 1000 epochs, of which each has 21 steps on lastfm."""

get_config = make_get_config(Config(), gcmc=GCMC, lightgcn=LIGHTGCN)
