"""What a training step costs: jaxrnn beside Flax and PyTorch, and beside the rate of large matrix products.

    python -m experiments.benchmark --suite=recurrent --repeats=5 --out=runs/benchmark

Variants take turns in one process, because a machine's speed drifts: only what was timed in the same turn is compared.
Expect a few minutes on two idle CPU cores, and take no numbers from busy ones: PyTorch's threads wait for each other at
every operation, so other work on their cores slows them far more than XLA's. The load before the start stands with the
numbers. Without ``--out`` the tables are printed and nothing is written.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from absl import flags
from flax import linen as nn

from configs.palindrome import Config
from experiments import launch
from experiments.palindrome import TASKS, build_model, build_study, build_trainer
from jaxrnn import __version__, plots
from jaxrnn.arrays import PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, ProductCell
from jaxrnn.report import Table, table_markdown
from jaxrnn.rundir import environment
from jaxrnn.seeds import over_lanes
from jaxrnn.train import Status, Trainer

PRECISION = "highest"
OURS = "jaxrnn"
"""The variant that the others of its group are compared with."""


class Variant(NamedTuple):
    """One way to do the same work.

    Attributes:
        name: what is timed.
        group: the work, such as the cell; the variants of a group are compared.
        step: one call, which returns when the device is done; None where the library is not installed.
        steps_per_call: training steps in a call.
        flops: of the matrix products of one training step that count towards the limit.
        compile_seconds: to trace and compile; None where nothing is compiled.
    """

    name: str
    group: str
    step: Callable[[], None] | None
    steps_per_call: int
    flops: int
    compile_seconds: float | None = None


class Comparison(NamedTuple):
    """Variants that take turns, and the large matrix product whose rate is their limit."""

    title: str
    variants: Sequence[Variant]
    product: Variant


class Row(NamedTuple):
    """What was measured of a variant; None where it is not installed.

    Attributes:
        seconds: of a training step, one entry a turn.
        ratio: to `OURS`, median over turns; above 1 is slower.
        share: of the limit, median over turns.
    """

    name: str
    group: str
    seconds: list[float] | None = None
    ratio: float | None = None
    share: float | None = None
    compile_seconds: float | None = None


class Measurement(NamedTuple):
    """A comparison's rows, the product's last, and the median rate of the product in FLOP/s."""

    title: str
    rows: list[Row]
    rate: float


# --- Timing -----------------------------------------------------------------------------------------------------------


def take_turns(
    variants: Sequence[Variant], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Variant, np.ndarray]:
    """Seconds of a training step, ``[repeats]`` a variant, in turn A B C A B C ... after a turn to warm up."""
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants if variant.step is not None}
    for _ in range(1 + repeats):
        for variant, taken in seconds.items():
            assert variant.step is not None
            started = clock()
            variant.step()
            taken.append((clock() - started) / variant.steps_per_call)
    return {variant: np.array(taken[1:]) for variant, taken in seconds.items()}


def measure(comparison: Comparison, repeats: int, clock: Callable[[], float] = time.perf_counter) -> Measurement:
    """Times a comparison; `repeats` turns count, after one to warm up."""
    variants = [*comparison.variants, comparison.product]
    seconds = take_turns(variants, repeats, clock)
    ours = {variant.group: taken for variant, taken in seconds.items() if variant.name == OURS}
    rate = comparison.product.flops / seconds[comparison.product]

    def row(variant: Variant) -> Row:
        if variant not in seconds:
            return Row(variant.name, variant.group)
        taken = seconds[variant]
        return Row(
            variant.name,
            variant.group,
            seconds=taken.tolist(),
            ratio=float(np.median(taken / ours[variant.group])) if variant.group in ours else None,
            share=float(np.median(variant.flops / rate / taken)),
            compile_seconds=variant.compile_seconds,
        )

    return Measurement(comparison.title, [row(variant) for variant in variants], float(np.median(rate)))


# --- Suite: recurrent -------------------------------------------------------------------------------------------------


def recurrent(
    *,
    digits: int = 20,
    batch_size: int = 256,
    hidden_size: int = 256,
    chunk_steps: int = 4,
    product_size: int = 2048,
) -> Iterator[Comparison]:
    """The palindrome study's training step (report, Tables 1 and 2)."""
    task = TASKS["palindrome"](digits)
    lstm, peephole = (
        Config(
            cell=cell,
            digits=digits,
            batch_size=batch_size,
            hidden_size=hidden_size,
            chunk_steps=chunk_steps,
            precision=PRECISION,
            # A lane that has ended does no work: none ends here.
            tolerance=0.0,
            max_steps=2**31 - 2,
        )
        for cell in ("lstm", "peephole")
    )
    model = build_model(lstm)
    autodiff = model.clone(cell=dataclasses.replace(cast(ProductCell, CELLS["lstm"]), stacked_gradient=False))
    flax = nn.Sequential(
        [
            nn.Embed(task.vocabulary_size, model.embedding_size, embedding_init=nn.initializers.normal(1.0)),
            nn.RNN(nn.OptimizedLSTMCell(hidden_size), time_major=True),
            lambda ys_tbh: ys_tbh[-1],
            nn.Dense(task.num_classes),
        ]
    )
    yield Comparison(
        title=f"Palindrome training step, T={task.input_length}, B={batch_size}, H={hidden_size}, "
        f"D={model.embedding_size}, {chunk_steps} steps a call",
        variants=[
            _jax_variant(OURS, lstm, build_study(lstm).trainer),
            _jax_variant("jaxrnn, plain autodiff", lstm, build_trainer(lstm, autodiff)),
            _jax_variant("Flax nn.RNN(OptimizedLSTMCell)", lstm, build_trainer(lstm, flax)),
            _torch_variant("PyTorch nn.LSTM", lstm, None),
            _torch_variant("PyTorch, loop over t", lstm, LSTM_LOOP),
            _jax_variant(OURS, peephole, build_study(peephole).trainer),
            _torch_variant("PyTorch, loop over t", peephole, PEEPHOLE_LOOP),
        ],
        product=_product(product_size),
    )


