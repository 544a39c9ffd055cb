"""The binary that trains on texts: real processes and files; its numbers against loops in NumPy, in float64."""

import dataclasses
import hashlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.special
from processes import command_line

import jaxrnn
from configs.text import Config
from experiments import launch, text
from jaxrnn.cells import CELLS
from jaxrnn.data.files import DataError
from jaxrnn.data.text import encode

ROOT = Path(__file__).parents[1]
CHARACTERS = "\n .0123456789Labcefhinostuvxé"
TEXT = "".join(f"Le {size} café a {n} chats.\n" for n in range(10, 50) for size in ("bon", "vieux"))
VALIDATION, TEST = len(TEXT) - round(len(TEXT) * 0.05) - round(len(TEXT) * 0.1), len(TEXT) - round(len(TEXT) * 0.05)
PARTS = {"train": TEXT[:VALIDATION], "validation": TEXT[VALIDATION:TEST], "test": TEXT[TEST:]}
SMALL = {
    **{"hidden_size": 16, "embedding_size": 8, "dropout": 0.2, "seq_length": 8, "batch_size": 4, "carry_state": True},
    **{"learning_rate": 0.01, "max_steps": 60, "eval_every": 20, "chunk_steps": 13, "sample_steps": "7,1000"},
    **{"validation_fraction": 0.1, "test_fraction": 0.05, "num_seeds": 2},
}
SAMPLE_STEPS = (7, 60)
FILES = ("metrics.jsonl", "validation.jsonl", "samples.jsonl")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("books") / "chats.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(binaries, corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    done = binaries.run_anew("text", f"--workdir={path}", corpus=corpus, **SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"seed 1: {texts_of(path, 1, 60)[10]!r}\n" in done.stdout
    return path


def rows(path, name, **where):
    found = [json.loads(line) for line in (path / name).read_text().splitlines()]
    return [row for row in found if all(row[key] == value for key, value in where.items())]


def texts_of(path, seed, step, **where):
    return [row["text"] for row in rows(path, "samples.jsonl", seed=seed, step=step, **where)]


def results(path):
    return json.loads((path / "results.json").read_text())


def lines_of(path, name, seed):
    lines = (path / name).read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if b'"seed": %d,' % seed in line)


def files_in(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


# --- By hand ----------------------------------------------------------------------------------------------------------


def logits_by_hand(params, tokens_tb):
    """From zero states, with an LSTM in every layer."""
    params = jax.tree.map(np.float64, params)
    xs = params["embedding"][tokens_tb]
    for k in range(len(params) - 2):
        layer = CELLS["lstm"].params_type(**params[f"layer_{k}"])
        zeros = np.zeros((tokens_tb.shape[1], len(layer.w_h)))
        _, xs = oracles.unroll("lstm", layer, xs, CELLS["lstm"].carry_type(h=zeros, c=zeros))
    return xs @ params["head"]["kernel"] + params["head"]["bias"]


def nats_by_hand(logits, targets):
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return scipy.special.logsumexp(logits, axis=-1) - chosen


def measured_by_hand(params, tokens):
    """Bits per character and accuracy of a text, read in up to 32 pieces."""
    pieces = min(32, len(tokens) - 1)
    length = (len(tokens) - 1) // pieces
    inputs, targets = (tokens[i : i + pieces * length].reshape(pieces, length).T for i in (0, 1))
    logits = logits_by_hand(params, inputs)
    return np.mean(nats_by_hand(logits, targets)) / np.log(2), np.mean(logits.argmax(-1) == targets)


V, D, H = 7, 5, 6
SIZES = {"embedding_size": D, "hidden_size": H}  # Two layers.


def parameters():
    rng = np.random.default_rng(0)
    layers = {f"layer_{k}": oracles.draw_params(rng, "lstm", H if k else D, H)._asdict() for k in range(2)}
    head = {"kernel": oracles.draw(rng, H, V), "bias": oracles.draw(rng, V)}
    return jax.tree.map(np.float32, {"embedding": oracles.draw(rng, V, D), **layers, "head": head})


def test_a_batch_is_divided_where_that_pays():
    config = Config(batch_size=64, hidden_size=256)
    assert text.plan_parts(config, 1) == 2
    assert text.plan_parts(dataclasses.replace(config, data_devices=4), 1) == 4
    for fields in ({"batch_size": 62}, {"batch_size": 65}, {"hidden_size": 257}, {"dropout": 0.2}):
        assert text.plan_parts(dataclasses.replace(config, **fields), 1) == 1
    assert text.plan_parts(config, jax.device_count() + 1) == 1


@pytest.mark.parametrize("size", [2, 40, 2500])
def test_bits_per_character_are_those_of_the_whole_text(size):
    """From a piece of one character to pieces of two windows, the second cut short."""
    model, params = text.build_model(Config(**SIZES), V), parameters()
    tokens = np.random.default_rng(size).integers(V, size=size)
    bits, accuracy = jax.jit(text.bits_per_character, static_argnums=0)(model, params, jnp.asarray(tokens, jnp.uint8))
    np.testing.assert_allclose((bits, accuracy), measured_by_hand(params, tokens), rtol=1e-5)


B, T, NUM_WINDOWS = 3, 5, 4
READ = B * T * NUM_WINDOWS
TOKENS = np.random.default_rng(0).integers(V, size=READ + 1 + 8)
STREAMS, TARGETS = (TOKENS[i : i + READ].reshape(B, -1).T for i in (0, 1))


def chunk(learning_rate, step, **fields):
    """The parameters after some steps from `step` on, with carried state, and their losses."""
    config = Config(**SIZES, batch_size=B, seq_length=T, carry_state=True, **fields)
    trainer = text.build_trainer(config, text.build_model(config, V), TOKENS)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(trainer.init, 0, 0.0))
    state = zeros._replace(step=jnp.int32(step), learning_rate=jnp.float32(learning_rate), params=parameters())
    after, looks = jax.jit(trainer.chunk)(state, config.max_steps)
    return after.params, looks.metrics["loss"]


