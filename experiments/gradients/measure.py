"""Measures gradients of initialised and of trained cells, in float64, on sequences of the palindrome study.

- ``metrics.jsonl``: steps are distances ``T - t``, and `h` and `c` are the norm of the loss's gradient with respect to
  that field of the carry after position ``t``, the root mean square over the sequences.
- ``costs.jsonl``: steps are lengths T; rows have the median seconds of a forward pass without and with its gradient,
  and the bytes that XLA plans for each besides arguments and results.
- ``gates.json``: the gates of some units over one sequence.
- ``trained/``: the cells that were trained here, as runs of the palindrome study.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, FiniteFloat
from tqdm import tqdm

from configs.gradients import Config
from configs.palindrome import Config as Setting
from experiments import formal, palindrome
from experiments._timing import time_calls
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, orthogonal
from jaxrnn.data.formal import TASKS
from jaxrnn.nn import losses
from jaxrnn.recurrence import unroll
from jaxrnn.rundir import session
from jaxrnn.rundir.directory import METRICS, RunDirectory, RunError, is_complete, read_results
from jaxrnn.rundir.restore import load_run
from jaxrnn.through_time import (
    Terms,
    carry_gradients,
    decay_rate,
    euclidean_norm,
    gates,
    weight_gradient_terms,
    weight_of,
)
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.processes import any_process, is_first
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.signals import Interrupted, catch_signals

COSTS, GATES = "costs.jsonl", "gates.json"
RADIAL = ("rnn", "linear_rnn")
"""Cells without gates, which are measured at several spectral radii and not trained."""
COST_LENGTHS = (25, 50, 100, 200, 400)
NUM_UNITS = 24
"""Units whose gates are recorded."""


class State(NamedTuple):
    """A cell in a state, which is measured with several seeds; `source` is the directory given for it."""

    cell: str
    state: Literal["initial", "trained"]
    spectral_radius: float | None = None
    source: str | None = None


class Subject(NamedTuple):
    """One seed of a state, with its setting of the palindrome study and the parameters of its `SequenceClassifier`."""

    run: str
    seed: int
    state: State
    setting: Setting
    params: PyTree


class Measurement(BaseModel):
    """A row of ``results.json``: a subject's run, seed and state, and its measurements."""

    run: str
    seed: int
    cell: str
    state: Literal["initial", "trained"]
    spectral_radius: float | None
    source: str | None
    length: int
    """T."""
    loss: FiniteFloat
    rates: dict[str, FiniteFloat | None]
    """By field of the carry, the factor of its gradient's norm per step."""
    gradient_norm: FiniteFloat
    """The norm of the gradient of all parameters."""
    clipped_norm: FiniteFloat
    head_error: FiniteFloat
    """Relative deviation of the head's gradient from ``h_T^T (softmax - y)``."""
    sum_error: FiniteFloat | None
    """Relative deviation of the sum over steps from the recurrent matrix's gradient as training takes it; None for a
    cell without such a matrix."""
    sum_error_float32: float | None
    """The same in float32; None also where that overflows."""
    shares: list[FiniteFloat]
    """What each step adds along the recurrent matrix's gradient, last step first; the sum is 1, unless empty."""
    sizes: dict[str, int]
    """Numbers of inputs, hidden units and outputs, and of the parameters of cell and head."""


# --- Subjects ---------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Refuses directories without a cell that can be measured."""
    for directory in config.trained:
        _saved_setting(config, directory)


def initial_subjects(config: Config) -> Iterator[Subject]:
    """All cells as they are initialised."""
    for cell in config.cells:
        setting = _setting(config, cell)
        init = jax.jit(functools.partial(_init, setting))
        for radius in config.spectral_radius if cell in RADIAL else (None,):
            for seed in range(config.first_seed, config.first_seed + config.num_seeds):
                run = f"{cell}, initial, seed={seed}" + ("" if radius is None else f",spectral_radius={radius!r}")
                params = init(stream_key(seed, Stream.INIT), radius)
                yield Subject(run, seed, State(cell, "initial", radius), setting, params)