def recurrent_flops(config: Config) -> int:
    """``3 * 2 T B H U`` of one training step: the recurrent product ``[B, H] [H, U]``, forward and twice backward."""
    cell = CELLS[config.cell]
    steps = TASKS[config.task](config.digits).input_length
    initializer = INITIALIZERS[config.initializer]
    weight = jax.eval_shape(lambda: cell.weight(cell.init(jax.random.key(0), 1, config.hidden_size, initializer)))
    return 6 * steps * config.batch_size * weight.size


def _jax_variant(name: str, config: Config, trainer: Trainer) -> Variant:
    """The compiled chunk of one lane, as the host loop calls it."""
    state = over_lanes(trainer.init, 1)(np.array([0], np.int32), np.array(config.learning_rate, np.float32))
    no_end = np.array([np.iinfo(np.int32).max], np.int32)
    chunk, compile_seconds = _compiled(over_lanes(trainer.chunk, 1, donate=True), state, no_end)

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(chunk(state, no_end))
        assert state.status == Status.RUNNING

    return Variant(name, config.cell, step, config.chunk_steps, recurrent_flops(config), compile_seconds)


def _product(size: int) -> Variant:
    """``a @ a``, float32, in JAX."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    square, compile_seconds = _compiled(jax.jit(lambda a: a @ a), a)

    def step() -> None:
        jax.block_until_ready(square(a))

    return Variant(f"a @ a, {size} x {size}", "product", step, 1, 2 * size**3, compile_seconds)


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


LSTM_LOOP = TorchLoop([gate + role for gate in "gifo" for role in "xhb"], _lstm_loop)
PEEPHOLE_LOOP = TorchLoop([*(gate + role for gate in "fio" for role in "xhb"), "cx", "cb"], _peephole_loop)


def torch_version() -> str | None:
    """PyTorch's version, or None where it is not installed."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_variant(name: str, config: Config, loop: TorchLoop | None) -> Variant:
    """The same step in PyTorch, run eagerly, with batches drawn before; the layer is ``nn.LSTM`` without a `loop`."""
    flops = recurrent_flops(config)
    if torch_version() is None:
        return Variant(name, config.cell, None, config.chunk_steps, flops)
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for products, but not in its recurrent layers.
    device = "cuda" if torch.cuda.is_available() else "cpu"

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

    parameters = [*embedding.parameters(), *weights, *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate[0])
    batches = [
        tuple(
            torch.tensor(np.asarray(array), dtype=torch.int64, device=device)
            for array in task.sample(key, config.batch_size)
        )
        for key in jax.random.split(jax.random.key(0), config.chunk_steps)
    ]

    def step() -> None:
        for tokens_tb, labels_b in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(head(last_hidden(embedding(tokens_tb))), labels_b)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
        loss.item()  # Waits for the device.

    return Variant(name, config.cell, step, config.chunk_steps, flops)


