"""Weights of a character model from and to PyTorch: `nn.Embedding`, `nn.LSTM`, `nn.GRU` or `nn.RNN`, and `nn.Linear`.

    python -m experiments.torch_weights --state_dict=model.pt --text=book.txt --encoding=latin-1 --workdir=runs/imported
    python -m experiments.torch_weights --state_dict=model.safetensors --text=book.txt --workdir=runs/imported
    python -m experiments.torch_weights --workdir=runs/grimm --export=model.pt
    python -m experiments.torch_weights --workdir=runs/grimm --run_seed=2 --export=model.pt

PyTorch stores matrices ``[out, in]``; here they are ``[in, out]``. Gates have the same order: i, f, g, o and r, u, n.
"""

import contextlib
import dataclasses
import errno
import functools
import importlib
import io
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs.text import Config
from experiments import _cli
from experiments.text import IMPORTED, build_model, load_corpus, restore
from jaxrnn.data import safetensors
from jaxrnn.data.files import expand, read_if_there
from jaxrnn.data.text import UnknownCharactersError, decode, encode
from jaxrnn.nn.language import bits_per_character
from jaxrnn.rundir.directory import RunDirectory, RunError, replace_file
from jaxrnn.rundir.provenance import make_record
from jaxrnn.rundir.recorder import DirectoryRecorder
from jaxrnn.training.recording import Snapshot

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_VOCABULARIES = ("chars", "vocab", "vocabulary", "characters")
_SAFETENSORS = ".safetensors"
_SHOWN = 100_000
"""Characters of the text on which an imported model is measured."""
_CELLS = {4: ("lstm",), 3: ("gru",), 1: ("rnn", "relu_rnn")}
"""The cells for which PyTorch has layers, by the number of gates."""
_MOST_NAMES = 12
"""The most tensors that an error lists."""


class WeightsError(RunError):
    """Weights that cannot be read, translated or written; the message is one line for the user."""


class Checkpoint(NamedTuple):
    """The tensors of a state dict by name, and the characters in the order of the model, if the file has them."""

    state: dict[str, np.ndarray]
    characters: str | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a file that ``torch.save`` wrote, or a ``.safetensors``; no code in the file is run.

    The file holds ``model.state_dict()``, or a checkpoint that has it under ``state_dict``, ``model_state_dict`` or
    ``model``, and perhaps the characters under ``chars``, ``vocab``, ``vocabulary`` or ``characters``: a text, a list,
    or a dict from or to indices. A ``.safetensors`` has them in its metadata, a list or dict as JSON. Floating-point
    tensors become float32, exactly from float16 and bfloat16, and rounded from float64.

    Raises:
        WeightsError: if PyTorch is missing, or the file is not there, is damaged or holds something else.
        DataError: the file cannot be read.
    """
    if (raw := read_if_there(path)) is None:
        raise WeightsError(f"{path}: there is no such file")
    state, others = (_decode_safetensors if path.suffix.lower() == _SAFETENSORS else _unpickle)(path, raw)
    found = (vocabulary_of(others[key]) for key in _VOCABULARIES if key in others)
    return Checkpoint(state, next(filter(None, found), None))


def _decode_safetensors(path: Path, raw: bytes) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    """The tensors of a file and what else it holds."""
    try:
        tensors, metadata = safetensors.decode(raw)
    except ValueError as error:
        raise WeightsError(f"{path}: damaged, or not of the format safetensors: {error}") from error
    # Of tied tensors, the file has one, and says which the others are.
    tensors |= {name: tensors[kept] for name, kept in metadata.items() if kept in tensors}
    with np.errstate(over="ignore"):
        floating = [name for name, tensor in tensors.items() if jnp.issubdtype(tensor.dtype, jnp.floating)]
        return tensors | {name: tensors[name].astype(np.float32) for name in floating}, metadata


def _unpickle(path: Path, raw: bytes) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    """The same for a file that ``torch.save`` wrote."""
    torch = _torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about formats that it then reads or refuses.
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        wrapped = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        flat = [one for one in wrapped if all(isinstance(tensor, torch.Tensor) for tensor in one.values())]
        state = {
            str(name): (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in (flat[0] if flat else content).items()
        }
        return state, content if flat else {}
    except Exception as error:  # Damaged bytes can raise anything.
        if objects := re.findall(r"Unsupported global: GLOBAL (\S+)", str(error)):
            reason = f"holds objects of {objects[0]}, which are not loaded, since that runs code"
            raise WeightsError(f"{path}: {reason}; save torch.save(model.state_dict(), path)") from error
        wanted = f"a state dict of dense tensors alone, or one under {', '.join(_WRAPPERS)}"
        raise WeightsError(f"{path}: damaged, or not {wanted}, as of torch.save(model.state_dict(), path)") from error


def vocabulary_of(entry: Any) -> str | None:
    """The characters in their order, from a text, a list, or a dict from or to indices, or JSON; else None."""
    if isinstance(entry, str) and len(set(entry)) < len(entry):  # JSON repeats its quotes.
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(entry)
    if isinstance(entry, Mapping):
        by_index = {index: character for pair in entry.items() for index, character in (pair, pair[::-1])}
        entry = [by_index.get(i) for i in range(len(entry))]
    if isinstance(entry, list | tuple) and all(isinstance(one, str) and len(one) == 1 for one in entry):
        entry = "".join(entry)
    return entry if isinstance(entry, str) and len(set(entry)) == len(entry) else None


def read_vocabulary(path: Path, size: int) -> str:
    """The characters of a file in their order: JSON (a list or a dict), or one after another.

    Raises:
        WeightsError: the file cannot be read, or does not have this number of different characters.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Its line ends are characters of the vocabulary.
        found = vocabulary_of(text)
        if found is None and text.endswith("\n"):  # As editors end a file.
            found = vocabulary_of(text[:-1])
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as a vocabulary: {error}") from error
    if found is not None and len(found) == size + 1 and found.endswith("\n"):
        found = found[:-1]
    if found is None or len(found) != size:
        has = "repeats a character" if found is None else f"has {len(found)} characters"
        raise WeightsError(f"{path}: {has}; the model knows {size}, each once")
    return found


