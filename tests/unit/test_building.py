"""Molecules that are built move by move, against RDKit and plain loops; PPO against finite differences and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.graph import building
from jaxrnn.nn import molecule_policy
from jaxrnn.nn.ppo import Taken, advantages, ppo_loss

ROOM, MANY = 12, 64
ELEMENTS = ["C", "N", "O", "S", "P", "F", "Cl", "Br", "I"]
MOST = dict(zip(ELEMENTS, (4, 3, 2, 2, 3, 1, 1, 1, 1), strict=True))


@jax.jit
def untaught(keys):
    begin = jax.tree.map(lambda x: jnp.stack([x] * MANY), building.methane(ROOM))
    return molecule_policy.build(lambda m: (jax.vmap(building.untaught)(m), jnp.zeros(MANY)), begin, keys)


@pytest.fixture(scope="module")
def built():
    """Molecules of random moves, NumPy arrays."""
    return jax.tree.map(np.asarray, untaught(jax.random.split(jax.random.key(3), MANY)))


def replay(moves):
    """Atoms and bonds after these moves, by a plain loop; it knows no valences."""
    atoms, bonds, counts = ["C"], {}, []
    for move in moves:
        order, pair = (move - 1) % 3 + 1, (move - 1) // 3
        if 0 < move <= ROOM * 27:
            bonds[pair // 9, len(atoms)] = order
            atoms.append(ELEMENTS[pair % 9])
        elif move:
            pair -= ROOM * 9
            assert pair // ROOM < pair % ROOM
            assert bonds.setdefault((pair // ROOM, pair % ROOM), order) == order
        counts.append((list(atoms), dict(bonds)))
    return counts


def as_lists(molecule):
    atoms = [ELEMENTS[a] for a in molecule.atoms if a >= 0]
    pairs = zip(*np.nonzero(np.triu(molecule.bonds)), strict=True)
    return atoms, {(int(i), int(j)): int(molecule.bonds[i, j]) for i, j in pairs}


def test_moves_give_what_a_plain_loop_gives_and_keep_to_valences(built):
    for b in range(MANY):
        molecule = jax.tree.map(lambda x, b=b: x[b], built.molecules)
        (*_, (atoms, bonds)) = found = replay(built.moves[b, : built.lengths[b]].tolist())
        assert as_lists(molecule) == (atoms, bonds)
        assert built.moves[b, built.lengths[b] - 1] == 0
        np.testing.assert_array_equal(molecule.bonds, molecule.bonds.T)
        for place, name in enumerate(atoms):
            assert sum(order for pair, order in bonds.items() if place in pair) <= MOST[name]
        for moves in (0, 3, built.lengths[b] - 2):
            earlier = jax.tree.map(np.asarray, building.before(molecule, jnp.asarray(moves)))
            assert as_lists(earlier) == (found[moves - 1] if moves else (["C"], {}))


def test_masks_have_the_moves_that_valences_and_room_allow_and_never_none(built):
    masks = jax.jit(building.masks)
    for b in range(0, MANY, 16):
        last = jax.tree.map(lambda x, b=b: x[b], built.molecules)
        for moves in range(built.lengths[b]):
            molecule = building.before(last, jnp.asarray(moves))
            found = jax.tree.map(np.asarray, masks(molecule))
            atoms, bonds = as_lists(jax.tree.map(np.asarray, molecule))
            free = [MOST[a] - sum(o for pair, o in bonds.items() if i in pair) for i, a in enumerate(atoms)]
            can_move = moves < ROOM + ROOM // 4 - 1
            grow = {
                (i, k, o - 1)
                for i in range(len(atoms))
                for k, name in enumerate(ELEMENTS)
                for o in (1, 2, 3)
                if can_move and len(atoms) < ROOM and o <= min(free[i], MOST[name])
            }
            close = {
                (i, j, o - 1)
                for j in range(len(atoms))
                for i in range(j)
                for o in (1, 2, 3)
                if can_move and (i, j) not in bonds and o <= min(free[i], free[j])
            }
            assert {tuple(map(int, at)) for at in np.argwhere(found.grow)} == grow
            assert {tuple(map(int, at)) for at in np.argwhere(found.close)} == close
            assert found.stop == (len(atoms) >= ROOM // 3 or not grow | close)


def test_moves_are_drawn_by_their_chances_and_masked_ones_never():
    chances = jnp.log(jnp.asarray([0.0, 0.5, 0.0, 0.2, 0.3, 0.0, 0.0]))
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.vmap(building.draw, (0, None))(keys, jnp.maximum(chances, -1e9)))
    shares = np.bincount(drawn, minlength=7) / len(drawn)
    np.testing.assert_allclose(shares, np.exp(chances), atol=0.015)
    assert not shares[[0, 2, 5, 6]].any()


def test_chances_of_all_moves_sum_to_one(built):
    last = jax.tree.map(lambda x: x[:8], built.molecules)
    chances = jax.jit(jax.vmap(lambda one, moves: building.untaught(building.before(one, moves)), (0, None)))
    for moves in (0, 2, 5):
        np.testing.assert_allclose(np.exp(chances(last, moves)).sum(1), 1, rtol=1e-5)


# --- The policy -------------------------------------------------------------------------------------------------------


def test_graph_convolutions_are_those_of_a_dense_loop():
    """B9's layer on one molecule, and distances by breadth first."""
    molecule = building.start(np.array([0, 0, 1, 2], np.int8), _bonds([(0, 1, 2), (1, 2, 1), (2, 3, 1)]), 5)
    batch = jax.tree.map(lambda x: x[None], molecule)
    policy = molecule_policy.MoleculePolicy(4, 2)
    params = jax.jit(policy.init)(jax.random.key(1), batch)["params"]
    params["value"]["kernel"] = params["value"]["kernel"] + 1.0

    @jax.jit
    def apply(params):
        is_shown = lambda module, _: module.name == "atoms"  # noqa: E731
        return policy.apply({"params": params}, batch, capture_intermediates=is_shown)

    (_, value), state = apply(params)
    h = np.asarray(state["intermediates"]["atoms"]["__call__"][0][0])[:4]
    for layer in range(2):
        made = []
        for order in range(3):
            read = np.array([h[i] + sum(h[j] for j in range(4) if molecule.bonds[i, j] == order + 1) for i in range(4)])
            made.append(read @ np.asarray(params[f"layer_{layer}"][order]))
        h = np.mean(made if layer else np.maximum(made, 0), 0)
    whole = np.concatenate([h.mean(0), h.sum(0) / 16, [4 / 16, 0]])
    read = np.maximum(whole @ params["judged"]["kernel"] + params["judged"]["bias"], 0)
    np.testing.assert_allclose(value[0], read.sum(), rtol=1e-4)
    found = np.asarray(jax.jit(molecule_policy.distances)((batch.bonds > 0).astype(jnp.float32)))[0]
    assert found[0].tolist() == [0, 1, 2, 3, 7]


