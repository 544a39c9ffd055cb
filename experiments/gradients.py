"""Gradients through time (report, Questions 1.1 and 1.2): ``python -m experiments.gradients --workdir=DIR``.

What is looked at are cells as initialised and as trained, in float64, on sequences of the palindrome study.

- ``metrics.jsonl``: steps are distances ``T - t``, and `h` and `c` are the norm of the loss's gradient with respect to
  that field of the carry after position ``t``, the root mean square over the sequences.
- ``costs.jsonl``: steps are lengths T; median seconds of a forward pass and of one with its gradient, and the bytes
  that XLA plans for either besides arguments and results.
- ``gates.json``: the gates of some units over one sequence.
- ``trained/``: the cells that were trained here, runs of the palindrome study.
- ``report.html``: all of it in figures and tables.
"""

import dataclasses
import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

import configs.palindrome
import jaxrnn
from configs.gradients import Config
from experiments import gradients_report, launch, palindrome
from experiments.gradients_report import COSTS, GATES
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, orthogonal
from jaxrnn.data.formal import TASKS
from jaxrnn.nn import losses
from jaxrnn.recurrence import unroll
from jaxrnn.rundir.directory import METRICS, RunDirectory, RunError, read_config
from jaxrnn.study.report import read_runs, write_report
from jaxrnn.through_time import Terms, carry_gradients, euclidean_norm, gates, weight_gradient_terms
from jaxrnn.training import processes as distributed
from jaxrnn.training.loop import Interrupted, signals
from jaxrnn.training.seeds import Stream, stream_key

RADIAL = ("rnn", "linear_rnn")
"""Cells without gates: they are measured over the spectral radius, and not trained."""
COST_LENGTHS = (25, 50, 100, 200, 400)
NUM_UNITS = 24
"""Whose gates are kept."""
_REPEATS = 5


class Subject(NamedTuple):
    """A cell with parameters, to be looked at.

    Attributes:
        name: of its row and curve.
        seed: of its parameters or training, and of the sequences.
        spectral_radius: of a cell in `RADIAL`, else None.
        source: the run directory of trained parameters, as given or in this run's directory; else None.
        settings: of the palindrome study that it belongs to, its cell among them.
        params: of its `SequenceClassifier`.
    """

    name: str
    seed: int
    spectral_radius: float | None
    source: str | None
    settings: Any
    params: PyTree


# --- What is looked at ------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Refuses names that do not exist, and what is given twice."""
    launch.check_runs(config)
    for name in config.cells:
        launch.choice("cells", name, list(CELLS))
    for field in ("cells", "spectral_radius", "trained"):
        values = getattr(config, field)
        if len({Path(value).resolve() if field == "trained" else value for value in values}) < len(values):
            raise launch.bad_value(field, values, "has the same value twice")


def initial(config: Config) -> Iterator[Subject]:
    """All cells as they are initialised."""
    for cell in config.cells:
        settings = _settings(config, cell)
        init = jax.jit(functools.partial(_init, settings))
        for radius in config.spectral_radius if cell in RADIAL else (None,):
            for seed in range(config.first_seed, config.first_seed + config.num_seeds):
                name = f"{cell}, initial, seed={seed}" + ("" if radius is None else f",spectral_radius={radius!r}")
                yield Subject(name, seed, radius, None, settings, init(stream_key(seed, Stream.INIT), radius))


def _init(settings: configs.palindrome.Config, key: Key, radius: Array | None) -> PyTree:
    model = palindrome.build_model(settings)
    if radius is not None:
        model = model.clone(initializer=orthogonal(radius))
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def trained_here(
    config: Config, given: Sequence[Subject], path: Path, pause: Callable[[], None] = lambda: None
) -> Iterator[Subject]:
    """The gated cells that are not among the given ones, trained first, or on, in the run's directory.

    `pause` is called before a training, which does not know of signals that came before it.
    """
    for cell in config.cells if config.train_steps else ():
        if cell not in RADIAL and cell not in {subject.settings.cell for subject in given}:
            here = Path("trained") / cell
            pause()
            launch.ensure(palindrome.EXPERIMENT, dataclasses.asdict(_settings(config, cell)), path / here)
            yield from _read_trained(config, path / here, str(here))


def _settings(config: Config, cell: str) -> configs.palindrome.Config:
    """Those of the palindrome study for a cell of this one."""
    shared = ("digits", "hidden_size", "embedding_size", "batch_size", "clip_norm", "num_seeds", "first_seed")
    return configs.palindrome.Config(
        cell=cell,
        learning_rate=config.learning_rate,
        precision=config.precision,
        max_steps=config.train_steps,
        **{name: getattr(config, name) for name in shared},
    )


