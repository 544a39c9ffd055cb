"""Weights from and to PyTorch: the logits are those of its own modules; names, shapes and bits need no PyTorch."""

import pickle
import re
import resource
import signal
import sys
import warnings
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from experiments.torch_weights import WeightsError, export_weights, import_weights, read_state_dict, write_state_dict
from jaxrnn.cells import CELLS, LSTMParams
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
    """Expects a `WeightsError` of one line that has all of the texts in it."""
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


def test_the_parameters_are_a_copy():
    state = state_dict()
    params = import_weights(state)
    before = bits(params)
    for array in state.values():
        array[...] = 0
    assert bits(params) == before


def test_without_biases_they_are_zero():
    state = {name: array for name, array in state_dict().items() if "bias_" not in name}
    params = import_weights(state)
    assert [params[f"layer_{k}"]["b"].tolist() for k in range(2)] == [[0.0] * 4 * H] * 2


def test_more_than_ten_layers_keep_their_order():
    state = export_weights(parameters(num_layers=12))
    params = import_weights(dict(sorted(state.items())))
    assert list(params) == ["embedding", *(f"layer_{k}" for k in range(12)), "head"]
    np.testing.assert_array_equal(params["layer_10"]["w_x"], state["lstm.weight_ih_l10"].T)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_round_trip_keeps_every_bit(num_layers):
    params = parameters(num_layers=num_layers)
    special = np.float32([-0.0, 0.0, 1e-45, -1e-40, np.finfo(np.float32).max])
    params["layer_0"]["b"] = jnp.asarray(np.resize(special, 4 * H))
    params["embedding"][:] = special
    state = export_weights(params)
    assert list(state) == [
        "embedding.weight",
        *(f"lstm.{name}" for name in LSTM_NAMES[: 4 * num_layers]),
        "head.weight",
        "head.bias",
    ]
    np.testing.assert_array_equal(state["lstm.bias_hh_l0"], np.zeros(4 * H))
    assert bits(import_weights(state)) == bits(params)


@pytest.mark.parametrize("cell", sorted(set(CELLS) - {"lstm"}))
def test_other_cells_are_not_written(cell):
    with raises("not an LSTM"):
        export_weights(parameters(cell))


def test_other_models_are_not_written():
    params = parameters()
    for other in ({"forward": params["layer_0"]}, params | {"layer_3": params["layer_1"]}):
        with raises("not the parameters of a character language model", next(iter(other))):
            export_weights(other)
    with raises("lstm.bias_ih_l1", "NaN"):
        export_weights(params | {"layer_1": params["layer_1"] | {"b": jnp.full(4 * H, jnp.nan)}})
    with raises("head.weight", "[7, 4]"):
        export_weights(params | {"head": params["head"] | {"kernel": params["head"]["kernel"][:4]}})


# --- State dicts that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        ({"lstm.weight_hh_l1": None}, ["lacks 'lstm.weight_hh_l1'", "'lstm.weight_ih_l1' [24, 6]"]),
        ({"lstm.bias_hh_l0": None}, ["lacks 'lstm.bias_hh_l0'"]),
        ({f"lstm.{name}": None for name in LSTM_NAMES[:4]}, ["lacks 'lstm.weight_ih_l0'"]),
        ({f"lstm.{name}": None for name in LSTM_NAMES}, ["no LSTM", "'head.weight' [7, 6]"]),
        ({"embedding.weight": None}, ["one embedding", "found 'head.weight' [7, 6], 'head.bias' [7]"]),
        ({"head.bias": None}, ["one linear layer", "'head.weight' [7, 6]"]),
        ({"fc.weight": (6, 6), "fc.bias": (6,)}, ["one linear layer", "'fc.weight' [6, 6]"]),
        ({"position": (9, 5)}, ["one embedding", "'position' [9, 5]"]),
        ({"norm.weight": (6,), "norm.bias": (6,)}, ["nothing else", "'norm.bias' [6]"]),
        ({"cell.weight_ih": (24, 5)}, ["one embedding", "'cell.weight_ih' [24, 5]"]),
        ({"a\nb": (9, 5)}, [r"'a\nb' [9, 5]"]),
        ({"lstm.weight_ih_l0_reverse": (24, 5)}, ["bidirectional"]),
        ({"lstm.weight_hr_l0": (3, 6)}, ["projection"]),
        ({"other.weight_ih_l0": (24, 5)}, ["'lstm.'", "'other.'", "not several"]),
        ({"lstm.weight_ih_l0": (24, 4)}, ["do not fit", "ask for 'lstm.weight_ih_l0' [24, 5]; found", "[24, 4]"]),
        ({"lstm.weight_ih_l1": (24, 5)}, ["ask for 'lstm.weight_ih_l1' [24, 6]; found"]),
        ({"lstm.weight_hh_l1": (32, 8)}, ["ask for 'lstm.weight_hh_l1' [24, 6]; found"]),
        ({"lstm.bias_ih_l1": (24, 1)}, ["ask for 'lstm.bias_ih_l1' [24]; found 'lstm.bias_ih_l1' [24, 1]"]),
        ({"lstm.weight_hh_l0": (24,)}, ["not an LSTM", "[24], and"]),
        ({"head.weight": (7, 5)}, ["ask for 'head.weight' [7, 6]; found 'head.weight' [7, 5]"]),
        ({"head.weight": (8, 6), "head.bias": (8,)}, ["V=7", "found 'head.weight' [8, 6], 'head.bias' [8]"]),
    ],
)
def test_tensors_that_are_missing_left_over_or_of_another_shape(changes, patterns):
    state = state_dict()
    for name, shape in changes.items():
        if shape is None:
            del state[name]
        else:
            state[name] = np.zeros(shape, np.float32)
    with raises(*patterns):
        import_weights(state)


