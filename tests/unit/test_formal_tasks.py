"""Every label of every task against plain Python, at one length for all rows and at lengths that are data."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data.formal import TASKS

LONGEST, NUM_SAMPLES = 22, 200


def bits_of(tokens):
    assert set(tokens) <= {1, 2}
    return [token - 1 for token in tokens]


def palindrome(tokens, length):
    assert len(tokens) == 8 * -(-length // 2) + 1
    bits = "".join(" 01"[token] for token in tokens).lstrip()
    whole = bits + bits[0]
    assert whole == whole[::-1]
    assert " " not in whole
    return int(bits[0])


def baum_sweet(tokens, length):
    bits = "".join(" 01"[token] for token in tokens).lstrip()
    assert len(tokens) == 4 * length
    assert re.fullmatch("1[01]{3,}", bits)
    return int(not re.search(r"(?<!0)0(00)*(?!0)", bits))


def random_combinations(tokens, length):
    (missing,) = set(range(length)) - set(tokens)
    assert len(tokens) == length - 1
    return missing


def parity(tokens, length):
    return bits_of(tokens).count(1) % 2


def even_pairs(tokens, length):
    text = "".join(map(str, bits_of(tokens)))
    return int((len(re.findall("(?=01)", text)) + len(re.findall("(?=10)", text))) % 2 == 0)


def cycle_navigation(tokens, length):
    place = 0
    for token in tokens:
        place = (place + {1: 4, 2: 0, 3: 1}[token]) % 5
    return place


def modular_arithmetic(tokens, length):
    text = "".join(" 01234+-*"[token] for token in tokens)
    assert len(text) in (length, length - 1)
    assert re.fullmatch(r"\d([-+*]\d)*", text)
    return eval(text) % 5


def reverse_string(tokens, length):
    assert tokens[length:] == [0] * length
    return bits_of(tokens[:length])[::-1]


def duplicate_string(tokens, length):
    assert tokens[length:] == [0] * 2 * length
    return 2 * bits_of(tokens[:length])


def bracket_matching(tokens, length):
    assert len(tokens) in (length, length + 1)
    text, before = "".join(" ([)]"[token] for token in tokens), None
    while text != before:
        text, before = text.replace("()", "").replace("[]", ""), text
    return int(not text)


def copy_memory(tokens, length):
    symbols, rest = tokens[:10], tokens[10:]
    assert set(symbols) <= set(range(1, 9))
    assert rest == [0] * (length - 1) + [9] + [0] * 10
    return [symbol - 1 for symbol in symbols]


def adding(rows, length):
    values, marks = np.array(rows).T
    assert ((values >= 0) & (values < 1)).all()
    assert [marks[: length // 2].sum(), marks[length // 2 :].sum()] == [1, 1]
    assert set(marks) <= {0, 1}
    return float(values @ marks)


_REGULAR = (parity, even_pairs, cycle_navigation, modular_arithmetic)
_OTHERS = (palindrome, baum_sweet, random_combinations, bracket_matching)
_SEVERAL_OR_REAL = (reverse_string, duplicate_string, copy_memory, adding)
ORACLES = {one.__name__: one for one in [*_REGULAR, *_OTHERS, *_SEVERAL_OR_REAL]}


def check(name, batch, lengths):
    task, (inputs, labels) = TASKS[name], map(np.asarray, batch)
    for row, length in enumerate(lengths):
        own = inputs[: task.input_length(length), row].tolist()
        found = labels[: task.output_length(length), row] if task.output_length else labels[row]
        expected = ORACLES[name](own, length)
        assert found.tolist() == (pytest.approx(expected, abs=1e-6) if labels.dtype == np.float32 else expected)


def test_every_task_has_an_oracle():
    assert ORACLES.keys() == TASKS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_right_at_one_length(name):
    task = TASKS[name]
    length = LONGEST - 1
    check(name, task.sample(jax.random.key(0), NUM_SAMPLES, length), [length] * NUM_SAMPLES)


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_right_and_in_place_at_lengths_that_are_data(name):
    task = TASKS[name]
    lengths = np.random.default_rng(0).integers(task.min_length, LONGEST + 1, NUM_SAMPLES, np.int32)

    @jax.jit
    def draw(key):
        batch = task.sample(key, NUM_SAMPLES, lengths, LONGEST)
        return batch, task.at_positions(batch[1], lengths, LONGEST)

    (inputs, labels), (labels_tb, is_answer_tb) = jax.tree.map(np.asarray, draw(jax.random.key(1)))
    check(name, (inputs, labels), lengths.tolist())
    for row, length in enumerate(lengths.tolist()):
        end, count = task.input_length(length), task.output_length(length) if task.output_length else 1
        np.testing.assert_array_equal(np.flatnonzero(is_answer_tb[:, row]), np.arange(end - count, end))
        expected = labels[:count, row] if task.output_length else labels[row]
        np.testing.assert_array_equal(labels_tb[end - count : end, row], expected)


@pytest.mark.parametrize(
    "name", ["parity", "even_pairs", "cycle_navigation", "modular_arithmetic", "bracket_matching", "copy_memory"]
)
def test_labels_are_as_frequent_as_chance_says(name):
    _, labels = TASKS[name].sample(jax.random.key(3), 4000, 40)
    counts = np.bincount(np.asarray(labels).ravel())
    assert 1 / len(counts) == TASKS[name].chance(40)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_the_best_constant_guess_of_a_sum_is_right_by_chance():
    task = TASKS["adding"]
    _, labels = task.sample(jax.random.key(3), 100_000, 40)
    assert np.mean(np.abs(np.asarray(labels) - 1) < 0.04) == pytest.approx(task.chance(40), abs=0.004)


def test_balanced_words_are_equally_likely():
    tokens, labels = TASKS["bracket_matching"].sample(jax.random.key(0), 40_000, 6)
    balanced = Counter(map(tuple, np.asarray(tokens).T[np.asarray(labels) == 1].tolist()))
    assert len(balanced) == 5 * 2**3  # Catalan's number of shapes, and two kinds for each pair.
    assert scipy.stats.chisquare([*balanced.values()]).pvalue > 1e-3
