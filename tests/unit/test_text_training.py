"""The character LSTM: trained in this process, its numbers against loops in NumPy, in float64."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.special

import jaxrnn
from configs.text import Config
from experiments import text
from jaxrnn.cells import CELLS, LSTMCarry
from jaxrnn.data.text import decode, encode
from jaxrnn.rundir import session
from jaxrnn.rundir.checkpoint import CheckpointStore, unflatten
from jaxrnn.rundir.fields import make_config
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.trainer import make_trainer

CHARACTERS = "\n .0123456789Labcefhinostuvxé"
TEXT = "".join(f"Le {size} café a {n} chats.\n" for n in range(10, 50) for size in ("bon", "vieux"))
VALIDATION, TEST = len(TEXT) - round(len(TEXT) * 0.05) - round(len(TEXT) * 0.1), len(TEXT) - round(len(TEXT) * 0.05)
PARTS = {"train": TEXT[:VALIDATION], "validation": TEXT[VALIDATION:TEST], "test": TEXT[TEST:]}
SMALL = {
    **{"hidden_size": 16, "embedding_size": 8, "dropout": 0.2, "seq_length": 8, "batch_size": 4, "carry_state": True},
    **{"learning_rate": 0.01, "max_steps": 60, "eval_every": 20, "chunk_steps": 13, "sample_steps": (7, 1000)},
    **{"validation_fraction": 0.1, "test_fraction": 0.05, "num_seeds": 2},
}
SAMPLE_STEPS = (7, 60)
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of two runs, and their results."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "chats.txt").write_text(TEXT, encoding="utf-8")
    config = Config(corpus=str(folder / "chats.txt"), **SMALL)
    return folder / "run", session.start(text.STUDY, config, folder / "run")


def rows(path, name, **where):
    found = [json.loads(line) for line in (path / name).read_text().splitlines()]
    return [row for row in found if all(row[key] == value for key, value in where.items())]


def texts_of(path, seed, step, **where):
    return [row["text"] for row in rows(path, "samples.jsonl", seed=seed, step=step, **where)]


# --- By hand ----------------------------------------------------------------------------------------------------------


def logits_by_hand(params, tokens_tb):
    """From zero states, with an LSTM in every layer."""
    params = jax.tree.map(np.float64, params)
    xs = params["embedding"][tokens_tb]
    for k in range(len(params) - 2):
        layer = CELLS["lstm"].params_type(**params[f"layer_{k}"])
        zeros = np.zeros((tokens_tb.shape[1], len(layer.w_h)))
        _, xs = oracles.unroll("lstm", layer, xs, LSTMCarry(h=zeros, c=zeros))
    return xs @ params["head"]["kernel"] + params["head"]["bias"]


def nats_by_hand(logits, targets):
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return scipy.special.logsumexp(logits, axis=-1) - chosen


def measured_by_hand(params, tokens):
    """Bits per character and accuracy of a text, read in up to 32 pieces."""
    pieces = min(32, len(tokens) - 1)
    length = (len(tokens) - 1) // pieces
    inputs, targets = (tokens[i : i + pieces * length].reshape(pieces, length).T for i in (0, 1))
    logits = logits_by_hand(params, inputs)
    return np.mean(nats_by_hand(logits, targets)) / np.log(2), np.mean(logits.argmax(-1) == targets)


LETTERS = "abcdefg"


@pytest.fixture
def build(tmp_path):
    """The training of two layers on a text of some tokens."""

    def build(tokens, **fields):
        path = tmp_path / "letters.txt"
        path.write_text(decode(tokens, LETTERS))
        return text.STUDY.build(Config(corpus=str(path), embedding_size=5, hidden_size=6, **fields))

    return build


@pytest.mark.parametrize("size", [2, 40, 2500])
def test_bits_per_character_are_those_of_the_whole_text(build, size):
    """From a piece of one character to pieces of two windows, the second cut short."""
    tokens = np.arange(size) % len(LETTERS)
    np.random.default_rng(size).shuffle(tokens)
    training = build(tokens, seq_length=1)
    params = training.init(jax.random.key(0))
    found = jax.jit(training.test)(params, (), 0, training.data)
    found = found["train_bits_per_character"], found["train_accuracy"]
    np.testing.assert_allclose(found, measured_by_hand(params, tokens), rtol=1e-5)


def test_each_document_is_read_by_itself():
    model = text.build_model(Config(document_separator="a", embedding_size=5, hidden_size=6), LETTERS)
    documents = ["bc", "adef", "agbb", "a", "afc"]
    tokens = encode("".join(documents), LETTERS)
    params = model.init(jax.random.key(0), tokens[:, None])["params"]
    _, logits = model.apply({"params": params}, tokens[:, None])
    alone = [logits_by_hand(params, encode(one, LETTERS)[:, None]) for one in documents]
    np.testing.assert_allclose(logits, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("separator", ["\x1e", "\\n", "ab"])
def test_what_is_no_character_of_the_text_separates_nothing(separator):
    with pytest.raises(ConfigError, match="document_separator"):
        text.build.check(Config(corpus="pydoc", document_separator=separator))


B, T, NUM_WINDOWS = 3, 5, 4
READ = B * T * NUM_WINDOWS
TOKENS = np.random.default_rng(0).integers(len(LETTERS), size=READ + 1 + 8)
STREAMS, TARGETS = (TOKENS[i : i + READ].reshape(B, -1).T for i in (0, 1))


def test_windows_with_carried_state_have_the_losses_of_one_long_unroll(build):
    training = build(TOKENS, batch_size=B, seq_length=T, carry_state=True, chunk_steps=8)
    trainer = make_trainer(training)
    state = jax.jit(trainer.init)(training.data, 0, {"learning_rate": 0.0})
    _, evaluations = jax.jit(trainer.chunk)(training.data, state, training.max_steps)
    nats = nats_by_hand(logits_by_hand(state.params, STREAMS), TARGETS)
    one_pass = nats.reshape(NUM_WINDOWS, T * B).mean(axis=1)
    # The state starts at zero again when the text does.
    np.testing.assert_allclose(evaluations.metrics["loss"], np.resize(one_pass, 9), rtol=1e-5)
    alone = nats_by_hand(logits_by_hand(state.params, STREAMS[T : 2 * T]), TARGETS[T : 2 * T]).mean()
    assert abs(alone - one_pass[1]) > 1e-3, "the carried state should be seen"


@pytest.mark.parametrize("cell", ["lru", "stack_rnn"])
def test_a_carried_state_goes_on_from_a_checkpoint_whatever_it_is_made_of(cell, build, tmp_path):
    """Complex numbers, and a stack, whose elements are not zero where it is empty."""
    training = build(TOKENS, cell=cell, num_layers=1, batch_size=B, seq_length=T, carry_state=True, chunk_steps=2)
    trainer = make_trainer(training)
    chunk = jax.jit(trainer.chunk)
    start = jax.jit(trainer.init)(training.data, 0, {"learning_rate": 0.01})
    halfway, _ = chunk(training.data, start, 2)
    with CheckpointStore(tmp_path / "checkpoints") as store:
        store.save(1, halfway, {})
        store.wait()
        restored = unflatten(halfway, store.read(1)[0])
    assert any(np.iscomplexobj(leaf) for leaf in jax.tree.leaves(restored.memory)) == (cell == "lru")
    found, expected = (chunk(training.data, state, 4) for state in (restored, halfway))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not np.array_equal(jax.tree.leaves(found[0].memory)[0], jax.tree.leaves(halfway.memory)[0])


def test_training_has_dropout(build):
    training = build(TOKENS, batch_size=B, seq_length=T, carry_state=True, dropout=0.5)
    params, memory = training.init(jax.random.key(0)), training.start_memory(0, training.data)
    batch = training.sample(jax.random.key(1), 0, training.data)
    loss, _ = jax.jit(training.loss)(params, memory, batch, jax.random.key(2), training.data)
    whole = nats_by_hand(logits_by_hand(params, STREAMS[:T]), TARGETS[:T]).mean()
    assert abs(loss - whole) > 1e-3


def test_the_learning_rate_decays(build):
    """While the gradient stays the same, Adam moves by the learning rate."""
    optimizer = build(TOKENS, learning_rate_decay=0.5).optimizer({"learning_rate": 0.01})

    def update(state, _):
        moved, state = optimizer.update(jnp.ones(2), state)
        return state, moved

    _, moved = jax.lax.scan(update, optimizer.init(jnp.ones(2)), None, 2001)
    np.testing.assert_allclose(moved[::1000, 0], [-0.01, -0.005, -0.0025], rtol=1e-3)


# --- A run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_records_what_it_measures(finished, seed):
    path, _ = finished
    metrics, validation = (rows(path, f"{name}.jsonl", seed=seed) for name in ("metrics", "validation"))
    assert [row["step"] for row in metrics] == [row["step"] for row in validation] == [0, 20, 40, 60]
    assert {row["run"] for row in metrics + validation} == {f"seed={seed}"}
    assert list(metrics[0]) == ["run", "seed", "step", "loss", "accuracy"]
    measured = ["bits_per_character", "accuracy", "test_bits_per_character", "test_accuracy"]
    assert list(validation[0]) == ["run", "seed", "step", *measured]
    assert metrics[0]["loss"] == pytest.approx(np.log(len(CHARACTERS)), abs=0.5), "nothing is known beforehand"
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.5


def test_results_are_measured_on_each_part_of_the_text(finished):
    path, results = finished
    assert [row["seed"] for row in results] == list(SEEDS)
    for row in results:
        assert (row["last_step"], row["stopped"]) == (60, False)
        *_, params = jaxrnn.load(path, seed=row["seed"])
        for name, part in PARTS.items():
            measured = row[f"{name}_bits_per_character"], row[f"{name}_accuracy"]
            np.testing.assert_allclose(measured, measured_by_hand(params, encode(part, CHARACTERS)), rtol=1e-5)
        last = rows(path, "validation.jsonl", seed=row["seed"])[-1]
        for name in ("bits_per_character", "accuracy"):
            assert last[name] == pytest.approx(row[f"validation_{name}"], rel=1e-6)
            assert last[f"test_{name}"] == pytest.approx(row[f"test_{name}"], rel=1e-6)


def test_the_weights_of_the_best_validation_are_kept(finished):
    path, _ = finished
    for seed in SEEDS:
        best = min(row["bits_per_character"] for row in rows(path, "validation.jsonl", seed=seed))
        *_, params = jaxrnn.load(path, seed=seed, step="best")
        bits, _ = measured_by_hand(params, encode(PARTS["validation"], CHARACTERS))
        assert bits == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_are_written_at_their_steps_and_at_the_end(finished, seed):
    path, _ = finished
    kinds = [(None, length) for length in (15, 30, 120)] + [(tau, 120) for tau in (0.5, 1.0, 2.0)]
    assert [row["step"] for row in rows(path, "samples.jsonl", seed=seed)] == [7] * 30 + [60] * 30
    for step in SAMPLE_STEPS:
        found = rows(path, "samples.jsonl", seed=seed, step=step)
        assert [(row["tau"], row["length"]) for row in found] == [kind for kind in kinds for _ in range(5)]
        assert all(len(row["text"]) == row["length"] and set(row["text"]) <= set(CHARACTERS) for row in found)
        greedy = texts_of(path, seed, step, tau=None, length=120)
        assert [t[:15] for t in greedy] == texts_of(path, seed, step, length=15)
        assert [t[:30] for t in greedy] == texts_of(path, seed, step, length=30)
        drawn = [texts_of(path, seed, step, tau=tau) for tau in (0.5, 1.0, 2.0)]
        assert {tuple(t[0] for t in texts) for texts in drawn} == {tuple(t[0] for t in greedy)}
    assert not set(texts_of(path, seed, 60)) & set(texts_of(path, seed, 7))


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_are_of_the_model_after_that_step(finished, seed):
    path, _ = finished
    for step in SAMPLE_STEPS:
        *_, params = jaxrnn.load(path, seed=seed, step=step)
        bits = {}
        for tau in (None, 0.5, 1.0, 2.0):
            texts = texts_of(path, seed, step, tau=tau, length=120)
            tokens = np.stack([encode(t, CHARACTERS) for t in texts], axis=1)
            logits = logits_by_hand(params, tokens[:-1])
            if tau is None:
                chosen = np.take_along_axis(logits, tokens[1:, :, None], axis=-1)[..., 0]
                np.testing.assert_allclose(chosen, logits.max(axis=-1), atol=1e-5)
                continue
            # A draw from softmax(tau * logits) costs its entropy on average; five deviations are let pass.
            log_p = scipy.special.log_softmax(tau * logits, axis=-1)
            surprise, entropy = nats_by_hand(log_p, tokens[1:]), -(np.exp(log_p) * log_p).sum(axis=-1)
            variance = (np.exp(log_p) * log_p**2).sum(axis=-1) - entropy**2
            assert abs((surprise - entropy).sum()) < 5 * np.sqrt(variance.sum())
            bits[tau] = nats_by_hand(logits, tokens[1:]).mean()
        assert bits[0.5] > bits[1.0] > bits[2.0]


# --- What does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "fields", "word"),
    [
        ("cell", {"cell": "transformer"}, "lstm"),
        ("validation_fraction", {"validation_fraction": 0.5, "test_fraction": 0.5}, "fractions"),
        ("validation_fraction", {"validation_fraction": 1e-4}, "leaves 0"),
        ("test_fraction", {"test_fraction": 5e-4}, "leaves 1"),
        ("seq_length", {"seq_length": 25, "validation_fraction": 0.99}, "too short"),
        ("seq_length", {"seq_length": 525, "batch_size": 4, "carry_state": True}, "too short"),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path, field, fields, word):
    (tmp_path / "abc.txt").write_text("abc" * 700)
    with pytest.raises(ConfigError) as error:
        text.STUDY.validate(make_config(Config, {"corpus": str(tmp_path / "abc.txt"), **fields}))
    assert error.value.field == field
    assert word in error.value.reason
