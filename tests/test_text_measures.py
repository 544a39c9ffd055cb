"""Oracles: loops straight from the definitions, over all short texts and over random ones, and the report's samples."""

from itertools import product

import numpy as np
import pytest

from experiments import text_measures
from experiments.text_measures import MIN_TAIL, distinct_ngrams, periodic_tail, repeated_words, word_share, words

# What the report printed, first its three greedy samples of 120 characters at step 2000 (Question 2.1b).
ROUND = "and when the wind "
EARLY = [
    ("was all the wind " + ROUND * 6)[:119],
    ("' Then the wind " + ROUND * 6)[:118],
    "ing the wind " + (ROUND * 6)[:-1],
]
# A later one, and a sample at tau = 0.5 (Question 2.1c).
LATER = (
    "could not see the other, and the son was so sorrowful that he had been a little dwarf said, "
    "'I will give you a little"
)
GIBBERISH = (
    "xace and lanastone\ninsvered; this troublly reason to cows, by canduinlyo Manankind pair about.' "
    "Chanties (fox and villa"
)
QUOTE = "\N{RIGHT SINGLE QUOTATION MARK}"


def tail_of(text, **options):
    (period,), (start,) = periodic_tail(
        np.array([[ord(character) for character in text]], int).reshape(1, -1), **options
    )
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


def slow_words(text):
    """One character after the other; an apostrophe counts if it has a letter on both sides."""
    found, word = [], ""
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if character.isalpha() or (character in ("'", QUOTE) and before.isalpha() and after.isalpha()):
            word += character
        elif word:
            found.append(word.lower())
            word = ""
    return [*found, word.lower()] if word else found


def random_texts(alphabet, lengths, count):
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(alphabet), rng.choice(lengths))) for _ in range(count)]


class TestPeriodicTail:
    @pytest.mark.parametrize("min_repeats", [2, 3, 4])
    @pytest.mark.parametrize("min_tail", [1, 5])
    @pytest.mark.parametrize(("symbols", "length"), [(2, 10), (3, 6), (2, 1), (2, 3)])
    def test_all_short_texts(self, monkeypatch, symbols, length, min_tail, min_repeats):
        monkeypatch.setattr(text_measures, "MIN_TAIL", min_tail)
        texts = list(product(range(symbols), repeat=length))
        found = periodic_tail(np.array(texts), min_repeats)
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
        looping = found.period_b > 0
        assert 50 < looping.sum() < 250
        assert np.unique(found.period_b[looping]).size > 15

    @pytest.mark.parametrize("text", EARLY)
    def test_the_reports_early_samples_repeat_18_characters(self, text):
        # "hen the wind and w" in the second, where "then" leads to the loop as "when" does.
        start = {"w": len("was all"), "'": len("' T"), "i": len("ing")}[text[0]]
        assert tail_of(text) == (len(ROUND), start)

    def test_the_reports_later_sample_has_no_loop(self):
        assert tail_of(LATER) == (0, len(LATER))

    @pytest.mark.parametrize("character", ["a", " "])
    def test_one_character_for_ever(self, character):
        assert tail_of("It is" + "-" + character * MIN_TAIL) == (1, 6)
        assert tail_of("It is" + "-" + character * (MIN_TAIL - 1)) == (0, MIN_TAIL + 5)

    def test_a_period_of_a_third_of_the_text_is_the_longest_to_be_found(self):
        loop = "abcdefghijkl"
        assert tail_of(loop * 3) == (12, 0)
        assert tail_of("-" + loop * 3) == (12, 1)
        assert tail_of(loop[1:] + loop * 2) == (0, 35)

    def test_the_last_round_may_be_incomplete(self):
        assert tail_of("xyz" + "abcdefghijkl" * 3 + "abcde") == (12, 3)

    def test_the_repeats_are_exact_and_reach_the_end(self):
        loop = "abcdefghijkl" * 3
        assert tail_of(loop + "-") == (0, 37)
        assert tail_of(loop[:20] + "-" + loop[21:]) == (0, 36)
        assert tail_of(loop[:20] + "-" + loop[21:] + loop) == (12, 21)

    def test_a_loop_whose_rounds_end_in_blanks_is_not_one_of_blanks(self):
        line = "one line" + " " * MIN_TAIL
        assert tail_of(line * 3) == (len(line), 0)
        assert tail_of(line * 2) == (1, len(line) + 8)

    @pytest.mark.parametrize("text", ["", "a", "aaa"])
    def test_texts_too_short_for_a_loop(self, text):
        assert tail_of(text) == (0, len(text))

    def test_no_texts(self):
        assert [array.shape for array in periodic_tail(np.empty((0, 50), int))] == [(0,), (0,)]

    def test_refuses_what_is_no_batch_and_a_single_repeat(self):
        with pytest.raises(ValueError, match=r"shape \[B, L\]"):
            periodic_tail(np.zeros(5, int))
        with pytest.raises(ValueError, match="min_repeats"):
            tail_of("abc", min_repeats=1)


