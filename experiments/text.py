"""The character LSTM: ``python -m experiments.text --config=configs/text.py --config.corpus=grimm --workdir=DIR``."""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from configs.text import Config
from experiments import launch
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, torch_uniform
from jaxrnn.data import text
from jaxrnn.nn import losses
from jaxrnn.nn.generate import Choice, Greedy, Sampler, generate
from jaxrnn.nn.text import CharLM
from jaxrnn.rundir.checkpoint import CheckpointError, flatten, unflatten
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.restore import load_run
from jaxrnn.study import stats
from jaxrnn.training.loop import Study, Visits
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.trainer import Trainer, TrainState, adam, make_trainer, never

SAMPLES = "samples.jsonl"
VALIDATION = "validation.jsonl"
LENGTHS = (15, 30, 120)
TAUS = (0.5, 1.0, 2.0)
"""The report's, Questions 2.1b and 2.1c."""

_SAMPLES_EACH = 5
_TRAINING_CHARACTERS = 100_000
"""The beginning of the training text is enough to say how well it is known."""
_DIVIDED_HIDDEN = 256
_EVAL_STREAMS = 32
_EVAL_WINDOW = 64


# --- The text ---------------------------------------------------------------------------------------------------------


def load_corpus(config: Any) -> text.Corpus:
    """The text of a config, from ``--data_dir`` or ``JAXRNN_DATA_DIR``, the cache or the network.

    Raises:
        DataError: as in `jaxrnn.data.text.load`.
    """
    return _load_corpus(config.corpus, config.encoding, launch.data_dir())


@functools.cache
def _load_corpus(name: str, encoding: str, data_dir: Path | None) -> text.Corpus:
    return text.load(name, encoding, data_dir, launch.cache_dir())


