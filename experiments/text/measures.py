"""Measures of generated texts, for the claims on the character LSTM (Soons 2020, Questions 2.1b and 2.1c).

They are pure functions of texts. A text is what the model generated, without its prompt. A measure that a text does not
determine is None, never NaN.
"""

import re

import numpy as np
from numpy.typing import NDArray

MIN_TAIL, MIN_REPEATS = 30, 3
"""The fewest characters and periods that a periodic tail covers.

Three repeats happen by chance or on purpose ('...', a row of stars, figures in a table); they end at about one in a
thousand places of the paper's two English books. A periodic tail of 30 characters ends nowhere in them.
"""
APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"

_WORD = re.compile(rf"\w+(?:[{APOSTROPHES}]\w+)*")
# A word that has no more than this between itself and an end of the text may be cut off.
_CUT = ("", *APOSTROPHES)


def periodic_tail(tokens_bl: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the loop that each text of `[B, L]` fell into: a tail that repeats exactly, up to the very last character.

    A tail has period p if each of its characters but the first p equals the one p before it. It is a loop if it covers
    at least `MIN_REPEATS` full periods and `MIN_TAIL` characters; the last round may be incomplete. If there are
    several such tails, the loop is the longest (a line of blanks may end a round of it), with its smallest period.

    A loop is missed if its period is longer than `L // MIN_REPEATS` or if it began too late, so short periods are found
    more often than long ones. Text that repeats while the network's state still drifts may break the loop later.

    Returns:
        period_b: `[B]`, characters in one round of the loop, 0 where there is no loop.
        start_b: `[B]`, index of the loop's first character, L where there is no loop.
    """
    texts, length = tokens_bl.shape
    backwards_bl = np.ascontiguousarray(tokens_bl[:, ::-1])
    period_b, start_b = np.zeros(texts, np.int64), np.full(texts, length)
    for period in range(1, length // MIN_REPEATS + 1):
        # The last column stands for the text's beginning, where every tail ends.
        differs_bl = np.ones((texts, length - period + 1), np.bool_)
        np.not_equal(backwards_bl[:, period:], backwards_bl[:, :-period], out=differs_bl[:, :-1])
        covered_b = period + differs_bl.argmax(axis=1)
        is_longer_b = (covered_b >= max(MIN_REPEATS * period, MIN_TAIL)) & (covered_b > length - start_b)
        period_b[is_longer_b] = period
        start_b[is_longer_b] = length - covered_b[is_longer_b]
    return period_b, start_b


def distinct_ngrams(text: str) -> float:
    """Share of a text's 4-grams that are distinct; the text has four characters or more.

    The share falls with the length of a text, so only texts of the same length should be compared.
    """
    ngrams = [text[start : start + 4] for start in range(len(text) - 3)]
    return len(set(ngrams)) / len(ngrams)


def words(text: str, whole: bool = False) -> list[str]:
    """The words in order, lower-cased: maximal runs of (Unicode) letters, with single apostrophes inside allowed.

    With `whole`, words that an end of the text may have cut off are left out.
    """
    # Otherwise `\w` would match digits, underscores and fractions.
    letters = "".join(character if character.isalpha() or character in APOSTROPHES else " " for character in text)
    return [
        match.group().lower()
        for match in _WORD.finditer(letters)
        if not whole or (text[: match.start()] not in _CUT and text[match.end() :] not in _CUT)
    ]


def word_share(text: str, book_words: frozenset[str]) -> float | None:
    """Share of the generated words, each occurrence counted, that occur in the book; None where no word is left.

    A word at either end of the text is left out, unless more than an apostrophe stands between it and the end. The last
    word may be cut off. The first may be the rest of the prompt's last word, as in "s the sisters were gone".
    """
    found = words(text, whole=True)
    return sum(word in book_words for word in found) / len(found) if found else None


def repeated_words(text: str, loop_start: int) -> int:
    """Number of distinct words in the text's loop, or in the whole text if it has none.

    Early samples "just repeat a small number of words (at most three)", later ones are "more complex" (Soons 2020,
    Question 2.1b, of greedy texts of 15, 30 and 120 characters). The words before a loop are not repeated and do not
    count. A text without a loop is at the other end of the same scale: 120 characters of the paper's English books have
    about 20 distinct words. Words at the ends are left out as in `word_share`; a loop's other rounds still have them.
    """
    return len(set(words(text[loop_start:] or text, whole=True)))
