"""Features, layers and readouts of molecules against plain loops over RDKit's atoms and bonds, in float64."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

rdkit = pytest.importorskip("rdkit")
from rdkit import Chem, RDConfig  # noqa: E402

from jaxrnn import graph as graphs  # noqa: E402
from jaxrnn.data import molecules  # noqa: E402
from jaxrnn.data.files import DataError  # noqa: E402
from jaxrnn.graph import molecules as graph  # noqa: E402
from jaxrnn.nn.molecules import HISTOGRAM, MODELS, RUNNING, Head, drift, with_running  # noqa: E402

# A single atom, hydrogen alone, salts, charges, a radical, chirality, rings that share atoms, five neighbours.
SPECIAL = "C [H][H] [H] [Na+].[Cl-] CC(=O)[O-].[Na+] C[N+](C)(C)C [O-][N+](=O)c1ccccc1 C[CH2] N[C@@H](C)C(=O)O"
SPECIAL += " C1CC2CCC1C2 c1ccc2c(c1)ccc1ccccc12 FP(F)(F)(F)F C#N [NH4+] O=C=O CS(=O)(=O)C c1cc[nH]c1 C[Si](C)(C)C"
_SYMBOLS = """C N O S F Si P Cl Br Mg Na Ca Fe As Al I B V K Tl Yb Sb Sn Ag Pd Co Se Ti Zn H Li Ge Cu Au Ni Cd In Mn Zr
Cr Pt Hg Pb Unknown"""
SYMBOLS = _SYMBOLS.split()


@functools.cache
def smiles():
    """A hundred: the special ones, and some of those that come with RDKit."""
    lines = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi").read_text().splitlines()
    return [*SPECIAL.split(), *(line.split()[0] for line in lines[: 100 - len(SPECIAL.split())])]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRNN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def read(texts):
    found, refused = molecules.read(texts, list(range(1, len(texts) + 1)))
    assert not refused
    return found


@pytest.fixture(scope="module")
def found(_own_cache):
    return read(smiles())


# --- Loops ------------------------------------------------------------------------------------------------------------


def one_of(value, values):
    """One-hot; whatever is not there counts as the last."""
    return [float((value if value in values else values[-1]) == other) for other in values]


def atom_features(atom):
    implicit = atom.GetValence(Chem.ValenceType.IMPLICIT)
    return np.array(
        one_of(atom.GetSymbol(), SYMBOLS)
        + one_of(atom.GetDegree(), range(6))
        + one_of(atom.GetTotalNumHs(), range(5))
        + one_of(implicit, range(6))
        + [atom.GetIsAromatic()],
        float,
    )


def weave_atom_features(atom):
    kinds = Chem.HybridizationType
    implicit = atom.GetValence(Chem.ValenceType.IMPLICIT)
    return np.array(
        one_of(atom.GetSymbol(), SYMBOLS)
        + one_of(atom.GetDegree(), range(11))
        + one_of(implicit, range(7))
        + [atom.GetFormalCharge(), atom.GetNumRadicalElectrons()]
        + one_of(atom.GetHybridization(), [kinds.SP, kinds.SP2, kinds.SP3, kinds.SP3D, kinds.SP3D2])
        + [atom.GetIsAromatic()]
        + one_of(atom.GetTotalNumHs(), range(5)),
        float,
    )


def bond_features(bond):
    kinds = Chem.BondType
    order = [bond.GetBondType() == kind for kind in (kinds.SINGLE, kinds.DOUBLE, kinds.TRIPLE, kinds.AROMATIC)]
    return np.array([*order, bond.GetIsConjugated(), bond.IsInRing()], float)


def pair_features(mol, max_distance):
    """By ordered pair within the distance, its 14 features."""
    steps, rings = Chem.GetDistanceMatrix(mol), mol.GetRingInfo().AtomRings()
    features = {}
    for i in range(mol.GetNumAtoms()):
        for j in range(mol.GetNumAtoms()):
            if steps[i, j] <= max_distance:
                bond = mol.GetBondBetweenAtoms(i, j)
                of_bond = bond_features(bond) if bond else np.zeros(6)
                same_ring = i != j and any(i in ring and j in ring for ring in rings)
                features[i, j] = np.array([*of_bond, same_ring, *(steps[i, j] == d for d in range(1, 8))], float)
    return features


def dense(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def norm(params, x, offset):
    y = (x - params["running_mean"]) / (params["running_deviation"] + offset)
    return y * params.get("scale", 1) + params.get("bias", 0)


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    exps = np.exp(x - x.max())
    return exps / exps.sum()


def head(params, x, offset):
    for i in range(len([name for name in params if name.startswith("hidden")])):
        x = relu(norm(params[f"norm_{i}"], dense(params[f"hidden_{i}"], x), offset))
    return dense(params["output"], x)[0] * 2 + 1


def fingerprint(params, mol):
    atoms = [atom_features(atom) for atom in mol.GetAtoms()]
    total = sum(softmax(dense(params["write_0"], a)) for a in atoms)
    for layer in range(2):
        new = []
        for atom, a in zip(mol.GetAtoms(), atoms, strict=True):
            neighbours, bonds = np.zeros(len(a)), np.zeros(6)
            for bond in atom.GetBonds():
                neighbours = neighbours + atoms[bond.GetOtherAtomIdx(atom.GetIdx())]
                bonds = bonds + bond_features(bond)
            weights = params[f"layer_{layer}_degree_{atom.GetDegree()}"]
            told = np.concatenate([neighbours, bonds]) @ weights["kernel"]
            new.append(relu(norm(params[f"layer_{layer}_norm"], dense(params[f"layer_{layer}_self"], a) + told, 1.0)))
        atoms = new
        total = total + sum(softmax(dense(params[f"write_{layer + 1}"], a)) for a in atoms)
    return head(params["head"], total, 1.0)


def weave(params, mol):
    atoms, pairs = [weave_atom_features(atom) for atom in mol.GetAtoms()], pair_features(mol, 2)

    def act(name, x):
        return relu(norm(params[f"{name}_norm"], x, 0.0))

    for layer in range(2):
        name, new = f"layer_{layer}", []
        for i, a in enumerate(atoms):
            told = sum(
                act(f"{name}_pa", dense(params[f"{name}_pa"], p)) for (first, _), p in pairs.items() if first == i
            )
            both = np.concatenate([act(f"{name}_aa", dense(params[f"{name}_aa"], a)), told])
            new.append(act(f"{name}_a", dense(params[f"{name}_a"], both)))
        if layer == 0:
            kernel = np.concatenate([params[f"{name}_ap"]["kernel"], params[f"{name}_ap_other"]["kernel"]])

            def joined(i, j, kernel=kernel, name=name, atoms=atoms):
                return act(f"{name}_ap", np.concatenate([atoms[i], atoms[j]]) @ kernel)

            pairs = {
                (i, j): act(
                    f"{name}_p",
                    dense(
                        params[f"{name}_p"],
                        np.concatenate(
                            [joined(i, j) + joined(j, i), act(f"{name}_pp", dense(params[f"{name}_pp"], p))]
                        ),
                    ),
                )
                for (i, j), p in pairs.items()
            }
        atoms = new
    total = 0.0
    for a in atoms:
        x = norm(params["atoms_norm"], np.tanh(dense(params["atoms"], a)), 0.0)
        members = np.exp(-0.5 * ((x[:, None] - HISTOGRAM[:, 0]) / HISTOGRAM[:, 1]) ** 2)
        total = total + (members / members.sum(1, keepdims=True)).T.reshape(-1)
    return head(params["head"], total, 0.0)


def gcn(params, mol):
    """By the dense matrix of the molecule."""
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    matrix = np.eye(mol.GetNumAtoms())
    for i, j in bonds:
        matrix[i, j] = matrix[j, i] = 1
    scales = matrix.sum(1) ** -0.5
    a_hat = scales[:, None] * matrix * scales
    x = np.array(
        [
            np.concatenate([atom_features(a), sum((bond_features(b) for b in a.GetBonds()), np.zeros(6))])
            for a in mol.GetAtoms()
        ]
    )
    for layer in range(2):
        x = relu(norm(params[f"layer_{layer}_norm"], a_hat @ dense(params[f"layer_{layer}"], x), 0.0))
    return head(params["head"], np.tanh(dense(params["atoms"], x)).sum(0), 0.0)


MAKE = jax.jit(graph.make_batch, static_argnums=1)
ORACLES = {"fingerprint": fingerprint, "weave": weave, "gcn": gcn}
SIZE = 5


def pack(name, found):
    """As the model reads them, in float64."""
    if name == "weave":
        packed = graph.pack(found, molecules.weave_features(found), molecules.pairs(found, 2))
    else:
        packed = graph.pack(found, molecules.fingerprint_features(found))
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, packed)


@functools.cache
def model_and_params(name):
    """With random numbers for all parameters, running ones too; deviations are positive."""
    offset = 1.0 if name == "fingerprint" else 0.0
    model = MODELS[name](SIZE, 2, SIZE + 1, Head((SIZE, SIZE), 0.0, offset, 1.0, 2.0))
    packed = pack(name, read(["CC", "CCC"]))
    batch = jax.eval_shape(lambda: graph.make_batch(packed, graph.plan_sizes(packed, 2), jnp.arange(2)))
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape) * (0.5 if leaf.ndim == 2 else 0.3)
        return np.abs(values) + 0.5 if path[-1].key == "running_deviation" else values

    return model, jax.tree_util.tree_map_with_path(draw, shapes)


def batch_of(packed, ids, extra=0):
    """A batch of these molecules, with more places in each block than they need."""
    sizes = graph.plan_sizes(packed, len(ids), is_safe=True)
    more = tuple(count + extra for count in sizes.atoms)
    sizes = sizes._replace(atoms=more, pairs=sizes.pairs + extra * bool(sizes.pairs))
    return MAKE(packed, sizes, jnp.asarray(ids))


def apply(name):
    model, params = model_and_params(name)
    return jax.jit(model.apply), {"params": params}


# --- What holds -------------------------------------------------------------------------------------------------------


def test_features_are_those_of_loops_over_atoms(found):
    own, of_weave = molecules.fingerprint_features(found), molecules.weave_features(found)
    pairs = molecules.pairs(found, 2)
    for m, text in enumerate(smiles()):
        mol, atoms = Chem.MolFromSmiles(text), slice(found.starts[m], found.starts[m + 1])
        order = found.order[atoms]
        for row, place in zip(range(atoms.start, atoms.stop), order.tolist(), strict=True):
            atom = mol.GetAtomWithIdx(place)
            bonds = sum((bond_features(bond) for bond in atom.GetBonds()), np.zeros(6))
            np.testing.assert_array_equal(own[row], np.concatenate([atom_features(atom), bonds]))
            np.testing.assert_array_equal(of_weave[row], weave_atom_features(atom))
        expected = pair_features(mol, 2)
        rows = range(pairs.starts[m], pairs.starts[m + 1])
        ends = [(int(order[pairs.first[q]]), int(order[pairs.second[q]])) for q in rows]
        assert sorted(ends) == sorted(expected)
        for q, end in zip(rows, ends, strict=True):
            np.testing.assert_array_equal(pairs.features[q], expected[end])
            assert ends[pairs.reverse[q]] == end[::-1]
    assert own.shape[1] == 62 + 6
    assert of_weave.shape[1] == 75


def test_all_pairs_are_there_without_a_limit(found):
    pairs = molecules.pairs(found)
    np.testing.assert_array_equal(np.diff(pairs.starts), found.sizes**2)
    salt = smiles().index("[Na+].[Cl-]")
    assert pairs.distance[pairs.starts[salt] : pairs.starts[salt + 1]].tolist() == [0, -1, -1, 0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_predictions_are_those_of_loops_over_atoms(name, found, x64):
    run, variables = apply(name)
    predicted = run(variables, batch_of(pack(name, found), np.arange(100)))
    expected = [ORACLES[name](variables["params"], Chem.MolFromSmiles(text)) for text in smiles()]
    np.testing.assert_allclose(predicted, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_neither_the_order_of_atoms_nor_padding_nor_others_in_the_batch_change_a_prediction(name, found, x64):
    run, variables = apply(name)
    packed, ids = pack(name, found), np.array([3, 40, 7, 99, -1])
    expected = run(variables, batch_of(packed, np.arange(100)))[ids[:4]]
    np.testing.assert_allclose(run(variables, batch_of(packed, ids, extra=3))[:4], expected, rtol=1e-12)
    rng = np.random.default_rng(0)
    mols = [Chem.MolFromSmiles(text) for text in smiles()]
    shuffled = [Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist()) for mol in mols]
    others = read([Chem.MolToSmiles(mol, canonical=False) for mol in shuffled])
    again = run(variables, batch_of(pack(name, others), np.arange(100)))
    np.testing.assert_allclose(again[ids[:4]], expected, rtol=1e-10)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_padding_has_no_effect_on_training(name, found, x64):
    """Neither on the value, nor on gradients, with what is normalised over the batch."""
    model, params = model_and_params(name)
    packed = pack(name, found)

    @jax.jit
    def grad(params, batch):
        def loss(params):
            out, more = model.apply({"params": params}, batch, train=True, mutable=[RUNNING])
            return jnp.where(batch.is_whole, out**2, 0).sum() + drift(more)

        return jax.value_and_grad(loss)(params)

    ids = [5, 11, 60, 18]
    value, gradients = grad(params, batch_of(packed, ids))
    padded_value, padded = grad(params, batch_of(packed, [*ids, -1], extra=4))
    np.testing.assert_allclose(padded_value, value, rtol=1e-10)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10), padded, gradients)


def test_running_means_follow_those_of_batches(found):
    model, params = model_and_params("gcn")
    batch = batch_of(graph.pack(found, molecules.fingerprint_features(found)), np.arange(10))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)

    @jax.jit
    def step(params):
        def loss(params):
            _, more = model.apply({"params": params}, batch, train=True, mutable=[RUNNING])
            return drift(more)

        value, gradients = jax.value_and_grad(loss)(params)
        optimizer = with_running(optax.adam(1.0))
        return value, optimizer.update(gradients, optimizer.init(params), params)[0]

    value, updates = step(params)
    assert value == 0
    x = np.asarray(jax.jit(graph.gcn_propagate)(batch, dense(params["layer_0"], batch.features)))[
        np.asarray(batch.mask)
    ]
    running = params["layer_0_norm"]["running_mean"]
    np.testing.assert_allclose(
        updates["layer_0_norm"]["running_mean"], 0.02 * (x.mean(0) - running), rtol=1e-3, atol=1e-5
    )
    assert not np.asarray(updates["layer_0"]["kernel"]).any()


def test_a_molecule_without_room_is_left_out_as_a_whole(found):
    packed = graph.pack(found, molecules.fingerprint_features(found))
    sizes = graph.plan_sizes(packed, 8, is_safe=True)
    tight = sizes._replace(atoms=tuple(int(n) for n in np.asarray(packed.sizes_md)[40:43].sum(0)))
    batch = MAKE(packed, tight, jnp.arange(40, 48))
    assert batch.is_whole.tolist()[:3] == [True] * 3
    counts = np.bincount(np.asarray(batch.molecules), minlength=9)[:8]
    np.testing.assert_array_equal(counts, np.where(batch.is_whole, found.sizes[40:48], 0))


def test_sums_over_neighbours_are_those_of_an_edge_list(found):
    batch = batch_of(graph.pack(found, molecules.fingerprint_features(found)), np.arange(100))
    x = np.random.default_rng(0).standard_normal((len(batch.molecules), 3)).astype(np.float32)
    places = list(batch.neighbours)
    receivers = np.concatenate(
        [
            np.repeat(np.arange(len(p)), p.shape[1]) + at
            for at, p in zip(np.cumsum([0, *map(len, places)]), places, strict=False)
        ]
    )
    senders = np.concatenate([np.asarray(p).reshape(-1) for p in places])
    real = senders < len(x)
    edges = graphs.build(senders[real], receivers[real], len(x))
    np.testing.assert_allclose(
        jax.jit(graph.gcn_propagate)(batch, x)[np.asarray(batch.mask)],
        graphs.propagate(graphs.normalize(edges), x)[np.asarray(batch.mask)],
        rtol=1e-5,
        atol=1e-5,
    )


def test_what_is_refused_is_listed_with_its_line_and_reason():
    texts = ["C", "", "nonsense", "CN(C)(C)(C)C", "[U]", "FS(F)(F)(F)(F)F", "CCCC", "O"]
    for _ in range(2):  # Read, then from the cache.
        found, refused = molecules.read(texts, [2, 3, 4, 5, 6, 7, 9, 10], max_atoms=3)
        assert found.smiles.tolist() == ["C", "O"]
        assert found.lines.tolist() == [2, 10]
        assert [one.line for one in refused] == [3, 4, 5, 6, 7, 9]
        reasons = ["no atom", "SMILES", "valence", "element U", "6 neighbours", "max_atoms=3"]
        assert all(part in one.reason for part, one in zip(reasons, refused, strict=True))
    with pytest.raises(DataError, match="no molecule"):
        molecules.read(["nonsense"], [1])
