"""Measures a character LSTM for the report's claims: ``python -m experiments.text_claims --workdir=runs/grimm``.

For every kept checkpoint it continues each character of the vocabulary and prompts cut from the book, greedily; for the
last one also random characters at the report's three tau, and the report's unfinished sentences. What each text is like
goes into ``claims.json`` of the run directory, beside the same measures of the book itself. Started again, it goes on
where it was. Expect a quarter of an hour for the report's model on two CPU cores. `experiments.text_report` judges the
claims by that file.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, Self

import jax
import numpy as np
from absl import flags
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError, model_validator
from tqdm import tqdm

from experiments import launch, text
from experiments.text_measures import distinct_ngrams, periodic_tail, repeated_words, word_share, words
from jaxrnn.arrays import Key, PyTree
from jaxrnn.data.text import Corpus, decode, encode, split
from jaxrnn.nn.generate import Choice, Greedy, Sampler
from jaxrnn.nn.text import CharLM
from jaxrnn.rundir.directory import RunDirectory, RunError, read_config
from jaxrnn.study.report import BOOKKEEPING
from jaxrnn.training.seeds import Stream, stream_key

CLAIMS = "claims.json"
SHORT, LONG = 120, 5000
"""Characters behind the prompt: the report's longest, and enough to see a loop of 1000 come round three times.

A loop is as long as the model has learnt to keep track: the report's has 740 characters after 40 000 steps.
"""
NGRAM = 4
"""Characters of the n-grams that are counted."""
SENTENCES = (
    "Sleeping beauty is",
    "Somewhere far away",
    "Once upon a time",
    "Democracy is",
    "President Trump is",
    "I vote for",
    "Evolutie is",
    "Menschen zijn",
    "Menschen stammen af van",
)
"""The report's unfinished sentences (Question 2.2), which it has continued to 80 characters in all with tau = 2."""
SENTENCE_LENGTH, SENTENCE_TAU = 80, 2.0

CENSUS: Literal["every character"] = "every character"
PROMPTS: Literal["prompts"] = "prompts"
RANDOM: Literal["random characters"] = "random characters"
BOOK: Literal["book"] = "book"
Start = Literal["every character", "prompts", "random characters", "book"]

_SHORTEST_PROMPT, _LONGEST_PROMPT = 5, 30
_BATCH = 250
_SHOWN, _SHOWN_CHARACTERS = 10, 500


# --- The file ---------------------------------------------------------------------------------------------------------


class Measures(BaseModel):
    """What each of some texts is like up to one length; the functions are those of `experiments.text_measures`.

    Attributes:
        period: of the loop that it ended in, 0 where there is none.
        loop_start: where the loop begins, the text's length where there is none.
        words: distinct words of the loop, or of the text where there is none.
        word_share: share of its words that occur in the book, None where it has no whole word.
        distinct_ngrams: share of distinct ones among its n-grams of `NGRAM` characters.
    """

    period: list[int]
    loop_start: list[int]
    words: list[int]
    word_share: list[float | None]
    distinct_ngrams: list[float]


class Example(BaseModel):
    """A text and what it continues."""

    prompt: str
    text: str


class Texts(BaseModel):
    """Texts that were generated in one way, or cut from the book.

    Attributes:
        step: of the checkpoint, None for the book.
        start: what they continue.
        tau: as in `jaxrnn.nn.generate.Sampler`, None for greedy texts and the book.
        measures: by the number of characters that were looked at, `SHORT` and `LONG`.
        loop: for each text of `LONG` characters which loop it ended in, counted from the most frequent one, which is 0;
            loops that differ by a rotation are the same; -1 where there is none.
        loops: the first of these loops.
        examples: some of the texts, by their first 500 characters.
    """

    step: int | None
    start: Start
    tau: float | None
    measures: dict[int, Measures]
    loop: list[int]
    loops: list[str]
    examples: list[Example]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if set(self.measures) != {SHORT, LONG}:
            raise ValueError(f"measures should be those of {SHORT} and {LONG} characters")
        lists = [self.loop, *(values for one in self.measures.values() for _, values in one)]
        if len({len(values) for values in lists}) > 1:
            raise ValueError("the lists should have an entry for each text")
        return self

    @property
    def piece(self) -> "Piece":
        """What it was generated as."""
        return Piece(self.step, self.start, self.tau)


class Completion(Example):
    """One of the report's sentences, continued after a step; the text has the prompt in it."""

    step: int