def describe_corpus(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the text: enough to sample without it, and to know it again."""
    corpus = load_corpus(config)
    return {"sha256": corpus.sha256, "length": len(corpus.tokens), "characters": corpus.characters}


def check(config: Config) -> None:
    """Refuses names that do not exist, and a text that is too short for what is asked of it."""
    _check_names(config)
    corpus = load_corpus(config)
    try:
        splits = text.split(corpus.tokens, config.validation_fraction, config.test_fraction)
        jax.eval_shape(lambda: _sample_batch(config, jnp.asarray(splits.train), jax.random.key(0), 0))
    except ValueError as error:
        field = "validation_fraction" if "fractions" in str(error) else "seq_length"
        raise launch.bad_value(field, getattr(config, field), str(error)) from error
    for name, part in zip(("validation", "test"), splits[1:], strict=True):
        fraction = getattr(config, f"{name}_fraction")
        if fraction and len(part) < 2:
            reason = f"leaves {len(part)} of {len(corpus.tokens)} characters"
            raise launch.bad_value(f"{name}_fraction", fraction, reason)


def _check_names(config: Config) -> None:
    launch.check_runs(config)
    launch.choice("cell", config.cell, list(CELLS))


def _sample_batch(config: Config, tokens: Array, key: Key, step: Array | int) -> tuple[Array, ...]:
    """Inputs and targets ``[T, B]`` and, where the state is carried, whether the text starts anew."""
    if config.carry_state:
        return text.streams(step, tokens, config.batch_size, config.seq_length)
    return text.windows(key, tokens, config.batch_size, config.seq_length)


# --- The study --------------------------------------------------------------------------------------------------------


def build_model(config: Any, num_characters: int) -> CharLM:
    """The model of a config, a `Config` or what `jaxrnn.load` returns, for a vocabulary of that size."""
    return CharLM(
        cell=CELLS[config.cell],
        vocabulary_size=num_characters,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        initializer=torch_uniform,
        dropout=config.dropout,
    )


def plan_parts(config: Config, seeds_per_program: int) -> int:
    """Into how many parts a batch is divided for speed: halves where all weights of a product fit a core's cache.

    Not with dropout, so that its masks are those of every other way to arrange the runs.
    """
    fits = config.hidden_size <= _DIVIDED_HIDDEN and not config.dropout
    return launch.batch_parts(config, halves_pay=fits and launch.halves_may_pay(config, seeds_per_program))


def build_trainer(config: Config, model: CharLM, tokens: np.ndarray, parts: int = 1) -> Trainer:
    """Next-character prediction on windows of ``tokens [N]``, with a batch in `parts`."""
    on_device = jnp.asarray(tokens)

    def init_params(key: Key) -> PyTree:
        return model.init(key, jnp.zeros((config.seq_length, 1), jnp.int32))["params"]

    def loss(params: PyTree, carries: PyTree, batch: tuple[Array, ...], key: Key) -> tuple[Array, Any]:
        inputs_tb, targets_tb, *is_first = batch
        if config.carry_state:
            carries = jax.tree.map(lambda c: jnp.where(is_first[0], 0, c), carries)
        rngs = {"dropout": key}
        last, logits_tbv = model.apply({"params": params}, inputs_tb, carries or None, deterministic=False, rngs=rngs)
        metrics = {"accuracy": losses.accuracy(logits_tbv, targets_tb)}
        return losses.cross_entropy(logits_tbv, targets_tb), (metrics, last if config.carry_state else ())

    return make_trainer(
        init_params,
        lambda key, step: _sample_batch(config, on_device, key, step),
        loss,
        adam(config.clip_norm),
        never(),
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        init_memory=lambda _: model.initial_carries(config.batch_size) if config.carry_state else (),
        parts=parts,
        batch_axes=(1, 1, None) if config.carry_state else (1, 1),
        schedule=lambda step: config.learning_rate_decay ** (step / 1000),
    )


def bits_per_character(model: CharLM, params: PyTree, tokens: Array) -> tuple[Array, Array]:
    """Bits per character of a text ``[N]``, and the accuracy, with the state carried through it.

    It is read in up to 32 pieces at once, each from the zero state on; at most 31 characters at the end are left out.
    """
    streams = min(_EVAL_STREAMS, len(tokens) - 1)
    length = (len(tokens) - 1) // streams
    window = min(_EVAL_WINDOW, length)
    starts = jnp.arange(streams) * length

    def read(carries: PyTree, begin: Array) -> tuple[PyTree, tuple[Array, Array]]:
        position = begin + jnp.arange(window + 1)
        piece = tokens[starts + position[:, None]].astype(jnp.int32)  # Beyond the end, indices stay at the end.
        mask = jnp.broadcast_to((position[1:] <= length)[:, None], (window, streams))
        carries, logits = model.apply({"params": params}, piece[:-1], carries)
        nats, right = (f(logits, piece[1:], mask) * mask.sum() for f in (losses.cross_entropy, losses.accuracy))
        return carries, (nats, right)

    _, (nats, right) = jax.lax.scan(read, model.initial_carries(streams), jnp.arange(0, length, window))
    count = streams * length
    return nats.sum() / count / math.log(2), right.sum() / count


def build_study(config: Config) -> Study:
    """The study of a config."""
    corpus = load_corpus(config)
    model = build_model(config, len(corpus.characters))
    splits = text.split(corpus.tokens, config.validation_fraction, config.test_fraction)
    parts = {**splits._asdict(), "train": splits.train[:_TRAINING_CHARACTERS]}
    measured = {name: jnp.asarray(part) for name, part in parts.items() if len(part)}

    def evaluate(state: TrainState) -> dict[str, Array]:
        found = {}
        for name, tokens in measured.items():
            found[f"{name}_bits_per_character"], found[f"{name}_accuracy"] = bits_per_character(
                model, state.params, tokens
            )
        return found

    prefixes = {"": "validation", "test_": "test"} if "test" in measured else {"": "validation"}
    validate = jax.jit(functools.partial(bits_per_character, model))

    def samples_due(step: int) -> bool:
        return step in config.sample_steps or step == config.max_steps

    def visit(state: TrainState, step: int) -> dict[str, list[dict[str, Any]]]:
        params = jax.tree.map(lambda x: x[0], state.params)
        rows = {}
        if "validation" in measured and step % config.eval_every == 0:
            row: dict[str, float] = {}
            for prefix, part in prefixes.items():
                bits, accuracy = validate(params, measured[part])
                row |= {f"{prefix}bits_per_character": float(bits), f"{prefix}accuracy": float(accuracy)}
            rows[VALIDATION] = [row]
        if samples_due(step):
            seed = int(state.seed[0])
            rows[SAMPLES] = samples(model, params, corpus.characters, stream_key(seed, Stream.SAMPLE, step))
            longest = next(row for row in rows[SAMPLES] if row["length"] == LENGTHS[-1])
            tqdm.write(f"step {step}, seed {seed}: {longest['text']!r}")
        return rows

    lanes = config.num_seeds * len(config.learning_rate)
    seeds_per_program = launch.lanes_in_a_program(config.seeds_per_program, lanes, config.data_devices)
    return Study(
        trainer=build_trainer(config, model, splits.train, plan_parts(config, seeds_per_program)),
        evaluate=evaluate,
        summarize=summarize,
        max_steps=config.max_steps,
        seeds_per_program=seeds_per_program,
        data_devices=config.data_devices,
        visits=Visits(
            due=lambda step: samples_due(step) or ("validation" in measured and step % config.eval_every == 0),
            rows=visit,
            keeps=samples_due,
            files=(SAMPLES, VALIDATION),
        ),
    )


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What seeds say together; intervals are at 95 %."""
    measured = {name: [row[name] for row in runs if row[name] is not None] for name in runs[0] if "_bits_" in name}
    return {name: stats.mean(values).record() for name, values in measured.items()}


# --- Samples ----------------------------------------------------------------------------------------------------------


def continuations(
    model: CharLM, params: PyTree, prompts: list[np.ndarray], keys: Key, choose: Choice, length: int
) -> Array:
    """The tokens ``[L, B]`` of `jaxrnn.nn.generate.generate`, from prompts of tokens.

    It is compiled once for each model, kind of `choose`, `length`, number of prompts and length of the longest.
    """
    longest = max(len(prompt) for prompt in prompts)
    prompts_pb = np.stack([np.pad(prompt, (0, longest - len(prompt))) for prompt in prompts], axis=1)
    lengths_b = np.array([len(prompt) for prompt in prompts], np.int32)
    return _continuations(model, params, prompts_pb.astype(np.int32), lengths_b, keys, choose, length)


@functools.partial(jax.jit, static_argnames=("model", "length"))
def _continuations(
    model: CharLM, params: PyTree, prompts_pb: Array, lengths_b: Array, keys_b: Key, choose: Choice, length: int
) -> Array:
    carries = model.initial_carries(len(lengths_b))
    tokens, _ = generate(model.stepper(params), carries, prompts_pb, lengths_b, keys_b, choose, length)
    return tokens


def random_characters(key: Key, num: int, num_characters: int) -> list[np.ndarray]:
    """Prompts of one character, uniformly random in the vocabulary."""
    return list(np.asarray(jax.random.randint(key, (num, 1), 0, num_characters, jnp.int32)))


def samples(model: CharLM, params: PyTree, characters: str, key: Key) -> list[dict[str, Any]]:
    """The report's samples: greedy texts of three lengths, then its three tau, from the same first characters."""
    start_key, *draw_keys = jax.random.split(key, 2 + len(TAUS))
    starts = random_characters(start_key, _SAMPLES_EACH, len(characters))
    rows = []
    for tau, draw_key in zip((None, *TAUS), draw_keys, strict=True):
        choose = Greedy() if tau is None else Sampler(tau)
        tokens = continuations(model, params, starts, jax.random.split(draw_key, _SAMPLES_EACH), choose, LENGTHS[-1])
        texts = [text.decode(line, characters) for line in np.asarray(tokens).T]
        for length in LENGTHS if tau is None else LENGTHS[-1:]:
            rows += [{"tau": tau, "length": length, "text": t[:length]} for t in texts]
    return rows


class Restored(NamedTuple):
    """A trained or imported model; the parameters are as nested dicts of NumPy arrays, `run` is the lane's name."""

    config: Config
    model: CharLM
    params: PyTree
    characters: str
    run: str


def restore(workdir: Path, run: str | None, step: int | None) -> Restored:
    """The model, its parameters and its vocabulary from a run directory; `run` and `step` as in `jaxrnn.load`.

    Raises:
        RunError, CheckpointError: as in `jaxrnn.load`, or its parts do not fit each other.
        UsageError: its config is none that this version takes.
    """
    record = launch.of_experiment((NAME, IMPORTED), workdir)
    config: Config = launch.validate(Config, launch.plain_fields(record))
    _check_names(config)
    characters = record.get("data", {}).get("characters")
    if not isinstance(characters, str) or not characters:
        raise RunError(f"{workdir / 'config.json'}: does not say what the characters are")
    model = build_model(config, len(characters))
    found = load_run(workdir, run, step=step)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    try:
        params = unflatten(expected, flatten(found.params))
    except CheckpointError as error:
        raise CheckpointError(f"{workdir}: {error}, which its config.json asks for") from error
    return Restored(config, model, params, characters, found.run)


NAME, IMPORTED = "text", "imported text model"
EXPERIMENT = launch.Experiment(NAME, Config, check, launch.trains(build_study), describe_corpus)


def main(argv: list[str]) -> None:
    """Trains, and prints a line for each run."""
    del argv
    for row in launch.launch(EXPERIMENT):
        bits = ", ".join(f"{name.split('_')[0]} {row[name]:.3f}" for name in row if "_bits_" in name and row[name])
        ended = "failed (NaN) at" if "failed_at" in row else "ended at"
        print(f"{row['run']}: {ended} step {row['last_step']}; bits per character: {bits or '-'}")
    if (launch.workdir() / SAMPLES).exists():
        print(f"Samples: {launch.workdir() / SAMPLES}; more: python -m experiments.sample --workdir={launch.workdir()}")


if __name__ == "__main__":
    launch.define_flags("text.py", Config)
    launch.define_training_flags()
    launch.define_data_dir()
    launch.run_main(main)