class TestDistinctNgrams:
    @pytest.mark.parametrize("n", [1, 2, 3, 7])
    def test_counts_of_random_texts(self, n):
        for text in random_texts("abc", range(7, 30), 50):
            count = len(text) - n + 1
            first_seen = [
                at for at in range(count) if not any(text.startswith(text[at : at + n], k) for k in range(at))
            ]
            assert distinct_ngrams(text, n) == len(first_seen) / count

    def test_by_hand(self):
        assert distinct_ngrams("abab", 2) == 2 / 3
        assert distinct_ngrams("abc", 3) == 1
        assert distinct_ngrams("aaaaa", 1) == 1 / 5

    def test_a_text_shorter_than_n_has_none(self):
        assert distinct_ngrams("ab", 3) is None
        assert distinct_ngrams("", 1) is None

    def test_refuses_n_below_one(self):
        with pytest.raises(ValueError, match="n must be at least 1"):
            distinct_ngrams("abc", 0)


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

    def test_random_texts(self):
        for text in random_texts(f"aÉß'{QUOTE} 1_½-", range(12), 2000):
            assert words(text) == slow_words(text), text


class TestWordShare:
    def test_the_reports_gibberish(self):
        # Neither "xace" nor "villa" counts: each may be part of a word.
        book = frozenset(
            words("And this is the reason: a pair of cows, the fox, to and fro, by and about. Xace, villa!")
        )
        assert word_share(GIBBERISH, book) == 10 / 16

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

    def test_every_occurrence_counts(self):
        assert word_share("- the the zzz the -", frozenset({"the"})) == 3 / 4


class TestRepeatedWords:
    @pytest.mark.parametrize("text", EARLY)
    def test_the_reports_early_samples_repeat_and_when_the_wind(self, text):
        _, start = tail_of(text)
        assert repeated_words(text, start) == 4

    def test_one_word(self):
        text = "E THE THE THE THE THE THE THE "  # the report's, of 30 characters
        assert tail_of(text) == (4, 0)
        assert repeated_words(text, 0) == 1

    def test_without_a_loop_all_words_count(self):
        # All but the first and the last of 24 words; "the" and "a" stand there twice.
        assert repeated_words(LATER, len(LATER)) == len(set(LATER.replace(",", "").replace("'", "").split()[1:-1]))

    def test_what_led_to_the_loop_does_not_count(self):
        text = "once upon a time" + " no, yes," * 5
        assert tail_of(text) == (9, 16)
        assert repeated_words(text, 16) == 2

    @pytest.mark.parametrize("text", ["", "a", "-" * MIN_TAIL, "a" * MIN_TAIL])
    def test_texts_without_a_whole_word(self, text):
        _, start = tail_of(text)
        assert repeated_words(text, start) == 0
