"""Graph recurrent networks: a signal on a graph is predicted some steps ahead (Ruiz, Gama and Ribeiro 2020).

    python -m experiments.grnn --config=configs/grnn.py --config.task=kstep --sweep=model=rnn,gnn,grnn \
        --config.num_seeds=20 --workdir=runs/kstep

Expect the GRNN to reach most of what the best predictor gains over the mean, and the others less, since the noise that
all steps share shows only in the past.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Bookkeeping, Changeable, Count, Steps, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """Hyperparameters."""

    task: Literal["kstep", "epidemic"] = "kstep"
    """kstep predicts a diffusion on a block graph 5 steps ahead, epidemic who is infected 4 days ahead."""
    model: Literal["rnn", "gnn", "grnn", "time", "time_vec", "node", "edge"] = "grnn"
    """rnn has no graph, gnn no memory, grnn both, and the others also have gates; time_vec is time as printed."""
    length: Annotated[int, Field(ge=0)] = 0
    """Inputs of a sequence; 0 is 10 in kstep and 8 days in epidemic."""
    temporal_correlation: Annotated[float, Field(ge=0)] = 0.3
    """Standard deviation r_t of the noise that all steps share; kstep only."""
    num_nodes: Annotated[int, Field(ge=10)] = 80
    """Nodes of the graph, which differs between seeds; kstep only."""
    network: str = "generated"
    """The contact network: generated, contacts (a high school's), or a file of edges; epidemic only."""
    hidden_size: Count = 20
    """Size of a node's state, except in rnn, where it is one number, and in gnn, which has none."""
    num_taps: Count = 5
    """Taps of each filter, except in gnn."""
    batch_size: Count = 100
    """Sequences per step, new ones each time."""
    test_samples: Annotated[int, Field(ge=1)] = 1000
    """Sequences for the test, rounded up to whole batches; as many again are for choosing thresholds."""
    max_steps: Steps = 999
    """Index of the last step."""
    eval_every: Count = 50
    """Steps from one evaluation to the next."""
    chunk_steps: Annotated[int, Field(ge=1, le=100_000), Bookkeeping(), Changeable()] = 50


get_config = make_get_config(Config())
