"""Writes with a trained character model: ``python -m experiments.sample --workdir=runs/grimm --prompt="Once upon"``."""

import json
import math
import sys

import jax
import numpy as np
from absl import flags

from experiments import _cli
from experiments._cli import UsageError
from experiments.text import continuations, random_characters, restore
from jaxrnn.data.text import UnknownCharactersError, decode, encode
from jaxrnn.nn.generate import Choice, Greedy, Sampler


def choice() -> tuple[Choice, float | None]:
    """How the next character is chosen, and tau (None: greedy).

    Raises:
        UsageError: for values out of range, or flags that exclude each other.
    """
    values = flags.FLAGS.flag_values_dict()
    given = [name for name in ("greedy", "tau", "temperature") if values[name] not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} exclude each other")
    for name in ("tau", "temperature"):
        value = values[name]
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name}={value}: should be a positive number")
    top_k, top_p = values["top_k"], values["top_p"]
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top_k={top_k}: should be at least 1")
    if top_p is not None and not (0 < top_p <= 1):
        raise UsageError(f"--top_p={top_p}: should be above 0 and at most 1")
    if values["greedy"]:
        if top_k is not None or top_p is not None:
            raise UsageError("--greedy takes the most likely character: --top_k and --top_p change nothing")
        return Greedy(), None
    tau = values["tau"] or (1 / values["temperature"] if values["temperature"] else 1.0)
    return Sampler(tau, top_k, top_p), tau


def prompts(characters: str, key: jax.Array) -> list[np.ndarray]:
    """The tokens of each text to continue, each prompt `num` times.

    Raises:
        UsageError: for a prompt that cannot be continued.
    """
    given, start, num = flags.FLAGS.prompt, flags.FLAGS.start, flags.FLAGS.num
    if given and start is not None:
        raise UsageError("--prompt and --start exclude each other")
    if start is not None and len(start) != 1:
        raise UsageError(f"--start={start!r}: should be one character; --prompt takes more")
    texts = [start] if start is not None else given
    if not texts:
        return random_characters(key, num, len(characters))
    name = "prompt" if start is None else "start"
    found = []
    for text in texts:
        known = "".join(c for c in text if c in characters) if flags.FLAGS.skip_unknown else text
        try:
            tokens = encode(known, characters)
        except UnknownCharactersError as error:
            raise UsageError(f"--{name}={text!r}: {error}; --skip_unknown drops them") from error
        if not known:
            raise UsageError(f"--{name}={text!r}: nothing to continue; without --{name} the first is drawn")
        if len(known) > flags.FLAGS.length:
            raise UsageError(f"--length={flags.FLAGS.length}: counts the prompt too, which has {len(known)} characters")
        found += [tokens] * num
    return found


def until(text: str, prompt_length: int, stop: str | None) -> str:
    """The text up to the first `stop` behind its prompt."""
    found = text.find(stop, prompt_length) if stop else -1
    return text if found < 0 else text[:found]


def write() -> None:
    """Reads the flags, writes."""
    for name in ("length", "num"):
        if flags.FLAGS[name].value < 1:
            raise UsageError(f"--{name}={flags.FLAGS[name].value}: should be at least 1")
    if flags.FLAGS.stop == "":
        raise UsageError("--stop=: should not be empty")
    choose, tau = choice()
    config, model, params, characters, _ = restore(_cli.workdir(), _cli.chosen_run(), flags.FLAGS.step)
    start_key, draw_key = jax.random.split(jax.random.key(flags.FLAGS.seed))
    starts = prompts(characters, start_key)
    # One key a text, by its number: the first texts are the same for any --num.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(draw_key, np.arange(len(starts)))
    with jax.default_matmul_precision(config.precision):
        tokens = np.asarray(continuations(model, params, starts, keys, choose, flags.FLAGS.length))
    for number, (line, start) in enumerate(zip(tokens.T, starts, strict=True)):
        text = until(decode(line, characters), len(start), flags.FLAGS.stop)
        if flags.FLAGS.json:
            row = {"prompt": decode(start, characters), "text": text, "tau": tau, "seed": flags.FLAGS.seed}
            print(json.dumps(row, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf")))
        else:
            print(f"{'' if number == 0 else '---' + chr(10)}{text}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of runs of experiments.text, or of imported weights.")
    flags.DEFINE_multi_string("prompt", [], "Text to continue; may be given several times.")
    flags.DEFINE_string("start", None, "The first character; drawn uniformly from the vocabulary by default.")
    flags.DEFINE_integer("length", 120, "Characters of a text, its prompt included.")
    flags.DEFINE_integer("num", 1, "Texts for each prompt.")
    flags.DEFINE_bool("greedy", False, "Always take the most likely character.")
    flags.DEFINE_float("tau", None, "Multiplies the logits, as in Soons (2020): larger is less random; 1 by default.")
    flags.DEFINE_float("temperature", None, "Divides the logits: 1 / tau.")
    flags.DEFINE_integer("top_k", None, "Draw from this many most likely characters only.")
    flags.DEFINE_float("top_p", None, "Draw from the most likely characters that together have this probability.")
    flags.DEFINE_string("stop", None, "End a text before this string.")
    flags.DEFINE_bool("skip_unknown", False, "Drop characters of a prompt that the model does not know.")
    flags.DEFINE_integer("seed", 0, "The texts are a function of it.")
    _cli.define_chosen_run()
    flags.DEFINE_integer("step", None, "Step of a saved checkpoint; the newest by default.")
    flags.DEFINE_bool("json", False, "One object a line: prompt, text, tau (null: greedy) and seed.")
    _cli.run(write)
