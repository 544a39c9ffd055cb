"""What is trained: `Training`, a record of pure functions and plain sizes, and `Run`, one seed under one setting."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import optax

from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.training.stop import StopRule, never_stop

Loss = Callable[[PyTree, PyTree, PyTree, Key, PyTree], tuple[Array, tuple[dict[str, Array], PyTree]]]


class ConfigError(Exception):
    """A config that cannot be used: which field, its value, and what would be right."""

    def __init__(self, field: str, value: Any, reason: str) -> None:
        shown = value if str(value).isprintable() else repr(value)
        super().__init__(f"{field}={shown}: {reason}")
        self.field, self.value, self.reason = field, value, reason


def check_one_of(field: str, value: str, names: Sequence[str]) -> None:
    """Raises a ConfigError unless the value of a field is one of `names`."""
    if value not in names:
        raise ConfigError(field, value, f"should be one of {', '.join(names)}")


class Run(NamedTuple):
    """One seed under one setting.

    Attributes:
        seed: the run is a function of it.
        values: the setting's values of the swept fields.
    """

    seed: int
    values: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        """The name of the run, by what sets it apart, e.g. ``seed=2,cell=gru,learning_rate=0.001``."""
        return ",".join([f"seed={self.seed}", *(f"{field}={text_of(value)}" for field, value in self.values.items())])

    def record(self) -> dict[str, Any]:
        """The first columns of each row about this run."""
        return {"run": self.name, "seed": self.seed, **self.values}


def text_of(value: Any) -> str:
    """A field's value in the name of a run: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def name_parts(name: str) -> set[str]:
    """What a run's name, or a part of it, says about each field: ``{"seed=2", "cell=gru"}``; a value may have commas.

    A number may be written in any way: ``1e-3`` is ``0.001``, and ``1`` is ``1.0``.
    """
    return {_as_named(part) for part in re.split(r",(?=\w+=)", name)}


def _as_named(part: str) -> str:
    field, equals, value = part.partition("=")
    try:
        number = json.loads(value)
    except ValueError:
        return part
    if not isinstance(number, float):
        return part
    return f"{field}{equals}{text_of(int(number) if number.is_integer() else number)}"


def settings(sweep: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values of swept fields, the last field changing fastest; without fields, there is one."""
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def product(seeds: Iterable[int], sweep: Mapping[str, Sequence[Any]]) -> list[Run]:
    """All runs of a sweep, those of the first setting first."""
    seeds = list(seeds)
    return [Run(seed, values) for values in settings(sweep) for seed in seeds]


class Callback(NamedTuple):
    """What a study does with a run right after chosen steps.

    Attributes:
        when: whether it does anything after the step with this index.
        record: ``record(params, run, step, data) -> {name of a .jsonl file: its new rows}``; the columns of
            `Run.record` and the step come first in each row.
        save_params: whether the parameters after this step are saved.
        lowest: a file and one of its columns; the parameters at a run's lowest value so far are kept beside the newest.
        files: the names of the files.
    """

    when: Callable[[int], bool] = lambda step: False
    record: Callable[[PyTree, Run, int, PyTree], dict[str, list[dict[str, Any]]]] = lambda *_: {}
    save_params: Callable[[int], bool] = lambda step: False
    lowest: tuple[str, str] | None = None
    files: tuple[str, ...] = ()


class Training(NamedTuple):
    """A training as pure functions, which know nothing of flags, devices or files.

    Attributes:
        init: ``init(key) -> params``.
        sample: ``sample(key, step, data) -> batch``, from that step's key; or
        batches: ``batches(seed, step) -> batch`` of NumPy arrays, from the host, for any step, since a resumed training
            may begin at any. All batches of a call of the compiled program are in memory at once.
        loss: ``loss(params, memory, batch, key, data) -> (loss, (metrics, memory))``; the key is for dropout, and
            "loss" is added to the metrics.
        optimizer: ``optimizer(hyper) -> optax.GradientTransformation``, complete with the learning rate.
        test: ``test(params, memory, seed, data) -> {name: scalar or array}``, once, when a run has ended, unless by a
            NaN; the parameters are those that the stop rule chooses.
        hyper: the fields that may differ between the runs of a program, and their values where they do not; `optimizer`
            gets them as float32 arrays.
        max_steps: index of the last step: at most ``max_steps + 1`` updates, as in the code of Soons (2020).
        eval_every: steps between two evaluations, whose metrics are recorded.
        chunk_steps: steps in one call of the compiled program; a signal is answered between two calls.
        request: ``request(params, memory, key, data) -> request``: what a run asks of the host, and
        host: ``host(request, seed, step) -> (memory, {name of a .jsonl file: its new rows})``: a pure function of NumPy
            arrays, for what no compiled program can do. It is called before each step that is a multiple of
            `chunk_steps`, and gives the run's memory from that step on; the files are those of `callback`, and their
            rows get the same first columns.
        stop: the stop rule.
        stop_every: steps between two updates of the stop rule; `eval_every` by default.
        initial: ``initial(seed) -> params`` of NumPy arrays, from the host: what a run starts from instead of `init`.
        start_memory: ``start_memory(seed, data)``: the memory before the first batch; a batch hands it on to the next.
        validate: ``validate(params, memory, data) -> metrics`` of the updated parameters, besides those of the loss.
        callback: what happens at chosen steps.
        data: arrays that all runs share; an argument of the compiled programs, never a constant in them.
        batch_size: B.
        batch_axes: the axis along which a batch may be divided, a prefix of its pytree; None is for what all parts
            share. The axis of the memory is 0.
        core_parts: the number of parts of a batch that a core of a CPU takes one after another, because that is faster.
        loss_on_own_core: from the number of rows in a part of the batch, a loss that gives the same and is faster if a
            run has a core of a CPU to itself.
    """

    init: Callable[[Key], PyTree]
    sample: Callable[[Key, Array, PyTree], PyTree] | None
    loss: Loss
    optimizer: Callable[[Mapping[str, Array]], optax.GradientTransformation]
    test: Callable[[PyTree, PyTree, Array, PyTree], dict[str, Array]]
    hyper: Mapping[str, float]
    max_steps: int
    eval_every: int
    chunk_steps: int
    batches: Callable[[int, int], PyTree] | None = None
    request: Callable[[PyTree, PyTree, Key, PyTree], PyTree] | None = None
    host: Callable[[PyTree, int, int], tuple[PyTree, dict[str, list[dict[str, Any]]]]] | None = None
    stop: StopRule = never_stop()
    stop_every: int | None = None
    initial: Callable[[int], PyTree] | None = None
    start_memory: Callable[[Array, PyTree], PyTree] = lambda seed, data: ()
    validate: Callable[[PyTree, PyTree, PyTree], dict[str, Array]] = lambda params, memory, data: {}
    callback: Callback = Callback()
    data: PyTree = ()
    batch_size: int = 1
    batch_axes: PyTree = 0
    core_parts: int = 1
    loss_on_own_core: Callable[[int], Loss] | None = None
