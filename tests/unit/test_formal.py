"""The formal study's trainings, against the model on each sample alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.formal import LENGTHS, Config
from experiments import formal
from jaxrnn.data.formal import TASKS
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.seeds import Stream, stream_key


def judged(model, params, inputs, labels_kb):
    """Losses and shares of right answers ``[2, B]`` of sequences of one length without padding, by NumPy."""
    count = len(labels_kb)
    logits_kbc = np.asarray(model.apply({"params": params}, inputs, everywhere=True)[-count:])
    if labels_kb.dtype == np.float32:
        errors = logits_kbc[..., 0] - labels_kb
        return np.mean([errors**2, np.abs(errors) < 0.04], axis=1)
    chances = np.exp(logits_kbc) / np.exp(logits_kbc).sum(axis=-1, keepdims=True)
    values = -np.log(np.take_along_axis(chances, labels_kb[..., None], axis=-1)[..., 0])
    return np.mean([values, logits_kbc.argmax(axis=-1) == labels_kb], axis=1)


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("baum_sweet", {"cell": "min_gru"}),
        ("random_combinations", {"cell": "rnn", "num_layers": 2, "layer_norm": True}),
        ("reverse_string", {"cell": "rnn"}),
        ("adding", {"cell": "rnn", "bidirectional": True}),
    ],
)
def test_accuracies_by_length_are_those_of_each_sequence_alone(task, fields):
    config = Config(task=task, digits=4, hidden_size=6, test_lengths=(1, 9, 3), test_samples=10, **fields)
    training, model = formal.build(config), formal.build_model(config)
    params = training.init(jax.random.key(0))
    found = jax.jit(training.test)(params, (), 5, ())
    assert found.keys() == {"test_accuracy", "accuracy_by_length", "lengths", "score"}
    lengths = [length for length in config.test_lengths if length >= TASKS[task].min_length]
    assert found["lengths"].tolist() == lengths
    for i, (length, accuracy) in enumerate(zip(lengths, found["accuracy_by_length"], strict=True)):
        inputs, labels = TASKS[task].sample(stream_key(5, Stream.EVAL, 1 + i), 10, np.int32(length), 9)
        labels_kb = np.asarray(
            labels[: TASKS[task].output_length(length)] if TASKS[task].output_length else labels[None]
        )
        _, hits = judged(model, params, inputs[: TASKS[task].input_length(length)], labels_kb)
        assert float(accuracy) == pytest.approx(hits.mean(), abs=1e-6)
    assert float(found["score"]) == pytest.approx(float(found["accuracy_by_length"][lengths.index(9)]))


@pytest.mark.parametrize("task", ["duplicate_string", "adding", "parity"])
def test_the_loss_is_the_mean_over_sequences_of_drawn_lengths(task):
    config = Config(task=task, cell="rnn", digits=3, shortest=1, hidden_size=6, batch_size=24)
    training, model = formal.build(config), formal.build_model(config)
    params, key = training.init(jax.random.key(0)), jax.random.key(1)
    batch = training.sample(key, 0, ())
    loss, (metrics, _) = jax.jit(training.loss)(params, (), batch, key, ())
    inputs, labels_tb, weights_tb = map(np.asarray, batch)
    ends = len(weights_tb) - (weights_tb[::-1] > 0).argmax(axis=0)
    assert {*ends} == {TASKS[task].input_length(n) for n in range(TASKS[task].min_length, 4)}
    found = []
    for end in {*ends}:
        of = ends == end
        count = int((weights_tb[:, of] > 0).sum(axis=0)[0])
        found.append(judged(model, params, inputs[:end, of], labels_tb[end - count : end, of]))
    assert [float(loss), float(metrics["accuracy"])] == pytest.approx(np.concatenate(found, 1).mean(axis=1), rel=1e-5)


def test_what_stands_behind_a_sequence_has_no_effect():
    training = formal.build(Config(task="parity", cell="rnn", digits=6, shortest=1, hidden_size=6, batch_size=16))
    params, key = training.init(jax.random.key(0)), jax.random.key(1)
    inputs, labels, weights = training.sample(key, 0, ())
    is_behind = np.cumsum(weights[::-1], axis=0)[::-1] == 0
    assert is_behind.any()
    gradient = jax.jit(jax.value_and_grad(lambda p, batch: training.loss(p, (), batch, key, ())[0]))
    found, changed = (gradient(params, (x, labels, weights)) for x in (inputs, jnp.where(is_behind, 0, inputs)))
    jax.tree.map(np.testing.assert_array_equal, found, changed)


def test_the_default_setting_is_that_of_the_study():
    config = formal.STUDY.config(**formal.STUDY.arms.of_fields({"task": "parity", "cell": "rnn"}) | {"num_seeds": 10})
    assert (config.hidden_size, config.batch_size, config.max_steps + 1) == (64, 64, 10_000)
    assert (config.shortest, config.digits) == (1, 40)
    assert [*config.test_lengths] == [*range(1, 51), *range(60, 501, 10)]
    assert config.max_steps == LENGTHS.max_steps


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("digits", {"task": "random_combinations", "digits": 1}),
        ("shortest", {"task": "parity", "digits": 4, "shortest": 5}),
        ("test_lengths", {"task": "parity", "test_lengths": (3, 5, 3)}),
        ("dropout", {"dropout": 0.5}),
        ("recurrent_dropout", {"cell": "min_gru", "recurrent_dropout": 0.5}),
    ],
)
def test_what_a_task_or_cell_cannot_do_is_refused(field, fields):
    with pytest.raises(ConfigError) as error:
        formal.STUDY.validate(Config(**fields))
    assert error.value.field == field
