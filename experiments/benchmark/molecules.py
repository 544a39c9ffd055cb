"""The suite ``molecules``: a step of the neural fingerprint, and the same network built from PyTorch Geometric."""

import dataclasses
import importlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from configs.molecules import Config
from experiments.benchmark import peers
from experiments.benchmark.harness import ENDLESS, OURS, PRECISION, Comparison, Variant, training_variant
from experiments.molecules import properties
from experiments.molecules.properties import Usual
from jaxrnn.data import molecules as data
from jaxrnn.data.molecule_sets import PropertySet

AT_HAND = f"{peers.PYG}, batches made before"
_BONDS = 6
"""The number of features of an atom's bonds."""
_ESOL = Config(dataset="esol")


def molecules(config: Config = _ESOL) -> Iterator[Comparison]:
    """The molecule study's training step with its fingerprint, which includes drawing and assembling the batch.

    The molecules are found or fetched as in the study. Without RDKit, which reads them, there is no comparison.
    """
    if not peers.version("rdkit"):
        return
    # The first evaluation, after so many steps, is never reached.
    config = dataclasses.replace(config, precision=PRECISION, max_steps=ENDLESS, eval_every=2**31 - 1)
    found = properties.load(config)
    flops = fingerprint_flops(config, found)
    variants = [training_variant(OURS, "fingerprint", properties.build(config), flops)]
    if peers.version("torch_geometric"):
        variants += [torch_fingerprints(name, config, found, flops) for name in (peers.PYG, AT_HAND)]
    own, atoms = properties.usual(config), found.molecules.sizes.mean()
    title = (
        f"Neural fingerprint training step, {config.dataset}, B={config.batch_size} molecules of {atoms:.1f} atoms, "
    )
    title += f"{own.num_layers} layers of {own.hidden_size}, fingerprint {own.fingerprint_size}, "
    title += f"{config.chunk_steps} steps a call"
    yield Comparison("molecules", title, variants, "step", "all products, without padding,")


def fingerprint_flops(config: Config, found: PropertySet) -> int:
    """FLOPs of a step's products of a mean batch: forward, and twice backward, once where features need no gradient."""
    own, inputs = properties.usual(config), data.fingerprint_features(found.molecules).shape[1] - _BONDS
    first = inputs * own.fingerprint_size + (2 * inputs + _BONDS) * own.hidden_size
    further = own.num_layers * own.hidden_size * own.fingerprint_size
    further += (own.num_layers - 1) * (2 * own.hidden_size + _BONDS) * own.hidden_size
    head = own.fingerprint_size * own.head[0] + own.head[0]
    return int(2 * config.batch_size * (found.molecules.sizes.mean() * (2 * first + 3 * further) + 3 * head))


# --- PyTorch Geometric ------------------------------------------------------------------------------------------------


def torch_fingerprint(torch: Any, own: Usual, num_features: int) -> Any:
    """The layers of `jaxrnn.nn.molecules.NeuralFingerprint` with one hidden layer in its head, by their names there."""
    sizes, dense = [num_features] + own.num_layers * [own.hidden_size], torch.nn.Linear
    layers = {f"write_{layer}": dense(size, own.fingerprint_size) for layer, size in enumerate(sizes)}
    for layer, size in enumerate(sizes[:-1]):
        layers[f"layer_{layer}_self"] = dense(size, own.hidden_size)
        for degree in range(data.MAX_DEGREE + 1):
            layers[f"layer_{layer}_degree_{degree}"] = dense(size + _BONDS, own.hidden_size, bias=False)
    layers["hidden_0"], layers["output"] = dense(own.fingerprint_size, own.head[0]), dense(own.head[0], 1)
    return torch.nn.ModuleDict(layers)


def torch_predictions(torch: Any, model: Any, batch: Any) -> Any:
    """Standardised predictions ``[B]`` in training for a batch of `torch_graphs`; degrees are as in ``MFConv``."""
    pyg: Any = importlib.import_module("torch_geometric.nn")
    add, a, layer = pyg.SimpleConv(aggr="sum"), batch.x, 0
    written = model["write_0"](a).softmax(-1)
    while f"layer_{layer}_self" in model:
        read = torch.cat([add(a, batch.edge_index), batch.bonds], 1)
        total = model[f"layer_{layer}_self"](a)
        for degree in range(data.MAX_DEGREE + 1):
            rows = (batch.degrees == degree).nonzero().view(-1)
            total = total.index_add(0, rows, model[f"layer_{layer}_degree_{degree}"](read[rows]))
        a, layer = torch.relu(_normalized(torch, total)), layer + 1
        written = written + model[f"write_{layer}"](a).softmax(-1)
    hidden = model["hidden_0"](pyg.global_add_pool(written, batch.batch))
    return model["output"](torch.relu(_normalized(torch, hidden)))[:, 0]


def _normalized(torch: Any, x: Any) -> Any:
    centered = x - x.mean(0)
    return centered / (torch.sqrt((centered**2).mean(0) + 1e-5) + 1)


def torch_graphs(torch: Any, found: PropertySet) -> list[Any]:
    """The molecules as graphs of PyTorch Geometric, with standardised targets."""
    graph: Any = importlib.import_module("torch_geometric.data").Data
    molecules = found.molecules
    features = torch.tensor(np.asarray(data.fingerprint_features(molecules), np.float32))
    targets = torch.tensor((found.targets - found.targets.mean()) / found.targets.std(), dtype=torch.float32)
    graphs = []
    for number, (start, end) in enumerate(itertools.pairwise(molecules.starts.tolist())):
        atoms, places = np.nonzero(molecules.neighbours[start:end] >= 0)
        ends = np.stack([molecules.neighbours[start:end][atoms, places], atoms]).astype(np.int64)
        x, bonds = features[start:end].split([features.shape[1] - _BONDS, _BONDS], 1)
        degrees = torch.tensor(molecules.atoms[start:end, 1].astype(np.int64))
        y = targets[number : number + 1]
        graphs.append(graph(x=x, bonds=bonds, degrees=degrees, edge_index=torch.tensor(ends), y=y))
    return graphs


def torch_fingerprints(name: str, config: Config, found: PropertySet, flops: int) -> Variant:
    """The study's step, with a ``DataLoader`` that makes each batch or (`AT_HAND`) an epoch's batches made before."""
    torch = peers.load_torch()
    load: Any = importlib.import_module("torch_geometric.loader").DataLoader
    loader = load(torch_graphs(torch, found), config.batch_size, shuffle=True, drop_last=True)
    batches = itertools.cycle(list(loader)) if name == AT_HAND else (one for _ in itertools.count() for one in loader)
    own = properties.usual(config)
    model = torch_fingerprint(torch, own, loader.dataset[0].x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=own.learning_rate)

    def train() -> Any:
        batch = next(batches)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(torch_predictions(torch, model, batch), batch.y)
        loss.backward()
        optimizer.step()
        return loss

    return peers.eager_variant(name, "fingerprint", config, flops, train)
