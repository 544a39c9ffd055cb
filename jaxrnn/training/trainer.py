"""Training as pure functions: the state of a lane, its step, its stop rule and the compiled chunk of steps."""

import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.training.seeds import Stream, over_parts, stream_key


class Status(enum.IntEnum):
    """Where a lane stands; everything but RUNNING is final for its chunk program."""

    RUNNING = 0
    STOPPED = 1
    """The stop rule ended it."""
    OUT_OF_STEPS = 2
    FAILED = 3
    """The loss or its gradient was not finite; the weights are those before that step's update."""
    PADDING = 4
    """A copy that fills up a program."""


class TrainState(NamedTuple):
    """One lane, or lanes stacked along a leading axis.

    Attributes:
        seed: int32.
        learning_rate: float32.
        step: int32, index of the step to take next, or of the last step taken once the lane has ended.
        status: int32, a `Status`.
        params: the model's parameters.
        opt_state: the optimizer's.
        rule_state: the stop rule's.
        memory: what one batch hands on to the next, e.g. carries in truncated backpropagation through time; or ``()``.
    """

    seed: Array
    learning_rate: Array
    step: Array
    status: Array
    params: PyTree
    opt_state: PyTree
    rule_state: PyTree
    memory: PyTree


class StopRule(NamedTuple):
    """A pure stop rule.

    Attributes:
        start: ``start(params) -> state``, from the initial parameters.
        look: ``look(state, metrics, params) -> (state, stop)``; the parameters are those after the step's update.
        choose: ``choose(state, params) -> params``: those that a lane which has ended is judged by.
    """

    start: Callable[[PyTree], PyTree]
    look: Callable[[PyTree, dict[str, Array], PyTree], tuple[PyTree, Array]]
    choose: Callable[[PyTree, PyTree], PyTree] = lambda state, params: params


def converged(tolerance: float, patience: int) -> StopRule:
    """Stops at the `patience`-th look in a row with a training loss of at most `tolerance`."""

    def look(count: Array, metrics: dict[str, Array], _: PyTree) -> tuple[Array, Array]:
        count = jnp.where(metrics["loss"] <= tolerance, count + 1, 0)
        return count, count >= patience

    return StopRule(start=lambda _: jnp.zeros((), jnp.int32), look=look)


def never() -> StopRule:
    """Leaves every lane its steps."""
    return StopRule(start=lambda _: (), look=lambda state, *_: (state, jnp.zeros((), bool)))


def above_recent_mean(window: int) -> StopRule:
    """Stops when the validation loss is above its mean over the `window` looks before (Kipf and Welling's GCN code).

    Never before the look with the index ``window + 1``, as there.
    """

    def start(params: PyTree) -> PyTree:
        del params
        return {"recent": jnp.full((window,), jnp.inf), "looks": jnp.zeros((), jnp.int32)}

    def look(state: PyTree, metrics: dict[str, Array], _: PyTree) -> tuple[PyTree, Array]:
        loss = metrics["validation_loss"]
        stop = (state["looks"] > window) & (loss > state["recent"].mean())
        return {"recent": jnp.roll(state["recent"], -1).at[-1].set(loss), "looks": state["looks"] + 1}, stop

    return StopRule(start, look)


def best_validation(patience: int) -> StopRule:
    """Stops after `patience` looks in a row without any progress; keeps the best weights (Velickovic's GAT code).

    Progress is a validation accuracy no lower than the highest, *or* a loss no higher than the lowest so far. The
    weights are kept where it is both.
    """

    def start(params: PyTree) -> PyTree:
        return {
            "accuracy": jnp.zeros(()),
            "loss": jnp.full((), jnp.inf),
            "looks_without": jnp.zeros((), jnp.int32),
            "params": params,
        }

    def look(state: PyTree, metrics: dict[str, Array], params: PyTree) -> tuple[PyTree, Array]:
        accuracy, loss = metrics["validation_accuracy"], metrics["validation_loss"]
        more_accurate, lower = accuracy >= state["accuracy"], loss <= state["loss"]
        count = jnp.where(more_accurate | lower, 0, state["looks_without"] + 1)
        state = {
            "accuracy": jnp.maximum(accuracy, state["accuracy"]),
            "loss": jnp.minimum(loss, state["loss"]),
            "looks_without": count,
            "params": _select(more_accurate & lower, params, state["params"]),
        }
        return state, count >= patience

    return StopRule(start, look, choose=lambda state, _: state["params"])


