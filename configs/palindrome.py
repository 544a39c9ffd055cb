"""The palindrome study: a recurrent classifier predicts the last bit of a binary palindrome.

    python -m experiments.palindrome --config=configs/palindrome.py --config.cell=lstm --config.digits=10 \
        --config.num_seeds=3 --workdir=runs/lstm10

Expect every LSTM run of 10 digits to converge within some hundred steps, and a test accuracy of 1.00 (the report's
Table 1: 300, 300 and 360 steps).
"""

from typing import Annotated

from ml_collections import ConfigDict
from pydantic import ConfigDict as Schema
from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.fields import Batch, ClipNorm, Positive, Rate, Samples, Seeds, Steps, Width


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid", use_attribute_docstrings=True))
class Config:
    """Hyperparameters; the defaults are the report's (section 1.3) and its author's code's."""

    task: str = "palindrome"
    """palindrome, baum_sweet or random_combinations."""
    digits: Annotated[int, Field(ge=1, le=1000)] = 10
    """Size of the task; the report's T."""
    cell: str = "lstm"
    """A name in `jaxrnn.cells.CELLS`."""
    bidirectional: bool = False
    """A second layer that walks backwards."""
    hidden_size: Width = 256
    """Hidden units of a layer."""
    embedding_size: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """0 is the report's rule, twice the input's length."""
    initializer: str = "kaiming"
    """kaiming (the report's) or torch (PyTorch's default)."""
    batch_size: Batch = 256
    """Samples of a step."""
    learning_rate: Annotated[tuple[Rate, ...], Field(min_length=1)] = (1e-3,)
    """One run for each learning rate and seed."""
    clip_norm: ClipNorm = 10.0
    """Largest global norm of the gradient."""
    max_steps: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 3000
    """Index of the last step."""
    eval_every: Positive = 60
    """Steps from one look at the training loss to the next."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.005
    """A run has converged when `patience` looks in a row had at most this loss."""
    patience: Positive = 3
    """See tolerance."""
    test_samples: Samples = 5000
    """New samples for the test accuracy."""
    num_seeds: Seeds = 3
    """Seeds first_seed, first_seed + 1, ..."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    """See num_seeds."""
    seeds_per_program: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Runs that share a program; 0 is the fastest choice: one on each core of a CPU, all on an accelerator."""
    data_devices: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Devices that share the batch of each run, for models that one is too slow for; 0 is the fastest choice."""
    chunk_steps: Steps = 60
    """Steps between two checkpoints."""
    precision: str = "highest"
    """Of matrix products: highest, high or default (see `jax.lax.Precision`)."""


def get_config() -> ConfigDict:
    """The report's settings, ready for ``--config.FIELD=VALUE``."""
    config = Config()
    return ConfigDict({name: getattr(config, name) for name in Config.__dataclass_fields__})
