"""The oracles are slices of NumPy arrays, one window at a time."""

import hashlib
import itertools
import os
from pathlib import Path
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data import text
from jaxrnn.data.files import DataError

draw_windows = jax.jit(text.windows, static_argnums=(2, 3))
read_streams = jax.jit(text.streams, static_argnums=(2, 3))


def load_error(*args):
    with pytest.raises(DataError) as caught:
        text.load(*args)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


# --- Corpora


def test_the_embedded_text_is_pythons_reference():
    corpus = text.load("pydoc", "utf-8")
    content = text.decode(corpus.tokens, corpus.characters)
    position = 0
    for topic in sorted(topics):
        position = content.index(topics[topic], position) + len(topics[topic])
    assert corpus.sha256 == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(("name", "latin_1", "utf_8"), [("grimm", 91, 87), ("democracy", 86, 84), ("darwin", 115, 113)])
def test_the_papers_books_have_as_many_characters_as_it_says(name, latin_1, utf_8):
    path = Path(os.environ.get("JAXRNN_DATA_DIR", "/nowhere"), "books", f"{name}.txt")
    if not path.exists():
        pytest.skip(f"JAXRNN_DATA_DIR has no books/{name}.txt")
    # Without the byte order mark, which is a character less in UTF-8.
    for encoding, num_characters in (("latin-1", latin_1), ("utf-8", utf_8 - 1)):
        corpus = text.load(name, encoding)
        assert len(corpus.characters) == num_characters
        assert corpus.tokens.dtype == np.uint8
        content = path.read_text(encoding=encoding).removeprefix("\ufeff")
        assert text.decode(corpus.tokens, corpus.characters) == content


def test_a_book_is_one_known_file_which_is_checked_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRNN_DATA_DIR", str(tmp_path))
    path = tmp_path / "books" / "grimm.txt"
    path.parent.mkdir()
    path.write_bytes(b"\xff")
    message = load_error("grimm", "no-such-encoding")
    assert str(path) in message
    assert hashlib.sha256(b"\xff").hexdigest() in message


def test_a_file_is_read_with_pythons_newlines_and_its_bytes_are_digested(tmp_path):
    path = tmp_path / "tale.txt"
    path.write_bytes(b"The frog\r\nand the prince.\r")
    corpus = text.load(str(path), "utf-8")
    assert corpus.characters == "\n .Tacdefghinoprt"
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = [corpus.characters.index(character) for character in "The frog\nand the prince.\n"]
    np.testing.assert_array_equal(corpus.tokens, expected)


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (257, np.int32)])
def test_tokens_are_as_narrow_as_the_vocabulary_allows(size, dtype, tmp_path):
    content = "".join(map(chr, range(0x4E00, 0x4E00 + size)))
    (tmp_path / "large.txt").write_text(content[::-1], encoding="utf-16")
    corpus = text.load(str(tmp_path / "large.txt"), "utf-16")
    assert corpus.characters == content
    assert corpus.tokens.dtype == dtype
    np.testing.assert_array_equal(corpus.tokens, np.arange(size)[::-1])


def test_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = load_error("grim", "utf-8")
    assert all(word in message for word in ("'grim'", "pydoc, grimm, democracy, darwin", str(tmp_path / "grim")))


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"ab\xe9c", "utf-8"),
        (b"ab\xe9c", "ascii"),
        (b"some text", "utf-9"),
        (b"some text", ""),
        (b"some text", "hex"),
        (b"some text", "utf-8\0"),
    ],
)
def test_a_text_in_another_encoding_is_refused(content, encoding, tmp_path):
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    assert f"not in the encoding {encoding!r}: " in load_error(str(path), encoding)


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [(b"", "utf-8", "''"), (b"\xff\xfe", "utf-16", "''"), (b"\r\n\n", "utf-8", "'\\n'")],
)
def test_a_text_with_nothing_to_learn_is_refused(content, encoding, expected, tmp_path):
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    assert f"no characters but {expected}" in load_error(str(path), encoding)


QUOTED = "\u201cThe frog\u201d, said h\u00e9.\n" * 20


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("given", ["utf-8", "latin-1"])
def test_the_encoding_that_fits_is_named(encoding, given, tmp_path):
    (tmp_path / "tale.txt").write_bytes(QUOTED.encode(encoding))
    is_refused = encoding.startswith(("utf-16", "utf-32")) or (encoding, given) == ("cp1252", "utf-8")
    if is_refused:
        message = load_error(str(tmp_path / "tale.txt"), given)
        assert f"encoding={encoding}" in message
        given = message.rpartition("=")[2]
    corpus = text.load(str(tmp_path / "tale.txt"), given)
    assert (text.decode(corpus.tokens, corpus.characters) == QUOTED) == (given != "latin-1")


