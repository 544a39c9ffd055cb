"""Loops straight from their definition, over all short texts and random ones, and the paper's samples."""

from itertools import product

import numpy as np
import pytest

from experiments.text import measures
from experiments.text.measures import MIN_TAIL, distinct_ngrams, periodic_tail, repeated_words, word_share, words

# What the paper printed, first its three greedy samples of 120 characters at step 2000 (Question 2.1b).
ROUND = "and when the wind "
EARLY = [
    ("was all the wind " + ROUND * 6)[:119],
    ("' Then the wind " + ROUND * 6)[:118],
    "ing the wind " + (ROUND * 6)[:-1],
]
QUOTE = "\N{RIGHT SINGLE QUOTATION MARK}"


def tail_of(text):
    (period,), (start,) = periodic_tail(np.array([[ord(character) for character in text]]))
    return period, start


def slow_tail(text, min_repeats, min_tail):
    """From the earliest start on, the first period for which every character of the tail equals the one before."""
    length = len(text)
    for start in range(length):
        covered = length - start
        for period in range(1, length // min_repeats + 1):
            if covered < min_repeats * period or covered < min_tail:
                continue
            if all(text[at] == text[at - period] for at in range(start + period, length)):
                return period, start
    return 0, length


def random_texts(alphabet, lengths, count):
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(alphabet), rng.choice(lengths))) for _ in range(count)]


class TestPeriodicTail:
    @pytest.mark.parametrize("min_repeats", [2, 3, 4])
    @pytest.mark.parametrize("min_tail", [1, 5])
    @pytest.mark.parametrize(("symbols", "length"), [(2, 10), (3, 6), (2, 1), (2, 3)])
    def test_all_short_texts(self, monkeypatch, symbols, length, min_tail, min_repeats):
        monkeypatch.setattr(measures, "MIN_TAIL", min_tail)
        monkeypatch.setattr(measures, "MIN_REPEATS", min_repeats)
        texts = list(product(range(symbols), repeat=length))
        found = periodic_tail(np.array(texts))
        expected = [slow_tail(text, min_repeats, min_tail) for text in texts]
        assert list(zip(*(array.tolist() for array in found), strict=True)) == expected

    def test_random_texts_that_end_in_random_loops(self):
        rng = np.random.default_rng(0)
        texts = np.empty((300, 100), int)
        for text in texts:
            symbols, period, start = rng.integers(1, 4), rng.integers(1, 45), rng.integers(0, 100)
            text[:] = rng.integers(0, symbols, 100)
            text[start:] = np.resize(rng.integers(0, symbols, period), 100 - start)
        found = periodic_tail(texts)
        assert list(zip(*found, strict=True)) == [slow_tail(list(text), 3, MIN_TAIL) for text in texts]
        period_b, _ = found
        looping = period_b > 0
        assert 50 < looping.sum() < 250
        assert np.unique(period_b[looping]).size > 15

    @pytest.mark.parametrize("text", EARLY)
    def test_the_papers_early_samples_repeat_18_characters(self, text):
        # "hen the wind and w" in the second, where "then" leads to the loop as "when" does.
        start = {"w": len("was all"), "'": len("' T"), "i": len("ing")}[text[0]]
        assert tail_of(text) == (len(ROUND), start)

    @pytest.mark.parametrize("character", ["a", " "])
    def test_one_character_for_ever(self, character):
        assert tail_of("It is" + "-" + character * MIN_TAIL) == (1, 6)
        assert tail_of("It is" + "-" + character * (MIN_TAIL - 1)) == (0, MIN_TAIL + 5)

    def test_a_loop_whose_rounds_end_in_blanks_is_not_one_of_blanks(self):
        line = "one line" + " " * MIN_TAIL
        assert tail_of(line * 3) == (len(line), 0)
        assert tail_of(line * 2) == (1, len(line) + 8)


class TestDistinctNgrams:
    def test_by_hand(self):
        assert distinct_ngrams("abababa") == 2 / 4
        assert distinct_ngrams("aaaaaaaa") == 1 / 5
        assert distinct_ngrams("abcd") == 1


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("'Pray get down,' she said.", ["pray", "get", "down", "she", "said"]),
            (f"Don't! It{QUOTE}s rock''n'roll", ["don't", f"it{QUOTE}s", "rock", "n'roll"]),
            ("veêren, Ünder ÉÉN-straße", ["veêren", "ünder", "één", "straße"]),
            ("31-14,361 a1b2 x_y ½z²", ["a", "b", "x", "y", "z"]),
            ("I.E.8. If", ["i", "e", "if"]),
            ("''' 12", []),
            ("", []),
        ],
    )
    def test_by_hand(self, text, expected):
        assert words(text) == expected


class TestWordShare:
    @pytest.mark.parametrize(
        ("text", "left"),
        [
            ("s the sisters were g", ["the", "sisters", "were"]),
            (" the sisters ", ["the", "sisters"]),
            ("' Then he.", ["then", "he"]),
            ("'twas don't don'", ["don't"]),
            ("''twas", []),
            ("a b", []),
            ("sisters", []),
            ("12 - 3", []),
            ("", []),
        ],
    )
    def test_words_that_may_be_cut_off_are_left_out(self, text, left):
        unknown = 0.0 if left else None
        assert word_share(text, frozenset()) == unknown
        assert word_share(text, frozenset(left)) == (1.0 if left else None)
        assert word_share(text, frozenset(words(text)) - frozenset(left)) == unknown

    def test_whole_words_are_those_that_no_letter_beside_the_text_can_change(self):
        for text in random_texts("ab' -", range(12), 2000):
            inside = [f"{before}{text}{after}" for before in ("x", "x'") for after in ("x", "'x")]
            whole = [word for word in words(text) if all(word in words(longer) for longer in inside)]
            # A word at an end may also stand elsewhere in the text; compare where all words differ.
            if len(set(words(text))) == len(words(text)):
                share = word_share(text, frozenset(whole))
                assert share == (1.0 if whole else None), text
                assert repeated_words(text, len(text)) == len(whole), text


class TestRepeatedWords:
    def test_what_led_to_the_loop_does_not_count(self):
        text = "once upon a time" + " no, yes," * 5
        assert tail_of(text) == (9, 16)
        assert repeated_words(text, 16) == 2
