"""The peers: Flax and, where they are installed, PyTorch and PyTorch Geometric."""

import importlib
import importlib.metadata
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

import configs.nodes
import configs.text
from configs.formal import Config
from experiments import formal
from experiments.benchmark.harness import FORWARD, GRADIENT, STEP, Variant, training_variant
from jaxrnn.arrays import Array, PyTree
from jaxrnn.data import nodes as node_data
from jaxrnn.data.formal import TASKS
from jaxrnn.data.graphs import NodeTask, row_normalize
from jaxrnn.recurrence import lookup
from jaxrnn.training.cores import num_cores

FLAX = "Flax nn.RNN(OptimizedLSTMCell)"
TORCH_LSTM, TORCH_LOOP = "PyTorch nn.LSTM", "PyTorch, loop over t"
TORCH_CALLS, PYG = "PyTorch, a call a character", "PyTorch Geometric"


# --- Flax -------------------------------------------------------------------------------------------------------------


class Embedding(nn.Module):
    """`nn.Embed` with our gradient, a product; its own gradient, a scatter, would dominate the step on a GPU."""

    vocabulary_size: int
    embedding_size: int

    @nn.compact
    def __call__(self, tokens_tb: Array) -> Array:
        """The embeddings ``[T, B, D]``."""
        shape = (self.vocabulary_size, self.embedding_size)
        return lookup(self.param("embedding", nn.initializers.normal(1.0), shape), tokens_tb)


class FlaxCharLM(nn.Module):
    """`jaxrnn.nn.text.CharLM` built from Flax's own layers, without dropout and without state between windows."""

    config: configs.text.Config
    num_characters: int

    @nn.compact
    def __call__(self, tokens_tb: Array, carries: PyTree = None, **unused: Any) -> tuple[tuple[()], Array]:
        """No carries, and logits ``[T, B, V]``."""
        xs = Embedding(self.num_characters, self.config.embedding_size)(tokens_tb)
        for _ in range(self.config.num_layers):
            xs = nn.RNN(nn.OptimizedLSTMCell(self.config.hidden_size), time_major=True)(xs)
        return (), nn.Dense(self.num_characters)(xs)


def flax_classifier(config: Config, flops: int) -> Variant:
    """The palindrome study's chunk with Flax's LSTM."""
    ours = formal.build_model(config)
    embedding = Embedding(ours.vocabulary_size, ours.embedding_size)
    layer = nn.RNN(nn.OptimizedLSTMCell(config.hidden_size), time_major=True)

    def inputs(tokens_tb: Array, mask_tb: None = None, *, deterministic: bool = True) -> Array:
        del mask_tb, deterministic
        return tokens_tb

    model = nn.Sequential([inputs, embedding, layer, lambda ys_tbh: ys_tbh[-1], nn.Dense(ours.num_classes)])
    return training_variant(FLAX, config.cell, formal.build(config, model), flops)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def version(package: str) -> str | None:
    """A package's version, or None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_torch() -> Any:
    """PyTorch, with threads and precision set."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(num_cores())
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for products, but not for its recurrent layers.
    return torch


def torch_device(torch: Any) -> str:
    """The GPU if there is one, else the CPU."""
    # Not set as PyTorch's default device, which would slow down every call.
    return "cuda" if torch.cuda.is_available() else "cpu"


def eager_variant(name: str, group: str, config: Any, flops: int, train: Callable[[], Any]) -> Variant:
    """Eager training, as many steps per call as a chunk has; each call of `train` returns a number on the device."""

    def step() -> None:
        for _ in range(config.chunk_steps):
            value = train()
        value.item()  # Waits for the device.

    return Variant(name, group, step, config.chunk_steps, flops)


def _trainer(torch: Any, config: Any, model: Any, loss: Callable[[], Any]) -> Callable[[], Any]:
    """A training step with Adam; each call of `loss` computes the loss of another batch."""
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)

    def train() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        return value

    return train


def _model(torch: Any, layers: Any, num_tokens: int, width: int, hidden_size: int, num_outputs: int) -> Any:
    """Modules ``embedding``, ``layers`` and ``head``."""
    ends = {"embedding": torch.nn.Embedding(num_tokens, width), "head": torch.nn.Linear(hidden_size, num_outputs)}
    return torch.nn.ModuleDict({**ends, "layers": layers}).to(torch_device(torch))


def _lstm_loop(w: Mapping[str, Any], xs_tbd: Any) -> Any:
    """Soons (2020), Question 1.2."""
    h = c = xs_tbd.new_zeros(xs_tbd.shape[1], w["gh"].shape[0])
    for x in xs_tbd:
        g = (x @ w["gx"] + h @ w["gh"] + w["gb"]).tanh()
        i, f, o = ((x @ w[f"{k}x"] + h @ w[f"{k}h"] + w[f"{k}b"]).sigmoid() for k in "ifo")
        c = g * i + c * f
        h = c.tanh() * o
    return h


