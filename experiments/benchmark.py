"""What training and generation cost: jaxrnn beside its peers, the rate of large matrix products, and that of memory.

The peers are Flax, cuDNN on a GPU and, where they are installed, PyTorch and PyTorch Geometric.

    python -m experiments.benchmark --suite=text --suite=sampling --repeats=5 --out=runs/benchmark

Variants take turns in one process, because a machine's speed drifts: only what was timed in the same turn is compared.
Expect ten minutes on two idle CPU cores, and take no numbers from busy ones: PyTorch's threads wait for each other at
every operation, so other work on their cores slows them far more than XLA's. The load before the start stands with the
numbers. Without ``--out`` the tables are printed and nothing is written.
"""

import dataclasses
import importlib
import importlib.metadata
import itertools
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn
from jax.experimental import rnn

import configs.nodes
import configs.text
from configs.palindrome import Config
from experiments import launch, nodes, text
from experiments.palindrome import build_model, build_study, build_trainer, plan_batch
from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, LSTMCarry, LSTMParams, ProductCell
from jaxrnn.data import graphs, planetoid
from jaxrnn.data.formal import TASKS
from jaxrnn.data.graphs import NodeTask
from jaxrnn.nn.generate import Sampler
from jaxrnn.nn.text import CharLM
from jaxrnn.recurrence import lookup
from jaxrnn.rundir.directory import RunError, environment
from jaxrnn.study import plots
from jaxrnn.study.report import Table, table_markdown
from jaxrnn.training.seeds import devices_each, over_lanes, padded
from jaxrnn.training.trainer import Status, Trainer

PRECISION = "highest"
OURS = "jaxrnn"
"""The variant that the others of its group are compared with."""
FLAX = "Flax nn.RNN(OptimizedLSTMCell)"
FLAX_DIVIDED = f"{FLAX}, the batch divided"
CUDNN = "cuDNN, jax.experimental.rnn"
TORCH_LSTM, TORCH_LOOP = "PyTorch nn.LSTM", "PyTorch, loop over t"
NOT_SHARED, PLAIN = "jaxrnn, padding not shared", "jaxrnn, the batch not divided either"
"""Without what the palindrome study does to a batch on a CPU."""
ONE_AT_A_TIME = "jaxrnn, 1 in a program"
WITHOUT_GATES = "jaxrnn, without gates"
"""The same products and nearly nothing beside them: what these sizes leave of the limit."""
Problems = Sequence[tuple[Mapping[str, Any], Sequence[int]]]
_QUEUED = 10
"""Calls of what sets a limit that the device has at once; each waits for the one before, and none for Python."""
_TABLE_SEEDS = 3
"""Of each arm in the tables."""
TABLE_STEPS: Mapping[tuple[str, int], int] = {
    ("lstm", 10): 3,
    ("lstm", 20): 27,
    ("peephole", 10): 5,
    ("peephole", 20): 6,
}
"""Hundreds of steps that a run of Tables 1 and 2 takes, the mean over seeds, by its cell and number of digits."""


class Variant(NamedTuple):
    """One way to do the same work.

    Attributes:
        name: what is timed.
        group: the work, such as the cell; the variants of a group are compared.
        step: one call, which returns when the device is done; None where the library is not installed.
        steps_per_call: training steps, or characters, in a call.
        flops: of the matrix products of one of them that count towards the limit.
        compile_seconds: to trace and compile; None where nothing is compiled.
        check: refuses a call that did not do all its work; it is not timed.
    """

    name: str
    group: str
    step: Callable[[], None] | None
    steps_per_call: int
    flops: int
    compile_seconds: float | None = None
    check: Callable[[], None] = lambda: None


class Memory(NamedTuple):
    """The limit that memory sets to work whose kernels keep nothing in a cache for each other.

    Attributes:
        copy: reads an array and writes one.
        copied: bytes that it reads and writes.
        traffic: bytes that a training step reads and writes, by the variants' group.
    """

    copy: Variant
    copied: int
    traffic: Mapping[str, int]


class Comparison(NamedTuple):
    """Variants that take turns, and the large matrix product whose rate is their limit.

    Attributes:
        title: the work and its sizes.
        variants: as above.
        product: as above.
        unit: what is timed: a step, or a character.
        counted: the products whose `flops` make the limit, for the reader.
        memory: the other limit, where it is known.
    """

    title: str
    variants: Sequence[Variant]
    product: Variant
    unit: str
    counted: str
    memory: Memory | None = None


class Row(NamedTuple):
    """What was measured of a variant; None where it is not installed.

    Attributes:
        seconds: of a training step or character, one entry a turn.
        ratio: to `OURS`, median over turns; above 1 is slower.
        share: of the limit, median over turns; None of what has no products.
        memory_share: of the limit that memory sets, likewise; None where that is not known.
    """

    name: str
    group: str
    seconds: list[float] | None = None
    ratio: float | None = None
    share: float | None = None
    compile_seconds: float | None = None
    memory_share: float | None = None


class Measurement(NamedTuple):
    """A comparison's rows, the product's last, and the median rates: the product's in FLOP/s, memory's in bytes/s."""

    title: str
    unit: str
    counted: str
    rows: list[Row]
    rate: float
    memory_rate: float | None = None


# --- Timing -----------------------------------------------------------------------------------------------------------


def take_turns(
    variants: Sequence[Variant], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Variant, np.ndarray]:
    """Seconds of a step or character, ``[repeats]`` a variant, in turn A B C A B C ... after a turn to warm up."""
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants if variant.step is not None}
    for _ in range(1 + repeats):
        for variant, taken in seconds.items():
            assert variant.step is not None
            started = clock()
            variant.step()
            taken.append((clock() - started) / variant.steps_per_call)
            variant.check()
    return {variant: np.array(taken[1:]) for variant, taken in seconds.items()}


