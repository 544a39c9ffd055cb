"""The classifier against its equations in NumPy, by hand for both directions."""

import functools

import jax
import numpy as np
import oracles
import pytest
import scipy.stats

from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import Phase

T, B, V, C, D, H = 6, 4, 5, 3, 4, 2


def classifier(name, initializer="kaiming", **sizes):
    sizes = {"vocabulary_size": V, "num_classes": C, "embedding_size": D, "hidden_size": H, **sizes}
    return SequenceClassifier(CELLS[name], initializer=INITIALIZERS[initializer], **sizes)


def draw_params(rng, name, bidirectional):
    directions = ["forward", "backward"] if bidirectional else ["forward"]
    return {
        "embedding": oracles.draw(rng, V, D),
        **{way: oracles.draw_params(rng, name, D, H)._asdict() for way in directions},
        "head": {"kernel": oracles.draw(rng, len(directions) * H, C), "bias": oracles.draw(rng, C)},
    }


def logits_by_hand(name, params, tokens, mask):
    cell = CELLS[name]
    start = cell.initial_carry(H, (B,))
    hidden = [
        oracles.unroll(
            name, cell.params_type(**params[way]), params["embedding"][tokens], start, mask, reverse=way == "backward"
        )[0].h
        for way in ("forward", "backward")
        if way in params
    ]
    return np.concatenate(hidden, axis=1) @ params["head"]["kernel"] + params["head"]["bias"]


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, tokens, mask):
    return model.apply({"params": params}, tokens, mask)


@pytest.mark.parametrize(
    ("name", "bidirectional"), [*((name, True) for name in ("gru", "peephole", "mgu", "min_gru")), ("lstm", False)]
)
def test_logits_are_the_head_on_the_last_hidden_states(name, bidirectional):
    rng = np.random.default_rng(0)
    params = draw_params(rng, name, bidirectional)
    tokens = rng.integers(V, size=(T, B), dtype=np.int32)
    model = classifier(name, bidirectional=bidirectional)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
        assert jax.tree.map(np.shape, shapes) == jax.tree.map(np.shape, params)
        for lengths in ([T, T, T, T], [T, 1, 4, 0]):
            for mask in (np.arange(T)[:, None] < lengths, np.arange(T)[::-1, None] < lengths):
                padded = np.where(mask, tokens, 10**6)
                ours = apply(model, params, padded, mask)
                np.testing.assert_allclose(ours, logits_by_hand(name, params, tokens, mask), rtol=1e-12, atol=1e-14)
        no_mask = apply(model, params, tokens, None)
        np.testing.assert_allclose(no_mask, logits_by_hand(name, params, tokens, None), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("D", "H", "C"), [(5, 7, 3), (82, 256, 2), (162, 256, 2)])
def test_the_papers_lstm_has_as_many_parameters_as_its_formula_says(D, H, C):
    """Question 1.2b, and at the sizes of Table 1."""
    model = classifier("lstm", embedding_size=D, hidden_size=H, num_classes=C)
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((T, B), np.int32))["params"]
    assert params.pop("embedding").shape == (V, D)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4 * (D * H + H**2 + H) + H * C + C


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initial_parameters(initializer):
    sizes = {"vocabulary_size": 60, "embedding_size": 100, "hidden_size": 100, "num_classes": 40, "bidirectional": True}
    model = classifier("lstm", initializer, **sizes)
    params = model.init(jax.random.key(0), np.zeros((1, 1), np.int32))["params"]
    kernel, bias = params["head"]["kernel"], params["head"]["bias"]
    assert kernel.shape == (200, 40)
    # PyTorch's `nn.Linear` goes by its number of inputs, which is two times 100.
    head, layers = {
        "kaiming": (scipy.stats.norm(scale=40**-0.5), scipy.stats.norm(scale=100**-0.5)),
        "torch": (scipy.stats.uniform(-(200**-0.5), 2 * 200**-0.5), scipy.stats.uniform(-0.1, 0.2)),
    }[initializer]
    forget_gates = np.stack([params[way]["w_h"][:, 100:200] for way in ("forward", "backward")])
    for numbers, distribution in [(params["embedding"], scipy.stats.norm), (kernel, head), (forget_gates, layers)]:
        assert scipy.stats.kstest(np.ravel(numbers), distribution.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(*forget_gates.reshape(2, -1))[0, 1]) < 0.1
    if initializer == "kaiming":
        assert not bias.any()
    else:
        assert scipy.stats.kstest(bias, head.cdf).pvalue > 1e-3


def test_shared_starts_change_nothing():
    rng = np.random.default_rng(0)
    params = draw_params(rng, "peephole", bidirectional=True)
    padded = np.where(np.arange(T)[:, None] < [2, 4, 5, 3], 0, rng.integers(1, V, size=(T, B), dtype=np.int32))
    model = classifier("peephole", bidirectional=True)
    shared = model.clone(phases=(Phase(1, 2), Phase(B, T)))
    mask = np.ones((T, B), bool)

    with jax.enable_x64(True):
        expected = apply(model, params, padded, mask)
        assert jax.tree.map(np.shape, jax.eval_shape(shared.init, jax.random.key(0), padded)["params"]) == jax.tree.map(
            np.shape, params
        )
        np.testing.assert_allclose(apply(shared, params, padded, None), expected, rtol=1e-12)
        # Masked positions are not compared, so nothing is shared.
        np.testing.assert_allclose(apply(shared, params, padded, mask), expected, rtol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_stand_on_each_other_with_a_norm_between(bidirectional, x64):
    rng, name, ways = np.random.default_rng(1), "lstm", ["forward", "backward"][: 1 + bidirectional]
    tokens = rng.integers(V, size=(T, B), dtype=np.int32)
    model = classifier(name, bidirectional=bidirectional, num_layers=2, layer_norm=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    params = jax.tree.map(lambda leaf: oracles.draw(rng, *leaf.shape), shapes)
    xs, cell = params["embedding"][tokens], CELLS[name]
    mask = np.arange(T)[::-1, None] < [T, 1, 4, 0]
    for suffix in ("", "_1"):
        found = []
        for way in ways:
            inputs = xs
            if suffix:
                norm = params[f"{way}_1_norm"]
                inputs = (xs - xs.mean(-1, keepdims=True)) / np.sqrt(xs.var(-1, keepdims=True) + 1e-6)
                inputs = inputs * norm["scale"] + norm["bias"]
            fields = cell.params_type(**params[way + suffix])
            found.append(
                oracles.unroll(name, fields, inputs, cell.initial_carry(H, (B,)), mask, reverse=way == "backward")
            )
        xs = np.concatenate([ys for _, ys in found], axis=-1)
    hidden = np.concatenate([last.h for last, _ in found], axis=-1)
    expected = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(apply(model, params, tokens, mask), expected, atol=1e-10)


def test_dropout_is_between_layers_alone():
    tokens = np.zeros((T, B), np.int32)
    one, two = (classifier("lstm", dropout=0.5, num_layers=n) for n in (1, 2))
    for model, differs in ((one, False), (two, True)):
        variables = model.init(jax.random.key(0), tokens)
        drawn = [
            model.apply(variables, tokens, deterministic=False, rngs={"dropout": jax.random.key(k)}) for k in (1, 2)
        ]
        assert (drawn[0] != drawn[1]).any() == differs
