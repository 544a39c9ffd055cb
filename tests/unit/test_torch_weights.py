"""Weights from and to PyTorch: the logits are those of its own modules; names, shapes and bits need no PyTorch."""

import argparse
import functools
import json
import pickle
import re
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from experiments.torch_weights import (
    WeightsError,
    cells_of,
    export_weights,
    import_weights,
    read_checkpoint,
    read_vocabulary,
    run_directory,
    vocabulary_of,
    write_state_dict,
)
from jaxrnn.cells import CELLS
from jaxrnn.data.files import DataError
from jaxrnn.recurrence import unroll

V, D, H = 7, 5, 6
LSTM_NAMES = [f"{kind}_l{k}" for k in range(2) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def state_dict(prefix="lstm.", embedding="embedding.weight", head="head", gates=4):
    """Random tensors of two layers."""
    rng = np.random.default_rng(0)
    rows = gates * H
    shapes = {
        embedding: (V, D),
        **{
            f"{prefix}{name}": {
                "weight_ih_l0": (rows, D),
                "weight_ih_l1": (rows, H),
                "weight_hh_l0": (rows, H),
                "weight_hh_l1": (rows, H),
            }.get(name, (rows,))
            for name in LSTM_NAMES
        },
        f"{head}.weight": (V, H),
        f"{head}.bias": (V,),
    }
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def parameters(cell="lstm", num_layers=2):
    """Parameters of our model, of any cell."""
    rng = np.random.default_rng(1)
    params = {
        "embedding": oracles.draw(rng, V, D),
        **{f"layer_{k}": oracles.draw_params(rng, cell, H if k else D, H)._asdict() for k in range(num_layers)},
        "head": {"kernel": oracles.draw(rng, H, V), "bias": oracles.draw(rng, V)},
    }
    return jax.tree.map(np.float32, params)


def bits(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()), tree)


def raises(*patterns):
    """Expects a `WeightsError` of one line that has all of the words in it."""
    return pytest.raises(WeightsError, match="".join(f"(?=.*{re.escape(text)})" for text in patterns) + r"[^\n]*\Z")


# --- Names, shapes and bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["lstm.", "", "module.net.rnn.", "char_"])
def test_matrices_are_transposed_and_biases_added_whatever_the_names(prefix):
    state = state_dict(prefix, embedding="emb", head="model.decoder")
    params = import_weights(dict(sorted(state.items(), reverse=True)))
    expected = {
        "embedding": state["emb"],
        **{
            f"layer_{k}": {
                "w_x": state[f"{prefix}weight_ih_l{k}"].T,
                "w_h": state[f"{prefix}weight_hh_l{k}"].T,
                "b": state[f"{prefix}bias_ih_l{k}"] + state[f"{prefix}bias_hh_l{k}"],
            }
            for k in range(2)
        },
        "head": {"kernel": state["model.decoder.weight"].T, "bias": state["model.decoder.bias"]},
    }
    assert bits(params) == bits(expected)
    state["emb"][...] = 0
    assert params["embedding"].all()  # A copy.


def test_without_biases_they_are_zero():
    state = {name: array for name, array in state_dict().items() if "bias_" not in name}
    params = import_weights(state)
    assert [params[f"layer_{k}"]["b"].tolist() for k in range(2)] == [[0.0] * 4 * H] * 2


@pytest.mark.parametrize("num_layers", [1, 2, 12])
def test_a_round_trip_keeps_every_bit(num_layers):
    params = parameters(num_layers=num_layers)
    special = np.float32([-0.0, 0.0, 1e-45, -1e-40, np.finfo(np.float32).max])
    params["layer_0"]["b"] = jnp.asarray(np.resize(special, 4 * H))
    params["embedding"][:] = special
    state = export_weights(params, "lstm")
    np.testing.assert_array_equal(state["lstm.bias_hh_l0"], np.zeros(4 * H))
    assert bits(import_weights(dict(sorted(state.items())))) == bits(params)


@pytest.mark.parametrize("cell", ["gru", "rnn", "relu_rnn"])
def test_a_round_trip_of_other_cells_keeps_every_bit(cell):
    params = parameters(cell)
    found = import_weights(export_weights(params, cell))
    assert cell in cells_of(found)
    assert bits(found) == bits(params)


@pytest.mark.parametrize("cell", sorted(set(CELLS) - {"lstm", "gru", "rnn", "relu_rnn"}))
def test_other_cells_are_not_written(cell):
    with raises("no layer of the cell", cell):
        export_weights(parameters(cell), cell)


