"""A tiny model trained here, whose texts are checked against its teacher-forced forward pass and against the book."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.text import Config
from experiments import launch, text, text_claims, text_report
from experiments.text_claims import BOOK, CENSUS, CLAIMS, PROMPTS, RANDOM, SHORT, Measures
from jaxrnn.data.text import encode
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import read_runs

BOOK_TEXT = "".join(f"The {size} frog met {number} princes.\n" for number in range(10, 30) for size in ("old", "wet"))
NUM = 6
LONG = 600
STEPS = (2, 4)
ALL = [(None, BOOK, None)] + [(step, start, None) for step in STEPS for start in (CENSUS, PROMPTS)]
ALL += [(4, RANDOM, tau) for tau in (0.5, 1.0, 2.0)]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of five steps that was measured."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "book.txt").write_text(BOOK_TEXT)
    sizes = {"num_layers": 1, "hidden_size": 8, "embedding_size": 4, "seq_length": 5, "batch_size": 2}
    steps = {"max_steps": 4, "eval_every": 2, "chunk_steps": 5, "sample_steps": (2, 1000)}
    config = Config(corpus=str(folder / "book.txt"), **sizes, **steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "use_compilation_cache", lambda: None)
        # A run's own samples are not looked at here, and take a minute to compile.
        patch.setattr(text, "samples", lambda *_: [{"tau": None, "length": 120, "text": "a sample"}])
        launch.run(text.EXPERIMENT, config, folder / "run", resume=False)
        patch.setattr(text_claims, "LONG", LONG)
        text_claims.measure(folder / "run", None, NUM)
        yield folder / "run"


@pytest.fixture
def claims(workdir):
    """The file's contents; what a test does to the file is undone."""
    written = (workdir / CLAIMS).read_bytes()
    yield json.loads(written)
    (workdir / CLAIMS).write_bytes(written)


@pytest.fixture
def generated(monkeypatch):
    """The number of texts of each piece that is generated; none really is."""
    batches = []

    def stand_still(model, params, prompts, keys, choose, length):
        batches.append(len(prompts))
        return np.zeros((length, len(prompts)), np.int32)

    monkeypatch.setattr(text, "continuations", stand_still)
    return batches


def pieces(claims):
    return [(one["step"], one["start"], one["tau"]) for one in claims["texts"]]


def find(claims, *piece):
    return claims["texts"][pieces(claims).index(piece)]


# --- A run ------------------------------------------------------------------------------------------------------------