def measure(comparison: Comparison, repeats: int, clock: Callable[[], float] = time.perf_counter) -> Measurement:
    """Times a comparison; `repeats` turns count, after one to warm up."""
    memory = comparison.memory
    variants = [*comparison.variants, *([] if memory is None else [memory.copy]), comparison.product]
    seconds = take_turns(variants, repeats, clock)
    ours = {variant.group: taken for variant, taken in seconds.items() if variant.name == OURS}
    rate = comparison.product.flops / seconds[comparison.product]
    traffic = {} if memory is None else {**memory.traffic, memory.copy.group: memory.copied}
    memory_rate = None if memory is None else memory.copied / seconds[memory.copy]

    def memory_share(variant: Variant) -> float | None:
        if memory_rate is None or variant.group not in traffic:
            return None
        return float(np.median(traffic[variant.group] / memory_rate / seconds[variant]))

    def row(variant: Variant) -> Row:
        if variant not in seconds:
            return Row(variant.name, variant.group)
        taken = seconds[variant]
        return Row(
            variant.name,
            variant.group,
            seconds=taken.tolist(),
            ratio=float(np.median(taken / ours[variant.group])) if variant.group in ours else None,
            share=float(np.median(variant.flops / rate / taken)) if variant.flops else None,
            compile_seconds=variant.compile_seconds,
            memory_share=memory_share(variant),
        )

    rows = [row(variant) for variant in variants]
    return Measurement(
        comparison.title,
        comparison.unit,
        comparison.counted,
        rows,
        float(np.median(rate)),
        None if memory_rate is None else float(np.median(memory_rate)),
    )