def test_a_head_may_lack_its_bias_and_characters_their_embedding():
    state = {name: array for name, array in state_dict().items() if name != "head.bias"}
    params = import_weights(state)
    np.testing.assert_array_equal(params["head"]["kernel"], state["head.weight"].T)
    assert not params["head"]["bias"].any()
    one_hot = {name: array for name, array in state_dict().items() if name != "embedding.weight"}
    one_hot["lstm.weight_ih_l0"] = np.ones((4 * H, V), np.float32)
    np.testing.assert_array_equal(import_weights(one_hot)["embedding"], np.eye(V))


def test_of_tied_weights_a_file_may_have_one():
    state = {name: array for name, array in state_dict().items() if name != "head.weight"}
    rng = np.random.default_rng(1)
    state |= {"embedding.weight": oracles.draw(rng, V, H), "lstm.weight_ih_l0": oracles.draw(rng, 4 * H, H)}
    params = import_weights(state)
    np.testing.assert_array_equal(params["head"]["kernel"], params["embedding"].T)
    np.testing.assert_array_equal(params["head"]["bias"], state["head.bias"])


# --- State dicts that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lstm.weight_hh_l1": None}, "'lstm.weight_ih_l1' [24, 6]"),
        ({f"lstm.{name}": None for name in LSTM_NAMES}, "'head.bias' [7]"),
        ({f"lstm.{name}": None for name in LSTM_NAMES[:4]}, "'lstm.weight_ih_l1' [24, 6]"),
        ({"lstm.bias_hh_l0": None, "lstm.bias_hh_l1": None}, "'lstm.bias_ih_l1' [24]"),
        ({"a\nb": (9, 5)}, r"'a\nb' [9, 5]"),
        ({"lstm.weight_ih_l0_reverse": (24, 5)}, "one direction"),
        ({"lstm.weight_hr_l0": (3, 6)}, "without projection"),
        ({"other.weight_ih_l0": (24, 5)}, "'other.weight_ih_l0'"),
        ({"lstm.weight_ih_l0": (24, 4)}, "[24, 4]"),
        ({"lstm.bias_ih_l1": (24, 1)}, "[24, 1]"),
        ({"lstm.weight_hh_l0": (24,)}, "'lstm.weight_hh_l0' [24]"),
        ({"head.weight": (8, 6), "head.bias": (8,)}, "'head.weight' [8, 6]"),
    ],
)
def test_tensors_that_are_missing_left_over_or_of_another_shape(changes, words):
    state = state_dict()
    for name, shape in changes.items():
        if shape is None:
            del state[name]
        else:
            state[name] = np.zeros(shape, np.float32)
    with raises("one LSTM, GRU or RNN of one direction", words):
        import_weights(state)


@pytest.mark.parametrize("gates", [2, 5])
def test_other_layers_have_the_same_names(gates):
    with raises("one LSTM, GRU or RNN", f"[{gates * H}, {H}]"):
        import_weights(state_dict(gates=gates))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(value):
    state = state_dict()
    state["head.bias"][-2:] = value
    with raises("'head.bias'", "NaN or infinite"):
        import_weights(state)


# --- PyTorch as the oracle --------------------------------------------------------------------------------------------


def torch_model(torch, names, sizes, layer="LSTM", **options):
    """Embedding, recurrent layer and linear layer under the given names, as `state_dict` sees them."""
    vocabulary_size, embedding_size, hidden_size = sizes
    torch.manual_seed(0)
    modules = [
        torch.nn.Embedding(vocabulary_size, embedding_size),
        getattr(torch.nn, layer)(embedding_size, hidden_size, num_layers=2, **options),
        torch.nn.Linear(hidden_size, vocabulary_size),
    ]
    return torch.nn.ModuleDict(dict(zip(names, modules, strict=True)))


def torch_logits(torch, model, tokens):
    embedding, lstm, head = model.values()
    with torch.no_grad():
        return head(lstm(embedding(torch.tensor(tokens)))[0]).numpy()


@functools.partial(jax.jit, static_argnames="name")
def jax_logits(params, tokens, name="lstm"):
    cell = CELLS[name]
    _, ys = unroll(cell, cell.params_type(**params["layer_0"]), tokens, embedding=params["embedding"])
    _, ys = unroll(cell, cell.params_type(**params["layer_1"]), ys)
    return ys @ params["head"]["kernel"] + params["head"]["bias"]


def draw_tokens(vocabulary_size):
    return np.random.default_rng(2).integers(vocabulary_size, size=(20, 3))