def test_windows_with_carried_state_have_the_losses_of_one_long_unroll():
    _, losses = chunk(0.0, 0, chunk_steps=8)
    nats = nats_by_hand(logits_by_hand(parameters(), STREAMS), TARGETS)
    one_pass = nats.reshape(NUM_WINDOWS, T * B).mean(axis=1)
    # The state starts at zero again when the text does.
    np.testing.assert_allclose(losses, np.resize(one_pass, 9), rtol=1e-5)
    alone = nats_by_hand(logits_by_hand(parameters(), STREAMS[T : 2 * T]), TARGETS[T : 2 * T]).mean()
    assert abs(alone - one_pass[1]) > 1e-2, "the carried state should be seen"


def test_the_learning_rate_decays_and_dropout_is_there_in_training():
    """Adam's first step is the learning rate in each direction, and here it is taken at step 2000."""
    params, losses = chunk(0.01, 2000, max_steps=2000, learning_rate_decay=0.5, dropout=0.5, chunk_steps=1)
    moved = np.abs(params["head"]["bias"] - parameters()["head"]["bias"])
    np.testing.assert_allclose(moved, 0.01 * 0.5**2, rtol=1e-3)
    whole = nats_by_hand(logits_by_hand(parameters(), STREAMS[:T]), TARGETS[:T]).mean()
    assert abs(losses[0] - whole) > 1e-2


# --- A run ------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_interface_promises(finished, corpus):
    config = json.loads((finished / "config.json").read_text())
    assert (config["experiment"], config["config"]["corpus"]) == ("text", str(corpus))
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert config["data"] == {"sha256": digest, "length": len(TEXT), "characters": CHARACTERS}
    for seed in (0, 1):
        where = {"run": f"seed={seed},learning_rate=0.01", "seed": seed}
        metrics, validation = (rows(finished, f"{name}.jsonl", seed=seed) for name in ("metrics", "validation"))
        assert [row["step"] for row in metrics] == [row["step"] for row in validation] == [0, 20, 40, 60]
        assert list(metrics[0]) == [*where, "step", "loss", "accuracy"]
        measured = ["bits_per_character", "accuracy", "test_bits_per_character", "test_accuracy"]
        assert list(validation[0]) == [*where, "step", *measured]
        assert all(row.items() >= where.items() for row in metrics + validation)
        assert metrics[0]["loss"] == pytest.approx(np.log(len(CHARACTERS)), abs=0.5), "nothing is known beforehand"
        assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.5


def test_results_are_measured_on_each_part_of_the_text(finished):
    found = results(finished)
    assert (found["complete"], [row["seed"] for row in found["runs"]]) == (True, [0, 1])
    for row in found["runs"]:
        assert (row["last_step"], row["converged"], row["learning_rate"]) == (60, False, 0.01)
        _, params = jaxrnn.load(finished, seed=row["seed"])
        for name, part in PARTS.items():
            measured = row[f"{name}_bits_per_character"], row[f"{name}_accuracy"]
            np.testing.assert_allclose(measured, measured_by_hand(params, encode(part, CHARACTERS)), rtol=1e-5)
        last = rows(finished, "validation.jsonl", seed=row["seed"])[-1]
        for name in ("bits_per_character", "accuracy"):
            assert last[name] == pytest.approx(row[f"validation_{name}"], rel=1e-6)
            assert last[f"test_{name}"] == pytest.approx(row[f"test_{name}"], rel=1e-6)
    (summary,) = found["summary"]
    for name in (f"{part}_bits_per_character" for part in PARTS):
        assert summary[name]["value"] == pytest.approx(np.mean([row[name] for row in found["runs"]]))