def _peephole_loop(w: Mapping[str, Any], xs_tbd: Any) -> Any:
    """Soons (2020), Question 1.4."""
    h = c = xs_tbd.new_zeros(xs_tbd.shape[1], w["fh"].shape[0])
    for x in xs_tbd:
        f, i, o = ((x @ w[f"{k}x"] + c @ w[f"{k}h"] + w[f"{k}b"]).sigmoid() for k in "fio")
        c = (x @ w["cx"] + w["cb"]).sigmoid() * i + c * f
        h = c.tanh() * o
    return h


LOOPS: dict[str, tuple[Sequence[str], Callable[[Mapping[str, Any], Any], Any]]] = {
    "lstm": ([gate + role for gate in "gifo" for role in "xhb"], _lstm_loop),
    "peephole": ([*(gate + role for gate in "fio" for role in "xhb"), "cx", "cb"], _peephole_loop),
}
"""Cells as a Python loop over time, as a course would write it: ``loop(weights by name, xs [T, B, D]) -> h [B, H]``.

Each weight's name is a gate and a role: ``x [D, H]``, ``h [H, H]`` or ``b [H]``.
"""


def torch_classifier(name: str, config: Config, flops: int) -> Variant:
    """The palindrome study's step, on batches drawn beforehand; by `name`, the layer is ``nn.LSTM`` or a loop."""
    torch, task, size = load_torch(), TASKS[config.task], config.hidden_size
    ours, (names, loop) = formal.build_model(config), LOOPS[config.cell]
    width = ours.embedding_size
    if name == TORCH_LOOP:
        shapes = {"x": (width, size), "h": (size, size), "b": (size,)}
        layers = torch.nn.ParameterDict({w: torch.randn(shapes[w[1]]) / size**0.5 for w in names})
    else:
        layers = torch.nn.LSTM(width, size)
    model = _model(torch, layers, ours.vocabulary_size, width, size, ours.num_classes)

    def last_hidden(xs_tbd: Any) -> Any:
        return loop(model["layers"], xs_tbd) if name == TORCH_LOOP else model["layers"](xs_tbd)[0][-1]

    keys = jax.random.split(jax.random.key(0), config.chunk_steps)
    samples = [task.sample(key, config.batch_size, config.digits) for key in keys]
    batches = itertools.cycle([_tensors(torch, *sample) for sample in samples])

    def loss() -> Any:
        tokens_tb, labels_b = next(batches)
        return torch.nn.functional.cross_entropy(model["head"](last_hidden(model["embedding"](tokens_tb))), labels_b)

    return eager_variant(name, config.cell, config, flops, _trainer(torch, config, model, loss))


def torch_layer(name: str, xs: Any, hidden_size: int, flops: int, work: str = GRADIENT) -> Variant:
    """``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` on dense inputs ``[T, B, D]``; `work` is as in `layer_variant`."""
    torch = load_torch()
    layer = getattr(torch.nn, name.upper())(xs.shape[-1], hidden_size).to(torch_device(torch))
    inputs = torch.tensor(xs, device=torch_device(torch), requires_grad=work == GRADIENT)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        inputs.grad = None
        with torch.set_grad_enabled(work != FORWARD):
            ys = layer(inputs)[0]
        if work != FORWARD:
            (ys**2).mean().backward()
        if work == STEP:
            optimizer.step()
        ys[-1, -1, -1].item()  # Waits for the device.

    return Variant(f"PyTorch nn.{name.upper()}", name, step, 1, flops)


def _tensors(torch: Any, *arrays: Any) -> list[Any]:
    return [torch.tensor(np.asarray(array), dtype=torch.int64, device=torch_device(torch)) for array in arrays]


def torch_char_lm(torch: Any, config: configs.text.Config, num_characters: int) -> Any:
    """The character LSTM: modules ``embedding``, ``layers`` and ``head``."""
    width, hidden_size = config.embedding_size, config.hidden_size
    layers = torch.nn.LSTM(width, hidden_size, config.num_layers)
    return _model(torch, layers, num_characters, width, hidden_size, num_characters)


def torch_logits(model: Any, tokens_tb: Any, state: Any = None) -> tuple[Any, Any]:
    """Logits ``[T, B, V]`` after each of ``tokens_tb``, and the LSTM's state at the end."""
    ys_tbh, state = model["layers"](model["embedding"](tokens_tb), state)
    return model["head"](ys_tbh), state


