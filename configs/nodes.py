"""Node classification, as in the GCN and GAT papers.

    python -m experiments.nodes --config=configs/nodes.py:gcn --config.dataset=cora --config.num_seeds=100 --workdir=DIR

Expect a mean test accuracy on Cora of 81.5 % with gcn (Kipf and Welling 2017, Table 2) and of 83.0 % with gat
(Velickovic et al. 2018, Table 2).
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Absent, Base, Bookkeeping, Changeable, Count, Fraction, Rate, Steps, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters; the defaults are the GCN paper's, on a graph that needs no download."""

    model: str = "gcn"
    """gcn or gat, each with its paper's stop rule; --config=configs/nodes.py:gat has all of the GAT paper's settings.
    gat reads which edges there are, but not their weights."""
    dataset: str = "karate"
    """karate, sbm (a stochastic block model), cora, citeseer, planetoid:DIR/NAME for files DIR/ind.NAME.*, FILE.npz
    with edges, features and labels, or FOLDER with edges.csv, features.csv and labels.csv. Without a graph: digits
    (scikit-learn's, with nearest neighbours; --config=configs/nodes.py:digits), documents:FILE for NAME.txt and
    NAME.clean.txt (--config=configs/nodes.py:documents)."""
    split: Literal["public", "random"] = "public"
    """public, or random with another split for each seed; a graph without a public split takes a random tenth of each
    class for training and a fifth for validation."""
    train_per_class: Annotated[Count, Absent(20)] = 20
    """Training nodes of each class in a random split of a file's graph, and of digits."""
    num_validation: Annotated[Count, Absent(500)] = 500
    """Validation nodes in such a split."""
    num_test: Annotated[Count, Absent(1000)] = 1000
    """Test nodes in such a split."""
    neighbours: Annotated[Count, Absent(5)] = 5
    """Nearest neighbours of each of the digits, which make their graph."""
    normalize_features: Annotated[bool, Absent(True)] = True
    """Divide each row of features by its sum, as the papers do for counts of words; not for features with a sign."""
    hidden_size: Count = 16
    """Hidden units of each head."""
    num_heads: Count = 1
    """Attention heads, concatenated; gat only."""
    num_output_heads: Count = 1
    """Attention heads of the output, averaged; gat only."""
    dropout: Fraction = 0.5
    """Dropout rate on the inputs of both layers, and in gat also on projected features and attention."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Half of it times the squared weights is added to the loss: in gcn of the first layer, in gat of all layers."""
    learning_rate: Rate = 1e-2
    max_steps: Steps = 199
    """Index of the last epoch; a step is an epoch."""
    patience: Count = 10
    """Epochs: gcn stops at a validation loss above its mean over this many, gat after this many without progress."""
    eval_every: Annotated[Count, Bookkeeping()] = 10
    """Epochs from one line of metrics to the next; the stop rules are checked at every epoch."""
    chunk_steps: Annotated[Count, Bookkeeping(), Changeable()] = 200


GAT = Config(
    model="gat",
    hidden_size=8,
    num_heads=8,
    dropout=0.6,
    learning_rate=5e-3,
    max_steps=99_999,
    patience=100,
    eval_every=50,
)
"""The GAT paper's, for Cora and Citeseer."""

DIGITS = Config(dataset="digits", split="random", normalize_features=False)
"""The GCN paper's, for digits."""
DOCUMENTS = Config(
    dataset="documents:R8.txt",
    normalize_features=False,
    hidden_size=200,
    weight_decay=0.0,
    learning_rate=0.02,
    chunk_steps=5,  # An epoch of R8 takes a second.
)
"""Text GCN's (Yao, Mao and Luo 2019)."""

get_config = make_get_config(Config(), gcn=Config(), gat=GAT, digits=DIGITS, documents=DOCUMENTS)
