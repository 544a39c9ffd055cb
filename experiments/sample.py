"""Writes text with a trained character model, forecasts on a graph, predicts for or builds molecules, or recommends.

python -m experiments.sample --workdir=runs/grimm --prompt="Once upon"
python -m experiments.sample --workdir=runs/grimm --prompt_file=chapter.txt --length=2000
python -m experiments.sample --workdir=runs/grimm --num=5 --length=300 --temperature=0.7 --seed=1
python -m experiments.sample --workdir=runs/grimm --run_seed=2 --greedy --json
python -m experiments.sample --workdir=runs/mine --signals=recent.csv --json

The texts are a function of --seed; the first ones are the same for any --num.

python -m experiments.sample --workdir=runs/esol --run=model=weave --smiles=CCO --smiles=c1ccccc1
python -m experiments.sample --workdir=runs/esol --smiles_file=FILE --json

Runs of experiments.molecules predict together: a prediction is the mean over them, with the standard deviation.

python -m experiments.sample --workdir=runs/ranking --run=model=lightgcn --user=user3 --user=user7 --top_k=10 --json
python -m experiments.sample --workdir=runs/qed --num=5 --seed=1
python -m experiments.sample --workdir=runs/qed --start="c1ccccc1" --json

Runs of experiments.generate build molecules, from a given one with --start; a line has the SMILES and the rewards.
"""

import itertools
import json
import math
import sys
from collections.abc import Callable

import jax
import numpy as np
from absl import flags

from configs.text import Config
from experiments import _cli, molecules
from experiments._cli import UsageError
from experiments.forecast.sample import forecast_next
from experiments.generate.sample import sample_molecules
from experiments.recommend.build import TOP
from experiments.recommend.lists import recommend
from experiments.text import restore
from jaxrnn.data.files import expand, read_if_there
from jaxrnn.data.text import UnknownCharactersError, decode, encode, read_as
from jaxrnn.nn.generate import Choice, Greedy, Sampler
from jaxrnn.nn.language import continuations, random_characters
from jaxrnn.rundir.directory import read_config


def _choice() -> tuple[Choice, float | None]:
    """How the next character is chosen, and tau (None: greedy)."""
    values = flags.FLAGS
    if values.greedy:
        return Greedy(), None
    tau = values.tau or (1 / values.temperature if values.temperature else 1.0)
    return Sampler(tau, values.top_k, values.top_p), tau


def _beginnings(encoding: str) -> list[tuple[str, str]]:
    """The beginning of each text, and how it was given."""
    start, file = flags.FLAGS.start, flags.FLAGS.prompt_file
    if file is None:
        texts = (flags.FLAGS.prompt or []) if start is None else [start]
        return [(f"--{'prompt' if start is None else 'start'}={text!r}", text) for text in texts]
    given = f"--prompt_file={file}"
    raw = sys.stdin.buffer.read() if file == "-" else read_if_there(expand(file))
    if raw is None:
        raise UsageError(f"{given}: there is no such file")
    return [(given, read_as(raw, encoding, given).removesuffix("\n"))]


def _prompts(config: Config, characters: str, key: jax.Array) -> list[np.ndarray]:
    """The tokens of each text to continue, each prompt `num` times."""
    num, beginnings = flags.FLAGS.num, _beginnings(config.encoding)
    if not beginnings and not config.document_separator:
        return random_characters(key, num, len(characters))
    found = []
    for given, text in beginnings or [("", config.document_separator)]:
        known = "".join(c for c in text if c in characters) if flags.FLAGS.skip_unknown else text
        try:
            tokens = encode(known, characters)
        except UnknownCharactersError as error:
            raise UsageError(f"{given}: {error}; --skip_unknown drops them") from error
        if not known:
            raise UsageError(f"{given}: nothing to continue; without a prompt the first character is drawn")
        if len(known) > flags.FLAGS.length:
            raise UsageError(f"--length={flags.FLAGS.length}: counts the prompt too, which has {len(known)} characters")
        found += [tokens] * num
    return found