def _read_trained(config: Config, path: Path, source: str | None = None) -> list[Subject]:
    """The runs in a directory of the palindrome study, without those that failed; `source` is the path by default.

    Raises:
        RunError: there are none, or they cannot be looked at beside the rest of this study.
    """
    settings = launch.saved_config(palindrome.EXPERIMENT, path)
    if settings.cell not in config.cells:
        raise RunError(f"{path}: its cell is {settings.cell}, and --config.cells has only {', '.join(config.cells)}")
    if settings.bidirectional:
        raise RunError(f"{path}: its model is bidirectional, so the loss is not of one last state")
    if len(settings.learning_rate) > 1:
        raise RunError(f"{path}: its cells were trained with several learning rates")
    here = _settings(config, settings.cell)
    for name in ("task", "digits", "batch_size", "clip_norm"):
        theirs, ours = getattr(settings, name), getattr(here, name)
        if theirs != ours:
            raise RunError(f"{path}: it was trained with {name}={theirs}, and here it is {ours}")
    if not launch.is_complete(path):
        # Those that end first are not a fair sample of all.
        raise RunError(f"{path}: its runs have not ended yet; --resume --workdir={path} goes on with them")
    sound = [row for row in json.loads((path / "results.json").read_text())["runs"] if "failed_at" not in row]
    if not sound:
        raise RunError(f"{path}: all its runs have failed")
    return [
        Subject(
            name=f"{settings.cell}, {source or path}, {row['run']}",
            seed=row["seed"],
            spectral_radius=None,
            source=source or str(path),
            settings=settings,
            params=jaxrnn.load(path, run=row["run"])[1],
        )
        for row in sound
    ]


# --- Measurements -----------------------------------------------------------------------------------------------------


def _of_cell(name: str, params: PyTree, tokens: Array) -> tuple[Any, Array]:
    """The cell's parameters, and its inputs ``[T, *batch, D]``."""
    return CELLS[name].params_type(**params["forward"]), params["embedding"][tokens]


def _loss(head: PyTree, h: Array, labels: Array) -> Array:
    """The mean cross-entropy of hidden states ``[*batch, H]``."""
    return losses.cross_entropy(h @ head["kernel"] + head["bias"], labels)


@functools.partial(jax.jit, static_argnums=0)
def _carry_norms(name: str, params: PyTree, tokens_tb: Array, labels_b: Array) -> dict[str, Array]:
    """By field of the carry, ``[T]``: the norm of its gradient by distance from the end.

    The root mean square over sequences: a sequence of whose label the model is sure has next to no gradient.
    """
    cell_params, xs = _of_cell(name, params, tokens_tb)
    # A sequence's own loss, whatever the size of the batch.
    found = carry_gradients(CELLS[name], cell_params, xs, lambda h: labels_b.size * _loss(params["head"], h, labels_b))
    return {
        field: euclidean_norm(of_each, (1, 2))[::-1] / labels_b.size**0.5 for field, of_each in found._asdict().items()
    }


@functools.partial(jax.jit, static_argnums=0)
def _whole_gradient(name: str, params: PyTree, tokens_tb: Array, labels_b: Array) -> tuple[Array, Array, Array, Array]:
    """Losses ``[B]``, norm of the gradient of all parameters, and the head's, twice: the second from ``h_T`` alone.

    ``dL/dW_ph = h_T^T (softmax(p) - y)``, averaged over the batch (report, Question 1.1a).
    """

    def loss(params: PyTree) -> tuple[Array, Array]:
        cell_params, _ = _of_cell(name, params, tokens_tb)
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
def _terms(name: str, params: PyTree, tokens_t: Array, label: Array) -> tuple[Terms, Array]:
    """Of one sequence, the terms of the recurrent matrix's gradient, and that gradient as training takes it."""
    cell, (cell_params, xs) = CELLS[name], _of_cell(name, params, tokens_t)

    def loss(h: Array) -> Array:
        return _loss(params["head"], h, label)

    gradient = jax.grad(lambda cell_params: loss(unroll(cell, cell_params, xs)[0].h))(cell_params)
    return weight_gradient_terms(cell, cell_params, xs, loss), cell.weight(gradient)


