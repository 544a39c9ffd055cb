"""A study that compiles in a second: a vector pulled towards ones, with a little noise from the data stream."""

import jax
import jax.numpy as jnp
import optax

from jaxrnn.training.loop import Study, Visits
from jaxrnn.training.trainer import converged, make_trainer

SIZE, BATCH = 3, 4
VISITS = (8, 21)


def study(max_steps=40, seeds_per_program=1, chunk_steps=13, eval_every=5, tolerance=0.05, patience=2, parts=1):
    def loss(params, memory, noise, key):
        value = jnp.mean((params["w"] - 1) ** 2) + 0.001 * jnp.mean(noise**2)
        return value, ({"accuracy": jnp.mean(params["w"])}, memory)

    trainer = make_trainer(
        init_params=lambda key: {"w": jax.random.normal(key, (SIZE,))},
        sample_batch=lambda key, _: jax.random.normal(key, (BATCH,)),
        loss=loss,
        optimizer=optax.identity(),
        rule=converged(tolerance, patience),
        max_steps=max_steps,
        eval_every=eval_every,
        chunk_steps=chunk_steps,
        parts=parts,
    )
    return Study(
        trainer=trainer,
        evaluate=lambda state: {"test_accuracy": jnp.mean(state.params["w"])},
        summarize=lambda runs: {"seeds": [row["seed"] for row in runs]},
        max_steps=max_steps,
        seeds_per_program=seeds_per_program,
        visits=Visits(
            due=lambda step: step in VISITS,
            rows=lambda state, step: {"visits.jsonl": [{"w": float(state.params["w"].mean())}]},
            keeps=lambda step: step == VISITS[0],
            files=("visits.jsonl",),
        ),
    )