def _predict() -> None:
    """Prints a line for each molecule of ``--smiles`` and of ``--smiles_file``, whose lines begin with one."""
    path, texts, file = _cli.workdir(), list(flags.FLAGS.smiles or ()), flags.FLAGS.smiles_file
    if file:
        if (raw := read_if_there(expand(file))) is None:
            raise UsageError(f"--smiles_file={file}: there is no such file")
        texts += [line.split()[0] for line in raw.decode(errors="replace").splitlines() if line.strip()]
    for row in molecules.predict(path, _cli.chosen_run() or "", texts):
        print(json.dumps(row) if flags.FLAGS.json else molecules.in_words(row))


def sample() -> None:
    """Reads the flags, and does what fits the study of the directory."""
    study = str(read_config(_cli.workdir()).get("study"))
    do, needed, read = _OF_STUDY.get(study, _OF_STUDY["text"])
    for flag in itertools.chain(*(one[1] + one[2] for one in _OF_STUDY.values())):
        if flags.FLAGS[flag].present and flag not in needed + read:
            owners = " or ".join(name for name, one in _OF_STUDY.items() if flag in one[1] + one[2])
            raise UsageError(f"--{flag}: is for runs of {owners}, and {flags.FLAGS.workdir} has runs of {study}")
    if needed and not any(getattr(flags.FLAGS, flag) for flag in needed):
        raise UsageError(f"{' or '.join(f'--{flag}=...' for flag in needed)} is needed for runs of {study}")
    do()


def _build() -> None:
    """Prints a line for each molecule that a policy builds."""
    values = flags.FLAGS
    start = "C" if values.start is None else values.start
    try:
        rows = sample_molecules(
            _cli.workdir(), _cli.chosen_run(), _cli.chosen_step(), values.num, values.seed, start, bool(values.greedy)
        )
        for row in rows:
            said = f"{row['smiles']}: qed {row['qed']:.3f}, plogp {row['plogp']:.2f}, {row['atoms']} atoms"
            print(json.dumps(row) if values.json else said)
    except ValueError as error:
        raise UsageError(f"--start={start}: {error}") from error


