"""Texts of a tiny model, checked against its forward pass and against the book, and the files they leave."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from directories import row, write_directory

from configs.text import Config
from experiments.text import build, generate
from experiments.text.build import Restored, build_model
from experiments.text.records import BOOK, CENSUS, FOLDER, PROMPTS, RANDOM, SHORT, Kind, read_texts
from jaxrnn.data.text import encode
from jaxrnn.nn import language
from jaxrnn.nn.generate import Greedy, Sampler
from jaxrnn.rundir.directory import RunError

BOOK_TEXT = "".join(f"The {size} frog met {number} princes.\n" for number in range(10, 30) for size in ("old", "wet"))
CHARACTERS = "".join(sorted(set(BOOK_TEXT)))
NUM, LONG = 6, 300
ALL = [Kind(step, start) for step in (2, 4) for start in (CENSUS, PROMPTS)]
ALL += [*(Kind(4, RANDOM, tau) for tau in (0.5, 1.0, 2.0)), Kind(None, BOOK)]
SIZES = {"num_layers": 1, "hidden_size": 8, "embedding_size": 4}
MODEL = build_model(Config(**SIZES), CHARACTERS)
PARAMS = MODEL.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]


@pytest.fixture
def archived():
    """The steps whose parameters were archived."""
    return [2, 4]


@pytest.fixture
def workdir(tmp_path, monkeypatch, archived):
    """A run of four steps."""
    (tmp_path / "book.txt").write_text(BOOK_TEXT)
    config = Config(corpus=str(tmp_path / "book.txt"), max_steps=4, sample_steps=(2, 1000), **SIZES)
    data = build.describe_corpus(config)
    path = write_directory(tmp_path / "run", "text", dataclasses.asdict(config), [row(3, 4)], data=data)

    def restore(workdir, run, step):
        if step not in (None, *archived):
            raise RunError("no such run has been saved")
        return Restored(config, MODEL, PARAMS, CHARACTERS, "seed=3")

    monkeypatch.setattr(generate, "restore", restore)
    monkeypatch.setattr(generate, "LONG", LONG)
    return path


@pytest.fixture
def generated(monkeypatch):
    """The number of texts of each call that would generate; the stand-in writes the first character for ever."""
    batches = []

    def stand_still(model, params, prompts, keys, choose, length):
        batches.append(len(prompts))
        return np.zeros((length, len(prompts)), np.int32)

    for module in (generate, language):
        monkeypatch.setattr(module, "continuations", stand_still)
    return batches


# --- A run directory --------------------------------------------------------------------------------------------------


def test_every_kind_has_a_file_with_an_entry_for_each_text(workdir):
    assert generate.generate(workdir, None, NUM) == [2, 4]
    texts, completions, remarks = read_texts(workdir)
    assert ({one.kind for one in texts}, remarks) == ({*ALL}, [])
    names = {kind.file.partition("/")[2] for kind in ALL}
    assert {path.name for path in (workdir / FOLDER).iterdir()} == {*names, "completions.json"}
    for one in texts:
        lists = [values for values in dict(one).values() if isinstance(values, list) and values is not one.loops]
        assert {len(values) for values in lists} == {len(CHARACTERS) if one.start == CENSUS else NUM}
        assert one.run == "seed=3"
    book = next(one for one in texts if one.start == BOOK)
    # "the", "old", "wet", "frog", "met", "princes"; figures are no words.
    assert (book.known_words, book.words, book.period) == ([1.0] * NUM, [6] * NUM, [0] * NUM)
    known = ["".join(c for c in sentence if c in CHARACTERS) for sentence in generate.SENTENCES]
    assert (completions.step, [*completions.sentences]) == (4, known)
    assert all(text.startswith(start) and len(text) == 80 for start, text in completions.sentences.items())


def test_what_is_there_is_not_done_again(workdir, generated):
    generate.generate(workdir, None, NUM)
    size, sentences = len(CHARACTERS), len(generate.SENTENCES)
    assert generated == [size, NUM, size, NUM, NUM, NUM, NUM, sentences]
    (workdir / Kind(2, PROMPTS).file).unlink()
    before = {path: path.stat().st_mtime_ns for path in (workdir / FOLDER).iterdir()}
    generated.clear()
    generate.generate(workdir, "seed=3", NUM)
    assert generated == [NUM]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (workdir / Kind(2, PROMPTS).file).exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("config.json", '"sha256": "', '"sha256": "0', "another text"),
        ("results.json", "seed=3", "seed=4", "not trained here"),
        ("config.json", "", "", "no parameters were archived"),
    ],
)
def test_what_cannot_be_measured_is_refused(workdir, archived, generated, file, old, new, said):
    (workdir / file).write_text((workdir / file).read_text().replace(old, new))
    if not old:
        archived.clear()
    with pytest.raises(RunError, match=said):
        generate.generate(workdir, None, NUM)
    assert not (generated or (workdir / FOLDER).exists())


def test_a_text_that_is_too_short_and_other_numbers_of_texts_are_refused(workdir, generated, monkeypatch):
    generate.generate(workdir, None, NUM)
    with pytest.raises(RunError, match=f"other texts than {NUM + 1}"):
        generate.generate(workdir, None, NUM + 1)
    monkeypatch.setattr(generate, "LONG", len(BOOK_TEXT) + 1)
    with pytest.raises(RunError, match=f"{len(BOOK_TEXT)} characters"):
        generate.generate(workdir, None, NUM)


# --- Pure parts -------------------------------------------------------------------------------------------------------


def test_greedy_texts_are_the_most_likely_by_the_forward_pass():
    prompts = [encode(prompt, CHARACTERS) for prompt in ("The old", "frog met 12 princes")]
    texts = language.continue_prompts(MODEL, PARAMS, prompts, jax.random.key(1), Greedy(), 100)
    assert texts.shape == (2, 100)
    for prompt, text in zip(prompts, texts, strict=True):
        tokens = np.append(prompt, text)
        _, logits = MODEL.apply({"params": PARAMS}, jnp.asarray(tokens[:-1])[:, None])
        behind = np.asarray(logits)[len(prompt) - 1 :, 0]
        chosen = np.take_along_axis(behind, text[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(chosen, behind.max(axis=1), atol=1e-5)
    drawn = [language.continue_prompts(MODEL, PARAMS, prompts, jax.random.key(k), Sampler(1.0), 100) for k in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_prompts_are_slices_from_everywhere(monkeypatch):
    monkeypatch.setattr(generate, "LONG", LONG)
    tokens = np.arange(LONG + 3)
    starts = generate.sample_prompts(jax.random.key(0), tokens, 2000, 7)
    assert {len(prompt) for prompt in starts[PROMPTS]} == set(range(5, 31))
    for prompt in (*starts[PROMPTS], *starts[BOOK][:50]):
        np.testing.assert_array_equal(prompt, np.arange(prompt[0], prompt[0] + len(prompt)))
    # A prompt of any length may begin where the longest one still fits; each offset is missed with p < 0.001.
    offsets = {int(prompt[0]) for prompt in starts[PROMPTS]}
    assert min(offsets) < 10
    assert LONG + 3 - 30 - 10 < max(offsets) <= LONG + 3 - 30
    assert {int(window[0]) for window in starts[BOOK]} == {0, 1, 2, 3}
    assert {int(character[0]) for character in starts[RANDOM]} == set(range(7))
    assert [int(character[0]) for character in starts[CENSUS]] == [*range(7)]


def test_texts_are_measured_by_their_beginning_and_as_a_whole():
    text = ("- " + "the wet frog, " * 30)[: 2 * SHORT] + "the end " * 20
    characters = "".join(sorted(set(text)))
    tokens = encode(text, characters)[None]
    texts = generate.measure_texts("seed=0", Kind(2, PROMPTS), tokens, characters, frozenset(["the", "frog"]))
    assert (texts.short_period, texts.period, texts.loop) == ([14], [8], [0])
    assert (texts.words, texts.loops) == ([3], [" end the"])
    # Eight whole rounds, of which two words in three are known; the word that the 120 characters cut off is left out.
    assert texts.known_words == [pytest.approx(2 / 3, abs=0.02)]
    assert texts.short_ngrams == [pytest.approx(15 / (SHORT - 3), abs=5e-4)]


def test_loops_are_the_same_up_to_a_rotation():
    texts = ["x" + "cab" * 20, "abc" * 20, "no loop", "bca" * 20, "ba" * 30, "acb" * 20]
    numbers, loops = generate.number_loops(texts, [3, 3, 0, 3, 2, 3], [1, 0, 7, 0, 0, 0])
    assert (numbers, loops) == ([0, 0, -1, 0, 1, 2], ["abc", "ab", "acb"])