# --- Output -----------------------------------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """What the numbers depend on: versions, device, precision, CPU threads, and the load average of the last minute."""
    record = environment()
    record["versions"] |= {"jaxrnn": __version__, "torch": torch_version()}
    load = round(os.getloadavg()[0], 2)
    return {**record, "precision": f"float32, products {PRECISION}", "threads": os.cpu_count(), "load": load}


def table(measured: Measurement, used: Mapping[str, Any]) -> Table:
    """A comparison to be read by people; `used` are the `settings`."""
    versions, device = used["versions"], used["device"]
    caption = (
        f"{measured.title}; {used['precision']}; {device['count']} x {device['kind']}, {used['threads']} CPU threads, "
        f"load before the start {used['load']}; jax {versions['jax']}, flax {versions['flax']}, "
        f"torch {versions['torch'] or 'not installed'}. "
        f"The limit: the recurrent products alone, at the last row's {measured.rate / 1e9:.4g} GFLOP/s. "
        "Times are medians over turns; ratio and share are medians of what was taken in the same turn."
    )
    columns = ("group", "variant", "ms a step", "min to max", f"ratio to {OURS}", "share of the limit", "compile, s")
    return Table(columns, [_cells(row) for row in measured.rows], caption)


def _cells(row: Row) -> list[str]:
    if row.seconds is None:
        return [row.group, row.name, "not installed", "-", "-", "-", "-"]
    milliseconds = 1000 * np.array(row.seconds)
    return [
        row.group,
        row.name,
        f"{np.median(milliseconds):.4g}",
        f"{milliseconds.min():.4g} to {milliseconds.max():.4g}",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        "-" if row.share is None else f"{row.share:.0%}",
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

SUITES: dict[str, Callable[[], Iterator[Comparison]]] = {"recurrent": recurrent}


def main(argv: list[str]) -> None:
    """Prints a table for each comparison of the suite, and writes them where ``--out`` says."""
    del argv
    suite, repeats, out = flags.FLAGS.suite, flags.FLAGS.repeats, flags.FLAGS.out
    if out is not None:
        try:  # Now, rather than after minutes of work.
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise launch.UsageError(f"--out={out}: cannot be written: {error.strerror}") from error
    used = settings()
    measured = []
    for comparison in SUITES[suite]():
        measured.append(measure(comparison, repeats))
        print(table_markdown(table(measured[-1], used)), end="\n\n", flush=True)
    if out is not None:
        command = shlex.join(["python", "-m", "experiments.benchmark", *sys.argv[1:]])
        write(Path(out), {"command": command, "suite": suite, "repeats": repeats, **used}, measured)


if __name__ == "__main__":
    flags.DEFINE_enum("suite", "recurrent", list(SUITES), "What to compare.")
    flags.DEFINE_integer("repeats", 5, "Turns that count, after one to warm up.", lower_bound=1)
    flags.DEFINE_string("out", None, "Directory for benchmark.json, benchmark.md and benchmark.png.")
    launch.run_main(main)