def test_every_piece_is_in_the_file_once(claims):
    characters = sorted(set(BOOK_TEXT))
    assert pieces(claims) == ALL
    assert claims["run"].startswith("seed=0")
    for one in claims["texts"]:
        num = len(characters) if one["start"] == CENSUS else NUM
        lists = [one["loop"], *(values for part in one["measures"].values() for values in part.values())]
        assert len(lists) == 11
        assert {len(values) for values in lists} == {num}
        assert len(one["examples"]) == min(num, 10)
        assert {len(example["text"]) for example in one["examples"]} == {500}
    # The first of every second one.
    starts = [example["prompt"] for example in find(claims, 2, CENSUS, None)["examples"]]
    assert starts == characters[:: len(characters) // 10][:10]


def test_greedy_texts_are_the_most_likely_by_the_forward_pass(workdir, claims):
    for step in STEPS:
        _, model, params, characters, _ = text.restore(workdir, None, step)
        for example in find(claims, step, PROMPTS, None)["examples"][:2]:
            tokens = encode(example["prompt"] + example["text"], characters)
            _, logits = model.apply({"params": params}, jnp.asarray(tokens[:-1])[:, None])
            behind = np.asarray(logits)[len(example["prompt"]) - 1 :, 0]
            chosen = np.take_along_axis(behind, tokens[len(example["prompt"]) :, None], axis=1)[:, 0]
            np.testing.assert_allclose(chosen, behind.max(axis=1), atol=1e-5)


def test_texts_start_where_they_should(claims):
    windows = [example["text"] for example in find(claims, None, BOOK, None)["examples"]]
    prompts = [[example["prompt"] for example in find(claims, step, PROMPTS, None)["examples"]] for step in STEPS]
    randoms = [[example["prompt"] for example in find(claims, 4, RANDOM, tau)["examples"]] for tau in (0.5, 1.0, 2.0)]
    assert all(window in BOOK_TEXT for window in windows)
    assert prompts[0] == prompts[1]
    assert all(prompt in BOOK_TEXT and 5 <= len(prompt) <= 30 for prompt in prompts[0])
    assert randoms[0] == randoms[1] == randoms[2]
    assert all(len(character) == 1 for character in randoms[0])
    texts = [find(claims, 4, RANDOM, tau)["examples"][0]["text"] for tau in (0.5, 1.0, 2.0)]
    assert len(set(texts)) == 3


def test_the_book_is_measured_as_the_texts_are(claims):
    book = find(claims, None, BOOK, None)["measures"]
    assert book[str(SHORT)]["word_share"] == [1.0] * NUM
    assert book[str(LONG)]["period"] == [0] * NUM
    assert book[str(LONG)]["loop_start"] == [LONG] * NUM
    # "the", "old", "wet", "frog", "met", "princes"; figures are no words.
    assert book[str(LONG)]["words"] == [6] * NUM
    for length, part in book.items():
        # Each window is there once.
        places = [BOOK_TEXT.index(example["text"]) for example in find(claims, None, BOOK, None)["examples"]]
        texts = [BOOK_TEXT[place : place + int(length)] for place in places]
        grams = [len({one[i : i + 4] for i in range(len(one) - 3)}) / (len(one) - 3) for one in texts]
        assert part["distinct_ngrams"] == [round(share, 3) for share in grams]


def test_sentences_are_continued_with_the_characters_that_are_known(claims):
    known = set(BOOK_TEXT)
    expected = ["".join(c for c in sentence if c in known) for sentence in text_claims.SENTENCES]
    assert [one["prompt"] for one in claims["completions"]] == expected
    for one in claims["completions"]:
        assert (one["step"], len(one["text"])) == (4, 80)
        assert one["text"].startswith(one["prompt"])


# --- Started again ----------------------------------------------------------------------------------------------------


def test_nothing_is_done_twice(workdir, claims, generated):
    written = (workdir / CLAIMS).stat().st_mtime_ns
    text_claims.measure(workdir, 0, NUM)
    assert generated == []
    assert (workdir / CLAIMS).stat().st_mtime_ns == written


def test_what_is_missing_is_added(workdir, claims, generated):
    removed = claims["texts"].pop(ALL.index((2, PROMPTS, None)))
    (workdir / CLAIMS).write_text(json.dumps(claims))
    text_claims.measure(workdir, None, NUM)
    after = json.loads((workdir / CLAIMS).read_text())
    assert generated == [NUM]
    assert pieces(after) == [*pieces(claims), (2, PROMPTS, None)]
    assert [one["prompt"] for one in after["texts"][-1]["examples"]] == [one["prompt"] for one in removed["examples"]]
    # The stand-in writes the first character, a new line, over and over.
    assert after["texts"][-1]["loops"] == ["\n"]
    assert after["texts"][:-1] == claims["texts"]


def test_a_damaged_file_is_made_anew(workdir, claims, generated):
    claims["texts"][0]["loop"].pop()
    (workdir / CLAIMS).write_text(json.dumps(claims))
    text_claims.measure(workdir, None, NUM)
    size = len(set(BOOK_TEXT))
    assert generated == [size, NUM, size, NUM, NUM, NUM, NUM, len(text_claims.SENTENCES)]
    assert len(find(json.loads((workdir / CLAIMS).read_text()), 4, PROMPTS, None)["loop"]) == NUM


@pytest.mark.parametrize("change", ["number", "digest"])
def test_other_measurements_are_left_alone(workdir, claims, generated, change):
    if change == "digest":
        claims["digest"] = "0"
    (workdir / CLAIMS).write_text(json.dumps(claims))
    before = (workdir / CLAIMS).read_bytes()
    with pytest.raises(RunError, match=r"claims.json: holds other measurements \(seed=0.*move it away"):
        text_claims.measure(workdir, None, 3 if change == "number" else NUM)
    assert (workdir / CLAIMS).read_bytes() == before
    assert not generated


def test_batches_are_of_250_texts(workdir, claims, generated):
    (workdir / CLAIMS).unlink()
    text_claims.measure(workdir, None, 251)
    assert [size for size in generated if size in (250, 1)] == [250, 1] * 5


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_imported_weights_are_not_measured(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "imported")
    record = json.loads((workdir / "config.json").read_text()) | {"experiment": text.IMPORTED}
    (tmp_path / "imported" / "config.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="imported: holds imported weights"):
        text_claims.measure(tmp_path / "imported", None, NUM)


def test_a_text_that_has_moved_leaves_the_measurements_valid(workdir):
    record = json.loads((workdir / "config.json").read_text())
    moved, other = ({**record, "config": {**record["config"], name: "x"}} for name in ("corpus", "cell"))
    digests = [text_claims.digest(one, "seed=0", NUM) for one in (record, moved, other)]
    assert digests[0] == digests[1] != digests[2]


def test_runs_that_cannot_be_measured(workdir, claims, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="no such directory"):
        text_claims.measure(tmp_path / "nowhere", None, NUM)
    with pytest.raises(RunError, match="no such run has been saved; there are: seed=0"):
        text_claims.measure(workdir, "seed=7", NUM)
    with pytest.raises(RunError, match="no checkpoint was kept of any of the steps 7, 8"):
        text_claims._kept(workdir, None, (7, 8))

    config = json.loads((workdir / "config.json").read_text())
    book = workdir.parent / "book.txt"
    text._load_corpus.cache_clear()
    book.write_text(BOOK_TEXT.replace("princes", "princess"))
    try:
        with pytest.raises(RunError, match="the run was trained on another text than"):
            text_claims.measure(workdir, None, NUM)
    finally:
        book.write_text(BOOK_TEXT)
        text._load_corpus.cache_clear()
    monkeypatch.setattr(text_claims, "LONG", len(BOOK_TEXT) + 1)
    with pytest.raises(RunError, match=f"its text has {len(BOOK_TEXT)} characters, and {len(BOOK_TEXT) + 1} are"):
        text_claims.measure(workdir, None, NUM)
    assert json.loads((workdir / "config.json").read_text()) == config
    assert json.loads((workdir / CLAIMS).read_text()) == claims


def test_the_binary_says_what_is_wrong_in_one_line(binaries, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "palindrome", "config": {}}))
    done = binaries.run("text_claims", f"--workdir={tmp_path}")
    complaint = f"error: {tmp_path}: holds a run of experiment 'palindrome', not 'text'\n"
    assert (done.returncode, done.stderr, done.stdout) == (1, complaint, "")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_report_reads_what_was_written(workdir, claims):
    (run,) = read_runs(workdir, "this machine")
    assert (run.complete, run.remarks) == (True, [])
    found = text_report.collect([run])
    assert found.remarks == []
    assert [tuple(one.piece) for one in found.claims[workdir].texts] == ALL
    assert found.claims[workdir].model_dump(mode="json") == claims