def _relative_error(found: ArrayLike, expected: ArrayLike) -> float:
    """In float64 and in parts of the largest number, whose square may be no number; 0 where both are zero."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    largest = np.abs(expected).max() or 1.0
    return float(np.linalg.norm((found - expected) / largest) / (np.linalg.norm(expected / largest) or 1.0))


def sequences(subject: Subject) -> tuple[Array, Array]:
    """New ones: tokens ``[T, B]`` and labels ``[B]``."""
    task = TASKS[subject.settings.task](subject.settings.digits)
    return task.sample(stream_key(subject.seed, Stream.EVAL, 1), subject.settings.batch_size)


def look(subject: Subject) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """What is measured of a subject: the norms ``[T]`` by field and distance, and its row of ``results.json``.

    Raises:
        RunError: the gradient is too large for float64.
    """
    settings, params = subject.settings, subject.params
    tokens_tb, labels_b = sequences(subject)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        norms = jax.device_get(_carry_norms(settings.cell, exact, tokens_tb, labels_b))
        loss_b, norm, *of_head = jax.device_get(_whole_gradient(settings.cell, exact, tokens_tb, labels_b))
        worst = loss_b.argmax()  # Of a label that a model is sure of, float32 has no gradient.
        one = tokens_tb[:, worst], labels_b[worst]
        terms, gradient = jax.device_get(_terms(settings.cell, exact, *one))
    single = _terms(settings.cell, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), *one)
    if not all(np.isfinite(values).all() for values in (norm, terms.shares, *norms.values())):
        raise RunError(f"{subject.name}: over {len(tokens_tb)} positions the gradient is too large for float64")
    row = {
        "run": subject.name,
        "seed": subject.seed,
        "cell": settings.cell,
        "spectral_radius": subject.spectral_radius,
        "source": subject.source,
        "length": len(tokens_tb),
        "loss": float(loss_b.mean()),
        "rates": {field: rate(values) for field, values in norms.items()},
        "gradient_norm": float(norm),
        "clipped_norm": min(float(norm), settings.clip_norm),
        "head_error": _relative_error(*of_head),
        "sum_error": _relative_error(terms.total, gradient),
        "sum_error_float32": _relative_error(single[0].total, single[1]),
        "shares": terms.shares[::-1].tolist(),
        "term_norms": terms.norms[::-1].tolist(),
        "sizes": {
            "inputs": params["embedding"].shape[1],
            "hidden": settings.hidden_size,
            "outputs": params["head"]["bias"].size,
            "parameters": sum(x.size for part in ("forward", "head") for x in jax.tree.leaves(params[part])),
        },
    }
    return norms, row


def rate(norms: ArrayLike) -> float | None:
    """The factor by which norms ``[T]`` change from one distance to the next: ``exp`` of the slope of their logarithm.

    By least squares over those that are not zero; None where there are fewer than two.
    """
    norms = np.asarray(norms, np.float64)
    (distances,) = np.nonzero(norms)
    if len(distances) < 2:
        return None
    return float(np.exp(np.polyfit(distances, np.log(norms[distances]), 1)[0]))


def look_at_gates(subject: Subject) -> dict[str, Any] | None:
    """The gates of the units that change most over the first sequence; None for a cell without."""
    tokens_tb, _ = sequences(subject)
    cell_params, xs = _of_cell(subject.settings.cell, subject.params, tokens_tb[:, 0])
    found = jax.jit(gates, static_argnums=0)(CELLS[subject.settings.cell], cell_params, xs)
    if not found:
        return None
    changes = sum(np.var(np.asarray(values), axis=0) for values in found.values())
    units = np.sort(np.argsort(-changes)[:NUM_UNITS])
    return {
        "run": subject.name,
        "tokens": tokens_tb[:, 0].tolist(),
        "gates": {gate: np.asarray(v, np.float64)[:, units].round(3).T.tolist() for gate, v in found.items()},
    }


def costs(config: Config) -> Iterator[dict[str, Any]]:
    """What the first cell with gates, or else the first, costs: a row for each length."""
    name = next((cell for cell in config.cells if cell not in RADIAL), config.cells[0])
    cell, settings = CELLS[name], _settings(config, name)
    input_size = palindrome.build_model(settings).embedding_size
    keys = jax.random.split(jax.random.key(0))
    params = cell.init(keys[0], input_size, config.hidden_size, INITIALIZERS[settings.initializer])

    def forward(params: PyTree, xs: Array) -> Array:
        return unroll(cell, params, xs)[0].h.sum()

    for length in COST_LENGTHS:
        xs = jax.random.normal(jax.random.fold_in(keys[1], length), (length, config.batch_size, input_size))
        row: dict[str, Any] = {"run": name, "seed": 0, "step": length}
        for what, function in (("forward", forward), ("gradient", jax.value_and_grad(forward))):
            compiled = jax.jit(function).lower(params, xs).compile()
            memory = compiled.memory_analysis()
            row[f"{what}_seconds"] = _median_seconds(functools.partial(compiled, params, xs))
            row[f"{what}_bytes"] = None if memory is None else memory.temp_size_in_bytes
        yield {**row, "load": round(os.getloadavg()[0], 2)}


def _median_seconds(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


# --- The run ----------------------------------------------------------------------------------------------------------


def prepare(config: Config) -> Callable[[RunDirectory], list[dict[str, Any]]]:
    """Reads the trained cells that are given, before anything is written.

    Raises:
        RunError, CheckpointError: they cannot be read, or not be looked at beside the rest.
    """
    given = [subject for directory in config.trained for subject in _read_trained(config, Path(directory))]
    return functools.partial(carry_out, config, given)


def carry_out(config: Config, given: Sequence[Subject], directory: RunDirectory) -> list[dict[str, Any]]:
    """Trains what is to be trained, measures everything, and returns the rows of ``results.json``.

    Raises:
        Interrupted: by a signal; training goes on from its last checkpoint, measuring begins anew.
        RunError: as in `look`.
    """
    with signals() as interrupted:
        return _finished(directory) or _carry_out(config, given, directory, interrupted)


def _finished(directory: RunDirectory) -> list[dict[str, Any]] | None:
    """The rows of a run that is complete with the config that it is to have."""
    now = json.loads(json.dumps(directory.record["config"]))
    if not launch.is_complete(directory.path) or read_config(directory.path)["config"] != now:
        return None
    return list(json.loads((directory.path / "results.json").read_text())["runs"])


def _carry_out(
    config: Config, given: Sequence[Subject], directory: RunDirectory, interrupted: Callable[[], bool]
) -> list[dict[str, Any]]:
    def pause() -> None:
        if distributed.any_process([interrupted()])[0]:
            raise Interrupted

    results = {"experiment": gradients_report.EXPERIMENT, "complete": False, "runs": []}
    directory.write("results.json", results, indent=None)
    directory.write_config()
    directory.truncate({METRICS: 0, COSTS: 0})
    rows, looked_into = [], {}
    subjects = itertools.chain(initial(config), given, trained_here(config, given, directory.path, pause))
    for subject in tqdm(subjects, unit="cell", disable=None if distributed.is_first() else True):
        pause()
        norms, row = look(subject)
        rows.append(row)
        directory.append(METRICS, _lines(subject.name, subject.seed, norms))
        state = (subject.settings.cell, subject.spectral_radius, subject.source)
        if state not in looked_into:
            looked_into[state] = look_at_gates(subject)
    for row in costs(config):
        pause()
        directory.append(COSTS, [row])
    directory.write(GATES, [found for found in looked_into.values() if found is not None], indent=None)
    directory.write("results.json", {**results, "complete": True, "runs": rows}, indent=None)
    return rows


def _lines(name: str, seed: int, norms: dict[str, NDArray[np.float64]]) -> Iterator[dict[str, Any]]:
    for distance in range(len(next(iter(norms.values())))):
        values = {field: float(of_field[distance]) for field, of_field in norms.items()}
        yield {"run": name, "seed": seed, "step": distance, **values}


def write_page(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the page of a complete run into its directory.

    Raises:
        RunError: if it cannot be written.
    """
    del rows
    if not distributed.is_first():
        return
    try:
        write_report(gradients_report.sections(read_runs(path, "this machine")), path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}: {error.filename}") from error


EXPERIMENT = launch.Experiment(
    gradients_report.EXPERIMENT,
    Config,
    check,
    prepare,
    finish=write_page,
)


def main(argv: list[str]) -> None:
    """Measures, and prints the tables."""
    del argv
    directories = flags.FLAGS.trained
    if directories and "trained" in launch.given_fields():
        raise launch.UsageError("--trained and --config.trained are the same: give one of them")
    launch.launch(EXPERIMENT, {"trained": tuple(directories)} if directories else {})
    if not distributed.is_first():
        return
    path = launch.workdir()
    lines = (path / "report.md").read_text(encoding="utf-8").splitlines()
    print("\n".join(line for line in lines if not line.startswith("![")))
    print(f"\nWith figures: {path / 'report.html'}")


if __name__ == "__main__":
    launch.define_flags("gradients.py", Config)
    launch.define_training_flags()
    flags.DEFINE_multi_string("trained", None, "A palindrome run with a trained cell; may be given several times.")
    launch.run_main(main)
