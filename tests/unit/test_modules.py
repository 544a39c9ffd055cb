"""The Flax adapters against `unroll`, which has its own oracles, with the same parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen as nn

from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.nn.modules import FlaxCell, Recurrent
from jaxrnn.recurrence import unroll

T, B, D, H = 6, 4, 5, 3
LENGTHS = np.array([6, 1, 4, 3], np.int32)
MASK = np.arange(T)[:, None] < LENGTHS


def draw(name, seed):
    """Parameters, an initial carry and inputs, float32."""
    rng = np.random.default_rng(seed)
    drawn = oracles.draw_params(rng, name, D, H), oracles.draw_carry(rng, name, B, H), oracles.draw(rng, T, B, D)
    return jax.tree.map(np.float32, drawn)


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_flax(cell, padded, params, carries, xs):
    """`nn.Bidirectional`, which runs an `nn.RNN` each way, and both of its layers alone."""
    forward, backward = (nn.RNN(FlaxCell(cell, H), return_carry=True, time_major=True) for _ in range(2))
    both = nn.Bidirectional(forward, backward, return_carry=True, time_major=True)
    variables = {"params": {f"{way}_rnn": {"cell": p._asdict()} for way, p in params.items()}}
    seq_lengths = LENGTHS if padded else None
    together = both.apply(
        variables, xs, seq_lengths=seq_lengths, initial_carry=(carries["forward"], carries["backward"])
    )
    alone = forward.apply({"params": {"cell": params["forward"]._asdict()}}, xs, seq_lengths=seq_lengths)
    return together, alone


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_unroll(cell, padded, params, carries, xs):
    mask = MASK if padded else None
    runs = [
        unroll(cell, params[way], xs, carry=carries[way], mask=mask, reverse=way == "backward")
        for way in ("forward", "backward")
    ]
    together = tuple(carry for carry, _ in runs), jnp.concatenate([ys for _, ys in runs], axis=-1)
    return together, unroll(cell, params["forward"], xs, mask=mask)


@pytest.mark.parametrize(("name", "padded"), [*((name, True) for name in CELLS), ("lstm", False)])
def test_flaxs_rnn_and_bidirectional_give_what_unroll_gives(name, padded):
    params, carries = (
        {way: draw(name, seed)[part] for seed, way in enumerate(["forward", "backward"])} for part in (0, 1)
    )
    *_, xs = draw(name, 2)
    flax, ours = (f(CELLS[name], padded, params, carries, xs) for f in (by_flax, by_unroll))
    for (carry, ys), expected in zip(flax, ours, strict=True):
        # Flax leaves something behind the end of a sequence.
        oracles.assert_close((carry, jnp.where(MASK[..., None], ys, 0) if padded else ys), expected, 1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_is_unroll_with_parameters_of_its_own(name):
    params, carry, xs = draw(name, 0)
    embedding, tokens = xs[0], np.arange(T * B).reshape(T, B) % B
    variables = {"params": params._asdict()}
    layer = Recurrent(CELLS[name], H, reverse=True)

    @jax.jit
    def both():
        arguments = {"embedding": embedding, "carry": carry, "mask": MASK}
        ours = layer.apply(variables, tokens, **arguments), layer.apply(variables, xs)
        direct = (
            unroll(CELLS[name], params, tokens, reverse=True, **arguments),
            unroll(CELLS[name], params, xs, reverse=True),
        )
        return ours, direct

    oracles.assert_close(*both(), 1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_all_layers_have_the_cells_parameters_by_name(name):
    cell, key, xs = CELLS[name], jax.random.key(0), np.zeros((T, B, D), np.float32)

    def shapes(init, *arguments, **keywords):
        variables = jax.eval_shape(functools.partial(init, **keywords), key, *arguments)
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)["params"]

    layer = Recurrent(cell, H)
    expected = shapes(lambda key: {"params": cell.init(key, D, H, INITIALIZERS["torch"])._asdict()})
    assert shapes(layer.init, xs) == expected
    assert shapes(layer.init, np.zeros((T, B), np.int32), embedding=xs[0]) == expected
    assert shapes(nn.RNN(FlaxCell(cell, H)).init, xs) == {"cell": expected}
    carry = FlaxCell(cell, H).initialize_carry(key, (B, D))
    assert isinstance(carry, cell.carry_type)
    assert shapes(FlaxCell(cell, H).init, carry, xs[0]) == expected


@pytest.mark.parametrize("layer", [Recurrent, FlaxCell])
def test_layers_use_their_initializer_and_no_key_twice(layer):
    module = layer(CELLS["lstm"], 64, INITIALIZERS["kaiming"])
    xs = np.zeros((1, 64), np.float32)
    arguments = (xs,) if layer is Recurrent else (module.initialize_carry(jax.random.key(0), xs.shape), xs)
    params = module.init(jax.random.key(0), *arguments)["params"]
    gates = np.concatenate([np.split(params[field], 4, axis=1) for field in ("w_x", "w_h")])
    np.testing.assert_allclose(gates.std(axis=(1, 2)), np.array([1, 1, 5 / 3, 1] * 2) / 64**0.5, rtol=0.06)
    rows = gates.reshape(-1, 64) / gates.reshape(-1, 64).std(axis=1, keepdims=True)
    correlations = rows @ rows.T / 64
    assert np.abs(correlations - np.eye(len(rows))).max() < 0.8
    assert not params["b"].any()
