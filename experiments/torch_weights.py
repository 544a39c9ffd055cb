"""Weights of the character language model from and to PyTorch: `nn.Embedding`, `nn.LSTM` and `nn.Linear`.

    python -m experiments.torch_weights --state_dict=model.pt --text=book.txt --encoding=latin-1 --workdir=runs/imported
    python -m experiments.torch_weights --workdir=runs/grimm --export=model.pt

Matrices are stored ``[out, in]`` there and ``[in, out]`` here; an LSTM's gates stand in the same order, i, f, g, o.
"""

import dataclasses
import importlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import flags

from configs.text import Config
from experiments import launch
from experiments.text import IMPORTED, load_corpus, restore
from jaxrnn.cells import LSTMParams
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.rundir.restore import deposit

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_LSTM_TENSOR = re.compile(r"(.*)(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(0|[1-9][0-9]*)(_reverse)?", re.DOTALL)
_MOST_NAMES = 12


class WeightsError(Exception):
    """Weights that cannot be read, translated or written; the message is one line for the user."""


class _Layer(NamedTuple):
    """Names of the tensors of one LSTM layer; `biases` are the two of PyTorch, or none."""

    weight_ih: str
    weight_hh: str
    biases: tuple[str, ...]


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file that ``torch.save`` wrote, by name; no code in the file is run.

    The file holds ``model.state_dict()``, or a checkpoint that has it under ``state_dict``, ``model_state_dict`` or
    ``model``. Floating point becomes float32: exact from float16 and bfloat16, rounded from float64.

    Raises:
        WeightsError: if PyTorch is missing, or the file is not there or holds something else.
    """
    torch = _torch()
    try:
        file = path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    with file, warnings.catch_warnings():
        _refuse_damaged(path)
        # PyTorch warns of formats that it then reads, or refuses anyway.
        warnings.simplefilter("ignore")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        # Bytes that are no pickle end in whichever error they happen to lead to.
        except Exception as error:
            raise WeightsError(
                f"{path}: not a PyTorch file of tensors alone, such as torch.save(model.state_dict(), path) writes"
            ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    wrapped = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(wrapped) > 1:
        raise WeightsError(f"{path}: a state dict under each of {', '.join(wrapped)}; keep one")
    state = content[wrapped[0]] if wrapped else content
    for name, tensor in state.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
            raise WeightsError(
                f"{path}: not a flat state dict of tensors: {name!r} is of type {type(tensor).__name__} "
                f"(a checkpoint has the state dict under one of {', '.join(_WRAPPERS)})"
            )
    return {name: _to_numpy(torch, path, name, tensor) for name, tensor in state.items()}


def _refuse_damaged(path: Path) -> None:
    """Compares the checksums of a file in the format of today, which ``torch.load`` does not look at."""
    damaged = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                try:
                    archive.read(name)
                except zipfile.BadZipFile:
                    damaged.append(name)
    # An older format, or none: `torch.load` tells. Damaged bytes end in whichever error they happen to lead to.
    except Exception:
        return
    if 0 < len(damaged) < len(names):  # Of a file that was written without checksums, none is right.
        raise WeightsError(f"{path}: damaged: {damaged[0]!r} does not have its checksum")


def write_state_dict(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as ``torch.save`` does, for ``model.load_state_dict(torch.load(path))``.

    Raises:
        WeightsError: if PyTorch is missing, or the file exists or cannot be written.
    """
    torch = _torch()
    # In memory first, so that only the disk can fail once the file exists.
    content = io.BytesIO()
    torch.save({name: torch.tensor(np.array(array)) for name, array in state.items()}, content)
    try:
        with path.open("xb") as file:
            try:
                file.write(content.getbuffer())
                file.flush()
            except BaseException:
                path.unlink()
                raise
    except FileExistsError as error:
        raise WeightsError(f"{path}: exists and is not overwritten") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror}") from error


