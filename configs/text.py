"""The character LSTM: a generative model of any text.

    python -m experiments.text --config=configs/text.py --config.corpus=grimm --workdir=runs/grimm

Expect a training accuracy of 0.70 to 0.75 after 40 000 steps on Grimm's fairy tales (the report's Figure 3).
"""

from typing import Annotated

from ml_collections import ConfigDict
from pydantic import ConfigDict as Schema
from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.fields import Batch, ClipNorm, Fraction, Layers, Positive, Rate, Seeds, Steps, Width


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid", use_attribute_docstrings=True))
class Config:
    """Hyperparameters; the defaults are the report's Table 3, on a text that needs no download."""

    corpus: str = "pydoc"
    """pydoc (Python's own reference, always there), grimm, democracy, darwin, or the path of a text file."""
    encoding: str = "utf-8"
    """Of the file; the report's author read his books as latin-1; utf-8-sig leaves a byte order mark out."""
    cell: str = "lstm"
    """A name in `jaxrnn.cells.CELLS`."""
    num_layers: Layers = 2
    """Recurrent layers."""
    hidden_size: Width = 512
    """Hidden units of a layer."""
    embedding_size: Width = 60
    """Width of a character's embedding."""
    dropout: Fraction = 0.0
    """Rate between the layers."""
    seq_length: Positive = 30
    """Characters of a window."""
    batch_size: Batch = 64
    """Windows of a step."""
    carry_state: bool = False
    """Read the text in order and carry the state from window to window (truncated backpropagation through time)."""
    learning_rate: Annotated[tuple[Rate, ...], Field(min_length=1)] = (2e-3,)
    """One run for each learning rate and seed."""
    learning_rate_decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """The learning rate's factor over 1000 steps."""
    clip_norm: ClipNorm = 5.0
    """Largest global norm of the gradient."""
    max_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 40_000
    """Index of the last step."""
    eval_every: Positive = 100
    """Steps from one look at the loss to the next."""
    sample_steps: tuple[Annotated[int, Field(ge=0)], ...] = (2000, 10_000, 40_000)
    """Steps after which the model writes samples and its weights are kept; the last step always is one."""
    validation_fraction: Fraction = 0.0
    """Share of the text for validation, behind the training text."""
    test_fraction: Fraction = 0.0
    """Share of the text for the test, at its end."""
    num_seeds: Seeds = 1
    """Seeds first_seed, first_seed + 1, ..."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    """See num_seeds."""
    seeds_per_program: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Runs that share a program; 0 is the fastest choice: one on each core of a CPU, all on an accelerator."""
    data_devices: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Devices that share the batch of each run, each with dropout masks of its own; 0 is the fastest choice."""
    chunk_steps: Steps = 100
    """Steps between two checkpoints."""
    precision: str = "highest"
    """Of matrix products: highest, high or default (see `jax.lax.Precision`)."""


def get_config() -> ConfigDict:
    """The report's settings, ready for ``--config.FIELD=VALUE``."""
    config = Config()
    return ConfigDict({name: getattr(config, name) for name in Config.__dataclass_fields__})
