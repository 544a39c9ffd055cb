"""The oracles are slices of NumPy arrays, one window at a time, and a real server on this machine."""

import functools
import hashlib
import http.server
import itertools
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data import text
from jaxrnn.data.files import DataError

TALE = b"The frog\r\nand the prince.\r"
TALE_SHA256 = hashlib.sha256(TALE).hexdigest()

draw_windows = jax.jit(text.windows, static_argnums=(2, 3))
read_streams = jax.jit(text.streams, static_argnums=(2, 3))


@pytest.fixture
def folders(tmp_path):
    """(data_dir, cache_dir): neither exists yet."""
    return tmp_path / "data", tmp_path / "cache"


@pytest.fixture
def tale(monkeypatch):
    """A book of our own, and no network: its address is a port that nobody listens to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setitem(text._BOOKS, "grimm", text._Book("tale.txt", TALE_SHA256))
    monkeypatch.setattr(text, "_BASE_ADDRESS", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"{address}tale.txt"


@pytest.fixture
def server(tmp_path, monkeypatch, tale):
    """The folder that is served, and the paths that were asked for."""
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requested.append(self.path)

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(text, "_BASE_ADDRESS", f"http://127.0.0.1:{httpd.server_port}/")
        yield folder, requested
        httpd.shutdown()
        thread.join()


def put(folder, content, name="grimm"):
    path = folder / "books" / f"{name}.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def load_error(*args):
    with pytest.raises(DataError) as caught:
        text.load(*args)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


# --- Corpora


def test_the_embedded_text_is_pythons_reference(folders):
    corpus = text.load("pydoc", "utf-8", None, folders[1])
    content = text.decode(corpus.tokens, corpus.characters)
    position = 0
    for topic in sorted(topics):
        position = content.index(topics[topic], position) + len(topics[topic])
    assert corpus.name == "pydoc"
    assert corpus.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert not folders[1].exists()


@pytest.mark.parametrize(
    ("name", "encoding", "num_characters"),
    [
        ("grimm", "latin-1", 91),
        ("grimm", "utf-8", 87),
        ("democracy", "latin-1", 86),
        ("democracy", "utf-8", 84),
        ("darwin", "latin-1", 115),
        ("darwin", "utf-8", 113),
    ],
)
def test_the_reports_books_have_as_many_characters_as_it_says(name, encoding, num_characters, folders):
    if "JAXRNN_DATA_DIR" not in os.environ:
        pytest.skip("JAXRNN_DATA_DIR is not set")
    data_dir = Path(os.environ["JAXRNN_DATA_DIR"])
    path = data_dir / "books" / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"JAXRNN_DATA_DIR has no books/{name}.txt")
    corpus = text.load(name, encoding, data_dir, folders[1])
    assert len(corpus.characters) == num_characters
    assert corpus.tokens.dtype == np.uint8
    assert text.decode(corpus.tokens, corpus.characters) == path.read_text(encoding=encoding)


def test_a_file_is_read_with_pythons_newlines_and_its_bytes_are_digested(tmp_path):
    path = tmp_path / "tale.txt"
    path.write_bytes(TALE)
    corpus = text.load(str(path), "utf-8", None, tmp_path)
    content = "The frog\nand the prince.\n"
    assert corpus.name == str(path)
    assert corpus.characters == "\n .Tacdefghinoprt"
    assert corpus.sha256 == TALE_SHA256
    np.testing.assert_array_equal(corpus.tokens, [corpus.characters.index(character) for character in content])


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (257, np.int32)])
def test_tokens_are_as_narrow_as_the_vocabulary_allows(size, dtype, tmp_path):
    content = "".join(map(chr, range(0x4E00, 0x4E00 + size)))
    (tmp_path / "large.txt").write_text(content[::-1], encoding="utf-16")
    corpus = text.load(str(tmp_path / "large.txt"), "utf-16", None, tmp_path)
    assert corpus.characters == content
    assert corpus.tokens.dtype == dtype
    np.testing.assert_array_equal(corpus.tokens, np.arange(size)[::-1])


@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_book_that_is_there_needs_neither_network_nor_pooch(place, tmp_path, folders, tale, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    put(tmp_path / place, TALE)
    corpus = text.load("grimm", "utf-8", *folders)
    assert (corpus.name, corpus.sha256) == ("grimm", TALE_SHA256)


def test_data_dir_comes_before_the_cache(folders, tale):
    data_dir, cache_dir = folders
    put(data_dir, TALE)
    put(cache_dir, b"damaged")
    assert text.load("grimm", "utf-8", data_dir, cache_dir).sha256 == TALE_SHA256
    assert str(cache_dir) in load_error("grimm", "utf-8", None, cache_dir)


def test_a_book_is_fetched_once_with_one_line_in_the_log(folders, server):
    import pooch

    served, requested = server
    (served / "tale.txt").write_bytes(TALE)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    pooch.get_logger().addHandler(handler)
    try:
        corpora = [text.load("grimm", "utf-8", *folders) for _ in range(2)]
    finally:
        pooch.get_logger().removeHandler(handler)
    path = folders[1] / "books" / "grimm.txt"
    assert path.read_bytes() == TALE
    assert requested == ["/tale.txt"]
    assert corpora[0].sha256 == corpora[1].sha256 == TALE_SHA256
    assert [record.getMessage() for record in records] == [
        f"Downloading data from '{text._BASE_ADDRESS}tale.txt' to file '{path}'."
    ]
    assert not folders[0].exists()


def test_another_book_from_the_server_is_not_kept(folders, server):
    served, _ = server
    (served / "tale.txt").write_bytes(TALE + b"!")
    message = load_error("grimm", "utf-8", *folders)
    assert f"{text._BASE_ADDRESS}tale.txt holds another file than the one known here" in message
    assert TALE_SHA256 in message
    assert files_in(folders[1]) == []


def test_a_missing_address_says_so_and_leaves_nothing(folders, server):
    with pytest.raises(DataError, match=r"--data_dir=DIR or JAXRNN_DATA_DIR=DIR \(404 [^\n]*\)$") as caught:
        text.load("grimm", "utf-8", *folders)
    assert caught.value.__cause__.response.raw.closed
    assert files_in(folders[1]) == []


@pytest.mark.parametrize("has_data_dir", [False, True])
def test_without_network_the_message_says_where_to_put_the_book(has_data_dir, folders, tale):
    data_dir, cache_dir = folders
    looked_for = [folder / "books" / "grimm.txt" for folder in ([data_dir] if has_data_dir else []) + [cache_dir]]
    message = load_error("grimm", "utf-8", data_dir if has_data_dir else None, cache_dir)
    assert f"there is no {' or '.join(map(str, looked_for))}, and it cannot be fetched" in message
    assert f"save {tale} as DIR/books/grimm.txt and give --data_dir=DIR or JAXRNN_DATA_DIR=DIR" in message
    assert files_in(cache_dir) == []


def test_a_data_dir_that_is_a_file_cannot_be_read(folders, tale):
    data_dir, cache_dir = folders
    data_dir.write_text("a file")
    message = load_error("grimm", "utf-8", data_dir, cache_dir)
    assert message == f"cannot read {data_dir / 'books' / 'grimm.txt'}: Not a directory"


def test_the_digest_is_checked_before_anything_else(folders, tale):
    path = put(folders[0], b"\xff")
    message = load_error("grimm", "no-such-encoding", *folders)
    assert f"{path} is another file than the one known here" in message
    assert hashlib.sha256(b"\xff").hexdigest() in message
    assert TALE_SHA256 in message


def test_an_unknown_name_lists_the_known_ones(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_error("grim", "utf-8", *folders) == (
        f"'grim' is neither a known text (pydoc, grimm, democracy, darwin) nor a file: there is no {tmp_path / 'grim'}"
    )


def test_a_directory_cannot_be_read(folders, tmp_path):
    assert load_error(str(tmp_path), "utf-8", *folders) == f"cannot read {tmp_path}: Is a directory"


def test_an_unreadable_file_cannot_be_read(folders, tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    path = tmp_path / "tale.txt"
    assert load_error(str(path), "utf-8", *folders) == f"cannot read {path}: Permission denied"


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (
            b"ab\xe9c",
            "utf-8",
            "{} is not utf-8: byte 0xe9 at offset 2; any file can be read with --config.encoding=latin-1",
        ),
        (
            b"ab\xe9c",
            "ascii",
            "{} is not ascii: byte 0xe9 at offset 2; any file can be read with --config.encoding=latin-1",
        ),
        (b"", "utf-8", "{} is empty: there is nothing to learn"),
        (b"\xff\xfe", "utf-16", "{} is empty: there is nothing to learn"),
        (
            b"a\\ud800b",
            "unicode_escape",
            "{} has half of a surrogate pair in unicode_escape, which no file can be written with",
        ),
        (b"\r\n\n", "utf-8", "{} has no character but '\\n': there is nothing to learn"),
    ],
)
def test_a_text_that_cannot_be_used_says_why(content, encoding, expected, tmp_path):
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    assert load_error(str(path), encoding, None, tmp_path) == f"the text {expected.format(repr(str(path)))}"


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_file_has(name, tmp_path):
    assert load_error(name, "utf-8", None, tmp_path) == f"no file has the name {name!r}"


@pytest.mark.parametrize("encoding", ["utf-9", "", "hex", "utf-8\0"])
def test_an_unknown_encoding_is_refused(encoding, tmp_path):
    (tmp_path / "some.txt").write_text("some text")
    message = load_error(str(tmp_path / "some.txt"), encoding, None, tmp_path)
    assert message == f"{encoding!r} is not a text encoding that Python knows, such as utf-8 or latin-1"


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
    with pytest.raises(
        text.UnknownCharactersError, match=r"^not in the vocabulary: '\\t', 'Z', '\\udcff', '😀'$"
    ) as caught:
        text.encode("ZebZa😀\t\udcff", "abe")  # A lone surrogate is what a shell's invalid byte becomes.
    assert caught.value.characters == "\tZ\udcff😀"


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


@pytest.mark.parametrize("fractions", [(-0.1, 0.0), (0.0, -0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ValueError, match=f"sum < 1, got {fractions[0]} and {fractions[1]}"):
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
    with pytest.raises(ValueError, match="a text of 3 characters is too short for 1 x 3 characters and the one that"):
        draw_windows(jax.random.key(3), jnp.arange(3, dtype=jnp.uint8), 2, 3)


def test_windows_under_vmap_equal_separate_calls():
    tokens = jnp.arange(100, dtype=jnp.uint8)
    together = jax.jit(jax.vmap(lambda seed: text.windows(jax.random.key(seed), tokens, 8, 5)))(np.arange(3))
    separate = [draw_windows(jax.random.key(seed), tokens, 8, 5) for seed in range(3)]
    for seed in range(3):
        jax.tree.map(np.testing.assert_array_equal, tuple(x[seed] for x in together), separate[seed])
    assert not np.array_equal(separate[0][0], separate[1][0])


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
    with pytest.raises(ValueError, match="a text of 15 characters is too short for 3 x 5 characters and the one that"):
        read_streams(0, jnp.arange(15, dtype=jnp.uint8), 3, 5)


def test_streams_under_vmap_equal_separate_calls():
    tokens = jnp.arange(61, dtype=jnp.int32)
    together = jax.jit(jax.vmap(lambda step: text.streams(step, tokens, 3, 5)))(np.arange(6))
    for step in range(6):
        separate = read_streams(step, tokens, 3, 5)
        jax.tree.map(np.testing.assert_array_equal, tuple(x[step] for x in together), separate)
