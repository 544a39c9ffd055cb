"""Times variants of the same work in turn, beside the large matrix product that sets their limit."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, PyTree
from jaxrnn.training.definition import Training
from jaxrnn.training.placement import Plan, over_runs, replicate
from jaxrnn.training.trainer import Status, make_trainer

PRECISION: Literal["highest"] = "highest"
ENDLESS = 2**31 - 2
"""The steps of a run; there are so many because a run that has ended would do no work."""
OURS = "jaxrnn"
"""The variant that the others of its group are compared with."""
FORWARD, GRADIENT, STEP = "forward", "gradient", "step in a chunk"
"""The work of a layer alone: its outputs, the gradient of parameters and inputs, or a step of gradient descent."""
CHUNK_STEPS = 4
"""Steps of gradient descent per call."""
_SHORT_SECONDS = 0.1
"""What ran before a call longer than this hardly affects its time."""
_QUEUED = 10
"""Products queued on the device at once, so that none waits for Python."""


class Variant(NamedTuple):
    """One way to do the work of a group, such as a cell; the variants of a group are compared.

    Attributes:
        step: one call, which returns when the device is done.
        steps_per_call: training steps, or characters, in a call.
        flops: FLOPs of a step's matrix products that count towards the limit.
        compile_seconds: seconds to trace and compile; None where nothing is compiled.
    """

    name: str
    group: str
    step: Callable[[], None]
    steps_per_call: int
    flops: int
    compile_seconds: float | None = None


class Comparison(NamedTuple):
    """Variants that take turns.

    Attributes:
        key: a name that stays the same whatever the sizes are.
        title: the work and its sizes.
        unit: what is timed: a step, or a character.
        counted: the products whose `flops` make the limit, for the reader.
    """

    key: str
    title: str
    variants: Sequence[Variant]
    unit: str
    counted: str


def measure(
    comparison: Comparison, product: Variant, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Times variants in turn, A B C A B C ..., `repeats` times after a warm-up turn.

    Each turn ends with `product`, whose rate is the limit of the others. A short call is preceded by an untimed one:
    otherwise the previous library's threads, which may spin for work, and its data in the caches would slow the call.

    Returns:
        The comparison's record in ``benchmark.json``: its key, title, unit and counted products, "rate", the product's
        median rate in FLOP/s, and "rows", one per variant, the product's last. A row has the seconds of a step or
        character in each turn, the median ratio to `OURS` (above 1 is slower), the median share of the limit, and the
        seconds to compile.
    """

    def seconds(variant: Variant) -> float:
        started = clock()
        variant.step()
        return (clock() - started) / variant.steps_per_call

    variants = [*comparison.variants, product]
    first = [seconds(variant) * variant.steps_per_call for variant in variants]

    def turn() -> Iterator[float]:
        for variant, call_seconds in zip(variants, first, strict=True):
            if call_seconds < _SHORT_SECONDS:
                variant.step()
            yield seconds(variant)

    taken = np.array([list(turn()) for _ in range(repeats)]).T
    ours = {variant.group: of_ours for variant, of_ours in zip(variants, taken, strict=True) if variant.name == OURS}
    rate = product.flops / taken[-1]
    rows = [
        {
            "name": variant.name,
            "group": variant.group,
            "seconds": of_one.tolist(),
            "ratio": float(np.median(of_one / ours[variant.group])) if variant.group in ours else None,
            "share": float(np.median(variant.flops / rate / of_one)),
            "compile_seconds": variant.compile_seconds,
        }
        for variant, of_one in zip(variants, taken, strict=True)
    ]
    described = comparison._asdict()
    del described["variants"]
    return {**described, "rate": float(np.median(rate)), "rows": rows}


# --- Variants in JAX --------------------------------------------------------------------------------------------------


def training_variant(
    name: str, group: str, training: Training, flops: int, plan: Plan | None = None, num_runs: int = 1
) -> Variant:
    """The compiled chunk of a training's runs, as the loop calls it; by default a run's batch is not divided."""
    plan = plan or Plan()
    trainer, shared = make_trainer(training, plan), plan.devices_each(num_runs)
    data = replicate(training.data, num_runs, shared)
    hyper = {field: np.full(num_runs, value, np.float32) for field, value in training.hyper.items()}
    init = over_runs(trainer.init, num_runs, data_devices=shared)
    state = init(data, np.arange(num_runs, dtype=np.int32), hyper)
    end = np.full(num_runs, training.chunk_steps - 1, np.int32)
    program = over_runs(trainer.chunk, num_runs, data_devices=shared, donate=True)
    chunk, compile_seconds = compile_timed(program, data, state, end)

    def step() -> None:
        nonlocal state, end
        state, _ = jax.block_until_ready(chunk(data, state, end))
        end = end + training.chunk_steps
        assert (np.asarray(state.status) == Status.RUNNING).all()  # Otherwise it did not do all its work.

    return Variant(name, group, step, training.chunk_steps * num_runs, flops, compile_seconds)


def layer_variant(
    name: str,
    group: str,
    outputs: Callable[[PyTree, Array], Array],
    params: PyTree,
    xs: Array,
    flops: int,
    work: str = GRADIENT,
) -> Variant:
    """A layer on dense inputs ``[T, B, D]``, compiled for its work; the loss is the mean square of its outputs."""

    def loss(params: PyTree, xs: Array) -> Array:
        return (outputs(params, xs) ** 2).mean()

    def descend(params: PyTree, xs: Array) -> PyTree:
        def step(params: PyTree, _: None) -> tuple[PyTree, None]:
            return jax.tree.map(lambda p, d: p - 1e-3 * d, params, jax.grad(loss)(params, xs)), None

        return jax.lax.scan(step, params, None, length=CHUNK_STEPS)[0]

    works = {FORWARD: outputs, GRADIENT: jax.grad(loss, argnums=(0, 1)), STEP: descend}
    program, compile_seconds = compile_timed(jax.jit(works[work]), params, xs)

    def step() -> None:
        jax.block_until_ready(program(params, xs))

    return Variant(name, group, step, CHUNK_STEPS if work == STEP else 1, flops, compile_seconds)


def large_product(size: int = 2048) -> Variant:
    """``a @ a``, float32, in JAX."""
    a = jax.random.normal(jax.random.key(0), (size, size)) / size**0.5
    product, compile_seconds = compile_timed(jax.jit(jnp.matmul), a, a)

    def step() -> None:
        power = a
        for _ in range(_QUEUED):
            power = product(a, power)
        jax.block_until_ready(power)

    return Variant(f"a @ a, {size} x {size}", "product", step, _QUEUED, 2 * size**3, compile_seconds)


def compile_timed(program: Any, *args: PyTree) -> tuple[Callable[..., Any], float]:
    """The program compiled for these arguments, and the seconds that this took."""
    started = time.perf_counter()
    with jax.default_matmul_precision(PRECISION):
        compiled = program.lower(*args).compile()
    return compiled, time.perf_counter() - started
