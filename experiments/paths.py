"""RNNs against GNNs: ``python -m experiments.paths --sweep=depth=8,16,24,32 --workdir=DIR`` (Soons 2020, 3.5a)."""

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.paths import Config
from experiments._cli import main
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.cells.graph import graph_filter
from jaxrnn.data.formal import TASKS, palindrome
from jaxrnn.nn import losses
from jaxrnn.nn.paths import PathClassifier, path, tied_layers
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import unroll
from jaxrnn.rundir.directory import RunDirectory
from jaxrnn.study import plots
from jaxrnn.study.arms import Arm, ArmScheme, Setting
from jaxrnn.study.claims import Claim, Finding, Part, within
from jaxrnn.study.compare import Differences
from jaxrnn.study.page import Block, Figure, Table
from jaxrnn.study.quantities import Mean, Share, result
from jaxrnn.study.study import ArmTable, Evidence, Row, Study
from jaxrnn.training.definition import ConfigError, Training
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_when_loss_below

_TASK = TASKS["palindrome"]
_MOST_DIGITS = 12
"""The most digits of which all palindromes are listed: a million of them."""
_TEST_BATCH = 1000


# --- What the last tokens say -----------------------------------------------------------------------------------------


@functools.cache
def suffixes(digits: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The possible last tokens of a palindrome, ``[length, n]``, and their probabilities with each label, ``[n, 2]``.

    They are listed, not sampled: ``9^ceil(digits / 2)`` halves, each in both directions.
    """
    tokens, labels = palindrome.enumerate_all(digits)
    seen, index = np.unique(tokens[-length:].T, axis=0, return_inverse=True)
    weights = np.zeros((len(seen), 2))
    np.add.at(weights, (index.ravel(), labels), 1 / len(labels))
    return np.ascontiguousarray(seen.T), weights


def bayes_accuracy(digits: int, length: int) -> float:
    """The accuracy of the best guess from the last tokens."""
    return float(suffixes(digits, length)[1].max(axis=1).sum())


# --- The training -----------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Refuses numbers of digits for which the bound cannot be listed."""
    if config.readout == "last" and config.digits > _MOST_DIGITS:
        reason = f"the bound of readout=last is listed for {_MOST_DIGITS} digits at most; readout=max needs none"
        raise ConfigError("digits", config.digits, reason)


def build_model(config: Any) -> SequenceClassifier | PathClassifier:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns.

    With readout=last it is the recurrent classifier of the last `depth` tokens. For the last node, and for no other,
    this is the graph network of `depth` layers with the same weights (see `tied_layers`).
    """
    vocabulary_size, num_classes = _TASK.symbols(config.digits)
    if config.readout == "max":
        return PathClassifier(vocabulary_size, num_classes, config.hidden_size, config.depth, INITIALIZERS["torch"])
    sizes = vocabulary_size, num_classes, config.hidden_size, config.hidden_size
    return SequenceClassifier(CELLS[config.cell], *sizes, INITIALIZERS["torch"])


def build(config: Config) -> Training:
    """The training of a config."""
    model, is_last = build_model(config), config.readout == "last"
    depth = min(config.depth, _TASK.input_length(config.digits))

    def seen(tokens_tb: Array) -> Array:
        return tokens_tb[-depth:] if is_last else tokens_tb

    def init(key: Key) -> PyTree:
        return model.init(key, seen(jnp.zeros((_TASK.input_length(config.digits), 1), jnp.int32)))["params"]

    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, Array], key: Key, data: PyTree) -> tuple[Array, Any]:
        del key, data
        tokens_tb, labels_b = batch
        logits_bc: Any = model.apply({"params": params}, seen(tokens_tb))
        return losses.cross_entropy(logits_bc, labels_b), ({"accuracy": losses.accuracy(logits_bc, labels_b)}, memory)

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory
        if is_last:
            tokens, weights = data
        else:
            key = stream_key(seed, Stream.EVAL)
            tokens, labels = _TASK.sample(key, config.test_samples, config.digits)
            weights = jax.nn.one_hot(labels, 2) / config.test_samples

        def logits(tokens_t: Array) -> Array:
            found: Array = model.apply({"params": params}, tokens_t[:, None])[0]
            return found

        called = jax.lax.map(logits, tokens.T, batch_size=min(_TEST_BATCH, tokens.shape[1])).argmax(axis=-1)
        accuracy = jnp.take_along_axis(weights, called[:, None], axis=1).sum()
        return {"test_accuracy": accuracy, "bayes_accuracy": jnp.float32(bound)}

    # On an undirected path, any node sees whether a pad stands beside it, so that the first bit is known.
    bound = bayes_accuracy(config.digits, depth) if is_last else 1.0
    data: PyTree = ()
    if is_last:
        tokens, weights = suffixes(config.digits, depth)
        data = tokens.astype(np.int32), weights.astype(np.float32)
    return Training(
        init=init,
        sample=lambda key, step, data: _TASK.sample(key, config.batch_size, config.digits),
        loss=loss,
        optimizer=lambda hyper: optax.chain(
            optax.clip_by_global_norm(config.clip_norm), optax.adam(hyper["learning_rate"])
        ),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_when_loss_below(config.tolerance, config.patience),
        data=data,
        batch_size=config.batch_size,
        batch_axes=(1, 0),
    )


# --- What holds exactly -----------------------------------------------------------------------------------------------

EXACT = "exact.json"


def exact_statements(num_steps: int, hidden_size: int, depth: int) -> dict[str, float]:
    """Largest differences, in float64, relative to the largest number, between recurrent and graph networks on a path.

    ``linear``: the states of a linear RNN, and the graph filter with taps ``W_x W_h^k``; ``linear_rows``: the same with
    `depth` taps, in the rows where these are exact; ``tied``: the states of an RNN, and the layers of a graph network
    with its weights, as many as there are steps; ``tied_rows``: the same with `depth` layers; ``last``: the last node
    after `depth` layers, and an RNN that reads the last `depth` inputs.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        xs = jnp.array(rng.normal(size=(num_steps, 2, 3)))
        w_x, b = rng.normal(size=(3, hidden_size)), rng.normal(size=hidden_size)
        w_h = rng.normal(size=(hidden_size, hidden_size)) / hidden_size**0.5

        def difference(found: Array, expected: Array) -> float:
            return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())

        linear, rnn = CELLS["linear_rnn"], CELLS["rnn"]
        _, states = unroll(linear, linear.params_type(w_x, w_h, 0 * b), xs)
        taps = [w_x]
        for _ in range(num_steps - 1):
            taps.append(taps[-1] @ w_h)
        filtered, fewer = (graph_filter((jnp.array(taps[:k]), path(num_steps)), xs) for k in (num_steps, depth))
        params = rnn.params_type(w_x, w_h, b)
        _, recurrent = unroll(rnn, params, xs)
        whole, part = (tied_layers(rnn, params, xs, k) for k in (num_steps, depth))
        return {
            "linear": difference(filtered, states),
            "linear_rows": difference(fewer[:depth], states[:depth]),
            "tied": difference(whole, recurrent),
            "tied_rows": difference(part[:depth], recurrent[:depth]),
            "last": difference(part[-1], unroll(rnn, params, xs[-depth:])[1][-1]),
        }