class Looks(NamedTuple):
    """What a chunk saw, one entry a step: its metrics, and whether they are to be reported (`taken`).

    Those of the loss are from before the update, those of the validation from after it.
    """

    step: Array
    taken: Array
    metrics: dict[str, Array]


class Trainer(NamedTuple):
    """The pure functions of one study.

    Attributes:
        init: ``init(seed, learning_rate) -> TrainState``.
        chunk: ``chunk(state, until) -> (state, Looks)``, at most `chunk_steps` steps and one more, for step 0, none
            after the step with the index `until`; a lane that has ended passes through.
        chunk_steps: as above.
        chosen: the parameters that a lane which has ended is judged by; of one lane, or of lanes stacked.
        parts: into how many a batch is divided; as many devices, or a divisor, can share a lane.
    """

    init: Callable[[Array, Array], TrainState]
    chunk: Callable[[TrainState, Array], tuple[TrainState, Looks]]
    chunk_steps: int
    chosen: Callable[[TrainState], PyTree]
    parts: int


def make_trainer(
    init_params: Callable[[Key], PyTree],
    sample_batch: Callable[[Key, Array], PyTree],
    loss: Callable[[PyTree, PyTree, PyTree, Key], tuple[Array, tuple[dict[str, Array], PyTree]]],
    optimizer: optax.GradientTransformation,
    rule: StopRule,
    *,
    max_steps: int,
    eval_every: int,
    chunk_steps: int,
    look_every: int | None = None,
    init_memory: Callable[[Array], PyTree] = lambda seed: (),
    validate: Callable[[PyTree, PyTree], dict[str, Array]] = lambda params, memory: {},
    schedule: Callable[[Array], Array | float] = lambda step: 1.0,
    parts: int = 1,
    batch_axes: PyTree = 0,
) -> Trainer:
    """Builds the functions that the host loop compiles.

    Args:
        init_params: parameters from a key.
        sample_batch: the batch of a step from that step's key and index.
        loss: ``loss(params, memory, batch, key) -> (loss, (metrics, memory))``; the key is for dropout; "loss" joins
            the metrics.
        optimizer: up to, and without, the learning rate: its updates are multiplied by ``-learning_rate``.
        rule: looks at steps 0, `look_every`, ... at that step's metrics.
        max_steps: index of the last step, so at most ``max_steps + 1`` updates, as in the report's code.
        eval_every: steps between metrics that are reported.
        chunk_steps: steps in one call of the chunk, besides step 0.
        look_every: steps from look to look of the rule; `eval_every` by default.
        init_memory: a lane's memory before the first batch, from its seed.
        validate: ``validate(params, memory) -> metrics``, beside those of the loss; of the updated parameters.
        schedule: the factor of the learning rate at a step.
        parts: the loss is taken of so many equal parts of a batch and of the memory, each with a key of its own;
            losses, metrics and gradients are their means. So several devices can share a lane, and on a CPU one of
            half as many rows keeps more in its cache.
        batch_axes: the axis of a batch that is divided, a prefix of its pytree; None is for what all parts have. That
            of the memory is 0.
    """
    every = look_every or eval_every

    def init(seed: Array, learning_rate: Array) -> TrainState:
        params = init_params(stream_key(seed, Stream.INIT))
        return TrainState(
            seed=jnp.asarray(seed, jnp.int32),
            learning_rate=jnp.asarray(learning_rate, jnp.float32),
            step=jnp.zeros((), jnp.int32),
            status=jnp.asarray(Status.RUNNING, jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            rule_state=rule.start(params),
            memory=init_memory(seed),
        )

    def advance(state: TrainState) -> tuple[TrainState, Looks]:
        batch = sample_batch(stream_key(state.seed, Stream.DATA, state.step), state.step)
        key = stream_key(state.seed, Stream.DROPOUT, state.step)
        grad = jax.value_and_grad(loss, has_aux=True)
        if parts > 1:
            grad = _of_parts(grad, parts, batch_axes)
        (value, (metrics, memory)), gradients = grad(state.params, state.memory, batch, key)
        metrics = {"loss": value, **metrics}
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        rate = state.learning_rate * schedule(state.step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)

        failed = ~(jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradients)))
        params = _select(failed, state.params, params)
        taken = (state.step % eval_every == 0) | failed
        looks = state.step % every == 0
        metrics |= _where(looks | taken, lambda: validate(params, memory))
        rule_state, stop = rule.look(state.rule_state, metrics, params)
        status = jnp.select(
            [failed, looks & stop, state.step >= max_steps],
            [Status.FAILED, Status.STOPPED, Status.OUT_OF_STEPS],
            Status.RUNNING,
        ).astype(jnp.int32)
        after = state._replace(
            step=jnp.where(status == Status.RUNNING, state.step + 1, state.step),
            status=status,
            params=params,
            opt_state=opt_state,
            rule_state=_select(looks & ~failed, rule_state, state.rule_state),
            memory=memory,
        )
        return after, Looks(state.step, taken | (status == Status.STOPPED), metrics)

    def chunk(state: TrainState, until: Array) -> tuple[TrainState, Looks]:
        _, blank = jax.eval_shape(advance, state)
        looks = jax.tree.map(lambda x: jnp.zeros((chunk_steps + 1, *x.shape), x.dtype), blank)

        # Under vmap, lanes that have ended are carried along until the last one has.
        def goes_on(carry: tuple[Array, TrainState, Looks]) -> Array:
            i, state, _ = carry
            return (i <= chunk_steps) & (state.status == Status.RUNNING) & (state.step <= until)

        def body(carry: tuple[Array, TrainState, Looks]) -> tuple[Array, TrainState, Looks]:
            i, state, looks = carry
            state, look = advance(state)
            return i + 1, state, jax.tree.map(lambda all_, one: all_.at[i].set(one), looks, look)

        _, state, looks = jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), state, looks))
        return state, looks

    return Trainer(init, chunk, chunk_steps, lambda state: rule.choose(state.rule_state, state.params), parts)


