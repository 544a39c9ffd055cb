"""Texts as characters: named corpora, and the batches that the character LSTM trains on (Soons 2020, Table 3)."""

import codecs
import hashlib
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxrnn.arrays import Array, Key
from jaxrnn.data.files import DataError, read_if_there, read_known

_EMBEDDED = "pydoc"

_BOOKS = ("grimm", "democracy", "darwin")
"""The books of Soons (2020), all in the public domain (Project Gutenberg)."""


class UnknownCharactersError(ValueError):
    """A text has characters outside of the vocabulary; the message lists them."""


class Corpus(NamedTuple):
    """A text as tokens.

    Attributes:
        characters: the vocabulary, the text's V distinct characters in sorted order; a character's index is its token.
        tokens: `[N]`, uint8 where V <= 256, else int32.
        sha256: hexadecimal digest of the bytes, before they are decoded.
    """

    characters: str
    tokens: np.ndarray
    sha256: str


class Splits(NamedTuple):
    """Contiguous parts of a text, in its order; `validation` and `test` may be empty."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(name: str, encoding: str) -> Corpus:
    r"""Reads a text; `\r\n` and `\r` become `\n`, as when Python opens a text file.

    Args:
        name: `pydoc` (the language reference in Python's standard library, in UTF-8); one of the books `grimm`,
            `democracy` and `darwin` of Soons (2020), the known file `books/NAME.txt` (see `jaxrnn.data.files`); or the
            path of a file.
        encoding: a text encoding of Python. Soons (2020) read the books as `latin-1`.

    Raises:
        DataError: there is no such text, a known book has other contents, the text cannot be read or decoded, or it has
            fewer than two distinct characters.
    """
    raw = _read(name)
    text = read_as(raw, encoding, f"the text {name!r}")
    characters = "".join(sorted(set(text)))
    if len(characters) < 2:
        raise DataError(f"the text {name!r} has no characters but {characters!r}: there is nothing to learn")
    tokens = encode(text, characters).astype(np.uint8 if len(characters) <= 256 else np.int32)
    return Corpus(characters, tokens, hashlib.sha256(raw).hexdigest())


def read_as(raw: bytes, encoding: str, what: str) -> str:
    r"""The text in a file's bytes, with `\n` for each line end and without a byte order mark.

    Raises:
        DataError: the text is in another encoding; the message calls it `what`, and names the encoding that fits.
    """
    fitting = _fitting_encoding(raw)
    try:
        if fitting.startswith(("utf-16", "utf-32")) and codecs.lookup(encoding).name[:6] != fitting[:6]:
            raise ValueError(f"it looks like {fitting}")
        text = raw.decode(encoding)
    except (LookupError, ValueError) as error:
        hint = f"its bytes fit encoding={fitting}"
        raise DataError(f"{what} is not in the encoding {encoding!r}: {error}; {hint}") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _fitting_encoding(raw: bytes) -> str:
    """The most likely encoding, by the byte order mark, by where zero bytes are, or the first that can decode it."""
    marks = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
    for encoding, beginnings in marks.items():
        if raw.startswith(beginnings):
            return encoding
    zeros = [raw[start::2].count(0) for start in (0, 1)]
    # Most texts in UTF-16 have zeros at every second byte, and none at the others.
    if max(zeros) > len(raw) / 4 and min(zeros) == 0:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    for encoding in ("utf-8", "cp1252"):
        try:
            raw.decode(encoding)
        except ValueError:
            continue
        return encoding
    return "latin-1"


def encode(text: str, characters: str) -> np.ndarray:
    """The tokens of a text, int32 `[n]`: the index of each character in the vocabulary `characters`.

    Raises:
        UnknownCharactersError: the text has other characters.
    """
    index = {character: token for token, character in enumerate(characters)}
    if unknown := set(text) - index.keys():
        raise UnknownCharactersError(f"not in the vocabulary: {', '.join(map(repr, sorted(unknown)))}")
    return np.fromiter(map(index.__getitem__, text), np.int32, count=len(text))


def decode(tokens: ArrayLike, characters: str) -> str:
    """The text of tokens `[n]` in `0..V-1`; the inverse of `encode`."""
    return "".join(characters[token] for token in np.asarray(tokens, np.int32).tolist())


def split(tokens: np.ndarray, validation_fraction: float, test_fraction: float) -> Splits:
    """Cuts a text `[N]` in three: training first, then validation, then test; the last two have `round(N * fraction)`.

    Raises:
        ValueError: the fractions leave nothing to train on.
    """
    if not validation_fraction + test_fraction < 1:
        raise ValueError(f"the fractions {validation_fraction} and {test_fraction} leave nothing to train on")
    test_start = len(tokens) - round(len(tokens) * test_fraction)
    validation_start = test_start - round(len(tokens) * validation_fraction)
    return Splits(tokens[:validation_start], tokens[validation_start:test_start], tokens[test_start:])


def windows(key: Key, tokens: Array, batch_size: int, seq_length: int) -> tuple[Array, Array]:
    """Draws windows of a text `[N]` at uniformly random offsets: inputs and targets, int32 `[T, B]`.

    The targets are the inputs shifted by one.

    Raises:
        ValueError: N < T + 1.
    """
    num_windows = len(tokens) - seq_length
    if num_windows < 1:
        raise ValueError(f"a text of {len(tokens)} characters is too short for {seq_length} and the one that follows")
    offsets_b = jax.random.randint(key, (batch_size,), 0, num_windows, jnp.int32)
    return _windows_at(offsets_b, tokens, seq_length)


def streams(step: Array | int, tokens: Array, batch_size: int, seq_length: int) -> tuple[Array, Array, Array]:
    """Reads a text `[N]` in order, for training with the state carried from window to window.

    The text is cut into B contiguous streams of equal length, a whole number of windows: `(N - 1) // (B * T)`. Step `k`
    reads window `k`, modulo that number, of every stream. The targets are the inputs shifted by one; the last target of
    a stream is the first character of the next stream. The rest of the text, at most B * T characters, is not read.

    Returns:
        Inputs and targets, int32 `[T, B]`, and whether the streams start again, bool `[]`, so that no state may be
        carried into this window.

    Raises:
        ValueError: N < B * T + 1.
    """
    num_windows = (len(tokens) - 1) // (batch_size * seq_length)
    if num_windows < 1:
        raise ValueError(
            f"a text of {len(tokens)} characters is too short for {batch_size} x {seq_length} and one more"
        )
    window = jnp.asarray(step, jnp.int32) % num_windows
    offsets_b = (jnp.arange(batch_size, dtype=jnp.int32) * num_windows + window) * seq_length
    return *_windows_at(offsets_b, tokens, seq_length), window == 0


def _windows_at(offsets_b: Array, tokens: Array, seq_length: int) -> tuple[Array, Array]:
    positions = offsets_b + jnp.arange(seq_length + 1, dtype=jnp.int32)[:, None]
    window = tokens[positions].astype(jnp.int32)
    return window[:-1], window[1:]


def _read(name: str) -> bytes:
    if name == _EMBEDDED:
        return "\n".join(topics[topic] for topic in sorted(topics)).encode()
    if name in _BOOKS:
        return read_known(f"books/{name}.txt")[1]
    if (raw := read_if_there(Path(name))) is None:
        known = ", ".join([_EMBEDDED, *_BOOKS])
        raise DataError(f"{name!r} is neither a known text ({known}) nor a file: there is no {Path(name).absolute()}")
    return raw
