"""The Flax adapters against `unroll`, which has its own oracles, with the same parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen as nn
from flax import nnx

from jaxrnn.cells import CELLS, INITIALIZERS, in_dtype, with_dropout
from jaxrnn.nn.modules import RNN, FlaxCell, Recurrent
from jaxrnn.nn.nnx import NNXCell
from jaxrnn.recurrence import unroll

T, B, D, H = 6, 4, 5, 3
LENGTHS = np.array([6, 1, 4, 3], np.int32)
MASK = np.arange(T)[:, None] < LENGTHS


def draw(name, seed):
    """Parameters, an initial carry and inputs, float32."""
    rng = np.random.default_rng(seed)
    drawn = oracles.draw_params(rng, name, D, H), oracles.draw_carry(rng, name, B, H), oracles.draw(rng, T, B, D)
    return oracles.in_precision(np.float32, drawn)


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


@pytest.mark.parametrize(
    ("name", "padded"), [*((name, True) for name in ("peephole", "gru", "mgu", "min_lstm")), ("lstm", False)]
)
def test_flaxs_rnn_and_bidirectional_give_what_unroll_gives(name, padded):
    params, carries = (
        {way: draw(name, seed)[part] for seed, way in enumerate(["forward", "backward"])} for part in (0, 1)
    )
    *_, xs = draw(name, 2)
    flax, ours = (f(CELLS[name], padded, params, carries, xs) for f in (by_flax, by_unroll))
    for (carry, ys), expected in zip(flax, ours, strict=True):
        # Flax leaves something behind the end of a sequence.
        oracles.assert_close((carry, jnp.where(MASK[..., None], ys, 0) if padded else ys), expected, 1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"time_major": True, "return_carry": True},
        {"reverse": True, "return_carry": True},
        {"reverse": True, "keep_order": True, "time_major": True},
    ],
)
def test_rnn_takes_the_place_of_flaxs(fields, padded):
    params, carry, xs = draw("lstm", 0)
    inputs = xs if fields.get("time_major") else np.swapaxes(xs, 0, 1)
    lengths = LENGTHS if padded else None
    ours, flax = (layer(FlaxCell(CELLS["lstm"], H), **fields) for layer in (RNN, nn.RNN))
    variables = {"params": {"cell": params._asdict()}}
    assert jax.tree.map(np.shape, ours.init(jax.random.key(0), inputs)) == jax.tree.map(np.shape, variables)
    is_real = (MASK if fields.get("time_major") else MASK.T)[..., None]
    for given in ({}, {"initial_carry": carry}, {"return_carry": True}):
        found, expected = (layer.apply(variables, inputs, seq_lengths=lengths, **given) for layer in (ours, flax))
        if given.get("return_carry", fields.get("return_carry")):
            oracles.assert_close(found[0], expected[0], 1e-5)
            found, expected = found[1], expected[1]
        # Flax leaves something behind the end of a sequence.
        oracles.assert_close(found, jnp.where(is_real, expected, 0) if padded else expected, 1e-5)


def test_rnn_in_both_directions_is_flaxs():
    params, _, xs = draw("gru", 0)
    variables = {"params": {f"{way}_rnn": {"cell": params._asdict()} for way in ("forward", "backward")}}
    found, expected = (
        nn.Bidirectional(*(layer(FlaxCell(CELLS["gru"], H), time_major=True) for _ in range(2)), time_major=True).apply(
            variables, xs
        )
        for layer in (RNN, nn.RNN)
    )
    oracles.assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["lstm", "mgu", "min_gru"])
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
    jax.tree.map(np.testing.assert_array_equal, carry, cell.initial_carry(H, (B,)))
    assert shapes(FlaxCell(cell, H).init, carry, xs[0]) == expected


@pytest.mark.parametrize("name", ["lstm", "gru", "mgu", "min_lstm", "lru"])
def test_nnx_gives_what_unroll_gives(name):
    params, carry, xs = draw(name, 0)
    cell = NNXCell(CELLS[name], D, H, rngs=nnx.Rngs(0))
    drawn = {field: getattr(cell, field)[...] for field in params._fields}
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(np.shape, params._asdict())
    for field, value in params._asdict().items():
        setattr(cell, field, nnx.Param(jnp.asarray(value)))
    rnn = nnx.RNN(cell, time_major=True, return_carry=True)
    oracles.assert_close(rnn(xs, initial_carry=carry), unroll(CELLS[name], params, xs, carry=carry), 1e-5)
    oracles.assert_close(rnn(xs), unroll(CELLS[name], params, xs), 1e-5)
    # Flax leaves something behind the end of a sequence.
    last, ys = rnn(xs, seq_lengths=LENGTHS)
    oracles.assert_close((last, jnp.where(MASK[..., None], ys, 0)), unroll(CELLS[name], params, xs, mask=MASK), 1e-5)


# --- Dropout and precision --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "peephole", "gers_peephole"])
def test_recurrent_dropout_is_one_mask_for_all_steps(name, x64):
    rng = np.random.default_rng(0)
    params, carry, xs = (
        oracles.draw_params(rng, name, D, H),
        oracles.draw_carry(rng, name, B, H),
        oracles.draw(rng, T, B, D),
    )
    keep = 2.0 * rng.integers(2, size=(B, H))
    dropped = with_dropout(CELLS[name])

    def by_steps(params, carry):
        ys = []
        for x in xs:
            seen = CELLS[name].source(carry) * keep
            u, z = seen @ CELLS[name].weight(params), CELLS[name].project(params, x)
            carry, y, _ = CELLS[name].pointwise(params, carry, z, u)
            ys.append(y)
        return carry, jnp.stack(ys)

    def by_unroll(params, carry):
        return unroll(dropped, dropped.params_type(*params, keep), xs, carry=carry)

    def loss(form, params, carry):
        last, ys = form(params, carry)
        return jnp.sin(ys).sum() + jnp.cos(last.h).sum()

    oracles.assert_close(by_unroll(params, carry), by_steps(params, carry), 1e-12)
    found, expected = (
        jax.grad(functools.partial(loss, form), argnums=(0, 1))(params, carry) for form in (by_unroll, by_steps)
    )
    oracles.assert_close(found, expected, 1e-10)


def test_a_layer_drops_at_its_rate_and_not_without_a_key():
    layer = Recurrent(CELLS["lstm"], 200, recurrent_dropout=0.25)
    xs = np.ones((3, 50, D), np.float32)
    variables = layer.init(jax.random.key(0), xs)
    without = layer.apply(variables, xs)
    oracles.assert_close(without, Recurrent(CELLS["lstm"], 200).apply(variables, xs), 1e-6)
    (_, ys), (_, other) = (
        layer.apply(variables, xs, deterministic=False, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 2)
    )
    # Nothing has recurred at the first step; after it every sequence of the batch has a mask of its own.
    np.testing.assert_allclose(ys[0], without[1][0], rtol=1e-6)
    assert len(np.unique(np.asarray(ys[1]), axis=0)) == 50
    assert np.abs(ys[1] - other[1]).max() > 1e-3
    assert ys[1].mean() == pytest.approx(float(without[1][1].mean()), abs=5e-3)


@pytest.mark.parametrize("name", ["lstm", "peephole", "gru", "mgu", "min_gru", "slstm"])
def test_low_precision_is_that_of_the_products_alone(name):
    params, carry, xs = draw(name, 0)
    cell = in_dtype(CELLS[name], "bfloat16")

    def loss(cell, params):
        last, ys = unroll(cell, params, xs, carry=carry)
        return jnp.sin(ys).sum() + last.h.sum()

    results = unroll(cell, params, xs, carry=carry)
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {np.dtype("float32")}
    oracles.assert_close(results, unroll(CELLS[name], params, xs, carry=carry), 0.02)
    found, expected = (jax.grad(functools.partial(loss, one))(params) for one in (cell, CELLS[name]))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    oracles.assert_close(found, expected, 0.05)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(found, expected, strict=True))


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