@pytest.mark.parametrize(
    ("names", "wrap", "sizes", "options"),
    [
        (("embedding", "lstm", "head"), lambda state: state, (V, D, H), {}),
        # One size for all: no shape tells the layers, or a matrix and its transpose, apart.
        (("emb", "rnn", "fc"), lambda state: {"epoch": 3, "state_dict": state}, (6, 6, 6), {}),
        (("zz", "decoder", "a"), lambda state: {"model_state_dict": state, "loss": None}, (V, D, H), {"bias": False}),
        (("embedding", "gru", "head"), lambda state: {"model": state}, (V, D, H), {"layer": "GRU"}),
        (("embedding", "rnn", "head"), lambda state: state, (V, D, H), {"layer": "RNN"}),
        (("embedding", "rnn", "head"), lambda state: state, (V, D, H), {"layer": "RNN", "nonlinearity": "relu"}),
    ],
)
def test_logits_are_those_of_pytorchs_modules(torch, tmp_path, names, wrap, sizes, options):
    model = torch_model(torch, names, sizes, **options)
    tokens = draw_tokens(sizes[0])
    torch.save(wrap(model.state_dict()), tmp_path / "model.pt")
    params = import_weights(read_checkpoint(tmp_path / "model.pt").state)
    expected = torch_logits(torch, model, tokens)
    assert np.ptp(expected) > 0.5
    cell = cells_of(params)["nonlinearity" in options]
    np.testing.assert_allclose(jax_logits(params, tokens, cell), expected, rtol=0, atol=1e-5)


def test_what_is_written_loads_into_pytorchs_modules(torch, tmp_path):
    params = parameters()
    write_state_dict(tmp_path / "model.pt", export_weights(params, "lstm"))
    model = torch_model(torch, ("embedding", "lstm", "head"), (V, D, H))
    tensors = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    model.load_state_dict(tensors, strict=True)
    tokens = draw_tokens(V)
    np.testing.assert_allclose(torch_logits(torch, model, tokens), jax_logits(params, tokens), rtol=0, atol=1e-5)
    assert bits(import_weights(read_checkpoint(tmp_path / "model.pt").state)) == bits(params)


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_floating_point_is_read_as_float32(torch, tmp_path, dtype):
    """Pi to the bits of each type, from its definition; float64 is rounded to the nearest float32."""
    tensor = torch.tensor([np.pi, -1e-4], dtype=getattr(torch, dtype), requires_grad=True)
    torch.save({"w": tensor, "count": torch.tensor(3)}, tmp_path / "w.pt")
    state = read_checkpoint(tmp_path / "w.pt").state
    assert state["w"].dtype == np.float32
    assert state["w"][0] == {"float16": 3.140625, "bfloat16": 3.140625}.get(dtype, np.float32(np.pi))
    assert state["count"] == 3


def test_files_that_cannot_be_written_or_opened(torch, tmp_path):
    (tmp_path / "model.pt").write_text("mine")
    with raises("model.pt: cannot be written: File exists"):
        write_state_dict(tmp_path / "model.pt", state_dict())
    assert (tmp_path / "model.pt").read_text() == "mine"
    (tmp_path / ".full.pt.tmp").symlink_to("/dev/full")
    with raises("full.pt: cannot be written: No space left on device"):
        write_state_dict(tmp_path / "full.pt", state_dict())
    assert not (tmp_path / "full.pt").exists()
    with raises("cannot be written", "No such file or directory"):
        write_state_dict(tmp_path / "nowhere" / "model.pt", state_dict())
    with raises(str(tmp_path / "none.pt"), "no such file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(DataError, match="Is a directory"):
        read_checkpoint(tmp_path)


def test_a_damaged_file_is_not_read(torch, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(1000)}, path)
    content = path.read_bytes()
    for other in (b"", b"hello world", b"PK\x03\x04", bytes(range(256)) * 9, pickle.dumps({1: 2}), content[:-100]):
        path.write_bytes(other)
        with warnings.catch_warnings(record=True) as caught, raises("model.pt: damaged, or not a state dict"):
            warnings.simplefilter("always")
            read_checkpoint(path)
        assert not caught


class Marker:
    """Unpickling one shows that code of the file has run."""

    unpickled = False

    def __setstate__(self, state):
        Marker.unpickled = True


def test_code_in_a_file_is_not_run(torch, tmp_path):
    marker = Marker()
    marker.state = 1
    for content in (marker, {"model": {}, "args": marker}, torch.nn.LSTM(2, 3)):
        torch.save(content, tmp_path / "model.pt")
        with raises("holds objects of ", "which are not loaded", "state_dict()"):
            read_checkpoint(tmp_path / "model.pt")
    assert not Marker.unpickled


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {"net": {}}, {"model": {"a": {}}}, {3: 4}, {"state_dict": [1]}]
)
def test_files_without_a_flat_state_dict(torch, tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with raises("not a state dict of dense tensors alone, or one under state_dict, model_state_dict, model"):
        read_checkpoint(tmp_path / "model.pt")


def test_tensors_that_are_not_dense_arrays(torch, tmp_path):
    for tensor in (torch.zeros(2, device="meta"), torch.eye(2).to_sparse()):
        torch.save({"w": tensor}, tmp_path / "model.pt")
        with raises("not a state dict of dense tensors"):
            read_checkpoint(tmp_path / "model.pt")


def test_without_pytorch_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a").touch()
    for call in (lambda: read_checkpoint(tmp_path / "a"), lambda: write_state_dict(tmp_path / "b", state_dict())):
        with raises("PyTorch is not installed", "pip install -e '.[torch]'"):
            call()
    assert not (tmp_path / "b").exists()


# --- The vocabulary ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", ["bac", ["b", "a", "c"], {"b": 0, "a": 1, "c": 2}, {0: "b", 2: "c", 1: "a"}, '["b", "a", "c"]']
)
def test_a_vocabulary_is_read_in_its_order(entry):
    assert vocabulary_of(entry) == "bac"