def torch_continuations(torch: Any, model: Any, start_b: Any, length: int) -> Any:
    """Tokens ``[length, B]``: the first of each text, and others drawn at tau = 1 with one call per character."""
    with torch.inference_mode():
        tokens, state = [start_b], None
        for _ in range(length - 1):
            logits_tbv, state = torch_logits(model, tokens[-1][None], state)
            tokens.append(torch.multinomial(logits_tbv[0].softmax(-1), 1)[:, 0])
        return torch.stack(tokens)


def torch_text(config: configs.text.Config, tokens: np.ndarray, num_characters: int, flops: int) -> Variant:
    """The character LSTM's step, with windows at random offsets; bfloat16 uses PyTorch's autocast."""
    torch = load_torch()
    is_low = config.compute_dtype == "bfloat16"
    model = torch_char_lm(torch, config, num_characters)
    corpus, window = _tensors(torch, tokens, np.arange(config.seq_length + 1)[:, None])

    def loss() -> Any:
        offsets = torch.randint(len(corpus) - config.seq_length, (config.batch_size,), device=corpus.device)
        drawn = corpus[offsets + window]
        with torch.autocast(torch_device(torch), torch.bfloat16, enabled=is_low):
            logits_tbv, _ = torch_logits(model, drawn[:-1])
        return torch.nn.functional.cross_entropy(logits_tbv.float().flatten(0, 1), drawn[1:].flatten())

    return eager_variant(
        TORCH_LSTM + (", bfloat16" if is_low else ""), config.cell, config, flops, _trainer(torch, config, model, loss)
    )


def torch_sampling(
    config: configs.text.Config, num_characters: int, batch_size: int, length: int, flops: int
) -> Variant:
    """The generation of texts by the character LSTM."""
    torch = load_torch()
    model = torch_char_lm(torch, config, num_characters)
    (start_b,) = _tensors(torch, np.zeros(batch_size))

    def step() -> None:
        torch_continuations(torch, model, start_b, length).cpu()  # Waits for the device.

    return Variant(TORCH_CALLS, f"batch {batch_size}", step, batch_size * (length - 1), flops)


def torch_node_classifier(torch: Any, config: configs.nodes.Config, num_features: int, num_classes: int) -> Any:
    """The two layers of the GCN or GAT, from PyTorch Geometric."""
    pyg: Any = importlib.import_module("torch_geometric.nn")
    hidden = config.hidden_size
    if config.model == "gcn":
        sizes = [(num_features, hidden), (hidden, num_classes)]
        layers = [pyg.GCNConv(inputs, outputs, cached=True, bias=False) for inputs, outputs in sizes]
    else:
        heads, last = config.num_heads, config.num_output_heads
        layers = [
            pyg.GATConv(num_features, hidden, heads, dropout=config.dropout),
            pyg.GATConv(heads * hidden, num_classes, last, concat=False, dropout=config.dropout),
        ]
    return torch.nn.ModuleList(layers).to(torch_device(torch))


def torch_node_logits(torch: Any, config: configs.nodes.Config, model: Any, x: Any, ends: Any) -> Any:
    """Logits ``[N, C]`` from features ``x [N, D]`` and the edges' senders and receivers ``[2, E]``."""
    first, second = model
    dropout = torch.nn.functional.dropout
    activate = torch.relu if config.model == "gcn" else torch.nn.functional.elu
    hidden = activate(first(dropout(x, config.dropout, model.training), ends))
    return second(dropout(hidden, config.dropout, model.training), ends)


def torch_nodes(config: configs.nodes.Config, task: NodeTask, flops: int) -> Variant:
    """The node classification study's epoch, on dense features; unlike ours, its GAT drops no projected features."""
    torch = load_torch()
    device, cross_entropy = torch_device(torch), torch.nn.functional.cross_entropy
    x = torch.tensor(row_normalize(task.features).toarray(), dtype=torch.float32, device=device)
    ends, labels = _tensors(torch, np.stack(task.edges), task.labels)
    drawn = node_data.draw_split(config.dataset, config.split, jax.random.key(0))
    train, validation = (torch.tensor(np.asarray(mask), device=device) for mask in (drawn.train, drawn.validation))
    model = torch_node_classifier(torch, config, x.shape[1], task.num_classes)
    decays = (config.weight_decay, config.weight_decay if config.model == "gat" else 0.0)
    groups = [{"params": layer.parameters(), "weight_decay": decay} for layer, decay in zip(model, decays, strict=True)]
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate)

    def epoch() -> Any:
        model.train()
        optimizer.zero_grad()
        cross_entropy(torch_node_logits(torch, config, model, x, ends)[train], labels[train]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = torch_node_logits(torch, config, model, x, ends)[validation]
            right = logits.argmax(-1) == labels[validation]
            return cross_entropy(logits, labels[validation]) + right.float().mean()

    return eager_variant(PYG, config.model, config, flops, epoch)
