"""Distances between the heavy atoms of a molecule: a network, a table of kinds of pairs, and RDKit's conformers."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.molecules import Config
from experiments.molecules.properties import draw_parts, falling_adam, host_parts, next_ids
from experiments.molecules.stored import Stored, stored_training
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import geometries, molecule_sets, molecules
from jaxrnn.data.geometries import Geometries
from jaxrnn.data.molecule_sets import Parts
from jaxrnn.graph import geometry
from jaxrnn.nn.geometry import DistanceNetwork
from jaxrnn.training.definition import Training
from jaxrnn.training.stop import stop_past_lowest

NETWORK, BASELINES = "network", ("table", "etkdg")
PATHS = 9
"""The number of bonds on a path up to which errors are told apart; longer paths count as this."""
_HIDDEN_SIZE, _NUM_LAYERS, _LEARNING_RATE = 64, 4, 1e-3


def load(config: Any) -> Geometries:
    """The geometries of a config."""
    return geometries.load(config.dataset, config.max_atoms)


def model_of(config: Any) -> str:
    """The name of the model."""
    return config.model or NETWORK


def describe(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the geometries."""
    found = load(config)
    counts = {"molecules": len(found.positions), "refused": len(found.refused), "atoms": found.positions.shape[1]}
    return {"sha256": found.sha256, **counts, "unit": "Å"}


def build_model(config: Any) -> Any:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    if model_of(config) in BASELINES:
        return Stored()
    return DistanceNetwork(config.hidden_size or _HIDDEN_SIZE, config.num_layers or _NUM_LAYERS)


def build(config: Config) -> Training:
    """The training of the network, or of a baseline, which takes no step."""
    found = load(config)
    order, data = molecule_sets.fixed_order(config.split, found.molecules), _data(found)
    if model_of(config) in BASELINES:
        predict = _table if model_of(config) == "table" else _conformers

        def initial(seed: int) -> PyTree:
            parts = host_parts(config, order, seed)
            return {"predictions": np.asarray(predict(found, parts, seed), np.float32)}

        return stored_training(
            initial,
            {"predictions": found.graphs.pair_rows.shape},
            start_memory=lambda seed, data: {"parts": draw_parts(config, order, seed)},
            data=data,
            **_judges(lambda params, ids, data: params["predictions"][ids]),
        )
    model = build_model(config)

    def apply(params: PyTree, ids: Array, data: PyTree) -> tuple[Array, Array]:
        return model.apply({"params": params}, *_inputs(data, ids))

    def start(seed: Array, data: PyTree) -> PyTree:
        del data
        parts = draw_parts(config, order, seed)
        return {"parts": parts, "order": parts.train, "step": jnp.zeros((), jnp.int32)}

    def loss(params: PyTree, memory: PyTree, key: Key, dropout_key: Key, data: PyTree) -> tuple[Array, Any]:
        del dropout_key
        ids, memory = next_ids(memory, key, config.batch_size)
        found, spread = apply(params, ids, data)
        mask = data["is_pair"][ids] & (ids >= 0)[:, None]
        errors = jnp.abs(found - geometry.distances(data["positions"][ids]))
        value = jnp.where(mask, errors / spread + jnp.log(2 * spread), 0).sum() / jnp.maximum(mask.sum(), 1)
        return value, ({}, memory)

    return Training(
        init=lambda key: model.init(key, *_inputs(data, np.arange(1)))["params"],
        sample=lambda key, step, data: key,
        loss=loss,
        optimizer=falling_adam,
        hyper={"learning_rate": config.learning_rate or _LEARNING_RATE},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_past_lowest("validation_mae", config.patience, config.eval_every),
        start_memory=start,
        data=data,
        **_judges(lambda params, ids, data: apply(params, ids, data)[0]),
    )


def _data(found: Geometries) -> dict[str, Any]:
    graphs = found.graphs
    return {
        "positions": found.positions,
        "is_atom": graphs.is_atom,
        "is_pair": graphs.is_pair,
        "paths": np.clip(graphs.paths, 0, PATHS).astype(np.int32),
        **{name: getattr(graphs, name) for name in ("atom_rows", "atom_features", "pair_rows", "pair_features")},
    }


def test_errors(config: Any) -> Callable[[PyTree, int], tuple[np.ndarray, np.ndarray]]:
    """``errors(params, seed)``: the molecules with a pair in a run's test part, and their mean absolute errors."""
    found, model = load(config), build_model(config)
    order, data = molecule_sets.fixed_order(config.split, found.molecules), _data(found)
    apply = jax.jit(lambda params, inputs: model.apply({"params": params}, *inputs)[0])

    def errors(params: PyTree, seed: int) -> tuple[np.ndarray, np.ndarray]:
        ids = host_parts(config, order, seed).test
        if model_of(config) in BASELINES:
            predicted = np.asarray(params["predictions"])[ids]
        else:
            predicted = np.asarray(apply(params, _inputs(data, ids)))
        mask = data["is_pair"][ids]
        wrong = np.where(mask, np.abs(predicted - np.asarray(geometry.distances(jnp.asarray(found.positions[ids])))), 0)
        has_pair = mask.any(1)
        return ids[has_pair], (wrong.sum(1) / np.maximum(mask.sum(1), 1))[has_pair]

    return errors


