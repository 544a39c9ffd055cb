"""The formal study's tests at other lengths, against the model on the samples alone."""

import jax
import numpy as np
import pytest

from configs.formal import Config
from experiments import formal
from jaxrnn.data.formal import TASKS
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.seeds import Stream, stream_key


@pytest.mark.parametrize(
    ("task", "fields"),
    [("baum_sweet", {"cell": "min_gru", "num_layers": 2, "layer_norm": True}), ("random_combinations", {})],
)
def test_accuracies_by_length_are_those_without_padding(task, fields):
    lengths = (2, 9, 4, 3)
    config = Config(task=task, digits=4, hidden_size=6, test_lengths=lengths, test_samples=50, **fields)
    training, model = formal.build(config), formal.build_model(config)
    params = training.init(jax.random.key(0))
    found = jax.jit(training.test)(params, (), 5, ())
    assert found.keys() == {"test_accuracy", "accuracy_by_length"}
    for i, (length, accuracy) in enumerate(zip(lengths, found["accuracy_by_length"], strict=True)):
        tokens_tb, labels_b = TASKS[task].sample(stream_key(5, Stream.EVAL, 1 + i), 50, length)
        logits = model.apply({"params": params}, tokens_tb)
        assert float(accuracy) == pytest.approx(float(np.mean(logits.argmax(-1) == labels_b)), abs=1e-6)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("digits", {"task": "random_combinations", "digits": 1}),
        ("test_lengths", {"task": "random_combinations", "test_lengths": (5, 1)}),
        ("dropout", {"dropout": 0.5}),
        ("recurrent_dropout", {"cell": "min_gru", "recurrent_dropout": 0.5}),
    ],
)
def test_what_a_task_or_cell_cannot_do_is_refused(field, fields):
    with pytest.raises(ConfigError) as error:
        formal.STUDY.validate(Config(**fields))
    assert error.value.field == field