def _write() -> None:
    """Prints the texts."""
    if flags.FLAGS.start is not None and len(flags.FLAGS.start) != 1:
        raise UsageError(f"--start={flags.FLAGS.start}: should be one character")
    choose, tau = _choice()
    config, model, params, characters, _ = restore(_cli.workdir(), _cli.chosen_run(), _cli.chosen_step())
    start_key, draw_key = jax.random.split(jax.random.key(flags.FLAGS.seed))
    starts = _prompts(config, characters, start_key)
    # One key per text, by its number: the first texts are the same for any --num.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(draw_key, np.arange(len(starts)))
    with jax.default_matmul_precision(config.precision):
        tokens = np.asarray(continuations(model, params, starts, keys, choose, flags.FLAGS.length))
    for number, (line, start) in enumerate(zip(tokens.T, starts, strict=True)):
        text = decode(line, characters)
        if flags.FLAGS.stop:
            text = text[: len(start)] + text[len(start) :].partition(flags.FLAGS.stop)[0]
        if flags.FLAGS.json:
            row = {"prompt": decode(start, characters), "text": text, "tau": tau, "seed": flags.FLAGS.seed}
            print(json.dumps(row, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf")))
        else:
            print(f"{'' if number == 0 else '---' + chr(10)}{text}")


def _forecast() -> None:
    """Forecasts what comes after the last row of ``--signals``, by the mean of all chosen runs."""
    if flags.FLAGS.step is not None:
        raise UsageError(f"--step={flags.FLAGS.step}: leave it out; forecasts are of the weights that were chosen")
    rows = forecast_next(_cli.workdir(), _cli.chosen_run(), expand(flags.FLAGS.signals))
    if flags.FLAGS.json:
        print(*map(json.dumps, rows), sep="\n")
        return
    heads = ["node", *(f"{horizon} ahead" for horizon, _ in enumerate(rows[0]["forecast"], start=1))]
    pairs = [zip(row["forecast"], row["spread"], strict=True) for row in rows]
    cells = [[f"{value:.5g}" + (f" ± {spread:.2g}" if spread else "") for value, spread in one] for one in pairs]
    _cli.print_table(heads, [[row["node"], *shown] for row, shown in zip(rows, cells, strict=True)])


def _recommend() -> None:
    """Prints a line for each ``--user``: the items by the mean of all chosen runs, the best first."""
    values = flags.FLAGS
    if values.step is not None:
        raise UsageError(f"--step={values.step}: leave it out; lists are by the weights that were chosen")
    for row in recommend(_cli.workdir(), _cli.chosen_run(), values.user, values.top_k or TOP):
        shown = ", ".join(f"{item} ({score:.4g})" for item, score in zip(row["items"], row["scores"], strict=True))
        print(json.dumps(row) if values.json else f"{row['user']}: {shown}")


_OF_TEXT = ("prompt", "start", "prompt_file", "length", "num", "greedy", "tau", "temperature", "top_k", "top_p", "stop")
_OF_STUDY: dict[str, tuple[Callable[[], None], tuple[str, ...], tuple[str, ...]]] = {
    "text": (_write, (), (*_OF_TEXT, "skip_unknown", "seed")),
    "generate": (_build, (), ("start", "num", "greedy", "seed")),
    "forecast": (_forecast, ("signals",), ()),
    "molecules": (_predict, ("smiles", "smiles_file"), ()),
    "recommend": (_recommend, ("user",), ("top_k",)),
}
"""By study: what is done, the flags of which one is needed, and others that are read besides the common ones."""

if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the runs to use, or of imported weights.")
    flags.DEFINE_string("signals", None, "CSV file whose last rows are read; forecasts what comes next, node by node.")
    flags.DEFINE_multi_string("smiles", None, "A molecule to predict for; may be given several times.")
    flags.DEFINE_string("smiles_file", None, "A file whose lines begin with the SMILES of a molecule to predict for.")
    flags.DEFINE_multi_string("user", None, "A user to recommend items to; may be given several times.")
    flags.DEFINE_multi_string("prompt", None, "Text to continue; may be given several times.")
    start = "The first character; by default the document separator, else drawn uniformly; or the SMILES to go on from."
    flags.DEFINE_string("start", None, start)
    flags.DEFINE_string(
        "prompt_file",
        None,
        "File with the text to continue, in the encoding of the model's text; a line end after it is left out. - is "
        "the standard input.",
    )
    flags.mark_flags_as_mutual_exclusive(["prompt", "start", "prompt_file"])
    flags.DEFINE_integer("length", 120, "Characters of a text, including its prompt.", lower_bound=1)
    flags.DEFINE_integer("num", 1, "Texts for each prompt, or molecules.", lower_bound=1)
    flags.DEFINE_bool("greedy", None, "Always take the most likely character.")
    flags.DEFINE_float("tau", None, "Multiplies the logits, as in Soons (2020): larger is less random; 1 by default.")
    flags.DEFINE_float("temperature", None, "Divides the logits: 1 / tau.")
    flags.DEFINE_integer(
        "top_k",
        None,
        "Draw only from this many most likely characters; or the number of items, 20 by default.",
        lower_bound=1,
    )
    flags.DEFINE_float("top_p", None, "Draw from the most likely characters that together have this probability.")
    for name in ("tau", "temperature"):
        reason = "should be a positive number; --greedy always takes the most likely character"
        flags.register_validator(name, lambda x: x is None or 0 < x < math.inf, reason)
    flags.register_validator("top_p", lambda p: p is None or 0 < p <= 1, "should be above 0 and at most 1")
    for others in (["tau", "temperature"], ["top_k"], ["top_p"]):
        flags.mark_flags_as_mutual_exclusive(["greedy", *others])
    flags.DEFINE_string("stop", None, "End a text before this string.")
    flags.DEFINE_bool("skip_unknown", False, "Drop characters of a prompt that the model does not know.")
    # JAX takes only these bits of larger numbers, so that two seeds would be the same.
    bounds = {"lower_bound": -(2**31), "upper_bound": 2**31 - 1}
    flags.DEFINE_integer("seed", 0, "Seed of the texts or molecules, which are a function of it.", **bounds)
    _cli.define_chosen_run()
    _cli.define_step()
    _cli.define_data_dir()
    flags.DEFINE_bool(
        "json", False, "Print a JSON object per line: prompt, text, tau (null: greedy) and seed; or what is predicted."
    )
    _cli.run(sample)
