"""Stop rules: pure functions that end a run based on its evaluations."""

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
        report: ``report(state) -> {name: scalar}``: what the rule knows about a run that has ended, for its results.
    """

    start: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, dict[str, Array], PyTree], tuple[PyTree, Array]]
    choose: Callable[[PyTree, PyTree], PyTree] = lambda state, params: params
    report: Callable[[PyTree], dict[str, Array]] = lambda state: {}


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
    """Stops when the validation loss is above its mean over the previous `window` evaluations.

    It cannot stop before evaluation ``window + 1``, as in Kipf and Welling's GCN code.
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


def stop_past_lowest(metric: str, patience: int, every: int) -> StopRule:
    """Chooses the weights of the evaluation with the lowest metric, and stops `patience` evaluations after it.

    Evaluations are `every` steps apart. A patience of 0 never stops. ``best_step`` is the step of the chosen weights.
    """

    def start(params: PyTree) -> PyTree:
        counts = {name: jnp.zeros((), jnp.int32) for name in ("evaluations", "best")}
        return {"lowest": jnp.full((), jnp.inf), **counts, "params": params}

    def update(state: PyTree, metrics: dict[str, Array], params: PyTree) -> tuple[PyTree, Array]:
        is_lower = metrics[metric] < state["lowest"]
        best = jnp.where(is_lower, state["evaluations"], state["best"])
        waited = state["evaluations"] - best
        state = {
            "lowest": jnp.minimum(metrics[metric], state["lowest"]),
            "evaluations": state["evaluations"] + 1,
            "best": best,
            "params": jax.tree.map(lambda new, old: jnp.where(is_lower, new, old), params, state["params"]),
        }
        return state, (patience > 0) & (waited >= patience)

    def report(state: PyTree) -> dict[str, Array]:
        return {"best_step": every * state["best"]}

    return StopRule(start, update, choose=lambda state, _: state["params"], report=report)


def average_weights(decay: float) -> StopRule:
    """Never stops; a running mean of the weights counts, ``m <- d m + (1 - d) w``, as in TensorFlow.

    At update t, from 0, the decay d is at most ``(1 + t) / (10 + t)``, so that the first weights are soon forgotten.
    """

    def start(params: PyTree) -> PyTree:
        return {"questions": jnp.zeros((), jnp.int32), "mean": params}

    def update(state: PyTree, metrics: dict[str, Array], params: PyTree) -> tuple[PyTree, Array]:
        del metrics
        d = jnp.minimum(decay, (1 + state["questions"]) / (10 + state["questions"]))
        mean = jax.tree.map(lambda old, new: d * old + (1 - d) * new, state["mean"], params)
        return {"questions": state["questions"] + 1, "mean": mean}, jnp.zeros((), bool)

    return StopRule(start, update, choose=lambda state, params: state["mean"])