def _inputs(data: Mapping[str, Any], ids: Any) -> tuple[Array, Array, Array]:
    """What the network reads of these molecules."""
    atoms, pairs = (jnp.asarray(data[f"{of}_features"])[data[f"{of}_rows"][ids]] for of in ("atom", "pair"))
    return atoms, pairs, jnp.asarray(data["is_pair"][ids])


def read_dense(found: molecules.Molecules) -> tuple[Array, Array, Array]:
    """What the network reads of molecules that are not in a set."""
    graphs = geometries.dense_graphs(found)
    data = {**graphs._asdict(), "is_pair": graphs.is_pair}
    return _inputs(data, np.arange(len(found.smiles)))


def _judges(predict: Callable[[PyTree, Array, PyTree], Array]) -> dict[str, Any]:
    """`validate` and `test` of predicted distances, with all pairs of all molecules weighted alike."""

    def errors(params: PyTree, ids: Array, data: PyTree) -> tuple[Array, Array, Array]:
        found, mask = predict(params, ids, data), data["is_pair"][ids]
        return found, jnp.where(mask, found - geometry.distances(data["positions"][ids]), 0), mask

    def mae(wrong: Array, mask: Array) -> Array:
        return jnp.abs(wrong).sum() / jnp.maximum(mask.sum(), 1)

    def validate(params: PyTree, memory: PyTree, data: PyTree) -> dict[str, Array]:
        _, wrong, mask = errors(params, memory["parts"].validation, data)
        return {"validation_mae": mae(wrong, mask)}

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del seed
        ids = memory["parts"].test
        found, wrong, mask = errors(params, ids, data)
        is_atom, paths = data["is_atom"][ids], data["paths"][ids]
        shapes = geometry.classical_scaling(jnp.where(mask, found, 0), is_atom)
        of_path = [mae(jnp.where(paths == path, wrong, 0), mask & (paths == path)) for path in range(PATHS + 1)]
        return {
            "test_rmse": jnp.sqrt((wrong**2).sum() / jnp.maximum(mask.sum(), 1)),
            "test_mae": mae(wrong, mask),
            "test_rmsd": geometry.rmsd(shapes, data["positions"][ids], is_atom).mean(),
            "mae_by_path": jnp.stack(of_path),
        }

    return {"validate": validate, "test": test}


# --- Baselines --------------------------------------------------------------------------------------------------------


def _table(found: Geometries, parts: Parts, seed: int) -> np.ndarray:
    """The training part's median for each kind of pair, or for the path length if it does not have the kind.

    A kind is a path length, both elements and hybridizations, the bond, and whether both atoms are in one ring.
    """
    del seed
    first, second = np.triu_indices(found.positions.shape[1], 1)
    # Only the element and hybridization of an atom's features, and no order of the two atoms.
    graphs = found.graphs
    features = graphs.atom_features
    hybridization = features[:, 64:69]
    kinds = np.unique(np.concatenate([features[:, :44], hybridization], 1), axis=0, return_inverse=True)[1].reshape(-1)
    ends = np.sort(np.stack([kinds[graphs.atom_rows[:, first]], kinds[graphs.atom_rows[:, second]]]), 0)
    keys = np.stack([ends[0], ends[1], graphs.pair_rows, graphs.paths], -1)
    codes = np.ravel_multi_index(tuple((keys + 1).reshape(-1, 4).T), tuple(keys.reshape(-1, 4).max(0) + 2))
    codes, is_pair = codes.reshape(graphs.pair_rows.shape), graphs.is_pair
    is_known = np.zeros(len(is_pair), bool)
    is_known[parts.train] = True
    known = is_known[:, None] & is_pair
    measured = np.asarray(geometry.distances(jnp.asarray(found.positions)))
    by_path, by_kind = _medians(graphs.paths[known], measured[known]), _medians(codes[known], measured[known])
    anywhere = float(np.median(measured[known]))
    wanted = is_pair & ~is_known[:, None]
    predicted = np.zeros(measured.shape)
    predicted[wanted] = [
        by_kind.get(code, by_path.get(path, anywhere))
        for code, path in zip(codes[wanted].tolist(), graphs.paths[wanted].tolist(), strict=True)
    ]
    return predicted


def _medians(keys: np.ndarray, values: np.ndarray) -> dict[int, float]:
    groups: dict[int, list[float]] = defaultdict(list)
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        groups[key].append(value)
    return {key: float(np.median(of)) for key, of in groups.items()}


def _conformers(found: Geometries, parts: Parts, seed: int) -> np.ndarray:
    """Distances in one conformer of RDKit's ETKDG, for the molecules of the validation and test parts.

    Where the embedding fails, it is tried again from random coordinates; without any, a molecule keeps distances of 0.
    """
    molecules.import_rdkit()
    from rdkit.Chem import AddHs, rdDistGeom

    positions = np.zeros(found.positions.shape)
    orders = np.split(found.molecules.order, found.molecules.starts[1:-1])
    for number in np.concatenate([parts.validation, parts.test]).tolist():
        mol = AddHs(molecules.parse(str(found.molecules.smiles[number])))
        options = rdDistGeom.ETKDGv3()
        options.randomSeed = seed + 1
        if rdDistGeom.EmbedMolecule(mol, options) < 0:
            options.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(mol, options) < 0:
                continue
        order = orders[number]
        positions[number, : len(order)] = mol.GetConformer().GetPositions()[order]
    return np.where(found.graphs.is_pair, np.asarray(geometry.distances(jnp.asarray(positions))), 0)