def test_samples_are_written_at_their_steps_and_at_the_end(finished):
    kinds = [(None, length) for length in (15, 30, 120)] + [(tau, 120) for tau in (0.5, 1.0, 2.0)]
    for seed in (0, 1):
        assert [row["step"] for row in rows(finished, "samples.jsonl", seed=seed)] == [7] * 30 + [60] * 30
        for step in SAMPLE_STEPS:
            found = rows(finished, "samples.jsonl", seed=seed, step=step)
            assert [(row["tau"], row["length"]) for row in found] == [kind for kind in kinds for _ in range(5)]
            assert all(len(row["text"]) == row["length"] and set(row["text"]) <= set(CHARACTERS) for row in found)
            greedy = texts_of(finished, seed, step, tau=None, length=120)
            assert [t[:15] for t in greedy] == texts_of(finished, seed, step, length=15)
            assert [t[:30] for t in greedy] == texts_of(finished, seed, step, length=30)
            drawn = [texts_of(finished, seed, step, tau=tau) for tau in (0.5, 1.0, 2.0)]
            assert {tuple(t[0] for t in texts) for texts in drawn} == {tuple(t[0] for t in greedy)}
    assert not set(texts_of(finished, 0, 60)) & set(texts_of(finished, 0, 7))


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_are_of_the_model_after_that_step(finished, seed):
    for step in SAMPLE_STEPS:
        _, params = jaxrnn.load(finished, seed=seed, step=step)
        bits = {}
        for tau in (None, 0.5, 1.0, 2.0):
            texts = texts_of(finished, seed, step, tau=tau, length=120)
            tokens = np.stack([encode(t, CHARACTERS) for t in texts], axis=1)
            logits = logits_by_hand(params, tokens[:-1])
            chosen = np.take_along_axis(logits, tokens[1:, :, None], axis=-1)[..., 0]
            if tau is None:
                np.testing.assert_allclose(chosen, logits.max(axis=-1), atol=1e-5)
                continue
            # A draw from softmax(tau * logits) costs its entropy on average; five deviations are let pass.
            log_p = scipy.special.log_softmax(tau * logits, axis=-1)
            surprise, entropy = nats_by_hand(log_p, tokens[1:]), -(np.exp(log_p) * log_p).sum(axis=-1)
            variance = (np.exp(log_p) * log_p**2).sum(axis=-1) - entropy**2
            assert abs((surprise - entropy).sum()) < 5 * np.sqrt(variance.sum())
            bits[tau] = nats_by_hand(logits, tokens[1:]).mean()
        assert bits[0.5] > bits[1.0] > bits[2.0]


def test_a_lane_alone_killed_and_resumed_has_the_same_bytes_but_not_with_another_text(binaries, finished, tmp_path):
    path, corpus = tmp_path / "killed", tmp_path / "mine.txt"
    corpus.write_text(TEXT, encoding="utf-8")
    alone = {**SMALL, "num_seeds": 1, "first_seed": 1}
    process = binaries.start("text", f"--workdir={path}", corpus=corpus, **alone)
    while process.poll() is None and not (path / "samples.jsonl").exists():
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 0.3))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    # As far as it came, it wrote what it wrote beside another.
    assert all(lines_of(finished, name, 1).startswith((path / name).read_bytes()) for name in FILES)

    corpus.write_text(TEXT.replace("vieux", "petit"), encoding="utf-8")
    left = files_in(path)
    done = binaries.run("text", "--resume", f"--workdir={path}")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {path}: the run was started on other data: sha256 was ")
    assert files_in(path) == left

    corpus.write_text(TEXT, encoding="utf-8")
    moved = corpus.rename(tmp_path / "moved.txt")
    done = binaries.run("text", "--resume", f"--workdir={path}", corpus=moved)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((path / "config.json").read_text())["config"]["corpus"] == str(moved)
    assert [(path / name).read_bytes() for name in FILES] == [lines_of(finished, name, 1) for name in FILES]
    assert results(path)["complete"]
    assert results(path)["runs"] == results(finished)["runs"][1:]