def test_a_long_list_is_cut():
    blocks = {f"block{k}.weight": np.zeros((2, 2)) for k in range(300)}
    with raises("'block0.weight' [2, 2]", "and 291 more") as caught:
        import_weights(state_dict() | blocks)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("gates", "hint"), [(3, "a GRU's"), (1, "an RNN's"), (2, "[12, 6]")])
def test_other_layers_have_the_same_names(gates, hint):
    with raises("not an LSTM", hint):
        import_weights(state_dict(gates=gates))


@pytest.mark.parametrize("name", state_dict())
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_in_float32(name, value):
    state = {key: np.float64(array) for key, array in state_dict().items()}
    import_weights(state)
    state[name].flat[-2:] = value
    with raises(repr(name), "2 numbers that are NaN or infinite"):
        import_weights(state)


def test_integers_are_not_weights():
    with raises("'head.bias' is int64"):
        import_weights(state_dict() | {"head.bias": np.zeros(V, np.int64)})


# --- PyTorch as the oracle --------------------------------------------------------------------------------------------


def torch_model(torch, names, sizes, **options):
    """Embedding, LSTM and linear layer under the given names, as `state_dict` sees them."""
    vocabulary_size, embedding_size, hidden_size = sizes
    torch.manual_seed(0)
    modules = [
        torch.nn.Embedding(vocabulary_size, embedding_size),
        torch.nn.LSTM(embedding_size, hidden_size, num_layers=2, **options),
        torch.nn.Linear(hidden_size, vocabulary_size),
    ]
    return torch.nn.ModuleDict(dict(zip(names, modules, strict=True)))


def torch_logits(torch, model, tokens):
    embedding, lstm, head = model.values()
    with torch.no_grad():
        return head(lstm(embedding(torch.tensor(tokens)))[0]).numpy()


@jax.jit
def jax_logits(params, tokens):
    _, ys = unroll(CELLS["lstm"], LSTMParams(**params["layer_0"]), tokens, embedding=params["embedding"])
    _, ys = unroll(CELLS["lstm"], LSTMParams(**params["layer_1"]), ys)
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
    ],
)
def test_logits_are_those_of_pytorchs_modules(torch, tmp_path, names, wrap, sizes, options):
    model = torch_model(torch, names, sizes, **options)
    tokens = draw_tokens(sizes[0])
    torch.save(wrap(model.state_dict()), tmp_path / "model.pt")
    params = import_weights(read_state_dict(tmp_path / "model.pt"))
    expected = torch_logits(torch, model, tokens)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(jax_logits(params, tokens), expected, rtol=0, atol=1e-5)


def test_a_wrapped_model_adds_to_the_prefix(torch):
    model = torch_model(torch, ("embedding", "lstm", "head"), (V, D, H))
    inside = torch.nn.ModuleDict({"module": torch.nn.Sequential(model)}).state_dict()
    assert "module.0.lstm.weight_ih_l0" in inside
    params, expected = (
        import_weights({name: tensor.numpy() for name, tensor in state.items()})
        for state in (inside, model.state_dict())
    )
    assert bits(params) == bits(expected)


def test_what_is_written_loads_into_pytorchs_modules(torch, tmp_path):
    params = parameters()
    write_state_dict(tmp_path / "model.pt", export_weights(params))
    model = torch_model(torch, ("embedding", "lstm", "head"), (V, D, H))
    tensors = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    model.load_state_dict(tensors, strict=True)
    tokens = draw_tokens(V)
    np.testing.assert_allclose(torch_logits(torch, model, tokens), jax_logits(params, tokens), rtol=0, atol=1e-5)
    assert bits(import_weights(read_state_dict(tmp_path / "model.pt"))) == bits(params)