class Claims(BaseModel):
    """The contents of ``claims.json``, all from one run.

    Attributes:
        run: the lane's name.
        digest: SHA-256 of what the texts are a function of; a file with another one is not gone on with.
        texts: one entry for each piece of work that is done.
        completions: of the report's sentences.
    """

    run: str
    digest: str
    texts: list[Texts] = []
    completions: list[Completion] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        for start in (PROMPTS, RANDOM):  # These are compared one by one.
            if len({len(one.loop) for one in self.texts if one.start == start}) > 1:
                raise ValueError(f"texts from {start} should be as many each time")
        return self

    def find(self, step: int | None, start: Start, tau: float | None = None) -> Texts | None:
        """The texts that were generated so, if they were."""
        return next((one for one in self.texts if one.piece == (step, start, tau)), None)


class Piece(NamedTuple):
    """Texts to generate and measure, with the fields of `Texts`."""

    step: int | None
    start: Start
    tau: float | None


def pieces(steps: Sequence[int]) -> list[Piece]:
    """All that is measured of checkpoints at these steps, the last of which comes last."""
    greedy_ones = [Piece(step, start, None) for step in steps for start in (CENSUS, PROMPTS)]
    return [Piece(None, BOOK, None), *greedy_ones, *(Piece(steps[-1], RANDOM, tau) for tau in text.TAUS)]


# --- Texts ------------------------------------------------------------------------------------------------------------


class Cuts(NamedTuple):
    """What is taken from the book, and where random texts begin; the same for every checkpoint.

    Attributes:
        prompts: of the random length of 5 to 30 characters.
        characters: one each, uniformly random in the vocabulary.
        windows: `[n, LONG]`, the book itself.
    """

    prompts: list[NDArray[np.integer]]
    characters: list[NDArray[np.integer]]
    windows: NDArray[np.integer]


def cut(key: Key, tokens: NDArray[np.integer], num: int, num_characters: int) -> Cuts:
    """Cuts `num` of each from a text `[N]` of at least `LONG` characters, at uniformly random offsets."""
    length_key, prompt_key, start_key, window_key = jax.random.split(key, 4)
    lengths = np.asarray(jax.random.randint(length_key, (num,), _SHORTEST_PROMPT, _LONGEST_PROMPT + 1))
    offsets = np.asarray(jax.random.randint(prompt_key, (num,), 0, len(tokens) - _LONGEST_PROMPT + 1))
    places = np.asarray(jax.random.randint(window_key, (num,), 0, len(tokens) - LONG + 1))
    return Cuts(
        prompts=[tokens[start : start + length] for start, length in zip(offsets, lengths, strict=True)],
        characters=text.random_characters(start_key, num, num_characters),
        windows=tokens[places[:, None] + np.arange(LONG)],
    )


def continued(
    model: CharLM,
    params: PyTree,
    prompts: Sequence[NDArray[np.integer]],
    key: Key,
    choose: Choice,
    advance: Callable[[int], Any] = lambda texts: None,
) -> NDArray[np.int32]:
    """The `LONG` characters that follow each prompt, `[B, LONG]`; `advance` is told of texts as they are done."""
    # All batches are as long, so that they are one program.
    total = LONG + max(len(prompt) for prompt in prompts)
    keys = jax.random.split(key, len(prompts))
    rows = []
    for first in range(0, len(prompts), _BATCH):
        batch = list(prompts[first : first + _BATCH])
        tokens = text.continuations(model, params, batch, keys[first : first + _BATCH], choose, total)
        lines = np.asarray(tokens).T
        rows += [line[len(prompt) :][:LONG] for line, prompt in zip(lines, batch, strict=True)]
        advance(len(batch))
    return np.stack(rows)


def completions(model: CharLM, params: PyTree, characters: str, key: Key, step: int) -> list[Completion]:
    """The report's sentences, each continued once; what the vocabulary does not have is dropped."""
    known = ["".join(c for c in sentence if c in characters) for sentence in SENTENCES]
    prompts = [encode(sentence, characters) for sentence in known if sentence]
    if not prompts:
        return []
    keys = jax.random.split(key, len(prompts))
    tokens = text.continuations(model, params, prompts, keys, Sampler(SENTENCE_TAU), SENTENCE_LENGTH)
    lines = np.asarray(tokens).T
    return [
        Completion(step=step, prompt=decode(prompt, characters), text=decode(line, characters))
        for line, prompt in zip(lines, prompts, strict=True)
    ]


