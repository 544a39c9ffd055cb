"""The character LSTM's training, its samples, and its models read back from run directories."""

import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from configs.text import Config
from experiments.formal import check_layers
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, torch_uniform
from jaxrnn.data import text
from jaxrnn.nn import losses
from jaxrnn.nn.generate import Greedy, Sampler
from jaxrnn.nn.language import bits_per_character, continuations, random_characters
from jaxrnn.nn.text import CharLM
from jaxrnn.rundir.checkpoint import CheckpointError, flatten, unflatten
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.fields import make_config, saved_fields
from jaxrnn.rundir.restore import load_run
from jaxrnn.rundir.session import read_record
from jaxrnn.training.definition import Callback, ConfigError, Run, Training, check_one_of
from jaxrnn.training.placement import halves
from jaxrnn.training.seeds import Stream, stream_key

NAME, IMPORTED = "text", "imported text model"
SAMPLES = "samples.jsonl"
VALIDATION = "validation.jsonl"
LENGTHS = (15, 30, 120)
TAUS = (0.5, 1.0, 2.0)
"""As in Soons (2020), Questions 2.1b and 2.1c."""

_SAMPLES_EACH = 5
_TRAINING_CHARACTERS = 100_000
"""This much of the training text, from its beginning, is enough to say how well the model knows it."""
_DIVIDED_HIDDEN = 256


# --- The text ---------------------------------------------------------------------------------------------------------


_load = functools.lru_cache(maxsize=1)(text.load)


def load_corpus(config: Config) -> text.Corpus:
    """The text of a config, from ``JAXRNN_DATA_DIR``, the cache or the network; raises as `jaxrnn.data.text.load`."""
    return _load(config.corpus, config.encoding)


def describe_corpus(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the text: enough to sample without it, and to recognise it."""
    corpus = load_corpus(config)
    return {"sha256": corpus.sha256, "length": len(corpus.tokens), "characters": corpus.characters}


def check(config: Config) -> None:
    """Refuses a text that is too short for the config, and a separator that the text does not have."""
    check_layers(config)
    corpus = load_corpus(config)
    if (separator := config.document_separator) not in ("", *corpus.characters):
        reason = "should be one of the text's characters; $'\\n' is a line end in a shell"
        raise ConfigError("document_separator", separator, reason)
    try:
        splits = text.split(corpus.tokens, config.validation_fraction, config.test_fraction)
        jax.eval_shape(lambda: _sample_batch(config, jnp.asarray(splits.train), jax.random.key(0), 0))
    except ValueError as error:
        field = "validation_fraction" if "fractions" in str(error) else "seq_length"
        raise ConfigError(field, getattr(config, field), str(error)) from error
    for name, part in zip(("validation", "test"), splits[1:], strict=True):
        fraction = getattr(config, f"{name}_fraction")
        if fraction and len(part) < 2:
            reason = f"leaves {len(part)} of {len(corpus.tokens)} characters"
            raise ConfigError(f"{name}_fraction", fraction, reason)


def _sample_batch(config: Config, tokens: Array, key: Key, step: Array | int) -> tuple[Array, ...]:
    """Inputs and targets ``[T, B]`` and, where the state is carried, whether the text starts anew."""
    if config.carry_state:
        return text.streams(step, tokens, config.batch_size, config.seq_length)
    return text.windows(key, tokens, config.batch_size, config.seq_length)


# --- The study --------------------------------------------------------------------------------------------------------


def build_model(config: Any, characters: str) -> CharLM:
    """The model of a config, a `Config` or what `jaxrnn.load` returns, for this vocabulary."""
    return CharLM(
        cell=CELLS[config.cell],
        vocabulary_size=len(characters),
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        initializer=torch_uniform,
        dropout=config.dropout,
        recurrent_dropout=config.recurrent_dropout,
        layer_norm=config.layer_norm,
        compute_dtype=config.compute_dtype,
        separator=characters.index(config.document_separator) if config.document_separator else None,
    )


def build(config: Config, model: Any = None, corpus: text.Corpus | None = None) -> Training:
    """The training of next-character prediction, by default with the config's text and model."""
    corpus = corpus or load_corpus(config)
    model = model or build_model(config, corpus.characters)
    splits = text.split(corpus.tokens, config.validation_fraction, config.test_fraction)
    measured = {name: part for name, part in splits._asdict().items() if len(part)}
    measured["train"] = splits.train[:_TRAINING_CHARACTERS]

    def loss(params: PyTree, carries: PyTree, batch: tuple[Array, ...], key: Key, data: PyTree) -> tuple[Array, Any]:
        inputs_tb, targets_tb, *is_first = batch
        if config.carry_state:
            start = model.initial_carries(inputs_tb.shape[1])
            carries = jax.tree.map(lambda c, first: jnp.where(is_first[0], first, c), carries, start)
        rngs = {"dropout": key}
        last, logits_tbv = model.apply({"params": params}, inputs_tb, carries or None, deterministic=False, rngs=rngs)
        metrics = {"accuracy": losses.accuracy(logits_tbv, targets_tb)}
        return losses.cross_entropy(logits_tbv, targets_tb), (metrics, last if config.carry_state else ())

    def optimizer(hyper: Any) -> optax.GradientTransformation:
        def rate(step: Array) -> Array:
            return hyper["learning_rate"] * config.learning_rate_decay ** (step / 1000)

        return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(rate))

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory, seed
        found = {}
        for name in measured:
            bits, found[f"{name}_accuracy"] = bits_per_character(model, params, data[name])
            found[f"{name}_bits_per_character"] = bits
        return found

    # All weights of a product fit a core's cache. Not with dropout, so that its masks are the same for any placement.
    is_divided = config.hidden_size <= _DIVIDED_HIDDEN and not (config.dropout or config.recurrent_dropout)
    return Training(
        init=lambda key: model.init(key, jnp.zeros((config.seq_length, 1), jnp.int32))["params"],
        sample=lambda key, step, data: _sample_batch(config, data["text"], key, step),
        loss=loss,
        optimizer=optimizer,
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        start_memory=lambda seed, data: model.initial_carries(config.batch_size) if config.carry_state else (),
        callback=_callback(config, model, corpus.characters, list(measured)),
        data={"text": splits.train, **measured},
        batch_size=config.batch_size,
        batch_axes=(1, 1, None) if config.carry_state else (1, 1),
        core_parts=halves(config.batch_size) if is_divided else 1,
    )


