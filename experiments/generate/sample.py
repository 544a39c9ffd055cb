"""Molecules from a trained policy, one by one, with what RDKit says of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.generate.training import build_model
from jaxrnn.data import molecule_scores
from jaxrnn.graph import building
from jaxrnn.nn.molecule_policy import build
from jaxrnn.rundir.restore import load_run
from jaxrnn.training.seeds import PRNG


def sample_molecules(
    workdir: Path,
    run: str | None,
    step: int | Literal["best"] | None,
    num: int,
    seed: int,
    begin: str = "C",
    is_greedy: bool = False,
) -> Iterator[dict[str, Any]]:
    """Builds `num` molecules, each with its SMILES, its rewards and its number of atoms; a larger `num` appends more.

    Args:
        workdir: run directory.
        run: which run, as in `jaxrnn.load`.
        step: step of a saved checkpoint, or "best"; the newest by default.
        num: number of molecules.
        seed: seed that determines the molecules.
        begin: SMILES of the molecule to start from; a carbon atom by default.
        is_greedy: whether to always take the most likely move.

    Raises:
        ValueError: nothing can be built from `begin`; the message says why.
        RunError, CheckpointError: as in `jaxrnn.load`.
        DataError: RDKit is not installed.
    """
    found = load_run(workdir, run, step=step)
    atoms, bonds = molecule_scores.read_start(begin, found.config.max_atoms)
    first = building.start(atoms, bonds, found.config.max_atoms)
    model = build_model(found.config, found.data)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed, impl=PRNG), jnp.arange(num))

    @jax.jit
    def draw(params: Any) -> Any:
        batch = jax.tree.map(lambda x: jnp.stack([x] * num), first)
        return build(lambda m: model.apply({"params": params}, m), batch, keys, is_greedy=is_greedy).molecules

    with jax.default_matmul_precision(found.config.precision):
        built = jax.tree.map(np.asarray, draw(found.params))
    for pair in zip(built.atoms, built.bonds, strict=True):
        smiles = molecule_scores.smiles_of(*pair)
        rewards = {name: molecule_scores.score(smiles, name) for name in molecule_scores.REWARDS}
        yield {"smiles": smiles, **rewards, "atoms": int((pair[0] >= 0).sum()), "seed": seed}
