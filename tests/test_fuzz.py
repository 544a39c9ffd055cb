"""Input as an attacker or a tired person would give it: one clear line or a run, and nothing half written."""

import dataclasses
import functools
import io
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planetoid import PICKLES, example, load, write

from experiments import gradients, launch, nodes, palindrome, text, torch_weights
from jaxrnn.data import files
from jaxrnn.data import text as texts
from jaxrnn.data.files import DataError
from jaxrnn.rundir.directory import RunError

EXPERIMENTS = {e.name: e for e in (palindrome.EXPERIMENT, nodes.EXPERIMENT, text.EXPERIMENT, gradients.EXPERIMENT)}
# Small where it is not made up.
SMALL = {
    "palindrome": {"digits": 2, "hidden_size": 4, "batch_size": 4, "max_steps": 0, "num_seeds": 1, "test_samples": 4},
    "nodes": {"max_steps": 0, "num_seeds": 1},
    "text": {"hidden_size": 4, "batch_size": 4, "max_steps": 0, "seq_length": 4},
    "gradients": {"digits": 2, "hidden_size": 4, "batch_size": 4, "num_seeds": 1, "train_steps": 0},
}
INTEGERS = st.sampled_from([0, -1, 1, 3, 2**15, 2**31 - 1, 2**31, 2**63, 10**30]) | st.integers()
NUMBERS = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-320, 1e308, 0.5]) | st.floats()
CHARACTERS = st.characters(exclude_categories=["Cc", "Zl", "Zp"])
NAMES = st.sampled_from(["", " ", "lstm", "LSTM", "gru_cho", "../..", "/", "karate", "utf-8", "\ud800", "a" * 300])
VALUES = (
    INTEGERS | NUMBERS | NAMES | st.text(CHARACTERS, max_size=8) | st.none() | st.booleans() | st.binary(max_size=4)
)
ANYTHING = VALUES | st.lists(VALUES, max_size=3) | st.lists(VALUES, max_size=3).map(tuple) | st.just({})


@pytest.fixture(autouse=True, scope="module")
def no_network():
    """Made-up names may be those of known data."""

    def refuse(*_):
        raise DataError("not fetched in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_fetch", refuse)
        yield


def one_line(error):
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1, message


def fields_of(name):
    return [field.name for field in dataclasses.fields(EXPERIMENTS[name].schema)]


@pytest.mark.parametrize("name", EXPERIMENTS)
@given(data=st.data())
def test_a_config_of_any_values_is_built_or_refused_in_one_line(tally, name, data):
    made_up = data.draw(st.dictionaries(st.sampled_from(fields_of(name)), ANYTHING, min_size=1, max_size=3))
    experiment = EXPERIMENTS[name]
    try:
        config = launch.validate(experiment.schema, {**SMALL[name], **made_up})
        experiment.check(config)
        experiment.prepare(config)
    except (launch.UsageError, DataError, RunError) as error:
        one_line(error)
    tally["configs of any values"] += 1


TYPED = (
    INTEGERS.map(str)
    | NUMBERS.map(repr)
    | st.sampled_from(
        ["", " ", "None", "true", "[", "(", "()", "[1,", "1,2,x", "1e999", "0x10", "'", "..", "-", "--", "=", "🙂"]
    )
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
)


@pytest.mark.parametrize("name", ["palindrome", "nodes"])
@settings(max_examples=max(5, settings.default.max_examples // 8))  # Each is a process.
@given(data=st.data())
def test_a_command_line_of_any_values_ends_in_one_line_or_in_results(binaries, tally, tmp_path_factory, name, data):
    made_up = data.draw(st.dictionaries(st.sampled_from(fields_of(name)), TYPED, min_size=1, max_size=2))
    # What is right and takes long would be done.
    many = [field for field in ("max_steps", "num_seeds") if len(made_up.get(field, "").strip("0+")) > 1]
    made_up = {field: value for field, value in made_up.items() if field not in many}
    path = tmp_path_factory.mktemp("fuzz") / "run"
    ended = binaries.run(name, f"--workdir={path}", **{**SMALL[name], **made_up})
    assert ended.returncode in (0, 1, 2), ended.stderr
    tally["command lines of any values"] += 1
    if ended.returncode == 0:
        assert (path / "results.json").exists()
        return
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert not path.exists()


# --- Files ------------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw, original):
    """The bytes of a file, cut, with bits flipped, with parts swapped, doubled or put in."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        position, length = draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "drop", "flip", "swap", "double", "put"])):
            case "cut":
                del content[position:]
            case "drop":
                del content[position : position + length]
            case "flip":
                content[position] ^= 1 << draw(st.integers(0, 7))
            case "swap":
                other = draw(st.integers(0, len(content) - 1))
                content[position], content[other] = content[other], content[position]
            case "double":
                content[position:position] = content[position : position + length]
            case "put":
                content[position:position] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content)


@pytest.mark.parametrize("part", [*PICKLES, "test.index"])
@given(data=st.data())
def test_a_damaged_graph_file_is_refused_in_one_line_or_read(tally, tmp_path_factory, part, data):
    tally["damaged graph files"] += 1
    protocol = data.draw(st.sampled_from([0, 2, 4, 5]))
    objects = example()
    original = (
        pickle.dumps(objects[part], protocol) if part in PICKLES else b"".join(b"%d\n" % n for n in objects[part])
    )
    folder = tmp_path_factory.mktemp("graph")
    name = write(folder, {**objects, part: data.draw(damaged(original))}, protocol)
    try:
        task = load(name)
    except DataError as error:
        one_line(error)
        assert str(folder) in str(error)
    else:
        assert np.isfinite(task.features.data).all()
        assert task.edges.senders.max(initial=0) < len(task.labels)


@given(content=st.binary(max_size=300) | damaged("Es war einmal ein König.\r\n".encode() * 9), encoding=NAMES)
def test_any_file_is_a_text_or_refused_in_one_line(tally, tmp_path_factory, content, encoding):
    tally["files that may be a text"] += 1
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_bytes(content)
    for coding in ("utf-8", "latin-1", encoding):
        try:
            corpus = texts.load(str(path), coding, None, path.parent / "cache")
        except DataError as error:
            one_line(error)
        else:
            assert len(corpus.characters) >= 2
            assert corpus.tokens.max() < len(corpus.characters)


@functools.cache
def state_dict():
    torch = pytest.importorskip("torch")
    shapes = {"embed.weight": (5, 3), "lstm.weight_ih_l0": (16, 3), "lstm.weight_hh_l0": (16, 4)}
    shapes |= {"lstm.bias_ih_l0": (16,), "lstm.bias_hh_l0": (16,), "out.weight": (5, 4), "out.bias": (5,)}
    content = io.BytesIO()
    torch.save({name: torch.ones(shape) for name, shape in shapes.items()}, content)
    return content.getvalue()


@given(data=st.data())
def test_a_damaged_state_dict_is_refused_in_one_line_or_read(tally, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    path.write_bytes(data.draw(damaged(state_dict())))
    tally["damaged state dicts"] += 1
    try:
        params = torch_weights.import_weights(torch_weights.read_state_dict(path))
    except torch_weights.WeightsError as error:
        one_line(error)
    else:
        assert np.isfinite(params["head"]["kernel"]).all()
