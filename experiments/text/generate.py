"""Generates texts with a character LSTM and measures them: ``python -m experiments.text.generate --workdir=DIR``.

The parameters archived after each sample step continue every character of the vocabulary and prompts cut from the book,
greedily; the last ones also continue random characters at the paper's three tau, and the paper's unfinished sentences.
Measures of the texts go into the run directory's folder ``texts/``, a file for each step, start and tau, beside the
same measures of the book. Files that exist are kept, so the same command continues after an interruption. The paper's
model takes a quarter of an hour on two CPU cores.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from numpy.typing import NDArray
from tqdm import tqdm

from experiments import _cli
from experiments.text import records
from experiments.text.build import TAUS, describe_corpus, load_corpus, restore
from experiments.text.measures import distinct_ngrams, periodic_tail, repeated_words, word_share, words
from experiments.text.records import FOLDER, LONG, SHORT, Kind, Texts
from jaxrnn.arrays import Key, PyTree
from jaxrnn.data.text import decode, encode, split
from jaxrnn.nn.generate import Greedy, Sampler
from jaxrnn.nn.language import continuations, continue_prompts, random_characters
from jaxrnn.nn.text import CharLM
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.rundir.read import read_directory
from jaxrnn.training.seeds import Stream, stream_key

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
"""The paper's unfinished sentences (Question 2.2); it continued them to 80 characters in all with tau = 2."""
SENTENCE_LENGTH, SENTENCE_TAU = 80, 2.0

_SHORTEST_PROMPT, _LONGEST_PROMPT = 5, 30

Tokens = NDArray[np.integer]


def sample_prompts(key: Key, tokens: Tokens, num: int, num_characters: int) -> dict[str, list[Tokens]]:
    """Draws what texts continue, `num` of each random kind, from a text `[N]` of at least `LONG` characters.

    The prompts have a random length of 5 to 30 characters. The windows of the book have `LONG` characters and are not
    continued.
    """
    length_key, prompt_key, start_key, window_key = jax.random.split(key, 4)
    lengths = np.asarray(jax.random.randint(length_key, (num,), _SHORTEST_PROMPT, _LONGEST_PROMPT + 1))
    offsets = np.asarray(jax.random.randint(prompt_key, (num,), 0, len(tokens) - _LONGEST_PROMPT + 1))
    places = np.asarray(jax.random.randint(window_key, (num,), 0, len(tokens) - LONG + 1))
    return {
        records.CENSUS: list(np.arange(num_characters)[:, None]),
        records.PROMPTS: [tokens[start : start + length] for start, length in zip(offsets, lengths, strict=True)],
        records.RANDOM: random_characters(start_key, num, num_characters),
        records.BOOK: [tokens[start : start + LONG] for start in places],
    }


def complete_sentences(model: CharLM, params: PyTree, characters: str, key: Key) -> dict[str, str]:
    """The paper's sentences, each continued once; characters that the vocabulary does not have are dropped."""
    known = ["".join(c for c in sentence if c in characters) for sentence in SENTENCES]
    prompts = [encode(sentence, characters) for sentence in known if sentence]
    if not prompts:
        return {}
    keys = jax.random.split(key, len(prompts))
    tokens = continuations(model, params, prompts, keys, Sampler(SENTENCE_TAU), SENTENCE_LENGTH)
    lines = np.asarray(tokens).T
    return {decode(p, characters): decode(line, characters) for p, line in zip(prompts, lines, strict=True)}


# --- Measuring --------------------------------------------------------------------------------------------------------


def measure_texts(run: str, kind: Kind, tokens_bl: Tokens, characters: str, book_words: frozenset[str]) -> Texts:
    """Measures texts `[B, LONG]`, which do not include what they continue."""
    long = [decode(line, characters) for line in tokens_bl]
    short = [text[:SHORT] for text in long]
    period, start = (values.tolist() for values in periodic_tail(tokens_bl))
    short_period, short_start = (values.tolist() for values in periodic_tail(tokens_bl[:, :SHORT]))
    loop, loops = number_loops(long, period, start)
    known = [word_share(text, book_words) for text in short]
    return Texts(
        run=run,
        **kind._asdict(),
        period=period,
        short_period=short_period,
        loop_start=start,
        loop=loop,
        words=[repeated_words(text, at) for text, at in zip(short, short_start, strict=True)],
        known_words=[None if share is None else round(share, 3) for share in known],
        ngrams=[round(distinct_ngrams(text), 3) for text in long],
        short_ngrams=[round(distinct_ngrams(text), 3) for text in short],
        loops=loops[:10],
    )