@pytest.mark.parametrize("kind", ["GRU", "RNN", "bidirectional", "proj_size"])
def test_pytorchs_other_layers_are_refused(torch, kind):
    layer = {
        "GRU": lambda: torch.nn.GRU(D, H, 2),
        "RNN": lambda: torch.nn.RNN(D, H, 2),
        "bidirectional": lambda: torch.nn.LSTM(D, H, 2, bidirectional=True),
        "proj_size": lambda: torch.nn.LSTM(D, H, 2, proj_size=3),
    }[kind]()
    model = torch.nn.ModuleDict({"e": torch.nn.Embedding(V, D), "rnn": layer, "head": torch.nn.Linear(H, V)})
    with raises({"proj_size": "projection"}.get(kind, kind)):
        import_weights({name: tensor.numpy() for name, tensor in model.state_dict().items()})


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_floating_point_is_read_as_float32(torch, tmp_path, dtype):
    """Pi to the bits of each type, from its definition; float64 is rounded to the nearest float32."""
    tensor = torch.tensor([np.pi, -1e-4], dtype=getattr(torch, dtype), requires_grad=True)
    torch.save(OrderedDict(w=tensor, count=torch.tensor(3)), tmp_path / "w.pt")
    state = read_state_dict(tmp_path / "w.pt")
    assert state["w"].dtype == np.float32
    assert state["w"][0] == {"float16": 3.140625, "bfloat16": 3.140625}.get(dtype, np.float32(np.pi))
    assert state["count"] == 3


def test_an_existing_file_is_not_overwritten(torch, tmp_path):
    (tmp_path / "model.pt").write_text("mine")
    with raises("model.pt: exists"):
        write_state_dict(tmp_path / "model.pt", state_dict())
    assert (tmp_path / "model.pt").read_text() == "mine"
    with raises("cannot be written", "No such file or directory"):
        write_state_dict(tmp_path / "nowhere" / "model.pt", state_dict())


def test_a_write_that_fails_leaves_nothing(torch, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = state_dict() | {"head.bias": np.zeros(10**5, np.float32)}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with raises("model.pt: cannot be written: File too large"):
            write_state_dict(tmp_path / "model.pt", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_not_read(torch, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(4000)) + 2000] = 1
    path.write_bytes(content)
    with path.open("rb") as file:
        assert torch.load(file, weights_only=True)["w"].any(), "PyTorch does not see it"
    with raises("model.pt: damaged: 'model/data/0' does not have its checksum"):
        read_state_dict(path)


def test_a_file_without_checksums_is_read(torch, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_state_dict(tmp_path / "model.pt")["w"].tolist() == [1, 1, 1]


def test_a_bit_that_is_not_right_is_one_line_or_nothing(torch, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(state_dict(), path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    # Half of them in the directory at the end, which says where everything is.
    for place in np.concatenate([rng.integers(len(content), size=100), len(content) - 1 - rng.integers(900, size=100)]):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            read = read_state_dict(path)
        except WeightsError as error:
            assert "\n" not in str(error)
        else:
            assert all(np.array_equal(read[name], array) for name, array in state_dict().items())


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04", bytes(range(256)) * 9, pickle.dumps({}), None])
def test_files_of_other_formats(torch, tmp_path, content):
    """The last is a PyTorch file that was cut short."""
    path = tmp_path / "model.pt"
    if content is None:
        torch.save(state_dict(), path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with raises("model.pt: not a PyTorch file of tensors alone"):
            read_state_dict(path)
    assert not caught


def test_files_that_cannot_be_opened(torch, tmp_path):
    for path, reason in [(tmp_path / "none.pt", "No such file or directory"), (tmp_path, "Is a directory")]:
        with raises(str(path), "cannot be read", reason):
            read_state_dict(path)


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
        with raises("not a PyTorch file of tensors alone", "state_dict()"):
            read_state_dict(tmp_path / "model.pt")
    assert not Marker.unpickled


@pytest.mark.parametrize(
    ("content", "patterns"),
    [
        ([1, 2], ["holds a list"]),
        ({"epoch": 3}, ["not a flat state dict", "'epoch' is of type int"]),
        ({"net": {}}, ["'net' is of type dict", "under one of state_dict, model_state_dict, model)"]),
        ({"model": {"a": {}}}, ["'a' is of type dict"]),
        ({3: 4}, ["3 is of type int"]),
        ({"model": {}, "state_dict": {}}, ["under each of state_dict, model;"]),
    ],
)
def test_files_without_a_flat_state_dict(torch, tmp_path, content, patterns):
    torch.save(content, tmp_path / "model.pt")
    with raises(*patterns):
        read_state_dict(tmp_path / "model.pt")


def test_tensors_that_are_not_dense_arrays(torch, tmp_path):
    for tensor in (torch.zeros(2, device="meta"), torch.eye(2).to_sparse()):
        torch.save({"w": tensor}, tmp_path / "model.pt")
        with raises("'w' is not a dense array"):
            read_state_dict(tmp_path / "model.pt")


def test_without_pytorch_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: read_state_dict(tmp_path / "a"), lambda: write_state_dict(tmp_path / "a", state_dict())):
        with raises("PyTorch is not installed", "pip install -e '.[torch]'"):
            call()
    assert not (tmp_path / "a").exists()