def measured(
    piece: Piece,
    prompts: Sequence[NDArray[np.integer]],
    tokens_bl: NDArray[np.integer],
    characters: str,
    book_words: frozenset[str],
) -> Texts:
    """Measures texts `[B, LONG]` that continue `prompts`."""
    texts = [decode(line, characters) for line in tokens_bl]
    by_length = {length: _measures(tokens_bl[:, :length], texts, book_words) for length in (SHORT, LONG)}
    loop, loops = distinct_loops(texts, by_length[LONG])
    shown = range(0, len(texts), max(1, len(texts) // _SHOWN))[:_SHOWN]
    return Texts(
        **piece._asdict(),
        measures=by_length,
        loop=loop,
        loops=loops[:_SHOWN],
        examples=[Example(prompt=decode(prompts[i], characters), text=texts[i][:_SHOWN_CHARACTERS]) for i in shown],
    )


def _measures(tokens_bl: NDArray[np.integer], texts: Sequence[str], book_words: frozenset[str]) -> Measures:
    length = tokens_bl.shape[1]
    tails = periodic_tail(tokens_bl)
    starts = tails.start_b.tolist()
    texts = [one[:length] for one in texts]
    shares = [word_share(one, book_words) for one in texts]
    return Measures(
        period=tails.period_b.tolist(),
        loop_start=starts,
        words=[repeated_words(one, start) for one, start in zip(texts, starts, strict=True)],
        word_share=[None if share is None else round(share, 3) for share in shares],
        distinct_ngrams=[round(distinct_ngrams(one, NGRAM) or 0.0, 3) for one in texts],
    )


def distinct_loops(texts: Sequence[str], measures: Measures) -> tuple[list[int], list[str]]:
    """Each text's loop by its number, -1 where there is none, and the loops, the most frequent first.

    Texts that run through the same round from different characters on are in the same loop: a loop is named by the
    first of its rotations in the order of the alphabet.
    """
    rounds = [
        _first_rotation(one[start : start + period])
        for one, start, period in zip(texts, measures.loop_start, measures.period, strict=True)
    ]
    loops = [loop for loop, _ in Counter(loop for loop in rounds if loop).most_common()]
    numbers = {loop: number for number, loop in enumerate(loops)}
    return [numbers.get(loop, -1) for loop in rounds], loops


def _first_rotation(loop: str) -> str:
    return min((loop[i:] + loop[:i] for i in range(len(loop))), default="")


# --- The run ----------------------------------------------------------------------------------------------------------


def digest(record: Mapping[str, Any], run: str, num: int) -> str:
    """Of a run's ``config.json`` without what leaves its texts as they are, and of how they are measured."""
    passing = {*BOOKKEEPING, "max_steps", "corpus"}
    settings = {
        "config": {name: value for name, value in record["config"].items() if name not in passing},
        "data": record["data"],
        "run": run,
        "texts": num,
        "lengths": [SHORT, LONG],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def measure(workdir: Path, run: str | None, num: int) -> Claims:
    """Does what is missing in ``claims.json`` of a run directory, and writes the file after each piece of it.

    Args:
        workdir: the run directory.
        run: which run, as in `jaxrnn.load`, where the directory holds several.
        num: prompts cut from the book, random characters, and windows of the book.

    Raises:
        RunError, CheckpointError, DataError: as in `experiments.text.restore` and `experiments.text.load_corpus`, or
            if no checkpoint of those that are looked for was kept, or the text is another one or too short.
    """
    _, model, _, characters, name = text.restore(workdir, run, None)
    with RunDirectory.resume(workdir) as directory:
        record = directory.record
        if record["experiment"] != text.NAME:
            raise RunError(f"{workdir}: holds imported weights; measured are runs that were trained here")
        config = SimpleNamespace(**record["config"])
        kept = _kept(workdir, name, sorted({*config.sample_steps, config.max_steps}))
        claims = _begun(workdir / CLAIMS, Claims(run=name, digest=digest(record, name, num)))
        corpus = _same_corpus(workdir, record, config)
        train = split(corpus.tokens, config.validation_fraction, config.test_fraction).train
        if len(train) < LONG:
            raise RunError(f"{workdir}: its text has {len(train)} characters, and {LONG} are needed")

        seed = next((int(part[5:]) for part in name.split(",") if part.startswith("seed=")), config.first_seed)
        cut_key, draw_key, completion_key = jax.random.split(stream_key(seed, Stream.EVAL), 3)
        cuts = cut(cut_key, train, num, len(characters))
        starts: dict[Start, list[NDArray[np.integer]]] = {
            CENSUS: list(np.arange(len(characters))[:, None]),
            PROMPTS: cuts.prompts,
            RANDOM: cuts.characters,
            BOOK: [cuts.windows[0, :0]] * num,
        }
        book_words = frozenset(words(decode(corpus.tokens, characters)))
        last = max(kept)
        missing = [piece for piece in pieces(list(kept)) if claims.find(*piece) is None]
        total = sum(len(starts[piece.start]) for piece in missing if piece.start != BOOK)

        def write() -> None:
            directory.write(CLAIMS, claims.model_dump(mode="json"), indent=None)  # A number a line is twice the size.

        with tqdm(total=total, unit="text", disable=None) as bar, jax.default_matmul_precision(config.precision):
            for piece in missing:
                bar.set_description(_described(piece))
                prompts, tokens_bl = starts[piece.start], cuts.windows
                if piece.step is not None:
                    choose, key = _choice(draw_key, piece.tau)
                    tokens_bl = continued(model, kept[piece.step], prompts, key, choose, bar.update)
                claims.texts.append(measured(piece, prompts, tokens_bl, characters, book_words))
                write()
            if all(one.step != last for one in claims.completions):
                claims.completions = completions(model, kept[last], characters, completion_key, last)
                write()
    return claims


def _same_corpus(workdir: Path, record: Mapping[str, Any], config: SimpleNamespace) -> Corpus:
    """The text that the run was trained on."""
    corpus = text.load_corpus(config)
    if (corpus.sha256, corpus.characters) != (record["data"]["sha256"], record["data"]["characters"]):
        raise RunError(f"{workdir}: the run was trained on another text than {config.corpus!r} is now")
    return corpus


def _choice(key: Key, tau: float | None) -> tuple[Choice, Key]:
    """How characters are chosen, and the key of all texts that are chosen so, which greedy ones do not look at."""
    if tau is None:
        return Greedy(), jax.random.fold_in(key, 0)
    return Sampler(tau), jax.random.fold_in(key, 1 + text.TAUS.index(tau))


def _kept(workdir: Path, run: str | None, steps: Sequence[int]) -> dict[int, PyTree]:
    """The parameters after those of `steps` that a checkpoint was kept of, in their order."""
    found = dict(_restored(workdir, run, steps))
    if not found:
        raise RunError(f"{workdir}: no checkpoint was kept of any of the steps {', '.join(map(str, steps))}")
    return found


def _restored(workdir: Path, run: str | None, steps: Sequence[int]) -> Iterator[tuple[int, PyTree]]:
    for step in steps:
        try:
            params = text.restore(workdir, run, step).params
        except RunError:  # The run is there, so it is the step that is not.
            continue
        yield step, params


def _begun(path: Path, fresh: Claims) -> Claims:
    """What is in the file; one that cannot be read is made anew.

    Raises:
        RunError: it holds what was measured of another run, or in another way.
    """
    try:
        found = Claims.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return fresh
    if found.digest != fresh.digest:
        raise RunError(f"{path}: holds other measurements ({found.run}, or other settings); move it away for new ones")
    return found


def _described(piece: Piece) -> str:
    if piece.step is None:
        return "the book"
    return f"step {piece.step}, {piece.start}, " + ("greedy" if piece.tau is None else f"tau {piece.tau:g}")


def main(argv: list[str]) -> None:
    """Measures what is missing."""
    del argv
    workdir, num = launch.workdir(), flags.FLAGS.prompts
    if num < 1:
        raise launch.UsageError(f"--prompts={num}: should be at least 1")
    read_config(workdir)  # Before JAX starts, which takes its time.
    launch.use_compilation_cache()
    try:
        claims = measure(workdir, launch.chosen_run(), num)
    except KeyboardInterrupt:
        launch.interrupted("the same command")
    steps = sorted({one.step for one in claims.texts if one.step is not None})
    print(f"{workdir / CLAIMS}: measured at steps {', '.join(map(str, steps))}; python -m experiments.report shows it")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of a run of experiments.text.")
    launch.define_chosen_run()
    flags.DEFINE_integer("prompts", 1000, "Texts of each kind but the census of first characters.")
    launch.define_data_dir()
    launch.run_main(main)
