"""Formal languages: what a recurrent cell learns from short sequences, and whether it holds for long ones.

    python -m experiments.formal --sweep=task=parity,reverse_string --sweep=cell=rnn,lstm,min_gru \
        --config.num_seeds=10 --workdir=runs/formal

Expect the RNN and the LSTM to have a score of 1 on parity and minGRU about 1/2, which is chance; on reverse string none
of the three is far above chance.

As in Soons (2020), the variant `one_length` trains on sequences of one length, `digits`, and stops by the paper's rule:
``--config=configs/formal.py:one_length --config.task=baum_sweet``.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Absent, Count, Layers, Rate, make_get_config


@dataclass(frozen=True, config=SCHEMA)
class Config(Layers):
    """Hyperparameters; the defaults here are those of Soons (2020), section 1.3, and of the author's code."""

    task: str = "palindrome"
    """The task that is learned."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """The training length, or the longest one; T in Soons (2020)."""
    shortest: Annotated[int, Field(ge=0, le=1000), Absent(0)] = 0
    """The shortest training length; each sequence has a random length from this to `digits`. 0 stands for `digits`."""
    test_lengths: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Absent(())] = ()
    """Further lengths at which the trained model is tested, as far as the task has them. results.json then has
    accuracy_by_length, and score, its mean over the lengths beyond `digits`. For random_combinations, the model knows
    as many symbols as the longest sequence has."""
    cell: str = "lstm"
    """The cell of all layers."""
    bidirectional: bool = False
    """Each layer has a second one that reads backwards."""
    num_layers: Annotated[Count, Absent(1)] = 1
    """Recurrent layers."""
    hidden_size: Count = 256
    """Hidden units of a layer."""
    embedding_size: Annotated[int, Field(ge=0)] = 0
    """Width of the embedding; 0 is the rule of Soons (2020), twice the input's length."""
    initializer: str = "kaiming"
    """Initialiser of the weights: kaiming is that of Soons (2020), torch is PyTorch's default."""
    batch_size: Count = 256
    """Samples per step."""
    clip_norm: Rate = 10.0
    """Largest global norm of the gradient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.005
    """A run stops when `patience` evaluations in a row had at most this loss."""
    patience: Count = 3
    """Evaluations in a row with a loss of at most `tolerance`."""
    test_samples: Count = 5000
    """New samples for the test accuracy, and for each of the test lengths."""


ONE_LENGTH = Config()
LENGTHS = Config(
    task="parity",
    digits=40,
    shortest=1,
    test_lengths=(*range(1, 51), *range(60, 501, 10)),
    hidden_size=64,
    embedding_size=64,
    batch_size=64,
    max_steps=9999,
    eval_every=100,
    chunk_steps=100,
    tolerance=0.0,
    test_samples=64,
)
"""Length generalisation as Deletang et al. (2023) measure it, with smaller models and fewer steps."""
get_config = make_get_config(LENGTHS, one_length=ONE_LENGTH)
