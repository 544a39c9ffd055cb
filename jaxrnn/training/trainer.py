"""The compiled part of a training: the state of a run, its step and the chunk of steps between two calls."""

import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.training.definition import Training
from jaxrnn.training.placement import ONE_RUN, Plan, over_parts
from jaxrnn.training.seeds import Stream, stream_key


class Status(enum.IntEnum):
    """Where a run stands; everything but RUNNING is final for its chunk program."""

    RUNNING = 0
    STOPPED = 1
    """The stop rule ended it."""
    OUT_OF_STEPS = 2
    FAILED = 3
    """The loss or its gradient was not finite; the weights are those before that step's update."""
    PADDING = 4
    """A copy that fills up a program."""


class TrainState(NamedTuple):
    """One run, or runs stacked along a leading axis.

    Attributes:
        seed: int32.
        hyper: the run's values of the fields in `Training.hyper`, float32.
        step: int32, index of the step to take next, or of the last step taken once the run has ended.
        status: int32, a `Status`.
        params: the model's parameters.
        opt_state: the optimizer's.
        rule_state: the stop rule's.
        memory: what one batch hands on to the next, e.g. carries in truncated backpropagation through time; or ``()``.
    """

    seed: Array
    hyper: Mapping[str, Array]
    step: Array
    status: Array
    params: PyTree
    opt_state: PyTree
    rule_state: PyTree
    memory: PyTree


class Evaluations(NamedTuple):
    """What a chunk measured, one entry per step: its metrics, and whether they are to be `recorded`.

    Training metrics use the parameters before the update, validation metrics those after it.
    """

    step: Array
    recorded: Array
    metrics: dict[str, Array]


class Trainer(NamedTuple):
    """The pure functions of one run that the loop compiles.

    Attributes:
        init: ``init(data, seed, hyper, params) -> TrainState``, from parameters, or ``()`` to draw them.
        chunk: ``chunk(data, state, end, batches) -> (state, Evaluations)``: at most `chunk_steps` steps and one more,
            for step 0, and none after the step with the index `end`; a run that has ended passes through. Batches from
            the host are stacked; without them there are none.
        request: ``request(data, state) -> request``: what a run asks of the host, from the key of its step.
        test: ``test(data, state) -> {name: scalar or array}``.
        chosen: ``chosen(state) -> params``: the parameters by which a run that has ended is judged; also of stacked
            runs.
    """

    init: Callable[[PyTree, Array, Mapping[str, Array], PyTree], TrainState]
    chunk: Callable[[PyTree, TrainState, Array, PyTree], tuple[TrainState, Evaluations]]
    request: Callable[[PyTree, TrainState], PyTree]
    test: Callable[[PyTree, TrainState], dict[str, Array]]
    chosen: Callable[[TrainState], PyTree]


