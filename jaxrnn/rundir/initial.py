"""Weights that new runs start from: read from another run directory, and kept in the new one."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore, digest_of, flatten, unflatten
from jaxrnn.rundir.restore import load_all
from jaxrnn.training.definition import ConfigError, Training, name_parts

INITIAL = "checkpoints/initial"


class Weights(NamedTuple):
    """Parameters of one shape, by the names of the runs that they come from."""

    params: dict[str, PyTree]

    @property
    def digest(self) -> str:
        """It tells apart settings that start from different weights."""
        digests = [f"{name} {digest_of(flatten(params), {})}" for name, params in sorted(self.params.items())]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]

    def of_seed(self, seed: int) -> PyTree:
        """The parameters of the run with the same seed, or of the only run.

        Raises:
            ConfigError: there are several runs, and not exactly one of this seed.
        """
        same = [name for name in self.params if f"seed={seed}" in name_parts(name)]
        found = same if len(self.params) > 1 else [*self.params]
        if len(found) != 1:
            reason = f"{'several runs' if found else 'no run'} of seed {seed} among {', '.join(self.params)}"
            remedy = "name one run, or one of each seed, as in DIR:seed=0 or DIR:learning_rate=0.1"
            raise ConfigError("init_from", self.digest, f"{reason}; {remedy}")
        return self.params[found[0]]


def read_weights(source: str) -> Weights:
    """The parameters by which runs are judged; `source` is ``DIR``, or ``DIR:PART`` with a part of the runs' names.

    Raises:
        RunError, CheckpointError: there are none, or they are damaged.
    """
    path, _, part = source.partition(":")
    return Weights(load_all(path, part))


def keep_weights(path: Path, weights: Weights) -> None:
    """Saves them in a new run directory, so that its runs can go on without the one that they came from."""
    stacked = jax.tree.map(lambda *x: np.stack(x), *weights.params.values())
    with CheckpointStore(path / INITIAL) as store:
        store.save(0, {"params": stacked}, {"runs": [*weights.params]})


def kept_weights(path: Path, like: PyTree) -> Weights:
    """What `keep_weights` saved; `like` has the shapes and dtypes of one run.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    try:
        with CheckpointStore(path / INITIAL) as store:
            arrays, meta = store.read(0)
    except CheckpointError as error:
        raise CheckpointError(f"{path / INITIAL}: {error}; start the runs anew in another --workdir") from error
    stacked = {name.removeprefix("params/"): array for name, array in arrays.items()}
    each = [{name: array[i] for name, array in stacked.items()} for i in range(len(meta["runs"]))]
    return Weights({run: unflatten(like, one) for run, one in zip(meta["runs"], each, strict=True)})


def shapes_of_params(training: Training) -> PyTree:
    """The shapes and dtypes of the parameters of one run."""
    return jax.eval_shape(training.init, jax.random.key(0))


def start_from(training: Training, weights: Weights) -> Training:
    """The training, its runs starting from these weights.

    Raises:
        ConfigError: they do not fit; the message names the first parameter that differs.
    """
    like = shapes_of_params(training)
    try:
        fitting = Weights({run: unflatten(like, flatten(params)) for run, params in weights.params.items()})
    except CheckpointError as error:
        raise ConfigError("init_from", weights.digest, str(error)) from error
    return training._replace(initial=fitting.of_seed)
