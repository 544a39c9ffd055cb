"""The fields that the configs of all trainings share, and the marks of fields.

A mark is written as ``Annotated[TYPE, MARK]``. Whatever compares settings, resumes runs or reads old files goes by the
marks, so that a new field needs no entry anywhere else.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass as record
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict
from pydantic import ConfigDict as Schema
from pydantic import Field
from pydantic.dataclasses import dataclass

SCHEMA = Schema(strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@record(frozen=True)
class Bookkeeping:
    """Says which seeds there are, or how runs are placed and saved; ignored when settings are compared."""


@record(frozen=True)
class Absent:
    """The value that the field has in files that were written before it existed. It never changes."""

    value: Any


@record(frozen=True)
class Growing:
    """A resumed run may have a larger value."""


@record(frozen=True)
class Changeable:
    """A resumed run may have another value, which at most moves lines of files."""


Count = Annotated[int, Field(ge=1, lt=2**31)]
"""Counts on the device are int32."""
Steps = Annotated[int, Field(ge=0, lt=2**31 - 1), Growing()]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=SCHEMA)
class Seeds:
    """What every study with seeds has: seeds and precision."""

    num_seeds: Annotated[Count, Bookkeeping(), Growing()] = 3
    """Number of seeds: first_seed, first_seed + 1, ..."""
    first_seed: Annotated[int, Field(ge=0, lt=2**31), Bookkeeping()] = 0
    """The first of the seeds."""
    precision: Literal["highest", "high", "default"] = "highest"
    """Precision of matrix products (see `jax.lax.Precision`)."""


@dataclass(frozen=True, config=SCHEMA)
class Base(Seeds):
    """What every training also has: its learning rate, its steps and its placement."""

    learning_rate: Rate = 1e-3
    """Learning rate of Adam; --sweep=learning_rate=A,B trains runs with several."""
    max_steps: Steps = 3000
    """Index of the last step."""
    eval_every: Count = 60
    """Steps from one evaluation to the next."""
    runs_per_program: Annotated[int, Field(ge=0), Bookkeeping()] = 0
    """Runs that share a program; 0 is the fastest choice: one on each core of a CPU, all on an accelerator."""
    data_devices: Annotated[int, Field(ge=0), Bookkeeping(), Changeable()] = 0
    """Devices that share the batch of each run, for models that are too slow on one; 0 is the fastest choice."""
    chunk_steps: Annotated[int, Field(ge=1, le=100_000), Bookkeeping(), Changeable()] = 30
    """Steps in one call of the compiled program; signals are handled between calls."""
    init_from: Annotated[str, Absent("")] = ""
    """Digest of the weights that runs start from; --init_from sets it."""


@dataclass(frozen=True, config=SCHEMA)
class Layers(Base):
    """What trainings of recurrent layers also have."""

    dropout: Annotated[Fraction, Absent(0.0)] = 0.0
    """Dropout rate between the layers."""
    recurrent_dropout: Annotated[Fraction, Absent(0.0)] = 0.0
    """Dropout rate within the recurrence, with one mask for all steps of a sequence (Gal and Ghahramani 2016)."""
    layer_norm: Annotated[bool, Absent(False)] = False
    """Normalise the input of each layer but the first."""
    compute_dtype: Annotated[Literal["float32", "bfloat16"], Absent("float32")] = "float32"
    """Data type of the products; parameters, carries, sums and losses stay float32."""


def make_get_config(config: Any, **variants: Any) -> Callable[..., ConfigDict]:
    """A config file's `get_config`: the fields of `config`, or for ``--config=FILE:VARIANT`` those of a variant."""

    def get_config(variant: str | None = None) -> ConfigDict:
        if variant not in (None, *variants):
            raise ValueError(f"there is no variant {variant!r}; there are {', '.join(variants) or 'none'}")
        return ConfigDict(dataclasses.asdict(config if variant is None else variants[variant]))

    return get_config