def test_what_a_terminal_cannot_show_is_escaped(binaries, finished):
    def written(*arguments):
        command = command_line("sample", f"--workdir={finished}", "--run_seed=0", "--start=é", "--length=3", *arguments)
        ascii_only = binaries.environment | {"PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, capture_output=True, cwd=ROOT, env=ascii_only, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode("ascii")

    text = json.loads(written("--json"))["text"]
    assert text.startswith("é")
    assert written() == text.replace("é", "\\xe9") + "\n"


# --- Bad input --------------------------------------------------------------------------------------------------------


def complaint(fields):
    with pytest.raises((launch.UsageError, DataError)) as error:
        text.check(launch.validate(Config, fields))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"hiden_size": 3}, "the config has a field 'hiden_size', which this experiment does not know"),
        ({"cell": "transformer"}, "--config.cell=transformer: should be one of rnn, "),
        ({"max_steps": -1}, "--config.max_steps=-1: input should be greater than or equal to 0"),
        ({"sample_steps": (5, -1)}, "--config.sample_steps=(5, -1): input should be greater than or equal to 0"),
        ({"dropout": float("nan")}, "--config.dropout=nan: input should be"),
        ({"validation_fraction": 1.0}, "--config.validation_fraction=1.0: input should be less than 1"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "--config.validation_fraction=0.5: the fractions for"),
        ({"validation_fraction": 1e-4}, "--config.validation_fraction=0.0001: leaves 0 of 2100 characters"),
        ({"test_fraction": 5e-4}, "--config.test_fraction=0.0005: leaves 1 of 2100 characters"),
        ({"seq_length": 2100}, "--config.seq_length=2100: a text of 2100 characters is too short for 1 x 2100"),
        ({"seq_length": 25, "validation_fraction": 0.99}, "--config.seq_length=25: a text of 21 characters"),
        ({"seq_length": 525, "batch_size": 4, "carry_state": True}, "--config.seq_length=525: a text of 2100 char"),
    ],
)
def test_values_that_do_not_fit_name_the_field(tmp_path, fields, hint):
    (tmp_path / "abc.txt").write_text("abc" * 700)
    assert complaint({"corpus": str(tmp_path / "abc.txt"), **fields}).startswith(hint)


def test_the_largest_values_that_fit_are_taken(tmp_path):
    (tmp_path / "abc.txt").write_text("abc" * 700)
    carried = {"seq_length": 524, "batch_size": 4, "carry_state": True}
    for fields in ({"seq_length": 2099}, carried, {"validation_fraction": 1e-3, "test_fraction": 1e-3}):
        text.check(launch.validate(Config, {"corpus": str(tmp_path / "abc.txt"), **fields}))


@pytest.mark.parametrize(
    ("content", "encoding", "hint"),
    [
        (b"", "utf-8", "{} is empty: there is nothing to learn"),
        (b"aaaa", "utf-8", "{} has no character but 'a'"),
        ("café".encode("latin-1"), "utf-8", "{} is not utf-8: byte 0xe9 at offset 3"),
        (b"abc", "utf-9", "'utf-9' is not a text encoding"),
        (None, "utf-8", "{} is neither a known text (pydoc, grimm, democracy, darwin) nor a file"),
    ],
)
def test_texts_that_cannot_be_used_name_the_file(tmp_path, content, encoding, hint):
    path = tmp_path / "some.txt"
    if content is not None:
        path.write_bytes(content)
    assert hint.format(repr(str(path))) in complaint({"corpus": str(path), "encoding": encoding})


def test_bad_input_ends_a_process_in_one_line_and_nothing_is_written(binaries, tmp_path):
    # A proxy that nobody listens to keeps the network out.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}
    folders = {"JAXRNN_CACHE_DIR": f"{tmp_path}/cache", "JAXRNN_DATA_DIR": f"{tmp_path}/nothing"}
    offline = {**proxies, **{name.upper(): value for name, value in proxies.items()}, **folders}
    typo = "error: --config.hiden_size: there is no such field; did you mean hidden_size?"
    missing = f"{tmp_path}/nothing/books/grimm.txt or {tmp_path}/cache/books/grimm.txt"
    for fields, code, hint in [({"hiden_size": 16}, 2, typo), ({"corpus": "grimm"}, 1, missing)]:
        done = binaries.run("text", f"--workdir={tmp_path / 'run'}", environment=offline, **fields)
        assert done.returncode == code
        # What is to be fetched is announced.
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Downloading data from ")]
        assert hint in line
        assert ("--data_dir=DIR" in line) == (code == 1)
        assert files_in(tmp_path) == {}