def _init(setting: Setting, key: Key, radius: Array | None) -> PyTree:
    model = formal.build_model(setting)
    if radius is not None:
        model = model.clone(initializer=orthogonal(radius))
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def _trained_subjects(config: Config, path: Path, pause: Callable[[], None]) -> Iterator[Subject]:
    """The trained cells: those in the given directories, then all other gated cells, trained below `path` first.

    `pause` is called before each training, which does not notice signals that came before it.
    """
    given = set()
    for directory in config.trained:
        setting = _saved_setting(config, directory)
        given.add(setting.cell)
        yield from _read_subjects(Path(directory), setting, directory)
    for cell in config.cells if config.train_steps else ():
        if cell not in RADIAL and cell not in given:
            pause()
            setting, here = _setting(config, cell), path / "trained" / cell
            session.ensure(palindrome.STUDY, setting, here)
            yield from _read_subjects(here, setting)


def _setting(config: Config, cell: str) -> Setting:
    """The setting of the palindrome study for a cell of this study; fields with the same name have the same value."""
    shared = {field.name: getattr(config, field.name) for field in fields(Setting) if hasattr(config, field.name)}
    return Setting(cell=cell, max_steps=config.train_steps, **shared)


def _saved_setting(config: Config, directory: str) -> Setting:
    """The setting of the runs in a given directory; refuses runs that cannot be compared with this study's."""
    path = Path(directory)
    try:
        setting = session.saved_config(palindrome.STUDY, path)
    except (RunError, ConfigError) as error:
        raise ConfigError("trained", directory, str(error)) from error
    here = _setting(config, setting.cell)
    # The loss has to be that of one last state, and gradients are only comparable on the same sequences.
    names = ("bidirectional", "num_layers", "compute_dtype", "digits", "batch_size", "clip_norm")
    others = [f"{name}={value}" for name in names if (value := getattr(setting, name)) != getattr(here, name)]
    if setting.cell not in config.cells or others:
        reason = f"it has runs of {', '.join([setting.cell, *others])}, which is not this study's setting"
        raise ConfigError("trained", directory, reason)
    # Runs that end first are not a fair sample of all.
    if not is_complete(path) or session.read_record(path, palindrome.STUDY.name)["sweep"]:
        raise ConfigError("trained", directory, "its runs have not all ended, or are of several settings")
    return setting


def _read_subjects(path: Path, setting: Setting, source: str | None = None) -> Iterator[Subject]:
    """The runs in a directory that have not failed."""
    state = State(setting.cell, "trained", source=source)
    for row in read_results(path):
        if row["failed_at"] is None:
            run = f"{setting.cell}, {source or 'trained'}, {row['run']}"
            yield Subject(run, row["seed"], state, setting, load_run(path, row["run"]).params)


# --- Measurements -----------------------------------------------------------------------------------------------------


def _split_cell(name: str, params: PyTree, tokens: Array) -> tuple[Any, Array]:
    """The cell's parameters, and its inputs ``[T, *batch, D]``."""
    return CELLS[name].params_type(**params["forward"]), params["embedding"][tokens]


def _loss(head: PyTree, h: Array, labels: Array) -> Array:
    """The mean cross-entropy of hidden states ``[*batch, H]``."""
    return losses.cross_entropy(h @ head["kernel"] + head["bias"], labels)


@functools.partial(jax.jit, static_argnums=0)
def _carry_norms(name: str, params: PyTree, tokens_tb: Array, labels_b: Array) -> dict[str, Array]:
    """By field of the carry, the norm ``[T]`` of its gradient by distance from the end.

    It is the root mean square over sequences, because a sequence whose label the model is sure of has next to no
    gradient.
    """
    cell_params, xs = _split_cell(name, params, tokens_tb)
    # Each sequence's own loss, whatever the size of the batch.
    found = carry_gradients(CELLS[name], cell_params, xs, lambda h: labels_b.size * _loss(params["head"], h, labels_b))
    norms = {field: euclidean_norm(d, range(1, d.ndim)) for field, d in found._asdict().items()}
    return {field: norm[::-1] / labels_b.size**0.5 for field, norm in norms.items()}