def _of_parts(grad: Callable[..., Any], parts: int, batch_axes: PyTree) -> Callable[..., Any]:
    """`grad` of the whole batch, by that of its parts."""

    def cut(axis: int | None, tree: PyTree, i: Array) -> PyTree:
        if axis is None:
            return tree

        def of(x: Array) -> Array:
            size = x.shape[axis] // parts
            return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)

        return jax.tree.map(of, tree)

    def of_parts(params: PyTree, memory: PyTree, batch: PyTree, key: Key) -> Any:
        def of_part(i: Array) -> Any:
            part = jax.tree.map(lambda axis, x: cut(axis, x, i), batch_axes, batch, is_leaf=lambda axis: axis is None)
            return grad(params, cut(0, memory, i), part, jax.random.fold_in(key, i))

        (value, (metrics, memory)), gradients = over_parts(of_part, parts)
        value, metrics, gradients = jax.tree.map(
            lambda x: functools.reduce(jnp.add, x) / parts, (value, metrics, gradients)
        )
        memory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memory)
        return (value, (metrics, memory)), gradients

    return of_parts


def _where(condition: Array, fn: Callable[[], PyTree]) -> PyTree:
    """What `fn` gives, or zeros where the condition does not hold: it is then not called."""
    return jax.lax.cond(condition, fn, lambda: optax.tree.zeros_like(jax.eval_shape(fn)))


def _select(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def adam(clip_norm: float) -> optax.GradientTransformation:
    """Adam with PyTorch's constants behind clipping of the global norm, without the learning rate."""
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam())


def resumed(state: TrainState, max_steps: int) -> TrainState:
    """The lanes, where those that ran out of steps go on if `max_steps` has become larger."""
    goes_on = (state.status == Status.OUT_OF_STEPS) & (state.step < max_steps)
    status = jnp.where(goes_on, jnp.int32(Status.RUNNING), state.status)
    return state._replace(status=status, step=jnp.where(goes_on, state.step + 1, state.step))
