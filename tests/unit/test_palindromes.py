"""The oracle writes every palindrome out as a string, with its probability."""

import itertools
from collections import Counter
from functools import reduce

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data.formal import palindrome

DIGIT_BITS = [format(digit, "b") for digit in range(9)]

draw = jax.jit(palindrome.TASK.sample, static_argnums=(1, 2))


def strings(tokens_tb, labels_b):
    """One string a sample, padding as blanks."""
    symbols = np.concatenate([tokens_tb, 1 + np.asarray(labels_b)[None]])
    return ["".join(" 01"[symbol] for symbol in column) for column in symbols.T.tolist()]


def enumerate_palindromes(digits):
    """Probability of every padded palindrome."""
    half_digits = -(-digits // 2)
    probabilities = Counter()
    for chosen in itertools.product(DIGIT_BITS, repeat=half_digits):
        bits = "".join(chosen)
        for half in (bits, bits[::-1]):
            probabilities[(half + half[::-1]).rjust(8 * half_digits + 2)] += 0.5 / 9**half_digits
    return probabilities


@pytest.mark.parametrize("digits", [1, 4, 5])
def test_whole_sequences_have_the_enumerated_distribution(digits):
    num_samples = 100_000
    probabilities = enumerate_palindromes(digits)
    observed = Counter(strings(*draw(jax.random.key(digits), num_samples, digits)))
    assert observed.keys() <= probabilities.keys()
    result = scipy.stats.chisquare(
        [observed[sequence] for sequence in probabilities],
        [num_samples * probability for probability in probabilities.values()],
    )
    assert result.pvalue > 1e-3


@pytest.mark.parametrize(("digits", "padded_length"), [(10, 42), (20, 82)])
def test_lengths_labels_and_structure_at_the_papers_sizes(digits, padded_length):
    num_samples, half_digits = 20_000, digits // 2
    task = palindrome.TASK
    tokens, labels = jax.jit(task.sample, static_argnums=(1, 2))(jax.random.key(digits), num_samples, digits)
    assert (task.input_length(digits), task.symbols(digits)) == (padded_length - 1, (3, 2))
    assert tokens.shape == (padded_length - 1, num_samples)
    assert labels.shape == (num_samples,)
    assert tokens.dtype == labels.dtype == np.int32

    sequences = [sequence.lstrip(" ") for sequence in strings(tokens, labels)]
    assert not any(" " in sequence for sequence in sequences)
    assert all(sequence == sequence[::-1] for sequence in sequences)

    # The number of bits of the half is a sum of independent widths; rare lengths are pooled with their neighbours.
    one_digit = np.bincount([len(bits) for bits in DIGIT_BITS]) / 9
    probabilities = reduce(np.convolve, [one_digit] * half_digits)
    observed = np.bincount([len(sequence) // 2 for sequence in sequences], minlength=probabilities.size)
    common = np.flatnonzero(num_samples * probabilities >= 10)
    pooled = np.clip(np.arange(probabilities.size), common[0], common[-1])
    result = scipy.stats.chisquare(
        np.bincount(pooled, observed)[common], num_samples * np.bincount(pooled, probabilities)[common]
    )
    assert result.pvalue > 1e-3

    # The last symbol is the first bit of the first digit (8 of 9 start with a one), or, reversed, the last bit of the
    # last digit (4 of 9 are odd).
    assert scipy.stats.binomtest(int(labels.sum()), num_samples, (8 / 9 + 4 / 9) / 2).pvalue > 1e-3
