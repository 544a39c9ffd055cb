"""Generation against the teacher-forced forward pass, and the choice of tokens against probabilities by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.nn.generate import Greedy, Sampler, generate
from jaxrnn.nn.text import CharLM

V, B, L = 11, 4, 25


def model_and_params(cell="lstm", num_layers=2, **fields):
    model = CharLM(CELLS[cell], V, 5, 16, num_layers, INITIALIZERS["torch"], **fields)
    return model, model.init(jax.random.key(1), jnp.zeros((2, B), jnp.int32))["params"]


PROMPTS = np.random.default_rng(0).integers(V, size=(6, B))
LENGTHS = np.array([1, 6, 3, 2])


@functools.partial(jax.jit, static_argnums=(0, 2))
def continued(model, params, choose, prompts, lengths, seed=0):
    keys = jax.random.split(jax.random.key(seed), prompts.shape[1])
    carries = model.initial_carries(prompts.shape[1])
    return generate(model.stepper(params), carries, prompts, lengths, keys, choose, L)


@pytest.mark.parametrize(
    ("cell", "num_layers"), [("gru", 2), ("peephole", 2), ("mgu", 2), ("min_gru", 2), ("lstm", 1), ("lstm", 3)]
)
def test_logits_are_those_of_the_forward_pass(cell, num_layers):
    model, params = model_and_params(cell, num_layers)
    tokens, logits = continued(model, params, Sampler(0.5), PROMPTS, LENGTHS)
    carries, expected = model.apply({"params": params}, tokens[:-1])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert len(carries) == num_layers
    for b, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(tokens[:length, b], PROMPTS[:length, b])


@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        ({"layer_norm": True, "dropout": 0.5}, 1e-5),
        ({"compute_dtype": "bfloat16"}, 1e-2),
        ({"separator": 3}, 1e-5),
    ],
)
def test_generation_knows_norms_precision_and_documents(fields, tolerance):
    model, params = model_and_params(**fields)
    tokens, logits = continued(model, params, Sampler(0.5), PROMPTS, LENGTHS)
    np.testing.assert_allclose(logits, model.apply({"params": params}, tokens[:-1])[1], atol=tolerance)


def test_greedy_takes_the_largest_logit_behind_the_prompt():
    model, params = model_and_params()
    tokens, logits = map(np.asarray, continued(model, params, Greedy(), PROMPTS, LENGTHS))
    for b, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(tokens[length:, b], logits[length - 1 :, b].argmax(-1))


@pytest.mark.parametrize("tau", [1e6, 1e38])
def test_greedy_is_the_limit_of_large_tau(tau):
    model, params = model_and_params()
    by_tau, _ = continued(model, params, Sampler(tau), PROMPTS, LENGTHS)
    np.testing.assert_array_equal(by_tau, continued(model, params, Greedy(), PROMPTS, LENGTHS)[0])


def test_a_sequence_does_not_depend_on_what_else_is_in_the_batch():
    model, params = model_and_params()
    together, _ = continued(model, params, Sampler(1.0), PROMPTS, LENGTHS)
    garbage = np.where(np.arange(6)[:, None] < LENGTHS, PROMPTS, 0)
    np.testing.assert_array_equal(together, continued(model, params, Sampler(1.0), garbage, LENGTHS)[0])
    keys = jax.random.split(jax.random.key(0), B)
    for b in range(B):
        alone, _ = generate(
            model.stepper(params),
            model.initial_carries(1),
            PROMPTS[: LENGTHS[b], b : b + 1],
            LENGTHS[b : b + 1],
            keys[b : b + 1],
            Sampler(1.0),
            L,
        )
        np.testing.assert_array_equal(alone[:, 0], together[:, b])


def test_prompts_as_long_as_the_text_and_texts_of_one_token():
    model, params = model_and_params()
    keys = jax.random.split(jax.random.key(0), B)
    whole = (model.stepper(params), model.initial_carries(B), PROMPTS, np.full(B, 6), keys, Greedy(), 6)
    np.testing.assert_array_equal(generate(*whole)[0], PROMPTS)
    one = (model.stepper(params), model.initial_carries(B), PROMPTS[:1], np.ones(B, int), keys, Greedy(), 1)
    np.testing.assert_array_equal(generate(*one)[0], PROMPTS[:1])


LOGITS = np.array([0.3, -1.0, 2.0, 0.1, 1.1, -0.4])
DRAWS = 20_000


def counts(choose, logits=LOGITS):
    keys = jax.random.split(jax.random.key(5), DRAWS)
    return np.bincount(jax.jit(jax.vmap(choose, (0, None)))(keys, jnp.asarray(logits)), minlength=len(logits))


def softmax(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_of_tau_times_the_logits(tau):
    seen = counts(Sampler(tau))
    assert scipy.stats.chisquare(seen, DRAWS * softmax(tau * LOGITS)).pvalue > 0.01
    for other in {0.5, 1.0, 2.0} - {tau}:
        assert scipy.stats.chisquare(seen, DRAWS * softmax(other * LOGITS)).pvalue < 1e-6


def test_top_k_keeps_the_largest():
    probability = np.where(np.sort(LOGITS)[-3] <= LOGITS, softmax(2 * LOGITS), 0)
    seen = counts(Sampler(2.0, top_k=3))
    assert seen[probability == 0].sum() == 0
    kept = probability > 0
    assert scipy.stats.chisquare(seen[kept], DRAWS * probability[kept] / probability.sum()).pvalue > 0.01
    np.testing.assert_array_equal(counts(Sampler(1.0, top_k=100)), counts(Sampler(1.0, top_k=6)))
    assert (counts(Sampler(0.1, top_k=1)) > 0).tolist() == (LOGITS.max() == LOGITS).tolist()


@pytest.mark.parametrize(("top_p", "kept"), [(1e-9, 1), (0.5, 1), (0.55, 2), (0.8, 3), (0.99, 6), (1.0, 6)])
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    # The probabilities in order sum to 0.53, 0.75, 0.85, 0.93, 0.97, 1.
    order = np.argsort(-LOGITS)
    seen = counts(Sampler(1.0, top_p=top_p))[order]
    assert (seen > 0).tolist() == [i < kept for i in range(6)]
    chances = softmax(LOGITS)[order][:kept]
    assert kept == 1 or scipy.stats.chisquare(seen[:kept], DRAWS * chances / chances.sum()).pvalue > 0.01


def test_top_p_works_on_what_top_k_leaves():
    # The two largest alone have 0.71 and 0.29 of their own sum.
    assert (counts(Sampler(1.0, top_k=2, top_p=0.7)) > 0).sum() == 1
    assert (counts(Sampler(1.0, top_k=2, top_p=0.75)) > 0).sum() == 2
