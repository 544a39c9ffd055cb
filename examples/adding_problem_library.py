"""The adding problem (Hochreiter and Schmidhuber 1997) from the library alone: regression, two cells, several seeds."""

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from jaxrnn.cells import torch_uniform
from jaxrnn.study.stats import compare_means
from jaxrnn.training.seeds import Stream, stream_key


def compare(first="gru", second="lstm", length=50, hidden=32, steps=2000, seeds=6):
    def sample(key, step, data, size=64):
        number_key, place_key = jax.random.split(key)
        numbers = jax.random.uniform(number_key, (length, size))
        places = jax.random.randint(place_key, (2, size), 0, length // 2) + jnp.array([[0], [length // 2]])
        marks = jax.nn.one_hot(places, length, axis=0).sum(axis=1)  # One in each half.
        return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)  # [T, B, 2] and [B]

    def training(cell):
        def init(key):
            return {"cell": cell.init(key, 2, hidden, torch_uniform), "head": jnp.zeros(hidden), "bias": jnp.ones(())}

        def loss(params, memory, batch, key, data):
            last, _ = jaxrnn.unroll(cell, params["cell"], batch[0])
            return jnp.mean((last.h @ params["head"] + params["bias"] - batch[1]) ** 2), ({}, memory)

        def test(params, memory, seed, data):
            return {"error": loss(params, memory, sample(stream_key(seed, Stream.EVAL), 0, data, 1000), None, data)[0]}

        return jaxrnn.Training(init, sample, loss, lambda _: optax.adam(3e-3), test, {}, steps, 100, 100, batch_size=64)

    trained = [jaxrnn.train(training(jaxrnn.CELLS[name]), range(seeds), progress=True) for name in (first, second)]
    gap = compare_means(*(one.results["error"] for one in trained))
    print(f"{first} - {second}: error {gap.difference:.2g} [{gap.low:.2g}, {gap.high:.2g}], p {gap.p_value:.2g}")


if __name__ == "__main__":
    compare()
