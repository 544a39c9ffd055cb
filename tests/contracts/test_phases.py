"""Sequences that begin alike, whose start is computed once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CELLS
from problems import draw_problem, weighted_sum

from jaxrnn.recurrence import Phase, last_carry, plan_phases, unroll

PHASES = (Phase(1, 2), Phase(3, 4), Phase(5, 7))
"""For five sequences of seven tokens."""
PADDING = [3, 6, 2, 4, 5]
"""Tokens 0 before each of them: sorted, that is 2, 3, 4, 5, 6."""


def draw_padded(padding, length=7, seed=0):
    tokens = np.random.default_rng(seed).integers(1, 6, size=(length, len(padding)), dtype=np.int32)
    return np.where(np.arange(length)[:, None] < padding, 0, tokens)


def cond_spy(monkeypatch):
    """What was decided by `jax.lax.cond`, outside of jit."""
    taken, cond = [], jax.lax.cond
    monkeypatch.setattr(
        jax.lax, "cond", lambda condition, *rest: (taken.append(bool(condition)), cond(condition, *rest))[1]
    )
    return taken


TOKENS = {
    "fits": (draw_padded(PADDING), True),
    "one row begins too early": (draw_padded([3, 6, 2, 3, 5]), False),
    "one differs": (np.where(np.arange(7)[:, None] == 1, [0, 0, 0, 0, 1], draw_padded(PADDING)), False),
    "all equal": (np.ones((7, 5), np.int32), True),
}


# Whether tokens fit is found out without the cell.
@pytest.mark.parametrize(
    ("name", "tokens", "fits"),
    [
        *(pytest.param("lstm", *case, id=f"lstm, {name}") for name, case in TOKENS.items()),
        *(pytest.param(name, *TOKENS["fits"], id=name) for name in ("gru_cho", "lru", "stack_rnn")),
    ],
)
def test_a_shared_start_changes_nothing(name, tokens, fits, x64, monkeypatch):
    params, _, _, embedding, _ = draw_problem(name, 1, ())

    def loss(params, embedding, walk):
        carry = walk(params, embedding)
        return weighted_sum(jax.tree.map(jnp.sin, carry)), carry

    def whole(params, embedding):
        return unroll(CELLS[name], params, tokens, embedding=embedding)[0]

    def shared(params, embedding):
        return last_carry(CELLS[name], params, tokens, embedding=embedding, phases=PHASES)

    both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    expected = both(params, embedding, whole)
    taken = cond_spy(monkeypatch)
    found = both(params, embedding, shared)

    assert taken == [fits]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), found, expected)


@pytest.mark.parametrize("padding", [PADDING, [0] * 5], ids=["fits", "does not fit"])
def test_second_derivatives_with_shared_starts(padding, x64):
    tokens = draw_padded(padding)
    params, _, _, embedding, _ = draw_problem("lstm", 1, ())

    def loss(embedding, phases):
        return jnp.sin(last_carry(CELLS["lstm"], params, tokens, embedding=embedding, phases=phases).h).sum()

    # Forward mode is refused, so it is reverse over reverse.
    hessian = jax.jit(jax.jacrev(jax.grad(loss)), static_argnums=1)
    np.testing.assert_allclose(hessian(embedding, PHASES), hessian(embedding, PHASES[-1:]), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("phases", [(Phase(4, 7),), (Phase(1, 2), Phase(5, 6))])
def test_phases_of_other_tokens_are_refused(phases):
    params, _, _, embedding, _ = draw_problem("lstm", 1, ())
    with pytest.raises(ValueError, match="last phase"):
        last_carry(CELLS["lstm"], params, draw_padded(PADDING), embedding=embedding, phases=phases)


def test_the_plan_is_what_all_batches_have_in_common():
    rng = np.random.default_rng(0)
    batches = np.stack([draw_padded(rng.integers(2, 9, size=32), length=12, seed=seed) for seed in range(5)])

    phases = plan_phases(batches)

    # The k-th shortest padding: from there on the k-th row is no longer as those behind it.
    paddings = np.sort((batches != 0).argmax(1), axis=1)
    assert phases == (Phase(2, paddings[:, 1].min()), Phase(8, paddings[:, 7].min()), Phase(32, 12))
    assert 2 <= phases[0].end < phases[1].end


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param(np.arange(2 * 6 * 32, dtype=np.int32).reshape(2, 6, 32), id="nothing in common"),
        pytest.param(np.ones((2, 6, 32), np.int32), id="everything"),
        pytest.param(np.zeros((2, 6, 3), np.int32), id="few rows"),
    ],
)
def test_without_starts_to_share_there_is_one_phase(batches):
    assert plan_phases(batches) == (Phase(batches.shape[2], 6),)