def _bonds(triples):
    found = np.zeros((4, 4), np.int8)
    for i, j, order in triples:
        found[i, j] = found[j, i] = order
    return found


# --- PPO --------------------------------------------------------------------------------------------------------------


def test_advantages_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    rewards, values, lengths, trace = rng.normal(size=3), rng.normal(size=(3, 6)), np.array([6, 1, 4]), 0.9
    found = np.asarray(jax.jit(advantages)(*map(jnp.asarray, (rewards, values, lengths)), trace))
    expected = np.zeros((3, 6))
    for b, length in enumerate(lengths):
        for t in range(length):
            for k in range(t, length):
                following = values[b, k + 1] if k + 1 < length else 0
                delta = (rewards[b] if k == length - 1 else 0) + following - values[b, k]
                expected[b, t] += trace ** (k - t) * delta
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_ppo_is_a_finite_difference(built):
    policy = molecule_policy.MoleculePolicy(3, 1)
    last = jax.tree.map(lambda x: x[:6], built.molecules)
    molecules = jax.jit(jax.vmap(building.before))(last, jnp.arange(6))
    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(jax.jit(policy.init)(jax.random.key(0), molecules)["params"])
        rng = np.random.default_rng(1)
        leaves = [jnp.asarray(0.3 * rng.normal(size=leaf.shape)) for leaf in leaves]
        moves = jnp.asarray(built.moves[np.arange(6), np.arange(6)])
        gains = jnp.asarray(rng.normal(size=6))

        @jax.jit
        def chances_of(leaves):
            return policy.apply({"params": jax.tree.unflatten(tree, leaves)}, molecules)

        # Some moves are as likely as they were, some are so much more or less so that they are clipped.
        own = np.asarray(chances_of(leaves)[0])[np.arange(6), moves]
        taken = Taken(jnp.asarray(own - np.array([0.0, 0.5, -0.5, 0.5, -0.5, 0.05])), gains, gains)

        @jax.jit
        def loss(leaves):
            chances, values = chances_of(leaves)
            return ppo_loss(chances, moves, values, taken, clip=0.2, entropy=0.1)[0]

        gradients = jax.jit(jax.grad(loss))(leaves)
        for _ in range(3):
            way = [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves]
            ends = [loss([x + sign * 1e-6 * d for x, d in zip(leaves, way, strict=True)]) for sign in (1, -1)]
            slope = sum(float((g * d).sum()) for g, d in zip(gradients, way, strict=True))
            assert slope == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