def test_a_byte_order_mark_is_not_a_character(tmp_path):
    for encoding, mark in (("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        (tmp_path / "tale.txt").write_bytes(mark + QUOTED.encode(encoding))
        assert "\ufeff" not in text.load(str(tmp_path / "tale.txt"), encoding).characters


def test_a_tilde_is_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tale.txt").write_text("frog")
    assert text.load("~/tale.txt", "utf-8").characters == "fgor"


# --- Tokens


def test_encode_and_decode_are_inverse():
    characters = "\n aeé😀"
    content = "é\n😀a ee"
    tokens = text.encode(content, characters)
    np.testing.assert_array_equal(tokens, [4, 0, 5, 2, 1, 3, 3])
    assert tokens.dtype == np.int32
    assert text.decode(tokens, characters) == text.decode(jnp.asarray(tokens), characters) == content
    assert text.encode("", characters).shape == (0,)
    assert text.decode([], characters) == ""


def test_unknown_characters_are_listed():
    with pytest.raises(text.UnknownCharactersError, match=r"'\\t', 'Z', '\\udcff', '😀'"):
        text.encode("ZebZa😀\t\udcff", "abe")  # A lone surrogate is what a shell's invalid byte becomes.


# --- Splits


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [((0.0, 0.0), (101, 0, 0)), ((0.1, 0.05), (86, 10, 5)), ((0.0, 0.29), (72, 0, 29)), ((0.5, 0.0), (51, 50, 0))],
)
def test_splits_are_contiguous(fractions, sizes):
    tokens = np.arange(101, dtype=np.uint8)
    splits = text.split(tokens, *fractions)
    assert tuple(map(len, splits)) == sizes
    np.testing.assert_array_equal(np.concatenate([splits.train, splits.validation, splits.test]), tokens)
    assert {part.dtype for part in splits} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (float("nan"), 0.1)])
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions"):
        text.split(np.arange(10), *fractions)


# --- Windows


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_windows_are_slices_of_the_text(dtype):
    tokens = np.random.default_rng(0).integers(0, 200, 500).astype(dtype)
    inputs, targets = draw_windows(jax.random.key(0), jnp.asarray(tokens), 64, 7)
    assert inputs.shape == targets.shape == (7, 64)
    assert inputs.dtype == targets.dtype == np.int32
    slices = {tuple(tokens[offset : offset + 8].tolist()) for offset in range(500 - 7)}
    drawn = [(*column, target[-1]) for column, target in zip(inputs.T.tolist(), targets.T.tolist(), strict=True)]
    assert slices.issuperset(drawn)
    assert len(set(drawn)) > 32
    np.testing.assert_array_equal(inputs[1:], targets[:-1])


def test_offsets_are_uniform_over_all_windows():
    num_tokens, seq_length, num_samples = 12, 3, 20_000
    inputs, _ = draw_windows(jax.random.key(1), jnp.arange(num_tokens, dtype=jnp.uint8), num_samples, seq_length)
    counts = np.bincount(inputs[0])
    assert counts.size == num_tokens - seq_length
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_the_shortest_text_has_one_window():
    inputs, targets = draw_windows(jax.random.key(2), jnp.arange(4, dtype=jnp.uint8), 2, 3)
    np.testing.assert_array_equal(inputs, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(targets, [[1, 1], [2, 2], [3, 3]])
    with pytest.raises(ValueError, match="3 characters is too short"):
        draw_windows(jax.random.key(3), jnp.arange(3, dtype=jnp.uint8), 2, 3)


# --- Streams


@pytest.mark.parametrize(("num_tokens", "batch_size", "seq_length"), [(61, 3, 5), (60, 3, 5), (8, 1, 7), (50, 49, 1)])
def test_a_pass_reads_every_character_of_every_stream_once(num_tokens, batch_size, seq_length):
    tokens = np.arange(num_tokens, dtype=np.uint8)
    # As many windows a stream as leave a character to predict after the last.
    num_windows = max(n for n in range(100) if n * batch_size * seq_length <= num_tokens - 1)
    length = num_windows * seq_length
    steps = [read_streams(k, jnp.asarray(tokens), batch_size, seq_length) for k in range(2 * num_windows + 1)]

    for k, (inputs, targets, is_first) in enumerate(steps):
        assert inputs.dtype == targets.dtype == np.int32
        assert inputs.shape == targets.shape == (seq_length, batch_size)
        assert (is_first.dtype, is_first.shape) == (np.dtype(bool), ())
        assert bool(is_first) == (k in (0, num_windows, 2 * num_windows))
        start = (k % num_windows) * seq_length
        for stream in range(batch_size):
            here = stream * length + start
            np.testing.assert_array_equal(inputs[:, stream], tokens[here : here + seq_length])
            np.testing.assert_array_equal(targets[:, stream], tokens[here + 1 : here + seq_length + 1])

    read = np.concatenate([inputs for inputs, _, _ in steps[:num_windows]])
    np.testing.assert_array_equal(read.T.ravel(), np.arange(batch_size * length))
    for (_, targets, _), (inputs, _, is_first) in itertools.pairwise(steps):
        assert is_first or np.array_equal(targets[-1], inputs[0])


def test_a_text_without_one_window_a_stream_is_refused():
    with pytest.raises(ValueError, match="15 characters is too short"):
        read_streams(0, jnp.arange(15, dtype=jnp.uint8), 3, 5)
