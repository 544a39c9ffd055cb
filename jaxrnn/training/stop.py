"""Stop rules: pure functions that end a run from what its evaluations give."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree


class StopRule(NamedTuple):
    """A pure stop rule.

    Attributes:
        start: ``start(params) -> state``, from the initial parameters.
        update: ``update(state, metrics, params) -> (state, stop)``; the parameters are those after the step's update.
        choose: ``choose(state, params) -> params``: the parameters by which a run that has ended is judged.
    """

    start: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, dict[str, Array], PyTree], tuple[PyTree, Array]]
    choose: Callable[[PyTree, PyTree], PyTree] = lambda state, params: params


def never_stop() -> StopRule:
    """No early stopping: each run trains for `max_steps`."""
    return StopRule(start=lambda _: (), update=lambda state, *_: (state, jnp.zeros((), bool)))


def stop_when_loss_below(tolerance: float, patience: int) -> StopRule:
    """Stops at the `patience`-th evaluation in a row with a training loss of at most `tolerance`."""

    def update(count: Array, metrics: dict[str, Array], _: PyTree) -> tuple[Array, Array]:
        count = jnp.where(metrics["loss"] <= tolerance, count + 1, 0)
        return count, count >= patience

    return StopRule(start=lambda _: jnp.zeros((), jnp.int32), update=update)


def stop_above_recent_mean(window: int) -> StopRule:
    """Stops when the validation loss is above its mean over the `window` evaluations before.

    It cannot stop before evaluation ``window + 1``, as in Kipf and Welling's code of the GCN.
    """

    def start(params: PyTree) -> PyTree:
        del params
        return {"recent": jnp.full((window,), jnp.inf), "evaluations": jnp.zeros((), jnp.int32)}

    def update(state: PyTree, metrics: dict[str, Array], _: PyTree) -> tuple[PyTree, Array]:
        loss = metrics["validation_loss"]
        stop = (state["evaluations"] > window) & (loss > state["recent"].mean())
        recent = jnp.roll(state["recent"], -1).at[-1].set(loss)
        return {"recent": recent, "evaluations": state["evaluations"] + 1}, stop

    return StopRule(start, update)


def stop_without_progress(patience: int) -> StopRule:
    """Stops after `patience` evaluations in a row without progress; chooses the best weights (Velickovic's GAT code).

    Progress is a validation accuracy no lower than the highest, *or* a loss no higher than the lowest so far. The best
    weights are those of the last evaluation that was both.
    """

    def start(params: PyTree) -> PyTree:
        return {
            "accuracy": jnp.zeros(()),
            "loss": jnp.full((), jnp.inf),
            "without_progress": jnp.zeros((), jnp.int32),
            "params": params,
        }

    def update(state: PyTree, metrics: dict[str, Array], params: PyTree) -> tuple[PyTree, Array]:
        accuracy, loss = metrics["validation_accuracy"], metrics["validation_loss"]
        more_accurate, lower = accuracy >= state["accuracy"], loss <= state["loss"]
        count = jnp.where(more_accurate | lower, 0, state["without_progress"] + 1)
        best = more_accurate & lower
        state = {
            "accuracy": jnp.maximum(accuracy, state["accuracy"]),
            "loss": jnp.minimum(loss, state["loss"]),
            "without_progress": count,
            "params": jax.tree.map(lambda new, old: jnp.where(best, new, old), params, state["params"]),
        }
        return state, count >= patience

    return StopRule(start, update, choose=lambda state, _: state["params"])


def stop_without_lower(metric: str, patience: int) -> StopRule:
    """Stops after `patience` evaluations in a row without a new lowest value; chooses the weights of the lowest."""

    def start(params: PyTree) -> PyTree:
        return {"lowest": jnp.full((), jnp.inf), "without": jnp.zeros((), jnp.int32), "params": params}

    def update(state: PyTree, metrics: dict[str, Array], params: PyTree) -> tuple[PyTree, Array]:
        is_lower = metrics[metric] < state["lowest"]
        count = jnp.where(is_lower, 0, state["without"] + 1)
        best = jax.tree.map(lambda new, old: jnp.where(is_lower, new, old), params, state["params"])
        return {"lowest": jnp.minimum(metrics[metric], state["lowest"]), "without": count, "params": best}, (
            count >= patience
        )

    return StopRule(start, update, choose=lambda state, _: state["params"])