# --- Pure parts -------------------------------------------------------------------------------------------------------


def test_cuts_are_slices_from_everywhere():
    tokens = np.arange(LONG + 3)
    cuts = text_claims.cut(jax.random.key(0), tokens, 2000, 7)
    lengths = [len(prompt) for prompt in cuts.prompts]
    assert set(lengths) == set(range(5, 31))
    for prompt in (*cuts.prompts, *cuts.windows[:50]):
        np.testing.assert_array_equal(prompt, np.arange(prompt[0], prompt[0] + len(prompt)))
    # A prompt of any length may begin where the longest one still fits; each of 474 offsets is missed with p = 0.015.
    offsets = {int(prompt[0]) for prompt in cuts.prompts}
    assert min(offsets) < 10
    assert LONG + 3 - 30 - 10 < max(offsets) <= LONG + 3 - 30
    assert {int(window[0]) for window in cuts.windows} == {0, 1, 2, 3}
    assert {int(character[0]) for character in cuts.characters} == set(range(7))


def test_loops_are_the_same_up_to_a_rotation():
    texts = ["x" + "cab" * 20, "abc" * 20, "no loop", "bca" * 20, "ba" * 30, "acb" * 20]
    period = [3, 3, 0, 3, 2, 3]
    start = [1, 0, 7, 0, 0, 0]
    none = [0] * 6
    measures = Measures(period=period, loop_start=start, words=none, word_share=none, distinct_ngrams=none)
    numbers, loops = text_claims.distinct_loops(texts, measures)
    assert (numbers, loops) == ([0, 0, -1, 0, 1, 2], ["abc", "ab", "acb"])
