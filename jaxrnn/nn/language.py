"""What a character model makes of texts: bits per character, and continuations."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.nn import losses
from jaxrnn.nn.generate import Choice, generate
from jaxrnn.nn.text import CharLM

_STREAMS = 32
_WINDOW = 64
_BATCH = 250


def bits_per_character(model: CharLM, params: PyTree, tokens: Array) -> tuple[Array, Array]:
    """Bits per character of a text ``[N]``, and the accuracy, with the state carried through it.

    The text is read in up to 32 pieces at once, each from the zero state; up to 31 characters at the end are left out.
    """
    streams = min(_STREAMS, len(tokens) - 1)
    length = (len(tokens) - 1) // streams
    window = min(_WINDOW, length)
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


def continuations(
    model: CharLM, params: PyTree, prompts: list[np.ndarray], keys: Key, choose: Choice, length: int
) -> Array:
    """The tokens ``[L, B]`` of `jaxrnn.nn.generate.generate`, from prompts of tokens.

    It is compiled once for each model, kind of `choose`, `length`, number of prompts and length of the longest one.
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


def continue_prompts(
    model: CharLM, params: PyTree, prompts: list[np.ndarray], key: Key, choose: Choice, num: int
) -> np.ndarray:
    """The `num` characters that follow each of many prompts, ``[B, num]``, in batches, with a progress bar."""
    # All batches have one length, so that they share one program.
    total = num + max(len(prompt) for prompt in prompts)
    keys = jax.random.split(key, len(prompts))
    rows = []
    for first in tqdm(range(0, len(prompts), _BATCH), unit="batch", disable=None):
        batch = prompts[first : first + _BATCH]
        lines = np.asarray(continuations(model, params, batch, keys[first : first + _BATCH], choose, total)).T
        rows += [line[len(prompt) :][:num] for line, prompt in zip(lines, batch, strict=True)]
    return np.stack(rows)


def random_characters(key: Key, num: int, num_characters: int) -> list[np.ndarray]:
    """Prompts of one character each, drawn uniformly from the vocabulary."""
    return list(np.asarray(jax.random.randint(key, (num, 1), 0, num_characters, jnp.int32)))