def write_state_dict(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as ``torch.save`` does, for ``model.load_state_dict(torch.load(path))``, or a ``.safetensors``.

    Raises:
        WeightsError: if PyTorch is missing, or the file exists or cannot be written.
    """
    if path.suffix.lower() == _SAFETENSORS:
        raw = safetensors.encode(state)
    else:
        torch, content = _torch(), io.BytesIO()
        torch.save({name: torch.tensor(np.array(array)) for name, array in state.items()}, content)
        raw = content.getvalue()
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        replace_file(path, raw)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror}") from error


def import_weights(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The character language model's parameters from a PyTorch state dict.

    The recurrent layers have PyTorch's own names (``weight_ih_l0`` and so on) after any one prefix. Missing biases
    are zero. The number of rows, 4H, 3H or H, tells an LSTM, a GRU and an RNN apart. The linear layer is the matrix
    ``*.weight`` that has a vector ``*.bias``, or, without one, the last matrix whose name does not contain ``emb``; the
    embedding is the other matrix. A single matrix ``[V, H]`` that is not a linear layer is both (tied weights). A model
    without an embedding reads characters as one-hot vectors, so that the identity embeds them.

    Args:
        state: arrays by name: the embedding ``[V, D]``, the linear layer ``[V, H]`` and ``[V]``, and for layer ``k``
            ``weight_ih_lk [GH, D or H]``, ``weight_hh_lk [GH, H]``, ``bias_ih_lk`` and ``bias_hh_lk [GH]``.

    Returns:
        ``{"embedding": [V, D], "layer_0": {"w_x": [D, GH], "w_h": [H, GH], "b": [GH]}, "layer_1": ...,
        "head": {"kernel": [H, V], "bias": [V]}}``, float32 copies; ``b`` is ``bias_ih + bias_hh``, except for
        the candidate of a GRU, whose ``bias_hh [H]`` is ``b_n``.

    Raises:
        WeightsError: for tensors that are missing or left over, other layers (bidirectional, projected), shapes that do
            not fit together, and weights that are not finite.
    """
    firsts = [match for name in state if (match := re.fullmatch(r"(.*)weight_ih_l\d+", name, re.DOTALL))]
    prefix = firsts[0][1] if firsts else ""
    kinds = [kind for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if f"{prefix}{kind}_l0" in state]
    layers = [[f"{prefix}{kind}_l{k}" for kind in kinds] for k in range(len(firsts))]
    rest = [name for name in state if name not in itertools.chain(*layers)]
    biases = [name for name in rest if state[name].ndim == 1]
    if biases:
        kernels = [name for name in rest if [name.removesuffix("weight") + "bias"] == biases]
    else:
        kernels = [name for name in rest if "emb" not in name.lower()][-1:]
    embeddings = [name for name in rest if name not in biases + kernels]
    kernels = kernels or embeddings  # Some files have tied weights only once.

    shapes: dict[str, tuple[int, ...]] = {}
    if len(embeddings) <= len(kernels) == 1 and all(state[name].ndim == 2 for name in embeddings + kernels):
        V, H = state[kernels[0]].shape
        D = state[embeddings[0]].shape[1] if embeddings else V
        rows = len(state[layers[0][1]]) if len(kinds) in (2, 4) else 0
        shapes = {**dict.fromkeys(embeddings, (V, D)), kernels[0]: (V, H), **dict.fromkeys(biases, (V,))}
        for k, names in enumerate(layers if rows in (H, 3 * H, 4 * H) else ()):
            shapes |= dict(zip(names, ((rows, H if k else D), (rows, H), (rows,), (rows,)), strict=False))
    if len(kinds) not in (2, 4) or {name: array.shape for name, array in state.items()} != shapes:
        found = [f"{name!r} {list(array.shape)}" for name, array in state.items()]
        raise WeightsError(
            "needed are an embedding [V, D] or none, one LSTM, GRU or RNN of one direction and without projection,"
            " weight_ih_lk [4H, 3H or H, D or H], weight_hh_lk [4H, 3H or H, H] and either both biases or none, and a"
            f" linear layer, weight [V, H]; found {len(found)}: {', '.join(found[:_MOST_NAMES])}"
        )
    arrays = {name: np.array(state[name], np.float32) for name in shapes}
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise WeightsError(f"{broken[0]!r} has numbers that are NaN or infinite")
    params: dict[str, Any] = {"embedding": arrays[embeddings[0]] if embeddings else np.eye(V, dtype=np.float32)}
    for k, (weight_ih, weight_hh, *of_layer) in enumerate(layers):
        of_inputs, of_state = (arrays[name] for name in of_layer) if of_layer else np.zeros((2, rows), np.float32)
        layer = {"w_x": arrays[weight_ih].T, "w_h": arrays[weight_hh].T, "b": of_inputs + of_state}
        if rows == 3 * H:
            layer["b"][2 * H :] = of_inputs[2 * H :]
            layer["b_n"] = of_state[2 * H :]
        params[f"layer_{k}"] = layer
    bias = arrays[biases[0]] if biases else np.zeros(V, np.float32)
    return params | {"head": {"kernel": arrays[kernels[0]].T, "bias": bias}}


def cells_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in `CELLS` of the cells that imported parameters may be of; no tensor tells tanh from relu."""
    hidden_size, columns = params["layer_0"]["w_h"].shape
    return _CELLS[columns // hidden_size]


def export_weights(params: Mapping[str, Any], cell: str) -> dict[str, np.ndarray]:
    """The inverse of `import_weights`: float32 parameters come back from it with the same bits.

    Returns:
        ``embedding.weight``, ``lstm.weight_ih_l0`` and so on (or ``gru``, ``rnn``), ``head.weight`` and ``head.bias``,
        float32; ``bias_ih_lk`` is ``b``, and ``bias_hh_lk`` is zero, but for a GRU's ``b_n``.

    Raises:
        WeightsError: if PyTorch has no layer of this cell.
    """
    if cell not in (known := [*itertools.chain(*_CELLS.values())]):
        raise WeightsError(f"PyTorch has no layer of the cell {cell}: it has {', '.join(known)}")
    layer_name = cell.removeprefix("relu_")
    state = {"embedding.weight": params["embedding"]}
    for k in range(len(params) - 2):
        layer = params[f"layer_{k}"]
        # Only minus zero leaves every number as it is: 0 + -0 is 0.
        of_state = np.full(np.shape(layer["b"]), -0.0)
        if "b_n" in layer:
            of_state[-len(layer["b_n"]) :] = layer["b_n"]
        state |= {
            f"{layer_name}.weight_ih_l{k}": layer["w_x"].T,
            f"{layer_name}.weight_hh_l{k}": layer["w_h"].T,
            f"{layer_name}.bias_ih_l{k}": layer["b"],
            f"{layer_name}.bias_hh_l{k}": of_state,
        }
    state |= {"head.weight": params["head"]["kernel"].T, "head.bias": params["head"]["bias"]}
    # In row order, since a transposed array is not contiguous.
    return {name: np.array(array, np.float32, order="C") for name, array in state.items()}


def _torch() -> Any:
    """Imports PyTorch, which is optional here, also for type checking."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise WeightsError("PyTorch is not installed; pip install -e '.[torch]' installs it") from error


# --- The binary -------------------------------------------------------------------------------------------------------


def run_directory(
    params: Mapping[str, Any], text: str, encoding: str, workdir: Path, characters: str | None = None
) -> tuple[str, float]:
    """Writes a run directory that `experiments.sample` can use.

    The vocabulary is `characters` in their order, by default the sorted characters of the text. If the weights may be
    of several cells, the model has the one that needs the fewest bits.

    Returns:
        The cell, and the bits per character that the model needs for the beginning of the text.

    Raises:
        WeightsError: if the text has other characters than the model.
    """
    (num_characters, width), hidden_size = params["embedding"].shape, len(params["head"]["kernel"])
    sizes = {
        "num_layers": len(params) - 2,
        "hidden_size": hidden_size,
        "embedding_size": width,
    }
    config = Config(corpus=text, encoding=encoding, **sizes)
    corpus = load_corpus(config)
    characters = characters or corpus.characters
    if len(characters) != num_characters:
        raise WeightsError(
            f"the model knows {num_characters} characters, and {text} has {len(characters)} in {encoding}:"
            " give the text that it was trained on, another --encoding, or its --vocabulary"
        )
    try:
        tokens = encode(decode(corpus.tokens[:_SHOWN], corpus.characters), characters)
    except UnknownCharactersError as error:
        raise WeightsError(f"{text} has characters that are {error}") from error
    bits = {}
    for cell in cells_of(params):
        model = build_model(dataclasses.replace(config, cell=cell), characters)
        with jax.default_matmul_precision("highest"):
            found, _ = jax.jit(functools.partial(bits_per_character, model))(params, tokens)
        bits[cell] = float(found) if np.isfinite(found) else np.inf
    cell = min(bits, key=bits.__getitem__)
    data = {"sha256": corpus.sha256, "length": len(corpus.tokens), "characters": characters}
    record = make_record(IMPORTED, dataclasses.asdict(dataclasses.replace(config, cell=cell)), {}, data)
    with RunDirectory(workdir, record) as directory, DirectoryRecorder.open(directory, ()) as recorder:
        recorder.save_run("imported", 0, jax.tree.map(lambda x: x[None], dict(params)))
        recorder.save(Snapshot())
    return cell, bits[cell]


def main() -> None:
    """Imports or exports, as the flags say."""
    given, workdir = flags.FLAGS, _cli.workdir()
    if bool(given.state_dict) == bool(given.export) or bool(given.text) != bool(given.state_dict):
        reason = "give --state_dict=FILE and --text=FILE, the text that it was trained on, to import it"
        raise _cli.UsageError(f"{reason}; or --export=FILE to write one")
    if given.state_dict:
        state, characters = read_checkpoint(expand(given.state_dict))
        params = import_weights(state)
        size = len(params["embedding"])
        if given.vocabulary:
            characters = read_vocabulary(expand(given.vocabulary), size)
        cell, bits = run_directory(params, given.text, given.encoding, workdir, characters)
        print(f"Imported as {cell}: {bits:.2f} bits per character on {given.text}; guessing needs {np.log2(size):.2f}")
        if bits > np.log2(size):
            order = "its vocabulary has another order, which --vocabulary=FILE gives" if not characters else ""
            reason = order or "it was trained on another text, or the vocabulary has another order"
            sys.stderr.write(f"warning: this is worse than guessing: probably {reason}\n")
        print(f"Now: python -m experiments.sample --workdir={workdir}")
    else:
        found = restore(workdir, _cli.chosen_run(), _cli.chosen_step())
        write_state_dict(expand(given.export), export_weights(found.params, found.config.cell))
        print(f"Exported: {given.export}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run: created by an import, read by an export.")
    flags.DEFINE_string("state_dict", None, "File to import: torch.save(model.state_dict(), FILE) or a .safetensors.")
    flags.DEFINE_string("text", None, "The text that the model was trained on: pydoc, a book's name or a file.")
    flags.DEFINE_string("encoding", "utf-8", "Encoding of the text.")
    flags.DEFINE_string(
        "vocabulary",
        None,
        "File with the characters in the model's order, as they are or as a .json list or dict; by default what the "
        "checkpoint has under chars or vocab, else the text's in sorted order.",
    )
    flags.DEFINE_string("export", None, "File to write a run's weights to, or a .safetensors; it must not exist.")
    _cli.define_chosen_run()
    _cli.define_step()
    _cli.define_data_dir()
    _cli.run(main)