def import_weights(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The character language model's parameters from a PyTorch state dict.

    The LSTM is recognised by PyTorch's own names (``weight_ih_l0`` and so on) behind any one prefix; without biases,
    they are zero. The linear layer is the other matrix ``*.weight`` that has a vector ``*.bias`` beside it; the
    embedding is the one that has none.

    Args:
        state: arrays by name: the embedding ``[V, D]``, the linear layer ``[V, H]`` and ``[V]``, and for layer ``k``
            ``weight_ih_lk [4H, D or H]``, ``weight_hh_lk [4H, H]``, ``bias_ih_lk`` and ``bias_hh_lk [4H]``.

    Returns:
        ``{"embedding": [V, D], "layer_0": {"w_x": [D, 4H], "w_h": [H, 4H], "b": [4H]}, "layer_1": ...,
        "head": {"kernel": [H, V], "bias": [V]}}``, float32 copies; ``b`` is ``bias_ih + bias_hh``.

    Raises:
        WeightsError: for tensors that are missing or left over, other layers (GRU, bidirectional, projected), shapes
            that do not fit together, and weights that are not finite floating-point numbers.
    """
    layers, others = _recognise_lstm(state)
    embedding, head = _recognise_ends(state, others)
    kernel, bias = f"{head}.weight", f"{head}.bias"
    V, D = state[embedding].shape
    H = state[layers[0].weight_hh].shape[1]
    shapes: dict[str, tuple[int, ...]] = {embedding: (V, D), kernel: (V, H), bias: (V,)}
    for k, layer in enumerate(layers):
        shapes |= {layer.weight_ih: (4 * H, H if k else D), layer.weight_hh: (4 * H, H)}
        shapes |= dict.fromkeys(layer.biases, (4 * H,))
    misfits = [name for name, shape in shapes.items() if state[name].shape != shape]
    if misfits:
        wanted = ", ".join(f"{name!r} {list(shapes[name])}" for name in misfits[:_MOST_NAMES])
        raise WeightsError(
            f"shapes do not fit together: V={V} and D={D} of {embedding!r} and H={H} of {layers[0].weight_hh!r} "
            f"ask for {wanted}; found {_listed(state, misfits)}"
        )
    arrays = {name: _finite_float32(name, state[name]) for name in shapes}
    params: dict[str, Any] = {"embedding": arrays[embedding]}
    for k, layer in enumerate(layers):
        biases = [arrays[name] for name in layer.biases]
        params[f"layer_{k}"] = {
            "w_x": arrays[layer.weight_ih].T,
            "w_h": arrays[layer.weight_hh].T,
            "b": np.add(*biases) if biases else np.zeros(4 * H, np.float32),
        }
    return params | {"head": {"kernel": arrays[kernel].T, "bias": arrays[bias]}}


def export_weights(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `import_weights`: float32 parameters come back from it with the same bits.

    Args:
        params: as `import_weights` returns them; arrays of JAX or NumPy.

    Returns:
        ``embedding.weight``, ``lstm.weight_ih_l0`` and so on, ``head.weight`` and ``head.bias``, float32;
        ``lstm.bias_ih_lk`` is ``b``, and ``lstm.bias_hh_lk`` is zero.

    Raises:
        WeightsError: if a layer is not an LSTM, or for what `import_weights` would not take back.
    """
    layers = [f"layer_{k}" for k in range(len(params) - 2)]
    if set(params) != {"embedding", "head", *layers}:
        raise WeightsError(f"not the parameters of a character language model: {', '.join(map(repr, params))}")
    state = {"embedding.weight": params["embedding"]}
    for k, name in enumerate(layers):
        layer = params[name]
        if set(layer) != set(LSTMParams._fields):
            raise WeightsError(f"{name} is not an LSTM, the only cell to be written: it has {', '.join(layer)}")
        state |= {
            f"lstm.weight_ih_l{k}": layer["w_x"].T,
            f"lstm.weight_hh_l{k}": layer["w_h"].T,
            f"lstm.bias_ih_l{k}": layer["b"],
            # Only minus zero leaves every number as it is: 0 + -0 is 0.
            f"lstm.bias_hh_l{k}": np.full(layer["b"].shape, -0.0),
        }
    state |= {"head.weight": params["head"]["kernel"].T, "head.bias": params["head"]["bias"]}
    arrays = {name: _finite_float32(name, array) for name, array in state.items()}
    import_weights(arrays)  # Raises where the shapes are another cell's.
    return arrays


def _torch() -> Any:
    """PyTorch, which is optional here: type checking does without it, too."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise WeightsError("PyTorch is not installed; pip install -e '.[torch]' installs it") from error


def _to_numpy(torch: Any, path: Path, name: str, tensor: Any) -> np.ndarray:
    try:
        return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: {name!r} is not a dense array of numbers: {tensor.layout} {tensor.dtype}"
        ) from error


def _recognise_lstm(state: Mapping[str, np.ndarray]) -> tuple[list[_Layer], list[str]]:
    """The layers of the one LSTM, all of whose names are there, and the names of the other tensors."""
    found = {name: match.groups() for name in state if (match := _LSTM_TENSOR.fullmatch(name))}
    others = [name for name in state if name not in found]
    if not found:
        raise WeightsError(f"no LSTM: no tensor is called *weight_ih_l0; found {_listed(state, others)}")
    if any(reverse for *_, reverse in found.values()):
        raise WeightsError("a bidirectional LSTM (tensors *_reverse) is not supported")
    if any(kind == "weight_hr" for _, kind, *_ in found.values()):
        raise WeightsError("an LSTM with a projection (tensors *weight_hr_l*) is not supported")
    prefix, *more = sorted({prefix for prefix, *_ in found.values()})
    if more:
        raise WeightsError(f"one nn.LSTM is supported, not several: {', '.join(map(repr, [prefix, *more]))}")
    biases = ("bias_ih", "bias_hh") if any(kind in ("bias_ih", "bias_hh") for _, kind, *_ in found.values()) else ()
    layers = [
        _Layer(f"{prefix}weight_ih_l{k}", f"{prefix}weight_hh_l{k}", tuple(f"{prefix}{kind}_l{k}" for kind in biases))
        for k in range(len({k for *_, k, _ in found.values()}))
    ]
    missing = [
        name for layer in layers for name in (layer.weight_ih, layer.weight_hh, *layer.biases) if name not in state
    ]
    if missing:
        names = ", ".join(map(repr, missing[:_MOST_NAMES]))
        raise WeightsError(f"the LSTM lacks {names}; found {_listed(state, found)}")
    _refuse_other_cells(layers[0].weight_hh, state[layers[0].weight_hh].shape)
    return layers, others


def _refuse_other_cells(name: str, shape: tuple[int, ...]) -> None:
    """Only an LSTM's recurrent matrix is ``[4H, H]``; the names are the same in `nn.GRU` and `nn.RNN`."""
    if len(shape) == 2 and shape[0] == 4 * shape[1]:
        return
    cells = {3: " (a GRU's is [3H, H])", 1: " (an RNN's is [H, H])"}
    other = next((cell for n, cell in cells.items() if len(shape) == 2 and shape[0] == n * shape[1]), "")
    raise WeightsError(f"not an LSTM: {name!r} is {list(shape)}, and an LSTM's is [4H, H]{other}")


def _recognise_ends(state: Mapping[str, np.ndarray], names: list[str]) -> tuple[str, str]:
    """The name of the embedding and that of the linear layer, without its ``.weight``; all `names` belong to them."""
    matrices = [name for name in names if state[name].ndim == 2]
    bias_of = {name: f"{name.removesuffix('.weight')}.bias" for name in matrices if name.endswith(".weight")}
    heads = [name for name, bias in bias_of.items() if bias in names and state[bias].ndim == 1]
    embeddings = [name for name in matrices if name not in heads]
    # With one of each, three names are the embedding, the linear layer's matrix and its bias.
    if (len(embeddings), len(heads), len(names)) != (1, 1, 3):
        raise WeightsError(
            "beside the LSTM there must be one embedding [V, D] and one linear layer, weight [V, H] and bias [V], "
            f"and nothing else; found {_listed(state, names)}"
        )
    return embeddings[0], heads[0].removesuffix(".weight")


def _finite_float32(name: str, array: Any) -> np.ndarray:
    """A copy of an array of NumPy or JAX, contiguous, which a transposed one is not."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise WeightsError(f"{name!r} is {array.dtype}, not floating point")
    # What float32 cannot hold becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        copy = np.array(array, np.float32, order="C")
    if not np.isfinite(copy).all():
        raise WeightsError(f"{name!r} has {np.count_nonzero(~np.isfinite(copy))} numbers that are NaN or infinite")
    return copy


def _listed(state: Mapping[str, np.ndarray], names: Iterable[str]) -> str:
    """Names and shapes, as many as one line bears; quoted, since a name may hold anything."""
    described = [f"{name!r} {list(state[name].shape)}" for name in names]
    rest = len(described) - _MOST_NAMES
    return ", ".join(described[:_MOST_NAMES] + ([f"and {rest} more"] if rest > 0 else [])) or "none"


# --- The binary -------------------------------------------------------------------------------------------------------


def run_directory(params: Mapping[str, Any], text: str, encoding: str, workdir: Path) -> None:
    """Writes a run directory that `experiments.sample` can use, with the vocabulary of a text.

    Raises:
        WeightsError: if the text has another number of characters than the model.
        DataError, RunError: if the text cannot be read, or the directory not written.
    """
    num_characters, embedding_size = params["embedding"].shape
    hidden_size = params["head"]["kernel"].shape[0]
    config = Config(
        corpus=text,
        encoding=encoding,
        num_layers=sum(name.startswith("layer_") for name in params),
        hidden_size=hidden_size,
        embedding_size=embedding_size,
    )
    corpus = load_corpus(config)
    if len(corpus.characters) != num_characters:
        raise WeightsError(
            f"the model knows {num_characters} characters, and {text} has {len(corpus.characters)} in {encoding}:"
            " give the text that it was trained on, or another --encoding"
        )
    record = {
        **launch.record(IMPORTED, dataclasses.asdict(config)),
        "data": {"sha256": corpus.sha256, "length": len(corpus.tokens), "characters": corpus.characters},
    }
    with RunDirectory.create(workdir, record) as directory:
        try:
            deposit(directory, "imported", params)
        except BaseException:
            directory.discard()  # So that the same command works once there is space.
            raise


def main(argv: list[str]) -> None:
    """Imports or exports, as the flags say."""
    del argv
    state_dict, export, workdir = flags.FLAGS.state_dict, flags.FLAGS.export, launch.workdir()
    if bool(state_dict) == bool(export):
        raise launch.UsageError("give --state_dict=FILE to import it, or --export=FILE to write one")
    if state_dict and not flags.FLAGS.text:
        raise launch.UsageError("--text=FILE is needed: the text that the model was trained on has its vocabulary")
    try:
        if state_dict:
            params = import_weights(read_state_dict(Path(state_dict)))
            run_directory(params, flags.FLAGS.text, flags.FLAGS.encoding, workdir)
            print(f"Imported; now: python -m experiments.sample --workdir={workdir}")
        else:
            params = restore(workdir, launch.chosen_run(), flags.FLAGS.step).params
            write_state_dict(Path(export), export_weights(params))
            print(f"Exported: {export}")
    except WeightsError as error:
        raise RunError(str(error)) from error


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run: created by an import, read by an export.")
    flags.DEFINE_string("state_dict", None, "File written by torch.save(model.state_dict(), FILE), to import.")
    flags.DEFINE_string("text", None, "The text that the model was trained on: pydoc, a book's name or a file.")
    flags.DEFINE_string("encoding", "utf-8", "Of the text.")
    flags.DEFINE_string("export", None, "File to write the weights of a run to; must not exist.")
    launch.define_chosen_run()
    flags.DEFINE_integer("step", None, "Step of a kept checkpoint to export; the newest by default.")
    launch.define_data_dir()
    launch.run_main(main)
