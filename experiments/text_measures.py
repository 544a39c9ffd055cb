"""Measures of generated text for the report's claims on its character LSTM (Questions 2.1b and 2.1c).

Pure functions of texts; the statistics are those of `jaxrnn.study.stats`. They describe what a model generated, so a
prompt cut from the book is left out of the text. What a text does not determine is None, never NaN.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_TAIL = 30
"""Characters that a periodic tail covers at least.

Three repeats alone happen by chance or on purpose ('...', a row of stars, figures in a table): about one in a thousand
places of the report's two English books ends some. None ends a periodic tail of 30 characters.
"""
APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"

_WORD = re.compile(rf"\w+(?:[{APOSTROPHES}]\w+)*")
# All that stands between a word and the end of a text which may have cut it off.
_CUT = ("", *APOSTROPHES)


class PeriodicTails(NamedTuple):
    """The loops that texts of length L ended in.

    Attributes:
        period_b: `[B]` int64, characters in one round of the loop, 0 where there is no loop.
        start_b: `[B]` int64, index of the loop's first character, L where there is no loop.
    """

    period_b: NDArray[np.int64]
    start_b: NDArray[np.int64]


def periodic_tail(tokens_bl: NDArray[np.integer], min_repeats: int = 3) -> PeriodicTails:
    """Finds the loop that each text fell into: a tail that repeats exactly, up to the very last character.

    A tail has period p if each of its characters but the first p equals the one p before it. It is a loop if it covers
    at least `min_repeats` full periods and `MIN_TAIL` characters; the last round may be incomplete. Of several such
    tails the longest is the loop (a line of blanks may end a round of it), and of its periods the smallest.

    This is what can be seen in L characters. Greedy text that has come back to the same state of the network repeats
    for ever, but text can also repeat while the state still drifts, and then break. A loop is missed if its period is
    longer than `L // min_repeats` or if it began too late: the share of looping texts is a lower bound but for those
    that would break, and the periods found lean to the short ones.

    Args:
        tokens_bl: `[B, L]`, texts of one length.
        min_repeats: full periods that a loop covers, 2 or more.

    Raises:
        ValueError: if `tokens_bl` is not `[B, L]` or `min_repeats` is below 2.
    """
    if tokens_bl.ndim != 2:
        raise ValueError(f"tokens must have shape [B, L], got {tokens_bl.shape}")
    if min_repeats < 2:
        raise ValueError(f"min_repeats must be at least 2, got {min_repeats}")
    texts, length = tokens_bl.shape
    backwards_bl = np.ascontiguousarray(tokens_bl[:, ::-1])
    period_b, start_b = np.zeros(texts, np.int64), np.full(texts, length)
    for period in range(1, length // min_repeats + 1):
        # The last column stands for the text's beginning, where every tail ends.
        differs_bl = np.ones((texts, length - period + 1), np.bool_)
        np.not_equal(backwards_bl[:, period:], backwards_bl[:, :-period], out=differs_bl[:, :-1])
        covered_b = period + differs_bl.argmax(axis=1)
        is_longer_b = (covered_b >= max(min_repeats * period, MIN_TAIL)) & (covered_b > length - start_b)
        period_b[is_longer_b] = period
        start_b[is_longer_b] = length - covered_b[is_longer_b]
    return PeriodicTails(period_b, start_b)


def distinct_ngrams(text: str, n: int) -> float | None:
    """Share of distinct ones among the text's character n-grams; None if the text is shorter than n.

    It falls with the length of a text: compare texts of one length.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    ngrams = [text[start : start + n] for start in range(len(text) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def words(text: str) -> list[str]:
    """The words in order, lower-cased: maximal runs of (Unicode) letters, with single apostrophes inside allowed."""
    return [match.group().lower() for match in _word_matches(text)]


def word_share(text: str, book_words: frozenset[str]) -> float | None:
    """Share of the generated words, each occurrence counted, that occur in the book; None where no word is left.

    A word at either end of the text is left out, unless more than an apostrophe stands between it and the end: the last
    may be cut off, and the first may be the rest of the prompt's last word, or of a word that the model took the
    first character to be within, as in the report's "s the sisters were gone".

    Args:
        text: what the model generated.
        book_words: the distinct `words` of the book.
    """
    whole = _whole_words(text)
    return sum(word in book_words for word in whole) / len(whole) if whole else None


def repeated_words(text: str, loop_start: int) -> int:
    """Number of distinct words in the text's loop, or in the whole text if it has none.

    Early samples "just repeat a small number of words (at most three)", later ones are "more complex", says the report
    (Question 2.1b) of greedy texts of 15, 30 and 120 characters. Measure the longest, which leave room for what led to
    the loop and for three rounds of a few words. What led to it is not repeated, and would count among all the text's
    words; 'the' and 'a' would count among the words that occur twice in text that has no loop. A text without a loop
    is the other end of the same scale: 120 characters of the report's English books have about 20 distinct words.
    Words at the ends are left out as in `word_share`; the other rounds of a loop still have them.

    Args:
        text: what the model generated.
        loop_start: of this text, from `periodic_tail`; the text's length where there is no loop.
    """
    return len(set(_whole_words(text[loop_start:] or text)))


def _whole_words(text: str) -> list[str]:
    """The words, lower-cased, that no end of the text may have cut off."""
    return [
        match.group().lower()
        for match in _word_matches(text)
        if text[: match.start()] not in _CUT and text[match.end() :] not in _CUT
    ]


def _word_matches(text: str) -> Iterator[re.Match[str]]:
    # In the original, `\w` would also match digits, underscores and fractions.
    letters = "".join(character if character.isalpha() or character in APOSTROPHES else " " for character in text)
    return _WORD.finditer(letters)