# --- RDKit ------------------------------------------------------------------------------------------------------------


def test_rdkit_takes_them_and_rewards_are_its_own(built):
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import QED, Crippen

    from jaxrnn.data import molecule_scores as scores

    for b in range(MANY):
        smiles = scores.smiles_of(built.molecules.atoms[b], built.molecules.bonds[b])
        mol = chem.MolFromSmiles(smiles)
        atoms, bonds = as_lists(jax.tree.map(lambda x, b=b: x[b], built.molecules))
        assert sorted(atom.GetSymbol() for atom in mol.GetAtoms()) == sorted(atoms)
        assert mol.GetNumBonds() == len(bonds)
        assert not any(atom.GetFormalCharge() or atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        assert scores.score(smiles, "qed") == QED.qed(mol)
        rings = [0, *map(len, mol.GetRingInfo().AtomRings())]
        known = scores.score(smiles, "plogp") - (Crippen.MolLogP(mol) - 2.45709) / 1.43432
        known -= (-max(0, max(rings) - 6) + 0.04857) / 0.28602
        assert 1 <= 3.05258 - 0.83352 * known <= 10  # The synthetic accessibility.
    # A value of GCPN's own test, and the chain.
    assert scores.score("C" * 38, "plogp") == pytest.approx(11.194, abs=1e-3)


def test_processes_score_as_one_does_also_when_one_of_them_is_killed():
    pytest.importorskip("rdkit")
    from jaxrnn.data import scorers
    from jaxrnn.data.molecule_scores import score

    chains = ["C" * length for length in range(1, 60)] * 2
    expected = [score(text, "plogp") for text in chains]
    assert scorers.score_all(chains, "plogp", 2) == expected
    with pytest.raises(ValueError, match="no SMILES"):
        scorers.score_all([*chains, "c1cc", "C1CC", "C("], "plogp", 2)
    assert scorers.score_all(chains, "plogp", 2) == expected
    other = scorers.start("plogp", 0)
    other.kill()
    other.wait()
    assert scorers.score_all(chains, "plogp", 2) == expected


@pytest.mark.soak
def test_a_million_random_moves_give_only_what_rdkit_takes():
    pytest.importorskip("rdkit")
    from jaxrnn.data import molecule_scores as scores

    made, number, most, many = 0, 0, 38, 1000
    begin = jax.tree.map(lambda x: jnp.stack([x] * many), building.methane(most))
    policy = molecule_policy.MoleculePolicy(4, 1)  # Its first chances are those of drugs: the molecules are large.
    params = jax.jit(policy.init)(jax.random.key(0), begin)
    taught = jax.jit(lambda keys: molecule_policy.build(lambda m: policy.apply(params, m), begin, keys))
    random = jax.jit(
        lambda keys: molecule_policy.build(lambda m: (jax.vmap(building.untaught)(m), jnp.zeros(many)), begin, keys)
    )
    while made < 1_000_000:
        number += 1
        found = jax.tree.map(
            np.asarray, (taught if number % 2 else random)(jax.random.split(jax.random.key(number), many))
        )
        for pair in zip(found.molecules.atoms, found.molecules.bonds, strict=True):
            assert scores.parse(scores.smiles_of(*pair))  # An error if RDKit refuses it.
        made += int(found.lengths.sum())


def test_a_start_comes_back_as_it_was_and_what_no_move_makes_is_refused():
    pytest.importorskip("rdkit")
    from jaxrnn.data import molecule_scores as scores

    for smiles in ("c1ccccc1", "CS(N)(=O)=O", "C#CCN", "Cc1ncc[nH]1"):
        atoms, bonds = scores.read_start(smiles, 12)
        begin = building.start(atoms, bonds, 12)
        assert scores.smiles_of(np.asarray(begin.atoms), np.asarray(begin.bonds)) == smiles
        assert (np.asarray(building.free_valences(begin)) >= 0).all()
    for smiles, said in {
        "CCCC": "room for 3",
        "C[Si]": "Si",
        "C[O-]": "charge",
        "C.C": "more than one",
        "c1cc": "no SMILES",
        "C(C)(C)(C)(C)C": "valence",
    }.items():
        with pytest.raises(ValueError, match=said):
            scores.read_start(smiles, 3 if smiles == "CCCC" else 12)