def number_loops(texts: Sequence[str], periods: Sequence[int], starts: Sequence[int]) -> tuple[list[int], list[str]]:
    """The number of each text's loop, -1 where there is none, and the loops, the most frequent first.

    Two texts can enter the same loop at different characters, so a loop is named by its first rotation in alphabetical
    order.
    """
    rounds = [text[start : start + period] for text, period, start in zip(texts, periods, starts, strict=True)]
    named = [min((one[i:] + one[:i] for i in range(len(one))), default="") for one in rounds]
    loops = [loop for loop, _ in Counter(filter(None, named)).most_common()]
    numbers = {loop: number for number, loop in enumerate(loops)}
    return [numbers.get(loop, -1) for loop in named], loops


# --- A run directory --------------------------------------------------------------------------------------------------


def generate(workdir: Path, run: str | None, num: int) -> list[int]:
    """Generates and measures what a run directory lacks; returns the steps whose parameters were archived.

    Args:
        workdir: the run directory.
        run: which run, as in `jaxrnn.load`, where the directory holds several.
        num: number of prompts cut from the book, of random characters, and of windows of the book.

    Raises:
        RunError, CheckpointError, DataError: as in `restore` and `load_corpus`; or the run was trained elsewhere or on
            another text, no parameters were archived, or the folder holds other texts.
    """
    config, model, _, characters, name = restore(workdir, run, None)
    trained = next((one for one in read_directory(workdir).runs if one.name == name), None)
    if trained is None:
        raise RunError(f"{workdir}: {name} was not trained here")
    if describe_corpus(config) != trained.data:
        raise RunError(f"{workdir}: {name} was trained on another text than {config.corpus!r} is now")
    tokens = load_corpus(config).tokens
    train = split(tokens, config.validation_fraction, config.test_fraction).train
    if len(train) < LONG:
        raise RunError(f"{workdir}: its text has {len(train)} characters, and {LONG} are needed")
    archived: dict[int, PyTree] = {}
    for step in sorted({*config.sample_steps, config.max_steps}):
        with contextlib.suppress(RunError):  # The run is there, so the step is missing.
            archived[step] = restore(workdir, name, step).params
    if not archived:
        raise RunError(f"{workdir}: no parameters were archived after a sample step")

    last = max(archived)
    prompt_key, draw_key, sentence_key = jax.random.split(stream_key(trained.seed, Stream.EVAL), 3)
    starts = sample_prompts(prompt_key, train, num, len(characters))
    book_words = frozenset(words(decode(tokens, characters)))
    with RunDirectory(workdir) as directory, jax.default_matmul_precision(config.precision):
        (workdir / FOLDER).mkdir(exist_ok=True)
        done, completions, _ = records.read_texts(workdir)
        if any((one.run, len(one.loop)) != (name, len(starts[one.start])) for one in done):
            raise RunError(f"{workdir / FOLDER}: holds other texts than {num} of {name}; move it away for new ones")
        greedy = [Kind(step, start) for step in archived for start in (records.CENSUS, records.PROMPTS)]
        drawn = [Kind(last, records.RANDOM, tau) for tau in TAUS]
        for kind in (Kind(None, records.BOOK), *greedy, *drawn):
            if kind in {one.kind for one in done}:
                continue
            prompts = starts[kind.start]
            tqdm.write(f"{kind}: {len(prompts)} texts")
            if kind.step is None:
                tokens_bl = np.stack(prompts)
            else:
                choose = Greedy() if kind.tau is None else Sampler(kind.tau)
                key = jax.random.fold_in(draw_key, (None, *TAUS).index(kind.tau))
                tokens_bl = continue_prompts(model, archived[kind.step], prompts, key, choose, LONG)
            texts = measure_texts(name, kind, tokens_bl, characters, book_words)
            directory.write(kind.file, texts.model_dump(mode="json"), indent=None)  # Indented, it is twice the size.
        if completions is None or completions.step != last:
            sentences = complete_sentences(model, archived[last], characters, sentence_key)
            completions = records.Completions(run=name, step=last, sentences=sentences)
            directory.write(records.COMPLETIONS, completions.model_dump(mode="json"))
    return [*archived]


def main() -> None:
    """Generates and measures texts as the flags say."""
    workdir = _cli.workdir()
    try:
        steps = generate(workdir, _cli.chosen_run(), flags.FLAGS.prompts)
    except KeyboardInterrupt:
        _cli.interrupted("the same command")
    print(f"{workdir / FOLDER}: steps {', '.join(map(str, steps))}; python -m experiments.report --runs={workdir}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of a run of experiments.text.")
    _cli.define_chosen_run()
    flags.DEFINE_integer("prompts", 1000, "Texts of each kind except the census of first characters.", lower_bound=1)
    _cli.define_data_dir()
    _cli.run(main)