@functools.partial(jax.jit, static_argnums=0)
def _whole_gradient(name: str, params: PyTree, tokens_tb: Array, labels_b: Array) -> tuple[Array, Array, Array, Array]:
    """Losses ``[B]``, the norm of the whole gradient, and the head's gradient, twice: the second from ``h_T`` alone.

    ``dL/dW_ph = h_T^T (softmax(p) - y)``, averaged over the batch (Soons 2020, Question 1.1a).
    """

    def loss(params: PyTree) -> tuple[Array, Array]:
        cell_params, _ = _split_cell(name, params, tokens_tb)
        h = unroll(CELLS[name], cell_params, tokens_tb, embedding=params["embedding"])[0].h
        return _loss(params["head"], h, labels_b), h

    (_, h), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    head = params["head"]
    of_each = jax.vmap(_loss, in_axes=(None, 0, 0))(head, h, labels_b)
    p = jax.nn.softmax(h @ head["kernel"] + head["bias"])
    closed = h.T @ (p - jax.nn.one_hot(labels_b, p.shape[1])) / len(labels_b)
    whole = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])
    return of_each, euclidean_norm(whole, (0,)), gradient["head"]["kernel"], closed


@functools.partial(jax.jit, static_argnums=0)
def _terms(name: str, params: PyTree, tokens_t: Array, label: Array) -> tuple[Terms, Array] | None:
    """The terms of the recurrent matrix's gradient for one sequence, and that gradient as training takes it.

    None for a cell without such a matrix.
    """
    cell, (cell_params, xs) = CELLS[name], _split_cell(name, params, tokens_t)
    weight = weight_of(cell)
    if weight is None:
        return None

    def loss(h: Array) -> Array:
        return _loss(params["head"], h, label)

    gradient = jax.grad(lambda cell_params: loss(unroll(cell, cell_params, xs)[0].h))(cell_params)
    return weight_gradient_terms(cell, cell_params, xs, loss), weight(gradient)