def _mean_of_gates(
    params: LSTMParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    h = jnp.stack(jnp.split(z + u, 4, axis=-1)).mean(0)
    return LSTMCarry(h, carry.c), h, {}


GATELESS = dataclasses.replace(cast(ProductCell, CELLS["lstm"]), pointwise=_mean_of_gates)
"""An LSTM with the elementwise part of its step taken out."""


# --- Suite: recurrent -------------------------------------------------------------------------------------------------


def recurrent(
    *,
    digits: int = 20,
    batch_size: int = 256,
    hidden_size: int = 256,
    chunk_steps: int = 4,
    product_size: int = 2048,
    memory_size: int = 2**26,
) -> Iterator[Comparison]:
    """The palindrome study's training step (report, Tables 1 and 2)."""
    task = TASKS["palindrome"](digits)
    lstm, peephole = (
        _endless(cell=cell, digits=digits, batch_size=batch_size, hidden_size=hidden_size, chunk_steps=chunk_steps)
        for cell in ("lstm", "peephole")
    )
    model, plan, flops = build_model(lstm), plan_batch(lstm, 1), recurrent_flops(lstm)
    autodiff = model.clone(cell=dataclasses.replace(cast(ProductCell, CELLS["lstm"]), stacked_gradient=False))
    gateless = model.clone(cell=GATELESS, phases=plan.phases)
    flax = nn.RNN(nn.OptimizedLSTMCell(hidden_size), time_major=True)
    yield Comparison(
        title=f"Palindrome training step, T={task.input_length}, B={batch_size}, H={hidden_size}, "
        f"D={model.embedding_size}, {chunk_steps} steps a call",
        variants=[
            _studied(OURS, lstm, 1),
            _trained(WITHOUT_GATES, "lstm", lstm, build_trainer(lstm, gateless, plan.parts), flops),
            *(
                [_trained(NOT_SHARED, "lstm", lstm, build_trainer(lstm, model, plan.parts), flops)]
                if plan.phases
                else []
            ),
            *([_trained(PLAIN, "lstm", lstm, build_trainer(lstm, model), flops)] if plan.parts > 1 else []),
            _trained("jaxrnn, plain autodiff", "lstm", lstm, build_trainer(lstm, autodiff), flops),
            _flax_classifier(FLAX, lstm, flax),
            *([_flax_classifier(FLAX_DIVIDED, lstm, flax, plan.parts)] if plan.parts > 1 else []),
            *_cudnn_classifier(CUDNN, lstm),
            _torch_classifier(TORCH_LSTM, lstm, None),
            _torch_classifier(TORCH_LOOP, lstm, LOOPS["lstm"]),
            _studied(OURS, peephole, 1),
            _torch_classifier(TORCH_LOOP, peephole, LOOPS["peephole"]),
        ],
        product=_product(product_size),
        unit="step",
        counted="the recurrent products, of padding too,",
        memory=_memory(memory_size, [lstm, peephole]),
    )


def recurrent_flops(config: Config) -> int:
    """``3 * 2 T B H U`` of one training step: the recurrent product ``[B, H] [H, U]``, forward and twice backward."""
    hidden, product = _recurrent_shape(config)
    return 6 * _length(config) * config.batch_size * hidden * product


def recurrent_traffic(config: Config) -> int:
    """Bytes that one training step reads and writes if each kernel does, float32, for the recurrence alone.

    The kernels of a position are the product, ``H -> U`` numbers a sequence, and the elementwise part behind it, both
    forward and backward, and the weight gradient's part. The weight itself is read twice a position. Inputs are rows of
    a small table, which stays in a cache.
    """
    hidden, product = _recurrent_shape(config)
    state = len(CELLS[config.cell].carry_type._fields) * hidden
    forward = (hidden + product) + (product + state + state)
    backward = (product + state + state + hidden + product + state) + (product + hidden) + (hidden + product)
    return 4 * _length(config) * (config.batch_size * (forward + backward) + 2 * hidden * product)


def _recurrent_shape(config: Config) -> tuple[int, ...]:
    """``[H, U]`` of the cell's recurrent weight."""
    cell, initializer = CELLS[config.cell], INITIALIZERS[config.initializer]
    return jax.eval_shape(lambda: cell.weight(cell.init(jax.random.key(0), 1, config.hidden_size, initializer))).shape


def _length(config: Config) -> int:
    return TASKS[config.task](config.digits).input_length


# --- Suite: tables ----------------------------------------------------------------------------------------------------


def tables(
    *,
    batch_size: int = 256,
    hidden_size: int = 256,
    steps: Mapping[tuple[str, int], int] = TABLE_STEPS,
    product_size: int = 2048,
) -> Iterator[Comparison]:
    """The report's Tables 1 and 2: a call takes `steps` of every arm, in the proportions of the arms' mean runs.

    Ours takes them for as many seeds at once as the study trains in a program, and for one. Looks and tests are left
    out.
    """
    seeds = padded(launch.lanes_in_a_program(0, _TABLE_SEEDS))
    ours, alone, loops = [], [], []
    for (cell, digits), chunk_steps in steps.items():
        config = _endless(
            cell=cell, digits=digits, batch_size=batch_size, hidden_size=hidden_size, chunk_steps=chunk_steps
        )
        ours.append(_studied(OURS, config, seeds))
        alone.append(_studied(ONE_AT_A_TIME, config, 1))
        loops.append(_torch_classifier(f"{TORCH_LOOP}, one seed", config, LOOPS[cell]))
    arms = ", ".join(f"{cell} of {digits} digits {count}" for (cell, digits), count in steps.items())
    yield Comparison(
        title=f"Tables 1 and 2, a seed's training step, B={batch_size}, H={hidden_size}, {seeds} seeds in a program, "
        f"steps of each arm in a call: {arms}",
        variants=[_one_after_another(one) for one in (ours, alone, loops)],
        product=_product(product_size),
        unit="seed's step",
        counted="the recurrent products, of padding too,",
    )


def _one_after_another(variants: Sequence[Variant]) -> Variant:
    """A call of each of the variants, which are of one name."""
    calls = [variant.step for variant in variants if variant.step is not None]
    total = sum(variant.steps_per_call for variant in variants)
    compiled = [variant.compile_seconds for variant in variants if variant.compile_seconds is not None]

    def step() -> None:
        for call in calls:
            call()

    def check() -> None:
        for variant in variants:
            variant.check()

    return Variant(
        variants[0].name,
        "all arms",
        step if calls else None,
        total,
        sum(variant.flops * variant.steps_per_call for variant in variants) // total,
        sum(compiled) if compiled else None,
        check,
    )


# --- Suite: seeds -----------------------------------------------------------------------------------------------------


def seeds_together() -> Problems:
    """A problem where overhead rules and one where products do, and the numbers of seeds in a program."""
    small = {"digits": 10, "batch_size": 32, "hidden_size": 32, "chunk_steps": 50}
    large = {"batch_size": 256, "hidden_size": 256}
    if jax.default_backend() == "cpu":
        return (small, (1, 2, 4, 8, 16, 64)), ({**large, "digits": 10, "chunk_steps": 3}, (1, 2, 4, 8))
    return (small, (1, 8, 32, 128)), ({**large, "digits": 20, "chunk_steps": 10}, (1, 8, 32, 128))


def many_seeds(
    problems: Problems | None = None, product_size: int = 2048, memory_size: int = 2**26
) -> Iterator[Comparison]:
    """The palindrome step by the number of seeds in a program; `problems` as in `seeds_together`."""
    for sizes, numbers in seeds_together() if problems is None else problems:
        config = _endless(**sizes)
        default = padded(launch.lanes_in_a_program(0, max(numbers)))
        others = dict.fromkeys(padded(number) for number in numbers if padded(number) != default)
        variants = [_studied(OURS, config, default)]
        variants += [_studied(f"jaxrnn, {number} in a program", config, number) for number in others]
        yield Comparison(
            title=f"A seed's palindrome training step, T={TASKS['palindrome'](config.digits).input_length}, "
            f"B={config.batch_size}, H={config.hidden_size}, by the seeds in a program; the default is {default}, "
            f"{config.chunk_steps} steps a call",
            variants=[
                *variants,
                *_cudnn_classifier(f"{CUDNN}, one seed", config),
                _torch_classifier(f"{TORCH_LSTM}, one seed", config, None),
            ],
            product=_product(product_size),
            unit="seed's step",
            counted="the recurrent products, of padding too,",
            memory=_memory(memory_size, [config]),
        )


# --- Suites: text, sampling -------------------------------------------------------------------------------------------


class Embedding(nn.Module):
    """`nn.Embed` with our gradient, a product: its scatter would rule the step on a GPU, whatever the layer behind it.

    Attributes:
        vocabulary_size, embedding_size: V and D.
    """

    vocabulary_size: int
    embedding_size: int

    @nn.compact
    def __call__(self, tokens_tb: Array) -> Array:
        """``[T, B, D]``."""
        shape = (self.vocabulary_size, self.embedding_size)
        return lookup(self.param("embedding", nn.initializers.normal(1.0), shape), tokens_tb)


class FlaxCharLM(nn.Module):
    """`CharLM` of Flax's own recurrent layers, without dropout and without state from window to window.

    Attributes:
        vocabulary_size, embedding_size, hidden_size, num_layers: as there.
    """

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int

    @nn.compact
    def __call__(
        self, tokens_tb: Array, carries: PyTree = None, *, deterministic: bool = True
    ) -> tuple[tuple[()], Array]:
        """No carries, and logits ``[T, B, V]``."""
        del carries, deterministic
        xs = Embedding(self.vocabulary_size, self.embedding_size)(tokens_tb)
        for _ in range(self.num_layers):
            xs = nn.RNN(nn.OptimizedLSTMCell(self.hidden_size), time_major=True)(xs)
        return (), nn.Dense(self.vocabulary_size)(xs)


def text_training(
    *,
    num_characters: int = 87,
    seq_length: int = 30,
    batch_size: int = 64,
    embedding_size: int = 60,
    hidden_size: int = 512,
    chunk_steps: int = 20,
    product_size: int = 2048,
) -> Iterator[Comparison]:
    """The character LSTM's training step (report, Table 3), on windows of a random text as long as a short book.

    Each call maps the chunk's 120 MB anew, some 0.1 s of page faults on a CPU: the 100 steps of the study's calls hide
    them, a few steps would not.
    """
    config = configs.text.Config(
        seq_length=seq_length,
        batch_size=batch_size,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        chunk_steps=chunk_steps,
        precision=PRECISION,
        max_steps=2**31 - 2,
    )
    tokens = np.random.default_rng(0).integers(num_characters, size=500_000, dtype=np.uint8)
    model = text.build_model(config, num_characters)
    flax: Any = FlaxCharLM(num_characters, embedding_size, hidden_size, config.num_layers)
    flops = 6 * seq_length * batch_size * products_per_character(model)
    yield Comparison(
        title=f"Character LSTM training step, {config.num_layers} layers, T={seq_length}, B={batch_size}, "
        f"H={hidden_size}, D={embedding_size}, V={num_characters}, {chunk_steps} steps a call",
        variants=[
            _trained(OURS, config.cell, config, text.build_trainer(config, model, tokens), flops),
            _trained(
                WITHOUT_GATES,
                config.cell,
                config,
                text.build_trainer(config, model.clone(cell=GATELESS), tokens),
                flops,
            ),
            _trained(FLAX, config.cell, config, text.build_trainer(config, flax, tokens), flops),
            _torch_text(TORCH_LSTM, config, tokens, num_characters, flops),
        ],
        product=_product(product_size),
        unit="step",
        counted="all products but those of the first layer's inputs, which are a table here,",
    )


def sampling(
    *,
    num_characters: int = 87,
    embedding_size: int = 60,
    hidden_size: int = 512,
    length: int = 120,
    batch_sizes: Sequence[int] = (1, 64),
    product_size: int = 2048,
) -> Iterator[Comparison]:
    """Texts of the report's longest length from the character LSTM, tau = 1, each from its first character on.

    One text at a time reads every weight for every character: memory, not arithmetic, is its limit.
    """
    config = configs.text.Config(embedding_size=embedding_size, hidden_size=hidden_size, precision=PRECISION)
    model = text.build_model(config, num_characters)
    flops = 2 * products_per_character(model)
    yield Comparison(
        title=f"Generation by the character LSTM, {config.num_layers} layers, H={hidden_size}, D={embedding_size}, "
        f"V={num_characters}, {length} characters a text",
        variants=[
            variant
            for batch_size in batch_sizes
            for variant in (
                _jax_sampling(OURS, model, batch_size, length, flops),
                _jax_sampling(WITHOUT_GATES, model.clone(cell=GATELESS), batch_size, length, flops),
                _torch_sampling("PyTorch, a call a character", config, num_characters, batch_size, length, flops),
            )
        ],
        product=_product(product_size),
        unit="character",
        counted="all products but those of the first layer's inputs, which are a table here,",
    )


def products_per_character(model: CharLM) -> int:
    """Multiply-adds of the matrix products of one character, forward, but for the first layer's input.

    That input is one of V characters, so its product can be a look-up in a table.
    """
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = dict(jax.eval_shape(lambda: model.init(jax.random.key(0), tokens))["params"])
    del params["embedding"]
    params["layer_0"] = {name: w for name, w in params["layer_0"].items() if name != "w_x"}
    return sum(weight.size for weight in jax.tree.leaves(params) if weight.ndim == 2)


def _jax_sampling(name: str, model: CharLM, batch_size: int, length: int, flops: int) -> Variant:
    """`experiments.text.continuations`, compiled."""
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    starts, keys = [np.zeros(1, np.int32)] * batch_size, jax.random.split(jax.random.key(1), batch_size)
    program = jax.jit(lambda params, keys: text.continuations(model, params, starts, keys, Sampler(), length))
    write, compile_seconds = _compiled(program, params, keys)

    def step() -> None:
        jax.block_until_ready(write(params, keys))

    return Variant(name, f"batch {batch_size}", step, batch_size * (length - 1), flops, compile_seconds)


# --- Suite: graphs ----------------------------------------------------------------------------------------------------

PYG = "PyTorch Geometric"


def graph_training(
    *, dataset: str | None = None, chunk_steps: int = 20, product_size: int = 2048
) -> Iterator[Comparison]:
    """The node classification study's epoch: a training step, and loss and accuracy of the validation nodes.

    By default on Cora where its files are. A benchmark fetches nothing: elsewhere it is the embedded graph of about
    Cora's size, on which PyTorch Geometric does worse, as it multiplies features that are nearly all zero.
    """
    if dataset is None:
        dataset = "cora" if planetoid.at_hand("cora", launch.data_dir(), launch.cache_dir()) else "sbm"
    gcn, gat = (
        # A lane that has ended does no work: with so much patience none ends here.
        dataclasses.replace(
            config, dataset=dataset, chunk_steps=chunk_steps, patience=10_000, max_steps=2**31 - 2, precision=PRECISION
        )
        for config in (configs.nodes.Config(), configs.nodes.GAT)
    )
    task = nodes.load_task(gcn)
    num_nodes, num_features = task.features.shape
    yield Comparison(
        title=f"Node classification, {dataset}, an epoch, validation included, N={num_nodes}, D={num_features} "
        f"({task.features.nnz / num_nodes:.0f} of them not zero), E={len(task.edges.senders)}, {chunk_steps} a call",
        variants=[
            variant
            for config in (gcn, gat)
            for variant in (
                _trained(OURS, config.model, config, nodes.build_study(config).trainer, graph_flops(config, task)),
                _torch_nodes(config, task),
            )
        ],
        product=_product(product_size),
        unit="epoch",
        counted="all products without those with zeros",
    )


def graph_flops(config: configs.nodes.Config, task: NodeTask) -> int:
    """Of one epoch's products of entries that are not zero: a step forward and backward, and validation forward."""
    num_nodes, num_edges = len(task.labels), len(task.edges.senders) + len(task.labels)
    hidden = config.hidden_size * (config.num_heads if config.model == "gat" else 1)
    outputs = task.num_classes * (config.num_output_heads if config.model == "gat" else 1)
    features, dense = task.features.nnz * hidden, num_nodes * hidden * outputs
    along_edges = num_edges * (hidden + outputs)
    # Twice backward, but the features need no gradient, and neither do a GCN's edges.
    backward = 2 * dense + features + (2 if config.model == "gat" else 1) * along_edges
    return 2 * (2 * (features + dense + along_edges) + backward)


# --- Variants of all suites -------------------------------------------------------------------------------------------


def _trained(name: str, group: str, config: Any, trainer: Trainer, flops: int, lanes: int = 1) -> Variant:
    """The compiled chunk of some lanes, as the host loop calls it; each of them takes its steps."""
    rates = np.full(lanes, config.learning_rate[0], np.float32)
    shared = devices_each(lanes, trainer.parts)
    state = over_lanes(trainer.init, lanes, data_devices=shared)(np.arange(lanes, dtype=np.int32), rates)
    until = np.full(lanes, config.chunk_steps - 1, np.int32)
    chunk, compile_seconds = _compiled(over_lanes(trainer.chunk, lanes, data_devices=shared, donate=True), state, until)

    def step() -> None:
        nonlocal state, until
        state, _ = jax.block_until_ready(chunk(state, until))
        until = until + config.chunk_steps

    def check() -> None:
        assert (state.status == Status.RUNNING).all()

    return Variant(name, group, step, config.chunk_steps * lanes, flops, compile_seconds, check)


def _endless(**sizes: Any) -> Config:
    """The palindrome study's config; a lane that has ended would do no work, and none ends here."""
    return Config(**sizes, precision=PRECISION, tolerance=0.0, max_steps=2**31 - 2)


def _studied(name: str, config: Config, seeds: int) -> Variant:
    """The palindrome study's chunk with so many seeds in a program, in the study's own ways."""
    study = build_study(dataclasses.replace(config, num_seeds=seeds, seeds_per_program=seeds))
    return _trained(name, config.cell, config, study.trainer, recurrent_flops(config), seeds)


def _flax_classifier(name: str, config: Config, layer: nn.Module, parts: int = 1) -> Variant:
    """The palindrome study's chunk with a layer ``xs [T, B, D] -> ys [T, B, H]``, and a batch in `parts`."""
    task, width = TASKS[config.task](config.digits), build_model(config).embedding_size
    embedding = Embedding(task.vocabulary_size, width)
    model = nn.Sequential([embedding, layer, lambda ys_tbh: ys_tbh[-1], nn.Dense(task.num_classes)])
    return _trained(name, config.cell, config, build_trainer(config, model, parts), recurrent_flops(config))


class CudnnLSTM(nn.Module):
    """NVIDIA's layer as JAX has it: ``xs [T, B, D] -> ys [T, B, H]``, for one seed, since it has no batching rule."""

    hidden_size: int

    @nn.compact
    def __call__(self, xs_tbd: Array) -> Array:
        """From the zero state."""
        length, batch_size, width = xs_tbd.shape
        size = self.hidden_size
        weights = self.param("weights", lambda key: rnn.init_lstm_weight(key, width, size, 1, False))
        zeros = jnp.zeros((1, batch_size, size))
        lengths = jnp.full((batch_size,), length, jnp.int32)
        xs_btd = xs_tbd.swapaxes(0, 1)
        ys_bth, _, _ = rnn.lstm(xs_btd, zeros, zeros, weights, lengths, width, size, 1, 0.0, False, PRECISION)
        return ys_bth.swapaxes(0, 1)


def _cudnn_classifier(name: str, config: Config) -> list[Variant]:
    """The palindrome study's chunk with cuDNN's layer, where there is a GPU."""
    return [_flax_classifier(name, config, CudnnLSTM(config.hidden_size))] if jax.default_backend() == "gpu" else []


def _product(size: int) -> Variant:
    """``a @ a``, float32, in JAX."""
    a = jax.random.normal(jax.random.key(0), (size, size)) / size**0.5
    product, compile_seconds = _compiled(jax.jit(jnp.matmul), a, a)

    def step() -> None:
        power = a
        for _ in range(_QUEUED):
            power = product(a, power)
        jax.block_until_ready(power)

    return Variant(f"a @ a, {size} x {size}", "product", step, _QUEUED, 2 * size**3, compile_seconds)


def _memory(size: int, configs: Sequence[Config]) -> Memory:
    """The traffic of the palindrome step with each of these cells, and `size` numbers that are read and written."""
    x = jnp.zeros(size)
    # In place: on a CPU, fresh memory would be mapped page by page.
    increment, compile_seconds = _compiled(jax.jit(lambda x: x + 1, donate_argnums=0), x)

    def step() -> None:
        nonlocal x
        for _ in range(_QUEUED):
            x = increment(x)
        jax.block_until_ready(x)

    copy = Variant(f"{x.nbytes / 1e6:.4g} MB read and written", "memory", step, _QUEUED, 0, compile_seconds)
    return Memory(copy, 2 * x.nbytes, {config.cell: recurrent_traffic(config) for config in configs})


def _compiled(program: Any, *args: PyTree) -> tuple[Callable[..., Any], float]:
    """The program compiled for these arguments, and the seconds that this took."""
    started = time.perf_counter()
    with jax.default_matmul_precision(PRECISION):
        compiled = program.lower(*args).compile()
    return compiled, time.perf_counter() - started


# --- PyTorch, as a course would write the report's cells --------------------------------------------------------------


class TorchLoop(NamedTuple):
    """A cell as a Python loop over time.

    Attributes:
        weights: names, each a gate and a role: ``x [D, H]``, ``h [H, H]`` or ``b [H]``.
        last_hidden: ``last_hidden(weights by name, xs [T, B, D]) -> h [B, H]``, of torch tensors.
    """

    weights: Sequence[str]
    last_hidden: Callable[[Mapping[str, Any], Any], Any]


def _lstm_loop(w: Mapping[str, Any], xs_tbd: Any) -> Any:
    """The report's LSTM (Question 1.2)."""
    h = c = xs_tbd.new_zeros(xs_tbd.shape[1], w["gh"].shape[0])
    for x in xs_tbd:
        g = (x @ w["gx"] + h @ w["gh"] + w["gb"]).tanh()
        i = (x @ w["ix"] + h @ w["ih"] + w["ib"]).sigmoid()
        f = (x @ w["fx"] + h @ w["fh"] + w["fb"]).sigmoid()
        o = (x @ w["ox"] + h @ w["oh"] + w["ob"]).sigmoid()
        c = g * i + c * f
        h = c.tanh() * o
    return h


def _peephole_loop(w: Mapping[str, Any], xs_tbd: Any) -> Any:
    """The report's peephole LSTM (Question 1.4)."""
    h = c = xs_tbd.new_zeros(xs_tbd.shape[1], w["fh"].shape[0])
    for x in xs_tbd:
        f = (x @ w["fx"] + c @ w["fh"] + w["fb"]).sigmoid()
        i = (x @ w["ix"] + c @ w["ih"] + w["ib"]).sigmoid()
        o = (x @ w["ox"] + c @ w["oh"] + w["ob"]).sigmoid()
        c = (x @ w["cx"] + w["cb"]).sigmoid() * i + c * f
        h = c.tanh() * o
    return h


LOOPS = {
    "lstm": TorchLoop([gate + role for gate in "gifo" for role in "xhb"], _lstm_loop),
    "peephole": TorchLoop([*(gate + role for gate in "fio" for role in "xhb"), "cx", "cb"], _peephole_loop),
}


def installed(package: str) -> str | None:
    """A package's version, or None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Any | None:
    """PyTorch with threads and precision set, or None where it is not installed."""
    if installed("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(launch.num_cores())
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for products, but not in its recurrent layers.
    return torch


def _device(torch: Any) -> str:
    # Not as PyTorch's default device, which would slow down every call.
    return "cuda" if torch.cuda.is_available() else "cpu"


def _torch_trained(
    torch: Any, name: str, config: Any, parameters: list[Any], loss: Callable[[], Any], flops: int
) -> Variant:
    """Training steps in PyTorch, run eagerly; each call of `loss` is that of another batch."""
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate[0])

    def train() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        return value

    return _torch_repeated(name, config.cell, config.chunk_steps, train, flops)


def _torch_repeated(name: str, group: str, chunk_steps: int, train: Callable[[], Any], flops: int) -> Variant:
    """A call takes as many steps as a chunk; `train` takes one and returns a number on the device."""

    def step() -> None:
        for _ in range(chunk_steps):
            value = train()
        value.item()  # Waits for the device.

    return Variant(name, group, step, chunk_steps, flops)


def _torch_classifier(name: str, config: Config, loop: TorchLoop | None) -> Variant:
    """The palindrome study's step, with batches drawn before; the layer is ``nn.LSTM`` without a `loop`."""
    torch, flops = _torch(), recurrent_flops(config)
    if torch is None:
        return Variant(name, config.cell, None, config.chunk_steps, flops)
    device = _device(torch)
    task, model, hidden_size = TASKS[config.task](config.digits), build_model(config), config.hidden_size
    embedding = torch.nn.Embedding(task.vocabulary_size, model.embedding_size, device=device)
    head = torch.nn.Linear(hidden_size, task.num_classes, device=device)
    if loop is None:
        layer = torch.nn.LSTM(model.embedding_size, hidden_size, device=device)
        weights = list(layer.parameters())

        def last_hidden(xs_tbd: Any) -> Any:
            return layer(xs_tbd)[0][-1]
    else:
        shapes = {"x": (model.embedding_size, hidden_size), "h": (hidden_size, hidden_size), "b": (hidden_size,)}
        named = {
            weight: torch.nn.Parameter(torch.randn(shapes[weight[1]], device=device) / hidden_size**0.5)
            for weight in loop.weights
        }
        weights = list(named.values())

        def last_hidden(xs_tbd: Any) -> Any:
            return loop.last_hidden(named, xs_tbd)

    batches = itertools.cycle(
        tuple(
            torch.tensor(np.asarray(array), dtype=torch.int64, device=device)
            for array in task.sample(key, config.batch_size)
        )
        for key in jax.random.split(jax.random.key(0), config.chunk_steps)
    )

    def loss() -> Any:
        tokens_tb, labels_b = next(batches)
        return torch.nn.functional.cross_entropy(head(last_hidden(embedding(tokens_tb))), labels_b)

    parameters = [*embedding.parameters(), *weights, *head.parameters()]
    return _torch_trained(torch, name, config, parameters, loss, flops)


def torch_char_lm(torch: Any, config: configs.text.Config, num_characters: int) -> Any:
    """The character LSTM as PyTorch users write it: modules ``embedding``, ``layers`` and ``head``."""
    modules = {
        "embedding": torch.nn.Embedding(num_characters, config.embedding_size),
        "layers": torch.nn.LSTM(config.embedding_size, config.hidden_size, config.num_layers),
        "head": torch.nn.Linear(config.hidden_size, num_characters),
    }
    return torch.nn.ModuleDict(modules).to(_device(torch))


def torch_logits(model: Any, tokens_tb: Any, state: Any = None) -> tuple[Any, Any]:
    """Logits ``[T, B, V]`` after each of ``tokens_tb``, and the LSTM's state at the end."""
    ys_tbh, state = model["layers"](model["embedding"](tokens_tb), state)
    return model["head"](ys_tbh), state


def torch_continuations(torch: Any, model: Any, start_b: Any, length: int) -> Any:
    """Tokens ``[length, B]`` from the first of each text on, drawn at tau = 1, one call a character."""
    with torch.inference_mode():
        tokens, state = [start_b], None
        for _ in range(length - 1):
            logits_tbv, state = torch_logits(model, tokens[-1][None], state)
            tokens.append(torch.multinomial(logits_tbv[0].softmax(-1), 1)[:, 0])
        return torch.stack(tokens)


def _torch_text(name: str, config: configs.text.Config, tokens: np.ndarray, num_characters: int, flops: int) -> Variant:
    """The character LSTM's step, with windows at random offsets."""
    torch = _torch()
    if torch is None:
        return Variant(name, config.cell, None, config.chunk_steps, flops)
    model, device = torch_char_lm(torch, config, num_characters), _device(torch)
    corpus = torch.tensor(tokens, dtype=torch.int64, device=device)
    window = torch.arange(config.seq_length + 1, device=device)[:, None]

    def loss() -> Any:
        offsets = torch.randint(len(corpus) - config.seq_length, (config.batch_size,), device=device)
        drawn = corpus[offsets + window]
        logits_tbv, _ = torch_logits(model, drawn[:-1])
        return torch.nn.functional.cross_entropy(logits_tbv.flatten(0, 1), drawn[1:].flatten())

    return _torch_trained(torch, name, config, list(model.parameters()), loss, flops)


def _torch_sampling(
    name: str, config: configs.text.Config, num_characters: int, batch_size: int, length: int, flops: int
) -> Variant:
    torch, group, count = _torch(), f"batch {batch_size}", batch_size * (length - 1)
    if torch is None:
        return Variant(name, group, None, count, flops)
    model = torch_char_lm(torch, config, num_characters)
    start_b = torch.zeros(batch_size, dtype=torch.int64, device=_device(torch))

    def step() -> None:
        torch_continuations(torch, model, start_b, length).cpu()  # Waits for the device.

    return Variant(name, group, step, count, flops)


def torch_node_classifier(torch: Any, config: configs.nodes.Config, num_features: int, num_classes: int) -> Any:
    """The two layers, of PyTorch Geometric."""
    pyg: Any = importlib.import_module("torch_geometric.nn")
    hidden = config.hidden_size
    if config.model == "gcn":
        sizes = [(num_features, hidden), (hidden, num_classes)]
        layers = [pyg.GCNConv(inputs, outputs, cached=True, bias=False) for inputs, outputs in sizes]
    else:
        heads, last = config.num_heads, config.num_output_heads
        layers = [
            pyg.GATConv(num_features, hidden, heads, dropout=config.dropout),
            pyg.GATConv(heads * hidden, num_classes, last, concat=False, dropout=config.dropout),
        ]
    return torch.nn.ModuleList(layers).to(_device(torch))


def torch_node_logits(torch: Any, config: configs.nodes.Config, model: Any, x: Any, ends: Any) -> Any:
    """Logits ``[N, C]`` of features ``x [N, D]`` and the edges' senders and receivers ``[2, E]``."""
    first, second = model
    dropout = torch.nn.functional.dropout
    activate = torch.relu if config.model == "gcn" else torch.nn.functional.elu
    hidden = activate(first(dropout(x, config.dropout, model.training), ends))
    return second(dropout(hidden, config.dropout, model.training), ends)


def _torch_nodes(config: configs.nodes.Config, task: NodeTask) -> Variant:
    """The node classification study's epoch, with dense features; its GAT drops no projected features, as ours does."""
    torch, flops = _torch(), graph_flops(config, task)
    if torch is None or installed("torch_geometric") is None:
        return Variant(PYG, config.model, None, config.chunk_steps, flops)
    device = _device(torch)
    x = torch.tensor(graphs.row_normalize(task.features).toarray(), dtype=torch.float32, device=device)
    ends = torch.tensor(np.stack([task.edges.senders, task.edges.receivers]), dtype=torch.int64, device=device)
    labels = torch.tensor(task.labels, dtype=torch.int64, device=device)
    drawn = nodes.draw_split(config, 0)
    train, validation = (torch.tensor(np.asarray(mask), device=device) for mask in (drawn.train, drawn.validation))
    model = torch_node_classifier(torch, config, x.shape[1], task.num_classes)
    first, second = (list(layer.parameters()) for layer in model)
    optimizer = torch.optim.Adam(
        [
            {"params": first, "weight_decay": config.weight_decay},
            {"params": second, "weight_decay": config.weight_decay if config.model == "gat" else 0.0},
        ],
        lr=config.learning_rate[0],
    )
    cross_entropy = torch.nn.functional.cross_entropy

    def epoch() -> Any:
        model.train()
        optimizer.zero_grad()
        cross_entropy(torch_node_logits(torch, config, model, x, ends)[train], labels[train]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = torch_node_logits(torch, config, model, x, ends)[validation]
            right = logits.argmax(-1) == labels[validation]
            return cross_entropy(logits, labels[validation]) + right.float().mean()

    return _torch_repeated(PYG, config.model, config.chunk_steps, epoch, flops)


# --- Output -----------------------------------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """What the numbers depend on: versions, device, precision, CPU threads, and the load average of the last minute."""
    record = environment()
    record["versions"] |= {
        "jaxrnn": launch.version(),
        **{name: installed(name) for name in ("torch", "torch_geometric")},
    }
    load = round(os.getloadavg()[0], 2)
    return {**record, "precision": f"float32, products {PRECISION}", "threads": launch.num_cores(), "load": load}


def table(measured: Measurement, used: Mapping[str, Any]) -> Table:
    """A comparison to be read by people; `used` are the `settings`."""
    names = ("jax", "flax", "torch", "torch_geometric")
    versions, device = [f"{name} {used['versions'][name] or 'not installed'}" for name in names], used["device"]
    memory = ""
    if measured.memory_rate is not None:
        memory = (
            "Memory's limit: what the recurrence would move if no kernel found anything in a cache, at the "
            f"{measured.memory_rate / 1e9:.4g} GB/s of the row before. "
        )
    caption = (
        f"{measured.title}; {used['precision']}; {device['count']} x {device['kind']}, {used['threads']} CPU threads, "
        f"load before the start {used['load']}; {', '.join(versions)}. "
        f"The limit: {measured.counted} alone at the last row's {measured.rate / 1e9:.4g} GFLOP/s. "
        f"{memory}Times are medians over turns; ratio and shares are medians of what was taken in the same turn."
    )
    unit = measured.unit
    columns = (
        "group",
        "variant",
        f"ms a {unit}",
        "min to max",
        f"{unit}s a second",
        f"ratio to {OURS}",
        "share of the limit",
        *(["share of memory's limit"] if memory else []),
        "compile, s",
    )
    return Table(columns, [_cells(row, with_memory=bool(memory)) for row in measured.rows], caption)


def _cells(row: Row, *, with_memory: bool) -> list[str]:
    shares = [row.share, row.memory_share] if with_memory else [row.share]
    if row.seconds is None:
        return [row.group, row.name, "not installed", "-", "-", "-", *["-"] * len(shares), "-"]
    milliseconds = 1000 * np.array(row.seconds)
    return [
        row.group,
        row.name,
        f"{np.median(milliseconds):.4g}",
        f"{milliseconds.min():.4g} to {milliseconds.max():.4g}",
        np.format_float_positional(1000 / np.median(milliseconds), precision=4, fractional=False, trim="-"),
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        *["-" if share is None else f"{share:.0%}" for share in shares],
        "-" if row.compile_seconds is None else f"{row.compile_seconds:.1f}",
    ]


def write(out: Path, record: Mapping[str, Any], measured: Sequence[Measurement]) -> None:
    """Writes ``benchmark.json`` (seconds, FLOP/s), the tables and the figure."""
    comparisons = [{**one._asdict(), "rows": [row._asdict() for row in one.rows]} for one in measured]
    (out / "benchmark.json").write_text(json.dumps({**record, "comparisons": comparisons}, indent=1) + "\n")
    (out / "benchmark.md").write_text("\n\n".join(table_markdown(table(one, record)) for one in measured) + "\n")
    panels = {
        one.title: {f"{row.group}: {row.name}": row.share for row in one.rows[:-1] if row.share is not None}
        for one in measured
    }
    (out / "benchmark.png").write_bytes(plots.png(plots.shares_of_limit(panels)))


# --- The binary -------------------------------------------------------------------------------------------------------

SUITES: dict[str, Callable[[], Iterator[Comparison]]] = {
    "recurrent": recurrent,
    "tables": tables,
    "text": text_training,
    "sampling": sampling,
    "seeds": many_seeds,
    "graphs": graph_training,
}


def main(argv: list[str]) -> None:
    """Prints a table for each comparison of the suites, and writes them where ``--out`` says."""
    del argv
    suites, repeats, out = flags.FLAGS.suite, flags.FLAGS.repeats, flags.FLAGS.out
    if out is not None:
        try:  # Now, rather than after minutes of work.
            Path(out).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
        except OSError as error:
            raise launch.UsageError(f"--out={out}: cannot be written: {error.strerror}") from error
    used = settings()
    command = shlex.join(["python", "-m", "experiments.benchmark", *sys.argv[1:]])
    measured = []
    with launch.memory_errors():
        for comparison in itertools.chain.from_iterable(SUITES[suite]() for suite in suites):
            measured.append(measure(comparison, repeats))
            print(table_markdown(table(measured[-1], used)), end="\n\n", flush=True)
            if out is not None:  # After each: what comes later may need more memory, or time, than there is.
                try:
                    write(Path(out), {"command": command, "suite": suites, "repeats": repeats, **used}, measured)
                except OSError as error:
                    raise RunError(f"{out}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    flags.DEFINE_multi_enum("suite", list(SUITES), list(SUITES), "What to compare; may be given several times.")
    flags.DEFINE_integer("repeats", 5, "Turns that count, after one to warm up.", lower_bound=1)
    flags.DEFINE_string("out", None, "Directory for benchmark.json, benchmark.md and benchmark.png.")
    launch.define_data_dir()
    launch.run_main(main)
