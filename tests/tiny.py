"""A training that compiles in a second: a vector pulled towards ones, with a little noise from the data stream."""

import json

import jax
import jax.numpy as jnp
import optax

from jaxrnn.rundir.directory import FORMAT, RunDirectory
from jaxrnn.rundir.recorder import DirectoryRecorder
from jaxrnn.training import loop
from jaxrnn.training.definition import Callback, Run, Training, product
from jaxrnn.training.ledger import Program
from jaxrnn.training.placement import Plan
from jaxrnn.training.stop import stop_when_loss_below

SIZE, BATCH = 3, 4
CALLBACKS = (8, 21)
# Two converge soon, two never do within the steps, and one meets an infinity.
RUNS = [*product(range(2), {"learning_rate": (0.3, 0.02)}), Run(0, {"learning_rate": 1e30})]


def loss(params, memory, noise, key, data):
    value = jnp.mean((params["w"] - data) ** 2) + 0.001 * jnp.mean(noise**2)
    return value, ({"accuracy": jnp.mean(params["w"])}, memory)


def training(tolerance=0.05, patience=2, **changes):
    default = Training(
        init=lambda key: {"w": jax.random.normal(key, (SIZE,))},
        sample=lambda key, step, data: jax.random.normal(key, (BATCH,)),
        loss=loss,
        optimizer=lambda hyper: optax.sgd(hyper["learning_rate"]),
        test=lambda params, memory, seed, data: {"test_accuracy": jnp.mean(params["w"])},
        hyper={"learning_rate": 0.02},
        max_steps=40,
        eval_every=5,
        chunk_steps=13,
        stop=stop_when_loss_below(tolerance, patience),
        callback=Callback(
            when=lambda step: step in CALLBACKS,
            record=lambda params, run, step, data: {"callbacks.jsonl": [{"w": float(params["w"].mean())}]},
            save_params=lambda step: step == CALLBACKS[0],
            files=("callbacks.jsonl",),
        ),
        data=jnp.ones(SIZE),
        batch_size=BATCH,
    )
    return default._replace(**changes)


def train(path, runs=RUNS, runs_per_program=1, parts=1, interrupted=lambda: False, record=None, **changes):
    """Starts a training, or goes on with it."""
    record = {
        "format": FORMAT,
        "study": "tiny",
        "config": {"max_steps": changes.get("max_steps", 40)},
        **(record or {}),
    }
    is_new = not (path / "config.json").exists()
    made = training(**changes)
    with RunDirectory(path, record if is_new else None) as directory:
        directory.record = record
        with DirectoryRecorder.open(directory, made.callback.files) as recorder:
            program = Program(made, runs, Plan(runs_per_program, parts))
            return loop.train([program], recorder, interrupted=interrupted)


def contents(path):
    return [(path / name).read_bytes() for name in ("metrics.jsonl", "callbacks.jsonl", "results.json")]


def rows(path, name="metrics.jsonl", run=None):
    found = [json.loads(line) for line in (path / name).read_text().splitlines()]
    return [row for row in found if run is None or row["run"] == run]


def results(path):
    return json.loads((path / "results.json").read_text())