def _seconds(num_steps: int, hidden_size: int, batch_size: int) -> dict[str, float]:
    """Seconds of a forward pass on a batch, for an RNN and for the graph network with as many layers as steps."""
    cell, rng = CELLS["rnn"], np.random.default_rng(0)
    params = cell.init(jax.random.key(0), hidden_size, hidden_size, INITIALIZERS["torch"])
    xs = jnp.asarray(rng.normal(size=(num_steps, batch_size, hidden_size)), jnp.float32)
    forms = {
        "rnn_seconds": jax.jit(lambda xs: unroll(cell, params, xs)[1]),
        "gnn_seconds": jax.jit(lambda xs: tied_layers(cell, params, xs, num_steps)),
    }
    found = {}
    for name, form in forms.items():
        jax.block_until_ready(form(xs))
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(form(xs))
            times.append(time.perf_counter() - begin)
        found[name] = float(np.median(times))
    return found


def _write_exact(path: Path, rows: Sequence[Row]) -> None:
    """Writes the exact statements and the measured times beside the results."""
    del rows
    config = json.loads((path / "config.json").read_text())["config"]
    num_steps = _TASK.input_length(config["digits"])
    sizes = config["hidden_size"], min(config["depth"], num_steps)
    with RunDirectory(path) as directory:
        found = {"num_steps": num_steps, "depth": sizes[1], **exact_statements(num_steps, *sizes)}
        directory.write(EXACT, found | _seconds(num_steps, sizes[0], config["batch_size"]))


# --- What is declared -------------------------------------------------------------------------------------------------

DEPTHS = (8, 16, 24, 32)
LAST: Sequence[Setting] = [{"digits": 10, "readout": "last", "depth": depth} for depth in DEPTHS]
MAX: Setting = {"digits": 20, "readout": "max", "depth": 2}

ACCURACY = Mean("test accuracy", result("test_accuracy"), within=(0, 1))
GAP = Mean(
    "accuracy minus bound",
    lambda run: None if run.result is None else run.result["test_accuracy"] - run.result["bayes_accuracy"],
    "+z.4f",
)
SOLVED = Share(
    "test accuracy ≥ 0.995", lambda run: None if run.result is None else run.result["test_accuracy"] >= 0.995
)
_ROUNDING = 1e-4


def _label(setting: Setting) -> str:
    return f"depth {setting['depth']}, readout {setting['readout']}, T={setting['digits']}"