@pytest.mark.parametrize("entry", ["aba", "[" * 100_000, ["ab", "c"], {"a": 0, "b": 2}, 3, None])
def test_what_is_no_vocabulary_is_none(entry):
    assert vocabulary_of(entry) is None


@pytest.mark.parametrize(
    ("name", "content"), [("v.txt", "b\nac"), ("v.txt", "b\nac\n"), ("v.json", '["b", "\\n", "a", "c"]')]
)
def test_a_vocabulary_is_a_file_of_characters_or_json(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_vocabulary(tmp_path / name, 4) == "b\nac"
    with raises("v", "the model knows 5"):
        read_vocabulary(tmp_path / name, 5)


def test_the_mark_of_a_vocabulary_is_no_character(tmp_path):
    (tmp_path / "v.txt").write_bytes("\ufeffbac".encode())
    assert read_vocabulary(tmp_path / "v.txt", 3) == "bac"


def test_the_bits_of_an_import_are_those_of_a_loop_in_the_order_of_the_vocabulary(tmp_path):
    """A model that says what follows what, its characters in an order that is not sorted."""
    text, order = "abc" * 40, "acb"
    params = parameters(num_layers=1)
    params["embedding"], H = np.eye(3, dtype=np.float32) * 50, len(params["layer_0"]["w_h"])
    gates = np.zeros((3, 4, H), np.float32)
    gates[:, 2] = np.eye(3, H) * 50  # The candidate: one unit a character; it replaces what was there.
    params["layer_0"] = {
        "w_x": gates.reshape(3, 4 * H),
        "w_h": np.zeros((H, 4 * H), np.float32),
        "b": np.repeat(np.float32([50, -50, 0, 50]), H),
    }
    kernel = np.zeros((H, 3), np.float32)
    for character, follows in zip("abc", "bca", strict=True):
        kernel[order.index(character), order.index(follows)] = 50
    params["head"] = {"kernel": kernel, "bias": np.zeros(3, np.float32)}
    (tmp_path / "text.txt").write_text(text)
    found = {
        characters: run_directory(params, str(tmp_path / "text.txt"), "utf-8", tmp_path / str(i), characters)[1]
        for i, characters in enumerate([None, order])
    }
    assert found[order] < 0.01
    assert found[None] > np.log2(3)
    assert json.loads((tmp_path / "1/config.json").read_text())["data"]["characters"] == order
    with raises("not in the vocabulary"):
        run_directory(params, str(tmp_path / "text.txt"), "utf-8", tmp_path / "2", "xyz")


@pytest.mark.parametrize(
    ("cell", "of_a", "of_b", "to_b", "bias"), [("rnn", -50, 50, -50, 0), ("relu_rnn", 50, 0, 1, -25)]
)
def test_an_rnn_has_the_nonlinearity_that_fits_the_text(tmp_path, cell, of_a, of_b, to_b, bias):
    """One unit says what comes next, with this nonlinearity alone: the other one fails after one of the letters."""
    (tmp_path / "text.txt").write_text("ab" * 40)
    params = {
        "embedding": np.eye(2, dtype=np.float32),
        "layer_0": {"w_x": np.float32([[of_a], [of_b]]), "w_h": np.zeros((1, 1), np.float32), "b": np.float32([0])},
        "head": {"kernel": np.float32([[0, to_b]]), "bias": np.float32([0, bias])},
    }
    found = run_directory(params, str(tmp_path / "text.txt"), "utf-8", tmp_path / "a")
    assert found == (cell, pytest.approx(0, abs=1e-6))
    assert json.loads((tmp_path / "a/config.json").read_text())["config"]["cell"] == cell


def test_a_checkpoint_has_weights_beside_other_things(torch, tmp_path):
    tensors = {name: torch.tensor(array) for name, array in state_dict().items()}
    torch.save({"model": {"sizes": {"a": 1}}, "state_dict": tensors, "chars": ["b", "a"], "step": 3}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert found.state.keys() == tensors.keys()
    assert found.characters == "ba"
    torch.save({"state_dict": tensors, "args": argparse.Namespace(lr=1)}, tmp_path / "b.pt")
    with raises("argparse.Namespace"):
        read_checkpoint(tmp_path / "b.pt")