def _relative_error(found: ArrayLike, expected: ArrayLike) -> float:
    """The relative error, in float64 and scaled by the largest number, whose square may overflow; 0 if both are 0."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    largest = np.abs(expected).max() or 1.0
    return float(np.linalg.norm((found - expected) / largest) / (np.linalg.norm(expected / largest) or 1.0))


def _draw_sequences(subject: Subject) -> tuple[Array, Array]:
    """New sequences: tokens ``[T, B]`` and labels ``[B]``."""
    setting = subject.setting
    key = stream_key(subject.seed, Stream.EVAL, 1)
    return TASKS[setting.task].sample(key, setting.batch_size, setting.digits)


def _measure_subject(subject: Subject) -> tuple[dict[str, NDArray[np.float64]], Measurement]:
    """The norms ``[T]`` by field and distance, and the row of ``results.json``."""
    setting, params = subject.setting, subject.params
    tokens_tb, labels_b = _draw_sequences(subject)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        norms = jax.device_get(_carry_norms(setting.cell, exact, tokens_tb, labels_b))
        loss_b, norm, *of_head = jax.device_get(_whole_gradient(setting.cell, exact, tokens_tb, labels_b))
        worst = loss_b.argmax()  # Where a model is sure of the label, float32 has no gradient.
        one = tokens_tb[:, worst], labels_b[worst]
        in_64 = _terms(setting.cell, exact, *one)
    in_32 = _terms(setting.cell, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), *one)
    errors = [None if found is None else _relative_error(found[0].total, found[1]) for found in (in_64, in_32)]
    shares = [] if in_64 is None else np.asarray(in_64[0].shares)[::-1].tolist()
    if not all(np.isfinite(values).all() for values in (norm, shares, *norms.values())):
        raise RunError(f"{subject.run}: over {len(tokens_tb)} positions the gradient is too large for float64")
    num_parameters = sum(x.size for part in ("forward", "head") for x in jax.tree.leaves(params[part]))
    units = params["embedding"].shape[1], setting.hidden_size, params["head"]["bias"].size
    return norms, Measurement(
        run=subject.run,
        seed=subject.seed,
        **subject.state._asdict(),
        length=len(tokens_tb),
        loss=float(loss_b.mean()),
        rates={field: decay_rate(values) for field, values in norms.items()},
        gradient_norm=float(norm),
        clipped_norm=min(float(norm), setting.clip_norm),
        head_error=_relative_error(*of_head),
        sum_error=errors[0],
        sum_error_float32=errors[1],
        shares=shares,
        sizes=dict(zip(("inputs", "hidden", "outputs", "parameters"), (*units, num_parameters), strict=True)),
    )


def _measure_gates(subject: Subject) -> dict[str, Any] | None:
    """The gates of the units that change most over the first sequence; None for a cell without gates."""
    tokens_tb, _ = _draw_sequences(subject)
    cell_params, xs = _split_cell(subject.setting.cell, subject.params, tokens_tb[:, 0])
    found = jax.jit(gates, static_argnums=0)(CELLS[subject.setting.cell], cell_params, xs)
    if not found:
        return None
    changes = sum(np.var(np.asarray(values), axis=0) for values in found.values())
    units = np.sort(np.argsort(-changes)[:NUM_UNITS])
    return {
        "run": subject.run,
        "tokens": tokens_tb[:, 0].tolist(),
        "gates": {gate: np.asarray(v, np.float64)[:, units].round(3).T.tolist() for gate, v in found.items()},
    }


def _measure_costs(config: Config) -> Iterator[dict[str, Any]]:
    """The costs of the first cell with gates, or else of the first cell: a row for each length."""
    name = next((cell for cell in config.cells if cell not in RADIAL), config.cells[0])
    cell, setting = CELLS[name], _setting(config, name)
    input_size = formal.build_model(setting).embedding_size
    init_key, input_key = jax.random.split(jax.random.key(0))
    params = cell.init(init_key, input_size, config.hidden_size, INITIALIZERS[setting.initializer])

    def forward(params: PyTree, xs: Array) -> Array:
        return unroll(cell, params, xs)[0].h.sum()

    for length in COST_LENGTHS:
        xs = jax.random.normal(jax.random.fold_in(input_key, length), (length, config.batch_size, input_size))
        row: dict[str, Any] = {"run": name, "seed": 0, "step": length}
        for what, function in (("forward", forward), ("gradient", jax.value_and_grad(forward))):
            compiled: Any = jax.jit(function).lower(params, xs).compile()
            row[f"{what}_seconds"] = time_calls(functools.partial(compiled, params, xs))
            row[f"{what}_bytes"] = compiled.memory_analysis().temp_size_in_bytes
        yield {**row, "load": round(os.getloadavg()[0], 2)}


# --- The run ----------------------------------------------------------------------------------------------------------


def measure(config: Config, directory: RunDirectory) -> list[dict[str, Any]]:
    """Trains the cells that are to be trained, measures everything, and returns the rows of ``results.json``.

    Raises:
        Interrupted: by a signal; a training continues from its last checkpoint, and measuring starts again.
        RunError: a gradient is too large for float64.
    """
    with catch_signals() as interrupted:

        def pause() -> None:
            if any_process([interrupted()])[0]:
                raise Interrupted

        directory.truncate({METRICS: 0, COSTS: 0})
        rows, found_gates = [], {}
        subjects = itertools.chain(initial_subjects(config), _trained_subjects(config, directory.path, pause))
        for subject in tqdm(subjects, unit="cell", disable=None if is_first() else True):
            pause()
            norms, row = _measure_subject(subject)
            rows.append(row.model_dump())
            head = {"run": subject.run, "seed": subject.seed}
            lines = [{**head, "step": t, **{f: float(n[t]) for f, n in norms.items()}} for t in range(row.length)]
            directory.append(METRICS, lines)
            if subject.state not in found_gates:
                found_gates[subject.state] = _measure_gates(subject)
        for cost in _measure_costs(config):
            pause()
            directory.append(COSTS, [cost])
        directory.write(GATES, [found for found in found_gates.values() if found is not None], indent=None)
    return rows