def _normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Without the cell, which readout=max does not use."""
    return setting | {"cell": Config().cell} if setting["readout"] == "max" else setting


def _bound(arm: Arm) -> str:
    bounds = [run.result["bayes_accuracy"] for run in arm.runs if run.result]
    return f"{bounds[0]:.4f}" if bounds else ""


def _below(setting: Setting) -> Part:
    """No run is above the bound, which is a theorem where all sequences are counted."""
    name = _label(setting)

    def find(found: Any) -> Finding:
        arm = found.arm(setting)
        if arm is None:
            return Finding(0, f"no runs of {name}")
        gaps = GAP.values(arm)
        side = 1 if max(gaps) <= _ROUNDING else -1
        return Finding(side, f"{arm.title}, {arm.count} seeds: at most {max(gaps):+.4f}", arms=[arm])

    return Part(find, f"{name}: no run is above the Bayes accuracy")


def _figure(evidence: Evidence) -> list[Figure]:
    """Accuracy against depth, with the bound."""
    panels: dict[str, Any] = {}
    arms = sorted(
        (arm for _, arm in evidence.rows() if arm and arm.setting["readout"] == "last"),
        key=lambda arm: arm.setting["depth"],
    )
    by_problem: dict[str, list[Arm]] = {}
    for arm in arms:
        by_problem.setdefault(f"T={arm.setting['digits']}, {arm.setting['cell']}", []).append(arm)
    for title, group in by_problem.items():
        if len({arm.setting["depth"] for arm in group}) < 2:
            continue
        digits, depths = group[0].setting["digits"], np.arange(1, group[-1].setting["depth"] + 1)
        bound = np.array([bayes_accuracy(digits, depth) for depth in depths])
        points = [(arm.setting["depth"], value) for arm in group for value in ACCURACY.values(arm)]
        x, y = np.array(points).T
        means = np.array([ACCURACY.estimate(arm).value for arm in group])
        panels[title] = [
            plots.Line("Bayes accuracy of what the readout sees", plots.GREY, depths, bound, dashed=True),
            plots.Line("mean over seeds", plots.BLUE, np.array([arm.setting["depth"] for arm in group]), means),
            plots.Line("a run", plots.SKY, x, y, points=True),
        ]
    if not panels:
        return []
    caption = "Test accuracy against depth, and what no model of this depth can exceed"
    return [Figure("depths", plots.svg(plots.lines(panels, "layers", "test accuracy")), caption, caption)]


def _exact(evidence: Evidence) -> list[Block]:
    """The exact statements, from the first directory that has them."""
    for directory in evidence.directories:
        if (file := directory.path / EXACT).exists():
            found = json.loads(file.read_text())
            shown = {
                "a linear RNN is the graph filter with taps W_x W_h^k, as many as steps": "linear",
                f"with {found['depth']} taps, its first {found['depth']} states": "linear_rows",
                "a GNN with the RNN's weights in each layer, as many layers as steps, has its states": "tied",
                f"with {found['depth']} layers, its first {found['depth']} states": "tied_rows",
                f"and at the last node the state of an RNN that reads the last {found['depth']} inputs": "last",
            }
            rows = [[text, f"{found[key]:.1e}", "yes" if found[key] < 1e-12 else "no"] for text, key in shown.items()]
            ratio = found["gnn_seconds"] / found["rnn_seconds"]
            return [
                Table("In float64, largest relative difference on a directed path", ["statement", "by", "holds"], rows),
                f"For all nodes, the GNN takes {found['num_steps']} times the products of the RNN; it took {ratio:.0f} "
                f"times as long ({1000 * found['gnn_seconds']:.1f} and {1000 * found['rnn_seconds']:.1f} ms).",
            ]
    return []


STUDY = Study(
    name="paths",
    title="Recurrent networks as graph networks on paths (Question 3.5a)",
    config=Config,
    build=build,
    model=lambda config, data: build_model(config),
    choices={"cell": CELLS},
    check=check,
    finish=_write_exact,
    arms=ArmScheme(
        Config, ("digits", "readout", "depth"), _label, ("digits", "readout"), paper=[*LAST, MAX], normalize=_normalize
    ),
    quantities=[ACCURACY, GAP, SOLVED],
    claims=[
        Claim(
            "a",
            "The last node's accuracy does not exceed the Bayes accuracy of the last d tokens, and comes within .03 of "
            "it at depth 32",
            [*map(_below, LAST), within(GAP, LAST[-1], -0.03)],
        ),
        Claim("b", "A readout by the maximum with 2 layers solves T=20", [within(SOLVED, MAX, 0.8)]),
    ],
    headline=ArmTable(
        "Accuracy and what cannot be exceeded; brackets are 95 % intervals over seeds",
        [("bound", _bound), ACCURACY.cells, GAP.cells, SOLVED.cells],
    ),
    sections={
        "Depth": [_figure, Differences(ACCURACY, LAST)],
        "What holds exactly": [_exact],
    },
    note=(
        "With `readout=last` the test counts every palindrome with its probability, so that its accuracy has no error; "
        "the bound is the accuracy of the best guess from the tokens that reach the last node. With `readout=max` the "
        "first bit can be seen, since a pad stands beside it: the bound is 1."
    ),
    tiny={"digits": 2, "depth": 3, "hidden_size": 4, "batch_size": 8, "max_steps": 12, "eval_every": 4}
    | {"chunk_steps": 4, "num_seeds": 2},
)

if __name__ == "__main__":
    main(STUDY)