def _callback(config: Config, model: Any, characters: str, measured: list[str]) -> Callback:
    """Samples at the config's steps, and bits per character of the text's held-out parts at each evaluation."""
    parts = {prefix: part for prefix, part in (("", "validation"), ("test_", "test")) if part in measured}
    validate = jax.jit(functools.partial(bits_per_character, model))

    def writes_samples(step: int) -> bool:
        return step in config.sample_steps or step == config.max_steps

    def validates(step: int) -> bool:
        return "validation" in measured and step % config.eval_every == 0

    def record(params: PyTree, run: Run, step: int, data: PyTree) -> dict[str, list[dict[str, Any]]]:
        rows = {}
        if validates(step):
            row: dict[str, float] = {}
            for prefix, part in parts.items():
                bits, accuracy = validate(params, data[part])
                row |= {f"{prefix}bits_per_character": float(bits), f"{prefix}accuracy": float(accuracy)}
            rows[VALIDATION] = [row]
        if writes_samples(step):
            rows[SAMPLES] = samples(model, params, characters, stream_key(run.seed, Stream.SAMPLE, step))
            longest = next(row for row in rows[SAMPLES] if row["length"] == LENGTHS[-1])
            tqdm.write(f"step {step}, {run.name}: {longest['text']!r}")
        return rows

    return Callback(
        when=lambda step: writes_samples(step) or validates(step),
        record=record,
        save_params=writes_samples,
        lowest=(VALIDATION, "bits_per_character"),
        files=(SAMPLES, VALIDATION),
    )


# --- Samples ----------------------------------------------------------------------------------------------------------


def samples(model: CharLM, params: PyTree, characters: str, key: Key) -> list[dict[str, Any]]:
    """The samples of Soons (2020): greedy texts of three lengths, then three tau, from the same first characters."""
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
    """A trained or imported model; the parameters are nested dicts of NumPy arrays, and `run` is the run's name."""

    config: Config
    model: CharLM
    params: PyTree
    characters: str
    run: str


def restore(workdir: Path, run: str | None, step: int | Literal["best"] | None) -> Restored:
    """The model, its parameters and its vocabulary from a run directory; `run` and `step` as in `jaxrnn.load`.

    Raises:
        RunError, CheckpointError: as in `jaxrnn.load`, or its parts do not fit each other.
        ConfigError: this version does not accept its config.
    """
    read_record(workdir, NAME, IMPORTED)
    found = load_run(workdir, run, step=step)
    config: Config = make_config(Config, saved_fields(Config, vars(found.config)))
    check_one_of("cell", config.cell, list(CELLS))
    characters = found.data.get("characters")
    if not isinstance(characters, str) or not characters:
        raise RunError(f"{workdir / 'config.json'}: does not say what the characters are")
    model = build_model(config, characters)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    try:
        params = unflatten(expected, flatten(found.params))
    except CheckpointError as error:
        raise CheckpointError(f"{workdir}: {error}, which its config.json asks for") from error
    return Restored(config, model, params, characters, found.run)
