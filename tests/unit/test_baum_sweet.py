"""The oracle writes every binary form out as a string, and finds odd runs of zeros with a regular expression."""

import itertools
import re
from collections import Counter
from math import comb

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data.formal import baum_sweet

draw = jax.jit(baum_sweet.TASK.sample, static_argnums=(1, 2))


def label_of(bits):
    return 0 if re.search(r"(?<!0)0(00)*(?!0)", bits) else 1


def strings(tokens_tb):
    """One string a sample, padding as blanks."""
    return ["".join(" 01"[token] for token in column) for column in np.asarray(tokens_tb).T.tolist()]


def test_the_oracle_knows_the_published_sequence():
    # OEIS A086747, terms 1 to 20.
    published = [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0]
    assert [label_of(format(number, "b")) for number in range(1, 21)] == published


@pytest.mark.parametrize("digits", [1, 2])
def test_whole_sequences_have_the_enumerated_distribution(digits):
    num_samples = 100_000
    lengths = range(4, 4 * digits + 1)
    groups = {(length, label): [] for length in lengths for label in (0, 1)}
    for length in lengths:
        for rest in itertools.product("01", repeat=length - 1):
            bits = "1" + "".join(rest)
            groups[length, label_of(bits)].append(bits)

    tokens, labels = draw(jax.random.key(digits), num_samples, digits)
    sampled = strings(tokens)
    assert all(sequence.startswith((" ", "1")) for sequence in sampled)
    observed = Counter((sequence.lstrip(" "), label) for sequence, label in zip(sampled, labels.tolist(), strict=True))
    assert observed.keys() == {(bits, label) for (_, label), members in groups.items() for bits in members}

    counts = {
        (length, label): np.array([observed[bits, label] for bits in members])
        for (length, label), members in groups.items()
    }
    # Label and length are independent, fair and uniform; given both, every string is as likely as any other.
    assert scipy.stats.chisquare([group.sum() for group in counts.values()]).pvalue > 1e-3
    dispersion = sum(scipy.stats.chisquare(group).statistic for group in counts.values())
    assert scipy.stats.chi2.sf(dispersion, sum(group.size - 1 for group in counts.values())) > 1e-3


def test_labels_lengths_and_zeros_at_twenty():
    num_samples, max_bits = 20_000, 80
    task = baum_sweet.TASK
    tokens, labels = jax.jit(task.sample, static_argnums=(1, 2))(jax.random.key(20), num_samples, 20)
    assert (task.input_length(20), task.symbols(20)) == (max_bits, (3, 2))
    assert tokens.shape == (max_bits, num_samples)
    assert labels.shape == (num_samples,)
    assert tokens.dtype == labels.dtype == np.int32

    sampled = strings(tokens)
    bits = [sequence.lstrip(" ") for sequence in sampled]
    assert all(re.fullmatch("1[01]*", sequence) for sequence in bits)
    assert [label_of(sequence) for sequence in bits] == labels.tolist()
    assert scipy.stats.binomtest(int(labels.sum()), num_samples, 0.5).pvalue > 1e-3
    lengths = np.bincount([len(sequence) for sequence in bits], minlength=max_bits + 1)
    assert lengths[:4].sum() == 0
    assert scipy.stats.chisquare(lengths[4:]).pvalue > 1e-3

    # Number of zeros given label and length, in closed form: with label 1, what follows the leading one is a row of
    # "1" and "00", so that zeros/2 of the length - 1 - zeros/2 pieces are "00".
    for label in (0, 1):
        expected = np.zeros(max_bits)
        for length in range(4, max_bits + 1):
            with_label_1 = [comb(length - 1 - z // 2, z // 2) if z % 2 == 0 else 0 for z in range(length)]
            strings_of = with_label_1 if label else [comb(length - 1, z) - with_label_1[z] for z in range(length)]
            expected[:length] += np.array([count / sum(strings_of) for count in strings_of]) / (max_bits - 3)
        of_label = [sequence.count("0") for sequence in itertools.compress(bits, np.asarray(labels) == label)]
        expected *= len(of_label)
        observed = np.bincount(of_label, minlength=max_bits)
        assert observed[expected == 0].sum() == 0
        rare = expected < 10
        result = scipy.stats.chisquare(
            [*observed[~rare], observed[rare].sum()], [*expected[~rare], expected[rare].sum()]
        )
        assert result.pvalue > 1e-3