def make_trainer(training: Training, plan: Plan = ONE_RUN) -> Trainer:
    """The functions of a training that is placed by `plan`.

    With several parts, the loss is taken of equal parts of the batch and of the memory, each with its own key;
    losses, metrics and gradients are the means over the parts. So several devices can share a run, and on a CPU a part
    with half as many rows keeps more in the cache.
    """
    chunk_steps, stop, stop_every = training.chunk_steps, training.stop, training.stop_every or training.eval_every
    if (training.sample is None) == (training.batches is None):
        raise ValueError("a training has either sample or batches")
    loss = training.loss
    if plan.own_cores and training.loss_on_own_core:
        loss = training.loss_on_own_core(training.batch_size // plan.parts)

    def init(data: PyTree, seed: Array, hyper: Mapping[str, Array], params: PyTree = ()) -> TrainState:
        if params == ():
            params = training.init(stream_key(seed, Stream.INIT))
        hyper = {name: jnp.asarray(value, jnp.float32) for name, value in hyper.items()}
        return TrainState(
            seed=jnp.asarray(seed, jnp.int32),
            hyper=hyper,
            step=jnp.zeros((), jnp.int32),
            status=jnp.asarray(Status.RUNNING, jnp.int32),
            params=params,
            opt_state=training.optimizer(hyper).init(params),
            rule_state=stop.start(params),
            memory=training.start_memory(seed, data),
        )

    def advance(data: PyTree, state: TrainState, batch: PyTree) -> tuple[TrainState, Evaluations]:
        if training.sample:
            batch = training.sample(stream_key(state.seed, Stream.DATA, state.step), state.step, data)
        key = stream_key(state.seed, Stream.DROPOUT, state.step)

        def loss_of(params: PyTree, memory: PyTree, batch: PyTree, key: Key) -> Any:
            return loss(params, memory, batch, key, data)

        grad = jax.value_and_grad(loss_of, has_aux=True)
        if plan.parts > 1:
            grad = _of_parts(grad, plan.parts, training.batch_axes)
        (value, (metrics, memory)), gradients = grad(state.params, state.memory, batch, key)
        metrics = {"loss": value, **metrics}
        updates, opt_state = training.optimizer(state.hyper).update(gradients, state.opt_state, state.params)
        failed = ~(jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradients)))
        params = _select(failed, state.params, optax.apply_updates(state.params, updates))

        recorded = (state.step % training.eval_every == 0) | failed
        asked = state.step % stop_every == 0
        metrics |= _where(asked | recorded, lambda: training.validate(params, memory, data))
        rule_state, stopped = stop.update(state.rule_state, metrics, params)
        status = jnp.select(
            [failed, asked & stopped, state.step >= training.max_steps],
            [Status.FAILED, Status.STOPPED, Status.OUT_OF_STEPS],
            Status.RUNNING,
        ).astype(jnp.int32)
        after = state._replace(
            step=jnp.where(status == Status.RUNNING, state.step + 1, state.step),
            status=status,
            params=params,
            opt_state=opt_state,
            rule_state=_select(asked & ~failed, rule_state, state.rule_state),
            memory=memory,
        )
        return after, Evaluations(state.step, recorded | (status == Status.STOPPED), metrics)

    def chunk(data: PyTree, state: TrainState, end: Array, batches: PyTree = ()) -> tuple[TrainState, Evaluations]:
        def batch(i: Array | int) -> PyTree:
            return jax.tree.map(lambda x: x[i], batches)

        _, blank = jax.eval_shape(advance, data, state, batch(0))
        evaluations = jax.tree.map(lambda x: jnp.zeros((chunk_steps + 1, *x.shape), x.dtype), blank)

        # Under vmap, runs that have ended are carried along until the last one has.
        def goes_on(carry: tuple[Array, TrainState, Evaluations]) -> Array:
            i, state, _ = carry
            return (i <= chunk_steps) & (state.status == Status.RUNNING) & (state.step <= end)

        def body(carry: tuple[Array, TrainState, Evaluations]) -> tuple[Array, TrainState, Evaluations]:
            i, state, evaluations = carry
            state, one = advance(data, state, batch(i))
            return i + 1, state, jax.tree.map(lambda all_, x: all_.at[i].set(x), evaluations, one)

        _, state, evaluations = jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), state, evaluations))
        return state, evaluations

    def request(data: PyTree, state: TrainState) -> PyTree:
        assert training.request
        return training.request(state.params, state.memory, stream_key(state.seed, Stream.SAMPLE, state.step), data)

    def chosen(state: TrainState) -> PyTree:
        return stop.choose(state.rule_state, state.params)

    def test(data: PyTree, state: TrainState) -> dict[str, Array]:
        tested = training.test(chosen(state), state.memory, state.seed, data)
        return {**stop.report(state.rule_state), **tested}

    return Trainer(init, chunk, request, test, chosen)


def _of_parts(grad: Callable[..., Any], parts: int, batch_axes: PyTree) -> Callable[..., Any]:
    """`grad` of the whole batch, from those of its parts."""

    def cut(axis: int | None, tree: PyTree, i: Array) -> PyTree:
        if axis is None:
            return tree
        sizes = jax.tree.map(lambda x: x.shape[axis] // parts, tree)
        return jax.tree.map(lambda x, n: jax.lax.dynamic_slice_in_dim(x, i * n, n, axis), tree, sizes)

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
    """What `fn` gives, or zeros if the condition does not hold; without `vmap`, `fn` is then not called."""
    return jax.lax.cond(condition, fn, lambda: optax.tree.zeros_like(jax.eval_shape(fn)))


def _select(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def with_more_steps(state: TrainState, max_steps: int) -> TrainState:
    """The runs; those that ran out of steps go on if `max_steps` has become larger."""
    goes_on = (state.status == Status.OUT_OF_STEPS) & (state.step < max_steps)
    status = jnp.where(goes_on, jnp.int32(Status.RUNNING), state.status)
    return state._replace(status=status, step=jnp.where(goes_on, state.step + 1, state.step))
